"""What people are asked, fixed before the first label: thresholds, budget, rows and their order.

Labels count only where they decide: rows of CERT whose cheap answer the most lenient candidate would accept, in the
random (hash) order of CERT. A plan is the first line of a file of labels; whoever goes on with the file, or certifies
by it, must have the same candidate and the same rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from router_models.data.formats.condition_columns import condition_words, conditions_of_table
from router_models.data.table import OutcomeTable
from router_models.errors import ArtifactError, DataError
from router_models.risk_control.certify import routed
from router_models.risk_control.sequence import counts_at, smoothed_risk
from router_models.risk_control.streaming import place_stream
from router_models.training.candidate import Candidate, Settings
from router_models.training.evidence import evidence_of, score_table
from router_models.training.splits import LabelledSplits
from router_models.types import FloatArray
from router_models.types.conditions import PLAIN, Conditions
from router_models.types.coverage import Coverage
from router_models.types.label_sources import by_judge
from router_models.versions.covering.attack_limits import certified_coverage
from router_models.versions.covering.covered_rows import covered_rows
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.digest import models_digest

LABELS_FORMAT = 1


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """The terms of a stream of labels.

    Parameters
    ----------
    promise : str
        `accepted` (an answer is wrong) or `harm` (the cheap answer is wrong and the last tier's right).
    tiers : tuple of str
        Both tiers, cheapest first.
    epsilon, delta, level : float
        The budget, and the part of `delta` that this look may spend.
    look_index : int
        Which look at these prompts it is.
    thresholds : tuple of float
        To be proved one after the other, from strict to lenient.
    tune_risk : tuple of float
        TUNE's risk at each of them: only for foretelling how many labels are needed.
    label_source : str
        Who labels.
    candidate, rows : str
        sha256 of the candidate's models and routing threshold, and of the rows in their order.
    prompts : int
        The CERT prompts that the rows were taken from.
    made_at : str
        When the first label could be given.
    """

    promise: str
    tiers: tuple[str, ...]
    epsilon: float
    delta: float
    level: float
    look_index: int
    thresholds: tuple[float, ...]
    tune_risk: tuple[float, ...]
    label_source: str
    candidate: str
    rows: str
    prompts: int
    made_at: str

    @property
    def harm(self) -> bool:
        """Whether the last tier's answers are labelled too."""
        return self.promise == "harm"

    @property
    def digest(self) -> str:
        """sha256 of all of it: what is noted with the look, so that nothing is changed once labels are seen."""
        return _sha(json.dumps(self.to_json(), sort_keys=True))

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data; `from_json` gives an equal plan back."""
        return {"labels_format": LABELS_FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelPlan:
        """Read what `to_json` wrote; ArtifactError for anything else."""
        try:
            if data["labels_format"] != LABELS_FORMAT:
                raise ArtifactError(f"labels format {data['labels_format']!r}: this release reads {LABELS_FORMAT}")
            values = {name: data[name] for name in cls.__dataclass_fields__}
            values |= {"tiers": tuple(values["tiers"]), "thresholds": tuple(map(float, values["thresholds"]))}
            values |= {"tune_risk": tuple(map(float, values["tune_risk"]))}
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"its first line is no plan of labels ({type(error).__name__} {error})") from error


@dataclass(frozen=True, slots=True)
class Question:
    """One row to be labelled: its key, the prompt, and the answers by tier in the order in which they are shown.

    `asked_under` has the conditions that are not the plain ones, in words; limits of length are left out.
    """

    key: str
    prompt: str
    answers: Mapping[str, str]
    asked_under: str = ""

    @property
    def alike(self) -> bool:
        """Whether several answers are shown and all are the same text: none of them can be worse than another."""
        return len(self.answers) > 1 and len({text.strip() for text in self.answers.values()}) == 1


@dataclass(frozen=True, slots=True)
class LabelTask:
    """A plan with the rows it speaks of: questions and their scores, in the order in which they are asked."""

    plan: LabelPlan
    questions: tuple[Question, ...]
    scores: FloatArray

    def share(self, threshold: float) -> float:
        """The share of CERT's prompts that a threshold accepts."""
        return float((self.scores >= threshold).sum() / self.plan.prompts)


def new_task(
    candidate: Candidate, splits: LabelledSplits, settings: Settings, made_at: datetime, label_source: str
) -> LabelTask:
    """Place thresholds on TUNE and draw the rows to be labelled; reads no label of CERT.

    Parameters
    ----------
    candidate : Candidate
        From `fit_candidate`, on the same splits.
    splits : LabelledSplits
        With embeddings, and with every row of CERT, whoever graded it (`evidence="asked"`).
    settings : Settings
        What is to be promised; its `look_index` is the look that the labels will be.
    made_at : datetime
        Now.
    label_source : str
        Who will label.

    Raises
    ------
    NotCertifiedError
        Where TUNE says that nothing is likely to be proved.
    DataError
        For a promise that labels cannot stream for, and answers that were not recorded.
    """
    check_streamed(settings)
    draft, harm = replace(candidate.version, longest_prompt=settings.longest_prompt), settings.harm
    coverage = certified_coverage(draft, splits.train, splits.tune, splits.cert, settings.epsilon)
    known = replace(
        evidence_of(draft, splits.tune, settings.prices), covered=covered_rows(coverage, draft, splits.tune)
    )
    tune = routed(known.counted(), draft.policy.points[settings.tiers[0]].route_at, harm=harm)
    rows, scores = _may_be_accepted(draft, splits, coverage)
    doubted = any(by_judge(said) for tier in settings.counted_tiers for said in splits.tune.label_source(tier))
    thresholds = place_stream(tune, scores, epsilon=settings.epsilon, level=settings.level, doubted=doubted)
    questions, kept = _questions(splits.cert, rows, scores, settings.tiers, thresholds[-1], harm=harm)
    plan = LabelPlan(
        promise=str(settings.promised),
        tiers=settings.tiers,
        epsilon=settings.epsilon,
        delta=settings.delta,
        level=settings.level,
        look_index=settings.look_index,
        thresholds=thresholds,
        tune_risk=tuple(smoothed_risk(*counts_at(np.array(thresholds[::-1]), tune)).tolist()[::-1]),
        label_source=label_source,
        candidate=candidate_digest(draft),
        rows=_digest_of(questions, coverage),
        prompts=len(splits.cert),
        made_at=made_at.isoformat(),
    )
    return LabelTask(plan, questions, kept)


def task_of(
    plan: LabelPlan, candidate: Candidate, splits: LabelledSplits, longest_prompt: int | None = None
) -> LabelTask:
    """The rows of a plan that was made before; DataError where the candidate or the rows are others by now.

    `longest_prompt` is that of the settings: longer ones are not asked of the cheap tier, and are no evidence.
    """
    draft = replace(candidate.version, longest_prompt=longest_prompt)
    if plan.tiers != draft.policy.tiers or plan.candidate != candidate_digest(draft):
        raise DataError("the labels were given for another candidate: label again, or give that one")
    coverage = certified_coverage(draft, splits.train, splits.tune, splits.cert, plan.epsilon)
    rows, scores = _may_be_accepted(draft, splits, coverage)
    questions, kept = _questions(splits.cert, rows, scores, plan.tiers, plan.thresholds[-1], harm=plan.harm)
    if _digest_of(questions, coverage) != plan.rows:
        raise DataError(
            "the outcomes are not those that the labels were given for: rows or answers that may be accepted have "
            "changed. Give the table as it was; its order does not matter. Labels begun by another release, which "
            "covers other rows, are finished and certified by it"
        )
    return LabelTask(plan, questions, kept)


def check_agrees(
    plan: LabelPlan, *, epsilon: float | None = None, delta: float | None = None, promise: str | None = None
) -> None:
    """Raise DataError where what is asked for is not what was fixed before the first label; None asks for nothing."""
    for name, wanted, fixed in (
        ("epsilon", epsilon, plan.epsilon),
        ("delta", delta, plan.delta),
        ("promise", promise, plan.promise),
    ):
        if wanted is not None and wanted != fixed:
            raise DataError(f"the labels were begun for {name} {fixed}, not {wanted}: it is fixed before the first")


def check_streamed(settings: Settings) -> None:
    """Raise DataError for promises that no stream of labels can prove; reads nothing."""
    if len(settings.tiers) != 2 or settings.promised == "answered":
        raise DataError(
            f"labels stream for one threshold between two tiers, not for the promise {settings.promised!r} of "
            f"{len(settings.tiers)} tiers"
        )
    if settings.slicer is not None or settings.max_drop is not None:
        raise DataError("labels stream for a promise about all traffic, without slices and without a largest drop")


def candidate_digest(version: RouterVersion) -> str:
    """sha256 of what scores the rows and says which are tried."""
    points = {tier: repr(point.route_at) for tier, point in version.policy.points.items()}
    return hashlib.sha256(f"{models_digest(version)}\x1f{sorted(points.items())}".encode()).hexdigest()


def _may_be_accepted(draft: RouterVersion, splits: LabelledSplits, coverage: Coverage) -> tuple[list[int], FloatArray]:
    """The rows of CERT that are covered and tried at the cheap tier, and the scores of their answers."""
    cheap, scored = draft.policy.tiers[0], score_table(draft, splits.cert)
    covered = covered_rows(coverage, draft, splits.cert)
    rows = np.flatnonzero((scored.p_route[cheap] >= draft.policy.points[cheap].route_at) & covered)
    return rows.tolist(), scored.p_ok[cheap][rows]


def _questions(
    cert: OutcomeTable, rows: Sequence[int], scores: FloatArray, tiers: Sequence[str], lenient: float, *, harm: bool
) -> tuple[tuple[Question, ...], FloatArray]:
    asked = [tiers[0], tiers[-1]] if harm else [tiers[0]]
    for tier in asked:
        if not any(cert.answers_of(tier).texts):
            raise DataError(f"the outcomes hold no answers of tier {tier!r}: there is nothing to show to a labeller")
    texts = {tier: cert.answers_of(tier).texts for tier in asked}
    kept = [(row, score) for row, score in zip(rows, scores.tolist(), strict=True) if score >= lenient]
    found, conditions = [], conditions_of_table(cert)
    for row, _ in kept:
        said = {tier: texts[tier][row] for tier in asked}
        prompt = cert.prompts.texts[row]
        key = _sha("\x1f".join([prompt, *(f"{tier}\x1e{text}" for tier, text in said.items())]))[:16]
        blind = sorted(said, key=lambda tier: _sha(f"shown:{key}:{tier}"))
        found.append(Question(key, prompt, {tier: said[tier] for tier in blind}, _in_words(conditions[row])))
    return tuple(found), np.array([score for _, score in kept], dtype=np.float64)


def _in_words(asked: Conditions) -> str:
    plain = PLAIN.columns()
    other = (name for name, cell in asked.columns().items() if cell != plain[name] and name != "max_tokens")
    return ", ".join(f"{name.replace('_', ' ')} {condition_words(asked, name)}" for name in other)


def _digest_of(questions: Sequence[Question], coverage: Coverage) -> str:
    """sha256 of the rows in their order, and of the conditions that a certificate on them will cover."""
    said = json.dumps(coverage.to_json(), sort_keys=True)
    return _sha("\n".join([said, *(question.key for question in questions)]))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
