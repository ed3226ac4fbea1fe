"""Does looking at the answer pay? Cascades of two tiers, cross-validated: logprobs alone, the prompt alone, both.

Every contender is fitted on four fifths of the prompts and judged on the rest; the router's score that enters a
verifier is itself out of fold. Two questions are asked of each: how well does it know whether the cheap answer is
right (AUC, log-loss), and how much of the dearer tier's advantage does deferring by it recover (APGR)?

The two differ. P(cheap right) alone ignores that a question the cheap tier gets wrong may be beyond the dear tier too
(or mislabelled); `deferral_targets` ranks by who is right *instead*, and needs both tiers' grades to learn from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router_models.errors import DataError
from router_models.features import LOGPROB_NAMES, logprob_summary
from router_models.metrics.intervals import DRAWS, Interval, WeightedStatistic, bootstrap_values, interval_of
from router_models.metrics.probability import auc_weighted, log_loss_weighted
from router_models.metrics.routing import RoutingSums
from router_models.outcomes import OutcomeTable
from router_models.routers.base import RouterModel
from router_models.types import Answers, FloatArray, IntArray
from router_models.verifiers.combined import CombinedVerifier
from router_models.verifiers.logistic import grouped_folds
from router_models.verifiers.logprob import LogprobVerifier

MakeRouter = Callable[[], RouterModel]


@dataclass(frozen=True, slots=True)
class CascadeData:
    """What the cheap tier answered to n prompts, and the grades (n,) of both tiers, none missing."""

    answers: Answers
    cheap: FloatArray
    dear: FloatArray

    def __len__(self) -> int:
        return len(self.answers)

    def take(self, index: IntArray) -> CascadeData:
        """Select rows by integer index."""
        return CascadeData(self.answers.take(index), self.cheap[index], self.dear[index])


Contender = Callable[[CascadeData, Answers], FloatArray]
"""Fit on a training set, score other answers (n,): higher = keep the cheap answer."""


@dataclass(frozen=True, slots=True)
class CascadeRow:
    """One contender: its figures, and the reference's less its own, paired by prompt."""

    name: str
    auc: Interval
    log_loss: Interval
    apgr: Interval
    auc_gain: Interval
    log_loss_gain: Interval
    apgr_gain: Interval


def cascade_data(table: OutcomeTable, cheap: str, dear: str) -> CascadeData:
    """The rows graded for both tiers. A `max_token_confidence` without logprobs is read as a one-token answer's."""
    both = table.only(cheap, dear)
    return CascadeData(with_one_token_logprobs(both.answers_of(cheap)), both.grade(cheap), both.grade(dear))


def with_one_token_logprobs(answers: Answers) -> Answers:
    """Fill in the logprob quantiles of multiple-choice answers of which only the token's probability was kept."""
    confidence = answers.signals.get("max_token_confidence")
    if confidence is None or all(name in answers.signals for name in LOGPROB_NAMES):
        return answers
    rows = [logprob_summary(() if np.isnan(p) else (float(np.log(max(p, 1e-13))),)) for p in confidence]
    columns = {name: np.array([row[name] for row in rows]) for name in LOGPROB_NAMES}
    rest = {name: column for name, column in answers.signals.items() if name != "max_token_confidence"}
    return replace(answers, signals=rest | columns)


def deferral_targets(cheap: FloatArray, dear: FloatArray) -> FloatArray:
    """Targets (n,) in [0, 1] whose mean orders prompts by what deferring loses: 1 only cheap right, 0 only dear right.

    ½ where both or neither is right, so that E[target] = (1 − E[dear − cheap]) / 2.
    """
    return np.asarray((1.0 + cheap - dear) / 2.0, dtype=np.float64)


def cross_fitted_router(
    make: MakeRouter, X: Answers, y: FloatArray, folds: IntArray
) -> tuple[RouterModel, FloatArray]:
    """A router fitted on all rows, and scores (n,) of the same rows by routers that have not seen their fold."""
    scores = np.full(len(y), float(y.mean()))
    for fold in np.unique(folds):
        held = folds == fold
        if len(np.unique(y[~held])) > 1:
            scores[held] = make().fit(X.prompts.take(~held), y[~held]).predict(X.prompts.take(held))
    return make().fit(X.prompts, y), scores


