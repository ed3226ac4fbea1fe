"""The data of a plan: prompts with out-of-fold scores, grades, dollars and seconds.

Built from recorded outcomes (here) or from a described traffic mix (`traffic_mix`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from router_models.data.groups import grouped_by, in_hash_order, one_of_each
from router_models.data.outcomes import OutcomeTable, split
from router_models.data.slices import slice_columns
from router_models.errors import DataError, by_number
from router_models.estimators.calibrators.scores import choose_calibrator
from router_models.estimators.routers import ROUTERS
from router_models.estimators.signals import TierKind, served_names, would_need
from router_models.pricing.tier_costs import TierCosts, calls_of, check_ladder, token_ratio_recorded
from router_models.reports.coverage import foreseen_rows
from router_models.risk_control.certificates.risks import check_acceptable
from router_models.risk_control.evidence import CascadeEvidence
from router_models.training.selection.model_selection import (
    SIMPLE_ROUTERS,
    SIMPLE_VERIFIERS,
    choose_router,
    choose_verifier,
    usable_verifiers,
)
from router_models.types import Answers, BoolArray, FloatArray, IntArray
from router_models.versions.sealed.tier_models import ROUTER_SCORE

MIN_PROMPTS = 60
PLAN_SHARES = {"tune": 0.4, "cert": 0.6}


@dataclass(frozen=True, slots=True)
class Workload:
    """Hold n prompts with what a plan is computed from; every column is (n,).

    Parameters
    ----------
    name : str
        The workload's name.
    cheap, frontier : str
        The two tiers.
    seen : CascadeEvidence
        Calibrated estimates, grades and dollars.
    choosing : array of bool
        The rows on which thresholds are chosen; the others are evidence.
    cheap_s, frontier_s : array of float, optional
        Seconds of each call; None = not known.
    router : str
        The router's family.
    verifier : str, optional
        The verifier's family; None = answers add nothing to the router's score, or were not recorded.
    labelled : bool
        False where the grades are assumed.
    signals : mapping of str to array of float
        Candidate scores.
    not_served : mapping of str to str
        Of the signals that a served version would not have: what each would need, in a sentence.
    agreement : array of float, optional
        The agreement of several cheap answers, where recorded.
    slices : mapping of str to tuple of str
        Columns that figures are broken down by.
    notes : tuple of str
        What the page says of the data, in sentences.
    content_hash : str
        The table's content hash; empty for a traffic mix.
    groups : array of int, (n,), optional
        Equal for rows that are no independent observations of each other; None: all are.
    """

    name: str
    cheap: str
    frontier: str
    seen: CascadeEvidence
    choosing: BoolArray
    cheap_s: FloatArray | None
    frontier_s: FloatArray | None
    router: str
    verifier: str | None
    labelled: bool
    signals: Mapping[str, FloatArray] = field(default_factory=dict)
    not_served: Mapping[str, str] = field(default_factory=dict)
    agreement: FloatArray | None = None
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    content_hash: str = ""
    groups: IntArray | None = None

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def group_of(self) -> IntArray:
        """Return every row's group, (n,)."""
        return np.arange(len(self)) if self.groups is None else self.groups

    @property
    def counted(self) -> BoolArray:
        """Return which rows count where something is to be proved: one of each group, if it is covered, (n,)."""
        return one_of_each(self.group_of) & self.seen.rows_counted

    @property
    def summary_fields(self) -> tuple[str, ...]:
        """Return the fields that JSON shows of a workload: everything that is not a column."""
        return ("name", "cheap", "frontier", "router", "verifier", "labelled", "notes", "content_hash", "not_served")


