"""Compute routing figures with paired intervals, beside random, prompt length and the oracle.

Scores come from `held_out`; nothing is fitted here but the calibrator of the certified point, on its own rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from router_models.data.groups import evidence_rows
from router_models.data.outcomes import OutcomeTable
from router_models.data.slices import slice_columns
from router_models.errors import DataError
from router_models.estimators.routers import LengthRouter
from router_models.evaluation.certified_point import CertifiedPoint, PromiseTerms, certification_rows, certified_point
from router_models.evaluation.held_out import HeldOutScores
from router_models.evaluation.intervals import AIQ_DRAWS, aiq_interval, pgr_at
from router_models.evaluation.slices import SliceRow, slice_rows
from router_models.metrics import (
    Interval,
    RoutingSums,
    apgr,
    bootstrap,
    bootstrap_values,
    cpt,
    cpt_interpolated,
    gap_of,
    interval_of,
    oracle_scores,
    routellm_curve,
    routing_curve,
)
from router_models.reports.coverage import foreseen_rows
from router_models.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """Hold one method's figures. Shares in [0, 1]; intervals 95 % over prompts, draws shared by all rows.

    Parameters
    ----------
    method : str
        The router family or baseline.
    split : str
        Where its scores come from, in words.
    apgr, cpt_50, cpt_80 : Interval
        On the exact curve; CPT is its first crossing.
    pgr_half : Interval
        The gap recovered when half of the prompts go to strong.
    aiq : Interval
        The area under the hull of quality over cost.
    over_length : Interval
        APGR less prompt length's, paired.
    deciles_apgr : float
        APGR on RouteLLM's decile curve.
    deciles_cpt : mapping of float to tuple of float
        CPT there, by first crossing and by `np.interp`, which differ where quality is not monotone.
    away, out_of_domain_over_length : Interval, optional
        APGR with whole domains held out, and that less prompt length's.
    certified : CertifiedPoint, optional
        What a certificate would permit.
    """

    method: str
    split: str
    apgr: Interval
    cpt_50: Interval
    cpt_80: Interval
    pgr_half: Interval
    aiq: Interval
    over_length: Interval
    deciles_apgr: float
    deciles_cpt: Mapping[float, tuple[float, float]]
    away: Interval | None
    out_of_domain_over_length: Interval | None
    certified: CertifiedPoint | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Hold a set, a pair of tiers, and every method's figures; the baselines come first.

    Parameters
    ----------
    name : str
        The set.
    weak, strong : str
        The two tiers.
    n : int
        The number of prompts.
    weak_quality, strong_quality : float
        Their mean grades.
    terms : PromiseTerms
        Costs and risk budget.
    rows : tuple of MethodFigures
        One per method.
    slices : mapping of str to tuple of SliceRow
        By method.
    domain : str, optional
        The column whose values were held out whole.
    notes : tuple of str
        What a reader needs to know, in sentences.
    """

    name: str
    weak: str
    strong: str
    n: int
    weak_quality: float
    strong_quality: float
    terms: PromiseTerms
    rows: tuple[MethodFigures, ...]
    slices: Mapping[str, tuple[SliceRow, ...]]
    domain: str | None
    notes: tuple[str, ...] = ()


def baselines(table: OutcomeTable, weak: str, strong: str) -> list[HeldOutScores]:
    """Return the scores of random (a constant: the mean over all random orders), prompt length, and the oracle."""
    w, s = table.grade(weak), table.grade(strong)
    return [
        HeldOutScores("random", "untrained", np.full(len(table), 0.5)),
        HeldOutScores("length", "untrained", LengthRouter().predict(table.prompts)),
        HeldOutScores("oracle", "knows the grades", oracle_scores(w, s)),
    ]


