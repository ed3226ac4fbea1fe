"""The certificate: what is promised, on what evidence, for exactly which system, until when.

A promise is void once anything it was measured on has changed, so a certificate carries the sha256 of everything it
depends on and `check` compares them with what is served. It is data: made by `thresholds` and `joint`, kept as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from router_models.errors import ArtifactError, CertificateError, DataError, by_number
from router_models.pricing.break_even import Tries
from router_models.risk_control.certificates.promise import (
    Compared,
    Promise,
    Streamed,
    TestedPattern,
    compared_from_json,
    compared_to_json,
    json_number,
    promise_from_json,
    promise_to_json,
    tested_pattern,
)
from router_models.risk_control.certificates.risks import (
    ABSTAIN_RISK,
    ANSWERED_RISK,
    HARM,
    PRE_ROUTED_HARM,
    PRE_ROUTED_RISK,
    PROMPT,
    check_budget,
)
from router_models.types.coverage import Coverage
from router_models.types.label_sources import UNSTATED, by_judge, judge_of

JSON_VERSION = 4
"""Formats 1 and 2 (joint with slices) counted every copy of a prompt as evidence, and proved a largest drop in the
order of the file; format 3 said nothing of the conditions that it was proved under. All are refused."""
_NO_COVERAGE = (
    "made without its coverage, so that no request can be told to be like those it was proved on: run `serve-graph "
    "certify` again"
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Proof that a risk stays within its budget: selective risk `what` ≤ `epsilon` with confidence 1 - `delta`.

    It covers traffic like the CERT sample and nothing else: shift voids it silently, which is why it expires.

    Parameters
    ----------
    what : str
        The risk, for example `P(wrong | cheap accepted)`.
    epsilon, delta : float
        Its bound, and 1 - the confidence; both in (0, 1).
    level : float
        The part of `delta` that this certificate spends.
    n, accepted_n, errors : int
        Labels read, those accepted at the threshold, and the wrong ones among these; of the certified slices only,
        where thresholds were certified together.
    upper : float
        One-sided Clopper-Pearson bound on the same counts: information, not part of the proof.
    threshold : float or None
        Scores ≥ this are accepted; None where each slice has its own (`threshold_for`).
    label_source : str
        Whose labels the evidence holds: a `LabelSource`, `judge:<name>`, `human and programmatic`, or `unstated`.
    made_at, expires_at : datetime
        With time zone; void from `expires_at` on.
    binds : mapping of str to str
        Everything that the proof depends on, by name, with its sha256.
    look_index : int
        Which look at these labels this was: 0, all of `delta` is spent; i ≥ 1, the i-th under one shared budget.
    slices : mapping of str to Promise
        What is promised of each slice by itself; empty where traffic is one.
    also : tuple of Promise
        Further risks that are certified with it.
    settings : mapping of str to float
        Named thresholds that were certified together, for all slices; `covers` says for which the promise holds.
    one_row_per : str
        Of what one row was counted, and the promise is an average over: `prompt`, or a column such as the user.
    compared : Compared, optional
        What CERT shows of the version beside always asking the last tier. Information; None: made before it was kept.
    token_ratios : mapping of str to tuple of float
        By tier below the last: how many completion tokens the last tier's answers took for each of the tier's, over
        the CERT prompts on which its answer is accepted, with a 95 % interval (value, low, high). Information: what
        savings estimate the answer by that nobody saw. Empty where tokens were not recorded.
    left_out : mapping of str to int
        CERT prompts that do not count for whose labels they are (a judge's, beside people's), by label source.
    coverage : Coverage
        The conditions that the CERT rows were asked under; of other requests nothing is promised. Its default covers
        a single user turn at the tiers' own settings.
    tries : Tries, optional
        What became of the version's tries on the CERT prompts: what break-even is worked out from at any prices.
        Information, as the ratios are. None where it was not measured.
    collected : mapping of str to datetime
        By tier: since when all of its answers were made that it was proved on. A tier is missing where an answer does
        not say, and in certificates that were made before it was kept. What is found of a model later than that, a
        new certificate on the same answers does not refute.
    streamed : Streamed, optional
        How labels were spent that came one by one; None: the test had a fixed number.
    patterns : tuple of TestedPattern
        What became of every pattern that was tested in this look, of which the version's was taken; empty: it alone.
    """

    what: str
    epsilon: float
    delta: float
    level: float
    n: int
    accepted_n: int
    errors: int
    upper: float
    threshold: float | None
    label_source: str
    made_at: datetime
    expires_at: datetime
    binds: Mapping[str, str]
    look_index: int = 0
    slices: Mapping[str, Promise] = field(default_factory=dict)
    also: tuple[Promise, ...] = ()
    settings: Mapping[str, float] = field(default_factory=dict)
    one_row_per: str = PROMPT
    token_ratios: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    tries: Tries | None = None
    compared: Compared | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=Coverage)
    streamed: Streamed | None = None
    patterns: tuple[TestedPattern, ...] = ()
    collected: Mapping[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_budget(self.epsilon, self.delta)
        for name, moment in (("made_at", self.made_at), ("expires_at", self.expires_at)):
            if moment.tzinfo is None:
                raise DataError(f"{name} {moment.isoformat()} has no time zone: pass an aware datetime (UTC)")
        if self.expires_at <= self.made_at:
            raise DataError(f"the certificate would expire ({self.expires_at}) before it is made ({self.made_at})")

    @property
    def promised_risk(self) -> float:
        """The bound that holds with confidence 1 - delta."""
        return self.epsilon

    @property
    def joint(self) -> bool:
        """Whether a policy's thresholds were certified together, so that none of them can be asked for alone."""
        return self.what == ANSWERED_RISK or any(name.endswith(".accept_at") for name in self.settings)

    @property
    def pre_routed(self) -> bool:
        """Whether it is about all answers of prompts that the router sends to the cheap tier, judged by nobody."""
        return self.what in (PRE_ROUTED_RISK, PRE_ROUTED_HARM)

    @property
    def closes_slices(self) -> bool:
        """Whether the last tier answers in slices without proof, which otherwise have no threshold of acceptance."""
        return self.joint or self.pre_routed

    @property
    def harm(self) -> bool:
        """Whether only wrong answers where the last tier's is right count against it."""
        return HARM in self.what

    def covers(self, slice_name: str | None = None) -> bool:
        """Return whether anything is promised of queries of a slice.

        Parameters
        ----------
        slice_name : str, optional
            The slice; a certificate without slices covers every query.

        Returns
        -------
        bool
        """
        promise = None if slice_name is None else self.slices.get(slice_name)
        return not self.slices or (promise is not None and promise.certified)

    def threshold_for(self, slice_name: str | None = None) -> float:
        """Return what the score of an answer to a query of a slice must reach to be accepted.

        Parameters
        ----------
        slice_name : str, optional
            The slice; None where there are none.

        Returns
        -------
        float
            +inf (never) for a slice that is not certified; +inf as well where a policy's thresholds were certified
            together, or where nothing is judged: ask `covers`, and the policy's own points.
        """
        if self.closes_slices:
            return math.inf
        if not self.slices:
            return math.inf if self.threshold is None else self.threshold
        promise = None if slice_name is None else self.slices.get(slice_name)
        return math.inf if promise is None else promise.threshold

    def check(self, binds_now: Mapping[str, str], now: datetime) -> None:
        """Hold the certificate against what there is now; it says nothing where it still holds.

        Parameters
        ----------
        binds_now : mapping of str to str
            Hashes of what it depends on, as they are now. Both sides must name the same things: a dependency that was
            never bound is not covered either.
        now : datetime
            With time zone.

        Raises
        ------
        CertificateError
            Naming what changed, or that it expired.
        """
        faults = [
            f"{name} changed ({self.binds[name][:12]} → {binds_now[name][:12]})"
            for name in sorted(self.binds.keys() & binds_now.keys())
            if self.binds[name] != binds_now[name]
        ]
        faults += [f"{name} is no longer there" for name in sorted(self.binds.keys() - binds_now.keys())]
        faults += [
            f"{name} was not part of what was certified" for name in sorted(binds_now.keys() - self.binds.keys())
        ]
        if now >= self.expires_at:
            faults.append(f"it expired at {self.expires_at.isoformat()}")
        if faults:
            raise CertificateError(f"the certificate is void: {'; '.join(faults)}. Certify again on fresh labels.")

    def summary(self) -> str:
        """One line for a banner: the promise, the evidence, the expiry; and where rewritten prompts are not held."""
        counted = "" if self.one_row_per == PROMPT else f" (one per {self.one_row_per})"
        bad = "harmful" if self.harm else "wrong"
        evidence = f"n={self.n}{counted}, accepted {self.accepted_n}, {self.errors} {bad}, {self.labels}"
        if self.streamed is not None:
            evidence += f", {self.streamed.words}"
        if self.look_index > 0:
            evidence += f", look {self.look_index} at these labels (δ {self.level:.3g} of {self.delta:g})"
        else:
            evidence += f", all of δ {self.delta:g} in one look at these labels"
        if self.patterns:
            evidence += f", the cheapest of {len(self.patterns)} patterns that share δ"
        also = "".join(f" and {p.what} <= {p.bound:g}" for p in self.also)
        slices = ""
        if self.slices:
            held = sum(p.certified for p in self.slices.values())
            slices = f", {held} of {len(self.slices)} slices"
        confidence = f"{100 * (1 - self.delta):.4g} % confidence"
        if self.also:
            together = f" each, {100 * max(1 - self.delta_together, 0.0):.4g} % together"
            confidence += " together" if self.separate == 1 else together
        expiry = f"expires {self.expires_at.date().isoformat()}"
        epsilon = max(f"{self.epsilon:.2f}", f"{self.epsilon:g}", key=len)  # 0.10, but 0.005 as it is
        attacked = self.coverage.text.attacked
        beyond = "" if attacked is None or attacked.held else f"; {attacked.summary()}"
        return f"{self.what} <= {epsilon}{also}{self.where} with {confidence} ({evidence}{slices}, {expiry}){beyond}"

    @property
    def labels(self) -> str:
        """Whose labels it rests on, and how many were left out: agreement with a judge is promised, and no more."""
        if by_judge(self.label_source):
            said = f"judge labels (agreement with {judge_of(self.label_source)})"
        elif UNSTATED in self.label_source:
            said = f"labels of {self.label_source} source"
        else:
            said = f"{self.label_source} labels"
        return said + "".join(
            f", {n} {by_number(n, 'label')} of {source} left out" for source, n in self.left_out.items()
        )

    @property
    def separate(self) -> int:
        """How many statements were tested apart, each at all of `level`: beside a threshold's, that of abstention.

        A largest drop joins the test of the risk, and so does abstention where thresholds were certified together.
        """
        return 1 if self.joint else 1 + sum(promise.what == ABSTAIN_RISK for promise in self.also)

    @property
    def delta_together(self) -> float:
        """The δ at which all of its statements hold at once: δ for every one that was tested apart (union bound)."""
        return min(self.separate * self.delta, 1.0)

    @property
    def where(self) -> str:
        """What a statement has to add: of a joint policy's slices without proof nothing is promised."""
        return " in each certified slice" if self.closes_slices and self.slices else ""

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data; `from_json` gives an equal certificate back."""
        return {
            "format": JSON_VERSION,
            "what": self.what,
            "epsilon": self.epsilon,
            "delta": self.delta,
            "level": self.level,
            "n": self.n,
            "accepted_n": self.accepted_n,
            "errors": self.errors,
            "upper": self.upper,
            "threshold": None if self.threshold is None else json_number(self.threshold),
            "label_source": str(self.label_source),
            "made_at": self.made_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
            "binds": dict(self.binds),
            "round": self.look_index,
            "slices": {name: promise_to_json(p) for name, p in self.slices.items()},
            "also": [promise_to_json(p) for p in self.also],
            "settings": {name: json_number(v) for name, v in self.settings.items()},
            "one_row_per": self.one_row_per,
            "token_ratios": {tier: list(ratio) for tier, ratio in self.token_ratios.items()},
            "tries": None if self.tries is None else self.tries.to_json(),
            "compared": compared_to_json(self.compared),
            "left_out": dict(self.left_out),
            "coverage": self.coverage.to_json(),
            "streamed": None if self.streamed is None else asdict(self.streamed),
            "collected": {tier: moment.isoformat() for tier, moment in self.collected.items()},
            **({"patterns": [tested.to_json() for tested in self.patterns]} if self.patterns else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Certificate:
        """Read what `to_json` wrote; raises ArtifactError where fields are missing or of the wrong kind.

        CertificateError for a format whose certificates no longer hold: the files are sound, the proof is not.
        """
        try:
            if data["format"] in (1, 2):
                raise CertificateError(
                    f"certificate format {data['format']}: made when every copy of a prompt counted as evidence, "
                    "and a largest drop was proved in the order of the file. What it promises may not hold: run "
                    "`serve-graph certify` again"
                )
            if data["format"] == 3 or (data["format"] == JSON_VERSION and "coverage" not in data):
                raise CertificateError(f"certificate format {data['format']}: {_NO_COVERAGE}")
            if data["format"] != JSON_VERSION:
                raise ArtifactError(f"certificate format {data['format']!r}: this release reads {JSON_VERSION}")
            return cls(
                what=str(data["what"]),
                epsilon=float(data["epsilon"]),
                delta=float(data["delta"]),
                level=float(data["level"]),
                n=int(data["n"]),
                accepted_n=int(data["accepted_n"]),
                errors=int(data["errors"]),
                upper=float(data["upper"]),
                threshold=None if data["threshold"] is None else float(data["threshold"]),
                label_source=str(data["label_source"]),
                made_at=datetime.fromisoformat(data["made_at"]),
                expires_at=datetime.fromisoformat(data["expires_at"]),
                binds={str(k): str(v) for k, v in data["binds"].items()},
                look_index=int(data["round"]),
                slices={str(k): promise_from_json(v) for k, v in data["slices"].items()},
                also=tuple(promise_from_json(v) for v in data["also"]),
                settings={str(k): float(v) for k, v in data["settings"].items()},
                one_row_per=str(data["one_row_per"]),
                token_ratios={
                    str(tier): (float(ratio[0]), float(ratio[1]), float(ratio[2]))
                    for tier, ratio in data.get("token_ratios", {}).items()
                },
                tries=None if data.get("tries") is None else Tries.from_json(data["tries"]),
                left_out={str(source): int(n) for source, n in data.get("left_out", {}).items()},
                coverage=Coverage.from_json(data["coverage"]),
                streamed=Streamed(**data["streamed"]) if data.get("streamed") else None,
                compared=compared_from_json(data.get("compared")),
                collected=_moments_of(data.get("collected", {})),
                patterns=tuple(tested_pattern(one) for one in data.get("patterns", ())),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"the certificate cannot be read: {type(error).__name__} {error}") from error


def _moments_of(data: Mapping[str, Any]) -> dict[str, datetime]:
    """Moments by name; ValueError for one without a time zone, which could not be compared."""
    found = {str(name): datetime.fromisoformat(moment) for name, moment in data.items()}
    if any(moment.tzinfo is None for moment in found.values()):
        raise ValueError("when outcomes were collected has no time zone")
    return found
