"""RouterVersion: everything that decides, loaded from one sealed folder of data.

policy.json          ladder, thresholds, families, feature version
<tier>.router.*      router and its calibrator           ┐ for every tier that
<tier>.verifier.*    verifier and its calibrator         ┘ the policy has a point for
<tier>.prefix.*      verifier and calibrator of answers' first tokens, where the tier has a prefix point
home.*               the training prompts that distance is measured to, where the routers cannot tell
spelling.*           the runs of letters of the training prompts
certificate.json     absent in uncertified (test) versions
report.md, *.png     the page a reviewer signs, and deferral.json, the numbers of its curve
manifest.json        written last
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from router_models.data.embeddings.encoder import MOST_CHARS, MOST_WINDOWS, WINDOW, Encoder
from router_models.data.embeddings.recent_vectors import RecentVectors
from router_models.data.features import answers_of, embedded_with, prompt_of, prompts_of
from router_models.data.slices import slice_of
from router_models.estimators.asked_signals import asked_among
from router_models.estimators.catalogue.nearest_example import CatalogueIndex
from router_models.estimators.novelty import NoveltyDetector
from router_models.estimators.spelling import Spelling
from router_models.estimators.verifiers.checks.formats import format_columns, read_answer
from router_models.pricing.prices import Price, prices_digest_input
from router_models.risk_control.certificates.binding import binding_hashes
from router_models.risk_control.certificates.certificate import Certificate
from router_models.types import (
    PREFIX_FINISH,
    Action,
    BoolArray,
    Completion,
    Decision,
    FloatArray,
    PromptEmbedding,
    Prompts,
    Query,
    Verdict,
)
from router_models.types.coverage import Coverage, Uncovered
from router_models.versions.covering.routed_by_intent import by_intent
from router_models.versions.covering.text_checks import TextModels
from router_models.versions.policy import Policy
from router_models.versions.ruling import Asked, rulings
from router_models.versions.sealed.digest import models_digest
from router_models.versions.sealed.policy_file import plain_number
from router_models.versions.sealed.tier_models import Stage as Stage
from router_models.versions.sealed.tier_models import (
    as_served,
    asked_signal_columns,
    lacking_signals,
    shows_route,
    together,
)
from router_models.versions.sealed.version_files import read_version, write_version

SHORT = MOST_WINDOWS * WINDOW
"""Characters that are always read, as a word piece has one at least."""


@dataclass(frozen=True)
class RouterVersion:
    """One version, ready to decide and judge. Deterministic; no I/O after loading but the encoder's first use.

    Parameters
    ----------
    policy : Policy
        The ladder and its thresholds.
    stages : mapping of tier to Stage
        Router, verifier and their calibrators.
    certificate : Certificate, optional
        What is promised of it; None: nothing.
    name : str
        `<model>/<number>` once it is registered.
    digest : str
        sha256 over its files, where it was loaded from a folder.
    encoder : Encoder
        Embeds prompts, where a stage wants that.
    slicer : str, optional
        The rule by which a query's slice is found, where slices were certified by themselves.
    prefix_certificates, prefix_stages : mapping of tier to Certificate, to Stage
        For answers that are accepted by their first tokens.
    novelty : NoveltyDetector, optional
        How far a prompt lies from the training data.
    overload_certificates : mapping of tier to Certificate
        For rejected answers that are served while the last tier is full.
    judges_calls : tuple of str
        The tiers of which answers that call tools were fitted and certified on; of others' calls nothing is promised.
    longest_prompt : int, optional
        Bytes of the longest prompt that was certified; None: not known.
    stated_slices : bool
        Whether certified rows stated their slice in their metadata, instead of having it detected.
    novel_to_top : bool
        Whether a prompt beyond the certified distance is sent to the last tier; else the router decides, and nothing
        is promised either. A setting of the server, no part of the version's files.
    spelling : Spelling, optional
        What letters the training prompts are written in.
    score_quantiles : tuple of float
        Quantiles of the router's estimate for the cheapest tier over the prompts that certified, from the least to
        the greatest at equal steps; empty: not known (`ScoreShares`).
    catalogue : CatalogueIndex, optional
        The intents that decide before the router; like `novel_to_top` a setting of the server, and of certifying.
    recent : RecentVectors
        Embeddings of the parts of prompts that came last.
    """

    policy: Policy
    stages: Mapping[str, Stage]
    certificate: Certificate | None = None
    name: str = "unregistered"
    digest: str = ""
    encoder: Encoder = field(default_factory=Encoder)
    slicer: str | None = None
    prefix_certificates: Mapping[str, Certificate] = field(default_factory=dict)
    prefix_stages: Mapping[str, Stage] = field(default_factory=dict)
    novelty: NoveltyDetector | None = None
    overload_certificates: Mapping[str, Certificate] = field(default_factory=dict)
    judges_calls: tuple[str, ...] = ()
    longest_prompt: int | None = None
    stated_slices: bool = False
    novel_to_top: bool = True
    spelling: Spelling | None = None
    score_quantiles: tuple[float, ...] = ()
    catalogue: CatalogueIndex | None = None
    recent: RecentVectors = field(default_factory=RecentVectors, repr=False, compare=False)

    def decide(self, query: Query, made: PromptEmbedding | None = None) -> Decision:
        """Choose a tier before generation.

        Nothing is promised of a prompt that lies farther from the training data than its certificate covers, nor of
        one that is not read to its end.

        Parameters
        ----------
        query : Query
            What is asked.
        made : PromptEmbedding, optional
            Its embedding, where it is there; None: it is made once, for all stages.

        Returns
        -------
        Decision
            The embedding travels with it, so that `judge` need not make it.
        """
        return self.decide_all([query], [made])[0]

    def decide_all(self, queries: Sequence[Query], made: Sequence[PromptEmbedding | None]) -> list[Decision]:
        """As `decide` of each query: their routers, distances and texts are computed together, which takes a fraction
        of the time that they take one by one. Raises what deciding any of them raises.
        """
        found: dict[int, Decision] = {}
        alike: dict[tuple[frozenset[str], frozenset[str]], list[int]] = {}
        asked: dict[int, Asked] = {}
        for row, query in enumerate(queries):
            if lacking := [name for name in self.asked_first if not math.isfinite(query.signals.get(name, math.nan))]:
                why = f"{self.policy.tiers[0]} did not say {' and '.join(lacking)}"
                found[row] = self.policy.decide_uncovered({}, None, Uncovered("signal", why), to_top=True)
                continue
            open_slice = self._open_slice(query)
            long = self.unread(query.text) if self.certificate is not None and open_slice is None else None
            if long is not None and self.novel_to_top:
                found[row] = self.policy.decide_uncovered({}, None, long, to_top=True)
                continue
            asked[row] = Asked(query, long, open_slice)
            alike.setdefault((frozenset(query.metadata), frozenset(query.signals)), []).append(row)
        for rows in alike.values():  # a column that one query lacks is another thing than one that is empty
            decided = self._decided([asked[row] for row in rows], [made[row] for row in rows])
            found.update(zip(rows, decided, strict=True))
        return [found[row] for row in range(len(queries))]

    def _decided(self, asked: Sequence[Asked], made: Sequence[PromptEmbedding | None]) -> list[Decision]:
        queries = [one.query for one in asked]
        prompts, embedded = prompts_of(queries, None), list[PromptEmbedding | None]([None] * len(asked))
        if self.needs_encoder:
            embedded = list(embedded_with(queries, self.encoder, made))
            prompts = replace(prompts, embeddings=np.stack([one.vector for one in embedded if one is not None]))
        ruled = rulings(self, asked, prompts)
        if self.catalogue is not None or (self.certificate is not None and self.certificate.coverage.catalogue):
            ruled = [by_intent(self, one, prompts.take([row])) for row, one in enumerate(ruled)]
        return [one if own is None else replace(one, embedding=own) for one, own in zip(ruled, embedded, strict=True)]

    def sent_down(self, prompts: Prompts) -> BoolArray:
        """Return which prompts the policy sends below its last tier, (n,), whether they are covered or not."""
        p_ok = {tier: stage.estimate_route(prompts) for tier, stage in self.stages.items() if stage.router is not None}
        rows = ({tier: float(p[row]) for tier, p in p_ok.items()} for row in range(len(prompts)))
        return np.array([self.policy.decide(row).tier != self.policy.top for row in rows], dtype=np.bool_)

    @property
    def text_models(self) -> TextModels:
        """What measures a text beside its distance."""
        tried_from = {tier: point.route_at for tier, point in self.policy.points.items()}
        return TextModels(self.stages, self.encoder, self.spelling, tried_from, self.recent)

    def unread(self, text: str) -> Uncovered | None:
        """Return why nothing is promised of a text that no model reads to its end; None where they do.

        A certificate speaks of prompts that were read whole, whatever the labelled rows held.
        """
        if len(text) <= SHORT:
            return None
        embeds = self.reads_embeddings
        if len(text) <= MOST_CHARS and (not embeds or self.encoder.reads_whole(text)):
            return None
        most = f"{MOST_CHARS:,} characters" + (f" and {MOST_WINDOWS * WINDOW:,} word pieces" if embeds else "")
        return Uncovered("length", f"the prompt is longer than the {most} that are read of it")

    def distance(self, prompts: Prompts) -> FloatArray | None:
        """How far every prompt lies from the training data, (n,); None where neither router nor version can tell."""
        for stage in self.stages.values():
            if (far := stage.distance(prompts)) is not None:
                return far
        return None if self.novelty is None else self.novelty.distance(prompts)

    def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        """Accept, escalate or abstain, after generation; one that ends in PREFIX_FINISH is judged by its first tokens.

        A cheap answer that breaks the shape the request declared (JSON schema, tools) is escalated whatever its score;
        so is one that lacks a signal which its verifier asks for, and nothing is promised then.
        Tool calls as declared are accepted, and nothing is promised of them unless `judges_calls` names the tier.
        In a slice of which a joint policy promises nothing every cheap answer is, and the last tier's is accepted; so
        is the last tier's answer to any query that the decision promises nothing of.

        Parameters
        ----------
        query : Query
            What was asked.
        completion : Completion
            The answer, of the tier that it names.
        decision : Decision
            What `decide` said of the query.

        Returns
        -------
        Verdict
            What is done with the answer, and why.
        """
        if (open_slice := self._open_slice(query)) is not None:
            return self.policy.judge_open(decision.tier, open_slice)
        if not decision.promised and decision.tier == self.policy.top:
            return self.policy.judge_unmeasured(decision.tier, decision.reason)
        if decision.tier not in self.stages:
            return self.policy.judge(decision.tier, 1.0)
        is_prefix = completion.finish_reason == PREFIX_FINISH
        if not is_prefix:
            read = read_answer(query, completion, knows_calls=decision.tier in self.judges_calls)
            if read.fault is not None and decision.tier != self.policy.top:
                return Verdict(Action.ESCALATED, read.fault, 0.0, layer="check")
            if read.not_promised is not None:
                return self.policy.judge_unmeasured(decision.tier, read.not_promised)
            if lacking := lacking_signals(self.asked_of(decision.tier), completion):
                return Verdict(Action.ESCALATED, f"not judged: no {' and no '.join(lacking)}", promised=False)
        p_ok = self.estimate(query, completion, decision)
        if is_prefix:
            return self.policy.judge_prefix(decision.tier, p_ok)
        on_overload = self.overload_certificates.get(decision.tier)
        return self.policy.judge(
            decision.tier,
            p_ok,
            self._slice_threshold(query, self.certificate),
            self._slice_threshold(query, on_overload),
        )

    def estimate(self, query: Query, completion: Completion, decision: Decision) -> float:
        """P(this completion, or this prefix, is acceptable) by the tier's verifier; KeyError where it has none."""
        tier, is_prefix = decision.tier, completion.finish_reason == PREFIX_FINISH
        stage = self.prefix_stages.get(tier, self.stages[tier]) if is_prefix else self.stages[tier]
        wants = stage.verifier.wants_embeddings
        prompts = prompt_of(query, self.encoder, decision.embedding) if wants else prompts_of([query], None)
        columns = format_columns(query, completion, stage.verifier.wants_signals) | asked_signal_columns(
            stage, completion
        )
        answers = answers_of(prompts, [completion], columns)
        estimate = np.array([np.nan if decision.p_cheap_ok is None else decision.p_cheap_ok])
        shown = estimate if not is_prefix and shows_route(self.policy.tiers, tier) else None
        return float(stage.estimate_ok(as_served(answers, shown, stage.asked))[0])

    def asked_of(self, tier: str) -> tuple[str, ...]:
        """The signals that are asked for before an answer of this tier is judged; none of the last tier's."""
        return () if tier == self.policy.top or tier not in self.stages else self.stages[tier].asked

    @property
    def asked_first(self) -> tuple[str, ...]:
        """The signals that the cheapest tier is asked for before a tier is chosen."""
        routers = [stage.router for stage in self.stages.values() if stage.router is not None]
        return asked_among(name for router in routers for name in router.wants_signals)

    @property
    def asked(self) -> tuple[str, ...]:
        """All signals that are asked for, before a tier is chosen and of any tier's answers."""
        return asked_among((*self.asked_first, *(name for tier in self.stages for name in self.asked_of(tier))))

    def _open_slice(self, query: Query) -> str | None:
        """The query's slice where the last tier answers for want of a proof; None where thresholds hold."""
        if self.slicer is None or self.certificate is None or not self.certificate.closes_slices:
            return None
        name = slice_of(self.slicer, query)
        return None if self.certificate.covers(name) else f"{self.slicer}={name}"

    def _slice_threshold(self, query: Query, certificate: Certificate | None) -> float | None:
        """A certificate's threshold for the query's slice; None where the points' own serve. +inf: not certified."""
        if self.slicer is None or certificate is None or certificate.closes_slices:
            return None
        return certificate.threshold_for(slice_of(self.slicer, query))

    def binds(self, prices: Mapping[str, Price]) -> dict[str, str]:
        """Hashes of the offline half of what a certificate depends on: models, prices, thresholds, coverage, ..."""
        coverage = Coverage() if self.certificate is None else self.certificate.coverage
        grid = {
            tier: [plain_number(point.route_at), plain_number(point.accept_at), point.abstain_below]
            for tier, point in self.policy.points.items()
        }
        return {
            "models": models_digest(self),
            "encoder": self.encoder.digest,
            **binding_hashes(
                {
                    "prices": prices_digest_input(prices),
                    "thresholds": [grid, self.slicer, "chain"] if self.policy.chain else [grid, self.slicer],
                    "coverage": coverage.to_json(),
                }
            ),
        }

    @property
    def delta_together(self) -> float | None:
        """The δ at which everything that is promised of the version holds at once; None where nothing is."""
        beside = (*self.prefix_certificates.values(), *self.overload_certificates.values())
        return None if self.certificate is None else together((self.certificate, *beside))

    @property
    def labels_read(self) -> tuple[str, ...]:
        """The metadata that its routers decide by."""
        return tuple(sorted({n for stage in self.stages.values() if stage.router for n in stage.router.labels_read}))

    @property
    def loaded_digest(self) -> str:
        """What it decides by: its files, and those of the encoder where something is promised."""
        return self.digest if self.certificate is None else f"{self.digest} {self.encoder.digest}"

    @property
    def needs_encoder(self) -> bool:
        """Whether deciding embeds the prompt."""
        reads = any(stage.router is not None and stage.router.needs_embeddings for stage in self.stages.values())
        return reads or self.catalogue is not None

    @property
    def reads_embeddings(self) -> bool:
        """Whether deciding or judging embeds the prompt."""
        return self.needs_encoder or any(stage.verifier.wants_embeddings for stage in self.stages.values())

    def save(self, folder: Path, extra: Path | None = None) -> str:
        """Write the sealed folder, which a save that is killed does not leave.

        Parameters
        ----------
        folder : Path
            Where to; it must not exist.
        extra : Path, optional
            A folder whose files (the report) are copied in before sealing.

        Returns
        -------
        str
            The folder's hash.

        Raises
        ------
        ArtifactError
            Where `folder` exists: nothing is replaced.
        """
        return write_version(self, folder, extra)

    @classmethod
    def load(cls, folder: Path, name: str | None = None) -> RouterVersion:
        """Read a sealed folder.

        Parameters
        ----------
        folder : Path
            What `save` wrote.
        name : str, optional
            What the version is called in decisions; None: by its folder.

        Returns
        -------
        RouterVersion
            One that decides as the one that was saved.

        Raises
        ------
        ArtifactError
            Naming a file that is missing, altered, added or not understood.
        """
        return cls(name=name or folder.name, **read_version(folder))