def contenders(make_router: MakeRouter, seed: int = 0) -> dict[str, Contender]:
    """Logprobs raw and fitted, the router alone, and both in one estimate, of P(right) and of what deferring loses."""

    def logprob_raw(train: CascadeData, test: Answers) -> FloatArray:
        return np.exp(np.nan_to_num(test.signals["lp_mean"], nan=-30.0))

    def logprob(train: CascadeData, test: Answers) -> FloatArray:
        return LogprobVerifier(seed=seed).fit(train.answers, train.cheap).predict(test)

    def prompt_only(train: CascadeData, test: Answers) -> FloatArray:
        return make_router().fit(train.answers.prompts, train.cheap).predict(test.prompts)

    def combined(train: CascadeData, test: Answers) -> FloatArray:
        return _combined(train, test, train.cheap, make_router, seed)

    def combined_for_deferral(train: CascadeData, test: Answers) -> FloatArray:
        return _combined(train, test, deferral_targets(train.cheap, train.dear), make_router, seed)

    return {
        "-logprob, untrained": logprob_raw,
        "logprob": logprob,
        "router (prompt only)": prompt_only,
        "combined, P(cheap right)": combined,
        "combined, for deferral": combined_for_deferral,
    }


def _combined(train: CascadeData, test: Answers, y: FloatArray, make_router: MakeRouter, seed: int) -> FloatArray:
    folds = grouped_folds(train.answers.prompts.texts, y, 5, seed)
    router, scores = cross_fitted_router(make_router, train.answers, y, folds)
    known = replace(train.answers, signals={**train.answers.signals, "router_score": scores})
    new = replace(test, signals={**test.signals, "router_score": router.predict(test.prompts)})
    return CombinedVerifier(seed=seed).fit(known, y).predict(new)


def cross_validate(
    data: CascadeData,
    entered: Mapping[str, Contender],
    folds: int = 5,
    seed: int = 0,
    together: Sequence[str] | None = None,
) -> dict[str, FloatArray]:
    """Out-of-fold scores (n,) of every contender; equal prompts share a fold.

    `together` (n,) names a larger unit to keep on one side, a domain say: then every contender is away from home.
    Raises DataError where a grade is missing or there are fewer than `folds` prompts.
    """
    if not np.isfinite([data.cheap, data.dear]).all():
        raise DataError("a cascade is judged on prompts graded for both tiers; drop the others (`OutcomeTable.only`)")
    dealt = grouped_folds(together or data.answers.prompts.texts, data.cheap, folds, seed)
    if len(np.unique(dealt)) < folds:
        raise DataError(f"{len(data)} answers in fewer than {folds} separate groups cannot be cross-validated")
    scores = {name: np.empty(len(data)) for name in entered}
    for fold in range(folds):
        inside, outside = np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)
        train, test = data.take(inside), data.answers.take(outside)
        for name, contender in entered.items():
            scores[name][outside] = contender(train, test)
    return scores


def cascade_rows(
    data: CascadeData, scores: Mapping[str, FloatArray], reference: str, *, draws: int = DRAWS, seed: int = 0
) -> list[CascadeRow]:
    """AUC, log-loss and APGR of every contender with paired bootstrap intervals over prompts.

    Log-loss is of the cheap tier's grade, as if every score were P(cheap right); for scores that are not, it says so
    by being large. Raises DataError where the dear tier is not better (APGR has no meaning).
    """
    n = len(data)
    ones = np.ones((1, n))

    def three(score: FloatArray) -> tuple[WeightedStatistic, WeightedStatistic, WeightedStatistic]:
        return (
            auc_weighted(score, data.cheap),
            log_loss_weighted(np.clip(score, 1e-6, 1 - 1e-6), data.cheap),
            RoutingSums(score, data.cheap, data.dear).apgr,
        )

    def resampled(score: FloatArray) -> list[tuple[float, FloatArray]]:
        return [(float(s(ones)[0]), bootstrap_values(s, n, draws=draws, seed=seed)) for s in three(score)]

    base = resampled(scores[reference])
    rows = []
    for name, score in scores.items():
        own = base if name == reference else resampled(score)
        figures = [interval_of(value, values) for value, values in own]
        gains = [interval_of(b - v, bs - vs) for (b, bs), (v, vs) in zip(base, own, strict=True)]
        rows.append(CascadeRow(name, *figures, *gains))
    return rows


def cascade_markdown(rows: Sequence[CascadeRow], reference: str) -> str:
    """The comparison as a Markdown table; differences are the reference's less the row's, with 95 % intervals."""
    lines = [
        f"| contender | AUC | log-loss | APGR | {reference}: AUC gain | log-loss gain | APGR gain |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        gains = (row.auc_gain, row.log_loss_gain, row.apgr_gain)
        differences = ["" if row.name == reference else _signed(gain) for gain in gains]
        lines.append(f"| {row.name} | {row.auc} | {row.log_loss} | {row.apgr} | " + " | ".join(differences) + " |")
    return "\n".join(lines) + "\n"


def _signed(gain: Interval) -> str:
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
