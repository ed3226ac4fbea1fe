"""A candidate: what it is made for, what was fitted, and the folder between `train` and `certify`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from router_models.data.artifacts import read_json_file
from router_models.data.embeddings.encoder import Encoder
from router_models.data.slices import SLICERS
from router_models.errors import ArtifactError, DataError
from router_models.estimators.asked_signals import check_asked
from router_models.estimators.questions.terms import USUAL_QUESTIONS, AskedSettings
from router_models.estimators.signals import TierKind
from router_models.pricing.prices import Price
from router_models.risk_control.certificates.promise import PatternChoice, pattern_named
from router_models.risk_control.certificates.risks import PROMPT, check_budget
from router_models.risk_control.certificates.terms import CertificateTerms
from router_models.risk_control.certify import Guarantee, Promised
from router_models.risk_control.ladder.tuning import Escalation
from router_models.risk_control.sequence import spent_delta
from router_models.training.selection.model_selection import Scored
from router_models.training.whose_labels import LabelsUsed
from router_models.versions.router_version import RouterVersion


@dataclass(frozen=True)
class Settings:
    """What a candidate is made for: its tiers, their prices, and what is to be promised.

    Parameters
    ----------
    tiers : tuple of str
        Cheapest first.
    prices : mapping of tier to Price
        What they cost.
    epsilon, delta : float
        The risk's bound, and 1 - the confidence; both in (0, 1).
    abstain_share : float
        The most that may be abstained on, in [0, 1).
    valid_days : int
        How long a certificate is valid.
    seed : int
        Of splits and folds.
    group_by : str, optional
        A column of the outcomes (users, sessions, documents, templates) of whose equal values one row counts; None:
        one row of equal prompts.
    router, verifier : str
        A family, or `auto`: the simplest that beats its baseline.
    signals : tuple of str, optional
        The signals that verifiers may ask for (`estimators.asked_signals`). None: those that a named family reads, and
        with `auto` those that the outcomes hold and that pay for their calls.
    asking : AskedSettings
        How they are asked for.
    router_usd, verifier_usd : float
        What one routing decision, and one verdict, cost: savings are net of both.
    pattern : {"layered", "pre-route", "chain", "auto"}
        `layered`: the router sends clear cases to the last tier, and a verifier judges what the others answered.
        `pre-route`: the router alone decides, before generation, for two tiers. `chain`: what is rejected goes to the
        next tier that the router would try, for three tiers and more. `auto`: `layered` and the one that the number
        of tiers allows are both certified, and the one with the lower net cost is taken (`certify_patterns`).
    patterns_tried : int
        How many patterns are tested in one look, of which one is taken: each has an equal part of δ.
    budget_s : float, optional
        Seconds that the choice of routers by `auto` may take among all families (`auto_router`); None: the choice is
        between the two quickest.
    longest_prompt : int, optional
        Bytes of the longest prompt that serving tries below the last tier; longer ones are no evidence. None: any is.
    kinds : mapping of tier to TierKind
        What comes with a tier's answers when it serves; of one that is not named: everything that an engine returns.
    slicer : str, optional
        Every certified slice keeps the whole promise by itself; None: traffic as a whole.
    promise : {"harm", "accepted", "answered"}, optional
        Bounds P(cheap wrong and last tier right | cheap accepted), for any ladder; P(wrong | cheap accepted) by one
        threshold, for two tiers; or the whole system's P(wrong | answered) by all thresholds together, with early
        abstention, for any ladder. None: harm.
    max_drop : float, optional
        The most by which fewer answers than always-frontier's may be right, in (0, 1); None: not promised.
    binds : mapping of str to str
        Hashes of everything served that the outcomes came from.
    look_index : int
        Which look at these labels this is, whose share of `delta` is `level`; 0: the only one there will ever be.
        `pipeline.certify_next` counts them.

    Raises
    ------
    DataError
        For a budget that is none, and for an unknown slicer.
    """

    tiers: tuple[str, ...]
    prices: Mapping[str, Price]
    epsilon: float = 0.10
    delta: float = 0.10
    abstain_share: float = 0.05
    valid_days: int = 90
    seed: int = 0
    router: str = "auto"
    verifier: str = "auto"
    slicer: str | None = None
    promise: Promised | None = None
    max_drop: float | None = None
    binds: Mapping[str, str] = field(default_factory=dict)
    look_index: int = 0
    group_by: str | None = None
    budget_s: float | None = None
    kinds: Mapping[str, TierKind] = field(default_factory=dict)
    longest_prompt: int | None = None
    router_usd: float = 0.0
    verifier_usd: float = 0.0
    signals: tuple[str, ...] | None = None
    asking: AskedSettings = USUAL_QUESTIONS
    pattern: PatternChoice = "layered"
    patterns_tried: int = 1

    def __post_init__(self) -> None:
        check_budget(self.epsilon, self.delta)
        if self.max_drop is not None and not 0 < self.max_drop < 1:
            raise DataError(f"max_drop must lie strictly between 0 and 1, got {self.max_drop!r}")
        if not 0 <= self.abstain_share < 1:
            raise DataError(f"abstain_share must lie in [0, 1), got {self.abstain_share!r}")
        if self.slicer is not None and self.slicer not in SLICERS:
            raise DataError(f"unknown slicing {self.slicer!r}; known: {', '.join(SLICERS)}")
        check_asked(self.signals or ())

    def kind(self, tier: str) -> TierKind:
        """What kind of tier it is served as."""
        return self.kinds.get(tier, TierKind.VLLM)

    @property
    def level(self) -> float:
        """The part of `delta` that one test of this look may spend."""
        return spent_delta(self.delta, self.look_index) / self.patterns_tried

    @property
    def guarantee(self) -> Guarantee:
        """What is promised beside ε and δ."""
        promised = self.promised
        if self.pre_routes:
            return Guarantee(promised, 0.0, self.max_drop, pre_route=True)
        share = 0.0 if promised == "harm" and len(self.tiers) > 2 else self.abstain_share
        where: Escalation = "next" if self.pattern == "chain" else "top"
        return Guarantee(promised, share, self.max_drop, together=self.joint, escalation=where)

    @property
    def pre_routes(self) -> bool:
        """Whether the router alone decides; DataError where that cannot be promised."""
        self.check_pattern()
        return self.pattern == "pre-route"

    def check_pattern(self) -> None:
        """Raise DataError where the pattern cannot be promised."""
        if self.pattern == "chain" and len(self.tiers) < 3:
            raise DataError("--pattern chain needs three tiers or more: of two, layered already is one")
        routes = self.pattern == "pre-route" or (self.pattern == "auto" and len(self.tiers) == 2)
        if routes and (len(self.tiers) != 2 or self.promise == "answered"):
            raise DataError(
                f"--pattern {self.pattern} is certified for two tiers and the promises `harm` and `accepted`: it says "
                f"nothing of the last tier's answers, nor of {len(self.tiers)} tiers. Leave --pattern layered"
            )
        if self.pattern != "layered" and self.slicer is not None and self.max_drop is not None:
            raise DataError("slices with a largest drop are certified for --pattern layered alone")

    @property
    def harm(self) -> bool:
        """Whether the promise is about harm, for which nobody need have graded the last tier."""
        return self.promised == "harm"

    @property
    def joint(self) -> bool:
        """Whether all thresholds are certified in one test; else two tiers have one threshold to be certified."""
        harm_by_slice = self.slicer is not None and self.max_drop is not None
        return self.promised == "answered" or (self.promised == "harm" and (len(self.tiers) > 2 or harm_by_slice))

    def terms(self, now: datetime, rests_on: LabelsUsed) -> CertificateTerms:
        """What a certificate made now, on these labels, states beside its evidence; it is bound later."""
        ends = now + timedelta(days=self.valid_days)
        counted = self.group_by or PROMPT
        return CertificateTerms(
            self.epsilon,
            self.delta,
            rests_on.source,
            now,
            ends,
            look_index=self.look_index,
            one_row_per=counted,
            left_out=rests_on.left_out,
            patterns_tried=self.patterns_tried,
        )

    @property
    def counted_tiers(self) -> tuple[str, ...]:
        """Whose labels the promise counts: the first tier's where only its answers are judged, else every tier's."""
        return self.tiers[:1] if self.promised == "accepted" and self.max_drop is None else self.tiers

    @property
    def promised(self) -> Promised:
        """Which risk is certified; DataError for a combination that cannot be."""
        if len(self.tiers) < 2:
            raise DataError(f"routing needs two tiers or more, got {self.tiers}")
        chosen: Promised = self.promise or "harm"
        if chosen == "accepted" and len(self.tiers) > 2:
            raise DataError(
                f"the thresholds of {len(self.tiers)} tiers are certified together: promise `harm` or `answered`, not "
                "`accepted`"
            )
        if self.slicer is not None and chosen == "accepted" and self.max_drop is not None:
            raise DataError(
                "slices with a largest drop are certified for the promise `harm` or `answered`, not for `accepted`"
            )
        return chosen


@dataclass(frozen=True)
class Candidate:
    """A fitted, calibrated, uncertified policy, with what each choice was made on.

    Parameters
    ----------
    version : RouterVersion
        Decides and judges already, and carries no certificate.
    dataset_hash : str
        sha256 of the outcomes that it was fitted on.
    routers, verifiers : mapping of tier to tuple of Scored
        The families that were tried for a tier, with their AUC; the baseline first.
    """

    version: RouterVersion
    dataset_hash: str
    routers: Mapping[str, tuple[Scored, ...]]
    verifiers: Mapping[str, tuple[Scored, ...]]


_SCORED = {"auc": "auc", "advantage": "advantage", "low": "low", "high": "high"}
_SCORED |= {"out_of_domain_auc": "away_auc", "apgr": "apgr", "seconds": "seconds"}
"""The numbers of a `Scored` and their names in candidate.json."""


def save_candidate(candidate: Candidate, settings: Settings, folder: Path) -> None:
    """Write the uncertified version and what it was made for; `load_candidate` reads it back."""
    notes = folder.with_name(f".{folder.name}-notes")
    notes.mkdir(parents=True, exist_ok=True)
    tried = {"routers": _scored_json(candidate.routers), "verifiers": _scored_json(candidate.verifiers)}
    data = {"dataset_sha256": candidate.dataset_hash, "seed": settings.seed, "promise": settings.promised, **tried}
    data |= {"group_by": settings.group_by, "pattern": settings.pattern}
    (notes / "candidate.json").write_text(json.dumps(data, indent=1, allow_nan=False))
    candidate.version.save(folder, extra=notes)
    shutil.rmtree(notes)


def load_candidate(folder: Path, settings: Settings, encoder: Encoder | None = None) -> tuple[Candidate, Settings]:
    """Read a candidate; `settings` get its seed, groups and promise. Raises ArtifactError where it is damaged.

    `encoder`: another than the one it was trained with, which its version has.
    """
    version = RouterVersion.load(folder)
    version = version if encoder is None else replace(version, encoder=encoder)
    try:
        data = read_json_file(folder / "candidate.json")
        routers, verifiers = (
            {tier: tuple(_scored(row) for row in tried) for tier, tried in data[k].items()}
            for k in ("routers", "verifiers")
        )
        return Candidate(version, data["dataset_sha256"], routers, verifiers), replace(
            settings,
            seed=int(data["seed"]),
            promise=data["promise"],
            group_by=data.get("group_by"),
            pattern=pattern_named(data.get("pattern", "layered")),
        )
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{folder}: not a candidate that `train` wrote ({error})") from error


def _scored(row: Mapping[str, float | str | None]) -> Scored:
    numbers = {field: row[key] for field, key in _SCORED.items() if key in row}
    known = {name: None if value is None else float(value) for name, value in numbers.items()}
    return Scored(str(row["family"]), np.empty(0), **known)  # type: ignore[arg-type]


def _scored_json(tried: Mapping[str, tuple[Scored, ...]]) -> dict[str, list[dict[str, float | str | None]]]:
    """JSON has no infinity (a bound that the resamples do not know): such a number is written as text."""

    def number(value: float | None) -> float | str | None:
        return value if value is None or np.isfinite(value) else str(value)

    return {
        tier: [
            {"family": scored.family, **{key: number(getattr(scored, name)) for name, key in _SCORED.items()}}
            for scored in all_
        ]
        for tier, all_ in tried.items()
    }