def evaluate(
    table: OutcomeTable,
    weak: str,
    strong: str,
    methods: Sequence[HeldOutScores],
    terms: PromiseTerms,
    now: datetime,
    *,
    name: str = "outcomes",
    away: Mapping[str, FloatArray] | None = None,
    certify: Mapping[str, FloatArray] | None = None,
    domain: str | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
) -> Evaluation:
    """Compute every figure of every method.

    Parameters
    ----------
    table : OutcomeTable
        n prompts graded for both tiers.
    weak, strong : str
        The two tiers.
    methods : sequence of HeldOutScores
        The routers' scores; baselines are added.
    terms : PromiseTerms
        Costs and risk budget.
    now : datetime
        The time at which certified points are dated.
    name : str
        The set's name.
    away : mapping of str to array of float, (n,), optional
        By method, scores of the same prompts with whole domains held out.
    certify : mapping of str to array of float, (n,), optional
        By method, scores for the certified point; None = of every method by its own.
    domain : str, optional
        The column whose values were held out whole.
    notes : sequence of str
        Sentences for the reader.
    seed : int
        Seeds the resamples.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataError
        Where strong is not better than weak (there is no gap to recover), or a score is NaN.
    """
    w, s = table.grade(weak), table.grade(strong)
    gap_of(w, s)
    held = [*baselines(table, weak, strong), *methods]
    for one in held:
        if np.isnan(one.scores).any():
            raise DataError(f"{one.method}: {int(np.isnan(one.scores).sum())} of {len(w)} prompts have no score")
    length = bootstrap_values(
        RoutingSums(held[1].scores, w, s).apgr, len(w), draws=AIQ_DRAWS, seed=seed, groups=table.groups
    )
    counted = evidence_rows(table, seed)
    cert_rows = certification_rows(table, seed)[counted]
    covered = foreseen_rows(table)[counted]
    few = replace(terms, weak_cost=terms.weak_cost[counted], strong_cost=terms.strong_cost[counted])
    out_of_domain = away or {}
    own = {m.method: m.scores for m in held if m.method not in ("random", "oracle")}
    points = {
        method: certified_point(scores[counted], w[counted], s[counted], few, cert_rows, now, seed, covered)
        for method, scores in (own if certify is None else certify).items()
    }
    rows = [
        _row(
            m,
            w,
            s,
            terms,
            length,
            held[1].scores,
            out_of_domain.get(m.method),
            points.get(m.method),
            seed,
            table.groups,
        )
        for m in held
    ]
    with_slices = [one for one in held if one.method != "random"]
    columns = slice_columns(table.prompts)
    return Evaluation(
        name=name,
        weak=weak,
        strong=strong,
        n=len(table),
        weak_quality=float(w.mean()),
        strong_quality=float(s.mean()),
        terms=terms,
        rows=tuple(rows),
        slices={one.method: slice_rows(columns, one.scores, w, s) for one in with_slices},
        domain=domain,
        notes=tuple(notes),
    )


def _row(
    one: HeldOutScores,
    w: FloatArray,
    s: FloatArray,
    terms: PromiseTerms,
    length: FloatArray,
    length_scores: FloatArray,
    away: FloatArray | None,
    point: CertifiedPoint | None,
    seed: int,
    groups: IntArray,
) -> MethodFigures:
    n = len(w)
    sums = RoutingSums(one.scores, w, s)
    values = bootstrap_values(sums.apgr, n, draws=AIQ_DRAWS, seed=seed, groups=groups)
    own_apgr = apgr(routing_curve(one.scores, w, s))
    length_apgr = apgr(routing_curve(length_scores, w, s))
    deciles = routellm_curve(one.scores, w, s)
    out_of_domain = out_of_domain_over = None
    if away is not None:
        away_values = bootstrap_values(RoutingSums(away, w, s).apgr, n, draws=AIQ_DRAWS, seed=seed, groups=groups)
        away_value = apgr(routing_curve(away, w, s))
        out_of_domain = interval_of(away_value, away_values)
        out_of_domain_over = interval_of(away_value - length_apgr, away_values - length)
    return MethodFigures(
        method=one.method,
        split=one.split,
        apgr=interval_of(own_apgr, values),
        cpt_50=bootstrap(lambda W: sums.cpt(W, 0.5), n, draws=AIQ_DRAWS, seed=seed, groups=groups),
        cpt_80=bootstrap(lambda W: sums.cpt(W, 0.8), n, draws=AIQ_DRAWS, seed=seed, groups=groups),
        pgr_half=bootstrap(lambda W: pgr_at(sums, W, 0.5), n, draws=AIQ_DRAWS, seed=seed, groups=groups),
        aiq=aiq_interval(one.scores, w, s, (terms.weak_cost, terms.strong_cost), seed, groups),
        over_length=interval_of(own_apgr - length_apgr, values - length),
        deciles_apgr=apgr(deciles),
        deciles_cpt={x: (cpt(deciles, x), cpt_interpolated(deciles, x)) for x in (0.5, 0.8)},
        away=out_of_domain,
        out_of_domain_over_length=out_of_domain_over,
        certified=point,
    )