def workload_of(
    table: OutcomeTable,
    cheap: str,
    frontier: str,
    terms: Mapping[str, TierCosts],
    *,
    name: str = "outcomes",
    acceptable: float | None = None,
    routers: Sequence[str] | None = None,
    verifiers: Sequence[str] | None = None,
    seed: int = 0,
    group_by: str | None = None,
    kind: TierKind = TierKind.VLLM,
) -> Workload:
    """Score every prompt and cheap answer out of fold, calibrate on the choosing rows, and price every call.

    Parameters
    ----------
    table : OutcomeTable
        Outcomes of both tiers; with embeddings for router families that read them.
    cheap, frontier : str
        The two tiers.
    terms : mapping of str to TierCosts
        Prices and assumptions by tier.
    name : str
        The workload's name.
    acceptable : float, optional
        Grades from this on count as right; needed where grades are fractional.
    routers, verifiers : sequence of str, optional
        Families to choose from; by default the simple ones.
    seed : int
        Seeds folds and splits.
    group_by : str, optional
        A column whose equal values (users, sessions, documents, templates) belong to one group, as equal prompts do.
    kind : TierKind
        What comes with the cheap tier's answers when it serves: no verifier is given any other recorded signal.

    Returns
    -------
    Workload

    Raises
    ------
    DataError
        Where too few prompts are graded, all answers are alike, grades are fractional without `acceptable`, the tiers
        cannot save anything, or tokens are neither recorded nor assumed.
    """
    table = in_hash_order(grouped_by(table.only(cheap, frontier), group_by), seed)
    right = {tier: graded(table.grade(tier), tier, acceptable) for tier in (cheap, frontier)}
    y = right[cheap]
    if (n := len(np.unique(table.groups))) < MIN_PROMPTS:
        raise DataError(f"{n} graded prompts: a plan needs at least {MIN_PROMPTS}, better a thousand")
    if y.min() == y.max():
        raise DataError(
            f"every answer of {cheap!r} is {'right' if y[0] else 'wrong'}: there is nothing to route; "
            + (f"serve {cheap!r} alone or grade harder" if y[0] else f"serve {frontier!r} alone")
        )
    calls = {tier: calls_of(table, tier, terms[tier], seed) for tier in (cheap, frontier)}
    check_ladder({tier: c.usd for tier, c in calls.items()}, right, cheap, frontier)
    chosen, tried = choose_router(
        table.prompts, y, table.groups, usable_routers(table, routers or SIMPLE_ROUTERS), seed=seed
    )
    answers = recorded_answers(table, cheap)
    raw_signals = dict(answers.signals)
    verifier, checked = None, chosen.scores
    shown = {name: raw_signals[name] for name in served_names(raw_signals, kind)}
    if shown or any(table.answers_of(cheap).texts):
        with_score = replace(answers, signals={**shown, ROUTER_SCORE: chosen.scores})
        families = usable_verifiers(with_score, verifiers or SIMPLE_VERIFIERS)
        best, seen_verifiers = choose_verifier(with_score, y, table.groups, families, seed=seed)
        tried = [*tried, *(replace(s, family=f"verifier {s.family}") for s in seen_verifiers[1:])]
        if best.family != ROUTER_SCORE:  # else looking at the answer adds nothing to what the router knew
            verifier, checked = best.family, best.scores
    choosing = _choosing(table, seed)
    _both_classes(y, choosing, cheap)
    seen = CascadeEvidence(
        (cheap, frontier),
        _calibrated(chosen.scores, y, choosing, seed)[:, None],
        np.column_stack([_calibrated(checked, y, choosing, seed), np.ones(len(table))]),
        np.column_stack([calls[tier].usd for tier in (cheap, frontier)]),
        np.column_stack([right[tier] >= 0.5 for tier in (cheap, frontier)]),
        lengths=np.array([len(text) for text in table.prompts.texts], dtype=np.float64),
        covered=foreseen_rows(table),
    )
    scored = {f"router {s.family}" if not s.family.startswith("verifier ") else s.family: s.scores for s in tried}
    notes = [f"{tier}: tokens {c.tokens_basis}, latency {c.seconds_basis}" for tier, c in calls.items()]
    ratio = token_ratio_recorded(table, frontier, cheap)
    if ratio is not None:
        notes.append(f"{frontier} counts {ratio:.2f} prompt tokens for each of {cheap}'s (recorded)")
    return Workload(
        name=name,
        cheap=cheap,
        frontier=frontier,
        seen=seen,
        choosing=choosing,
        cheap_s=calls[cheap].seconds,
        frontier_s=calls[frontier].seconds,
        router=chosen.family,
        verifier=verifier,
        labelled=True,
        signals={**scored, **{k: v for k, v in raw_signals.items() if np.isfinite(v).any()}},
        not_served={name: sentence for name in raw_signals if (sentence := would_need(name, kind)) is not None},
        agreement=raw_signals.get("agreement"),
        slices=slice_columns(table.prompts),
        notes=tuple(notes),
        content_hash=table.content_hash,
        groups=table.groups,
    )


def graded(grades: FloatArray, tier: str, acceptable: float | None) -> FloatArray:
    """Return grades as 0 / 1.

    Parameters
    ----------
    grades : array of float, (n,)
        In [0, 1].
    tier : str
        Named in messages.
    acceptable : float, optional
        Grades from this on count as right.

    Returns
    -------
    array of float, (n,)

    Raises
    ------
    DataError
        Where grades are fractional and `acceptable` is None.
    """
    check_acceptable(acceptable)
    if acceptable is not None:
        return (grades >= acceptable).astype(np.float64)
    between = (grades != 0) & (grades != 1)
    if n := int(between.sum()):
        raise DataError(
            f"{n} {by_number(n, 'grade')} of {tier!r} {by_number(n, 'lies', 'lie')} between 0 and 1 (e.g. "
            f"{grades[between][0]:g}): say from "
            "which grade on an answer counts as acceptable"
        )
    return grades


def recorded_answers(table: OutcomeTable, tier: str) -> Answers:
    """Return a tier's answers, with a placeholder where no text at all was recorded.

    Verifiers score an empty answer as wrong, which is right for a model that returned nothing and wrong for a file
    that recorded only grades and confidences.
    """
    answers = table.answers_of(tier)
    return answers if any(answers.texts) else replace(answers, texts=("(text not recorded)",) * len(table))


def usable_routers(table: OutcomeTable, families: Sequence[str]) -> list[str]:
    """Return the families that this table has the inputs for, in the given order; former names are understood."""
    families = [ROUTERS.current_name(f) for f in families]
    unknown = [f for f in families if f not in ROUTERS]
    if unknown:
        raise DataError(f"unknown router families {unknown}; known: {', '.join(ROUTERS)}")
    return [
        f
        for f in families
        if f != "length" and (table.prompts.embeddings is not None or not ROUTERS[f].needs_embeddings)
    ]


def _choosing(table: OutcomeTable, seed: int) -> BoolArray:
    inside = set(split(table, PLAN_SHARES, seed)["tune"].groups.tolist())
    return np.array([int(group) in inside for group in table.groups], dtype=np.bool_)


def _both_classes(y: FloatArray, choosing: BoolArray, cheap: str) -> None:
    for rows, what in ((choosing, "choosing"), (~choosing, "evidence")):
        if not rows.any() or y[rows].min() == y[rows].max():
            raise DataError(
                f"the {int(rows.sum())} {what} prompts hold only right or only wrong answers of {cheap!r}: label more"
            )


def _calibrated(scores: FloatArray, y: FloatArray, choosing: BoolArray, seed: int) -> FloatArray:
    clipped = np.clip(scores, 0.0, 1.0)
    return choose_calibrator(clipped[choosing], y[choosing], seed=seed).predict(clipped)
