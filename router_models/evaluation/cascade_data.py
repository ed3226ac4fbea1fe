"""Cross-validate two-tier cascades: by logprobs alone, by the prompt alone, by both.

Every contender is fitted on four fifths of the prompts and evaluated on the rest; the router's score that enters a
verifier is itself out of fold. The scores are of P(cheap right), which is what a certificate bounds; the figures are
in `evaluation.cascade`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.data.text_cache import each_text_once
from router_models.errors import DataError
from router_models.estimators.routers.base import RouterModel
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.estimators.signals import TierKind, check_served, served_names, signal_named, would_need
from router_models.estimators.verifiers.learned.combined import CombinedVerifier
from router_models.estimators.verifiers.learned.logistic import folds_by_prompt
from router_models.estimators.verifiers.learned.logprob import LogprobVerifier
from router_models.estimators.verifiers.learned.sources import PROBABILITY_SIGNALS
from router_models.types import Answers, FloatArray, IntArray
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary, verifier_of

RAW, FITTED, PROMPT, COMBINED = "-logprob, untrained", "logprob, fitted", "router (prompt only)", "combined"
_OWN = ("router_score", "max_token_confidence")
MEASURED = (
    *(name for name in PROBABILITY_SIGNALS if name not in _OWN), "first_token_entropy", "last_tier_likelihood",
)  # fmt: skip
"""Recorded signals that a comparison shows the worth of: those that take calls, or that no version is served with."""
UNSERVED = "not served"
MakeRouter = Callable[[], RouterModel | RouterWithFallback]


@dataclass(frozen=True, slots=True)
class CascadeData:
    """Hold the cheap tier's answers to n prompts, and the grades (n,) of both tiers, none missing.

    `groups`, (n,): equal for rows that are no independent observations of each other; None = all are. `not_served`: of
    the recorded signals that no served contender is given, what each would need to be had when serving. `measured`:
    signals, (n,), that contenders of their own are given; `costs`: what each of them takes, "not served" where no call
    brings it.
    """

    answers: Answers
    cheap: FloatArray
    dear: FloatArray
    groups: IntArray | None = None
    not_served: tuple[str, ...] = ()
    measured: Mapping[str, FloatArray] = field(default_factory=dict)
    costs: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.answers)

    def take(self, index: IntArray) -> CascadeData:
        """Select rows by integer index."""
        groups = None if self.groups is None else self.groups[index]
        return CascadeData(self.answers.take(index), self.cheap[index], self.dear[index], groups)


Contender = Callable[[CascadeData, Answers], FloatArray]
"""Fit on a training set, score other answers (n,): higher = keep the cheap answer."""


@dataclass(frozen=True, slots=True)
class CascadeScores:
    """Hold out-of-fold scores (n,) of every contender, and the fold (n,) in which each prompt was held out."""

    by_name: Mapping[str, FloatArray]
    fold: IntArray

    def ordered(self, name: str) -> FloatArray:
        """Return one contender's scores as mean ranks in (0, 1] within their fold.

        Every fold's fit has a scale of its own, and a threshold is set per fit. Pooling the raw scores would penalise
        whatever is refitted for that: [measured] a monotone refit of logprobs, whose order is the logprobs' own, lost
        .004 APGR to them pooled and nothing within folds.
        """
        from scipy.stats import rankdata

        raw, ranks = self.by_name[name], np.empty(len(self.fold))
        for fold in np.unique(self.fold):
            rows = self.fold == fold
            ranks[rows] = rankdata(raw[rows]) / rows.sum()
        return ranks


def cascade_data(table: OutcomeTable, cheap: str, dear: str, kind: TierKind = TierKind.VLLM) -> CascadeData:
    """Return the rows graded for both tiers; DataError where the cheap tier's confidence was not recorded.

    A `max_token_confidence` without logprobs is read as a one-token answer's. Of all other recorded signals those
    stay that a served version has of a tier of this kind. Where one of `MEASURED` was recorded, logprobs may be
    missing.
    """
    both = table.only(cheap, dear)
    answers = with_one_token_logprobs(both.answers_of(cheap))
    models = sorted(name for name in answers.signals if verifier_of(name) is not None)
    measured = {name: answers.signals[name] for name in (*MEASURED, *models) if name in answers.signals}
    if not measured:
        check_served(f"a cascade from tier {cheap!r}", LOGPROB_NAMES, kind)
    not_served = tuple(why for name in answers.signals if (why := would_need(name, kind)) is not None)
    shown = {name: answers.signals[name] for name in served_names(answers.signals, kind)}
    answers = replace(answers, signals=shown)
    missing = [name for name in LOGPROB_NAMES if name not in answers.signals]
    if missing and not measured:
        raise DataError(
            f"a cascade needs the token logprobs of {cheap!r}, its max_token_confidence, or one of "
            f"{', '.join(MEASURED)}; without {missing[0]!r} only the prompt is left: evaluate a router instead"
        )
    costs = {name: signal_named(name).cost.value for name in measured if would_need(name, kind) is None}
    return CascadeData(answers, both.grade(cheap), both.grade(dear), both.groups, not_served, measured, costs)


def with_one_token_logprobs(answers: Answers) -> Answers:
    """Fill in the logprob quantiles of multiple-choice answers of which only the token's probability was recorded."""
    confidence = answers.signals.get("max_token_confidence")
    if confidence is None or all(name in answers.signals for name in LOGPROB_NAMES):
        return answers
    rows = [logprob_summary(() if np.isnan(p) else (float(np.log(max(p, 1e-13))),)) for p in confidence]
    columns = {name: np.array([row[name] for row in rows]) for name in LOGPROB_NAMES}
    rest = {name: column for name, column in answers.signals.items() if name != "max_token_confidence"}
    return replace(answers, signals=rest | columns)


def cross_fitted_router(
    make: MakeRouter, X: Answers, y: FloatArray, folds: IntArray
) -> tuple[RouterModel | RouterWithFallback, FloatArray]:
    """Return a router fitted on all rows, and out-of-fold scores (n,) of the same rows."""
    scores = np.full(len(y), float(y.mean()))
    for fold in np.unique(folds):
        held_out = folds == fold
        if len(np.unique(y[~held_out])) > 1:
            router = make().fit(X.prompts.take(~held_out), y[~held_out])
            scores[held_out] = router.predict(X.prompts.take(held_out))
    return make().fit(X.prompts, y), scores


def contenders(make_router: MakeRouter, seed: int = 0) -> dict[str, Contender]:
    """Return the contenders by name: logprobs untrained and fitted, the router on the prompt alone, all combined."""

    def logprob_raw(train: CascadeData, test: Answers) -> FloatArray:
        return np.exp(np.nan_to_num(test.signals["lp_mean"], nan=-30.0))

    def logprob(train: CascadeData, test: Answers) -> FloatArray:
        return LogprobVerifier(seed=seed).fit(train.answers, train.cheap).predict(test)

    def prompt_only(train: CascadeData, test: Answers) -> FloatArray:
        return make_router().fit(train.answers.prompts, train.cheap).predict(test.prompts)

    def combined(train: CascadeData, test: Answers) -> FloatArray:
        folds = folds_by_prompt(train.answers.prompts.texts, train.cheap, 5, seed)
        router, scores = cross_fitted_router(make_router, train.answers, train.cheap, folds)
        learning = replace(train.answers, signals={**train.answers.signals, "router_score": scores})
        new = replace(test, signals={**test.signals, "router_score": router.predict(test.prompts)})
        return CombinedVerifier(seed=seed).fit(learning, train.cheap).predict(new)

    return {RAW: logprob_raw, FITTED: logprob, PROMPT: prompt_only, COMBINED: combined}


def served_contenders(data: CascadeData, make_router: MakeRouter, seed: int = 0) -> dict[str, Contender]:
    """Return those of `contenders` that these answers feed: without logprobs two of them are left."""
    fed = all(name in data.answers.signals for name in LOGPROB_NAMES)
    return {name: one for name, one in contenders(make_router, seed).items() if fed or name not in (RAW, FITTED)}


def measured_contenders(data: CascadeData, make_router: MakeRouter, seed: int = 0) -> dict[str, Contender]:
    """Return a contender for each signal of `data.measured`, and `combined` with them all, named by what they take.

    What their calls cost is no part of the figures: `train` says of each whether it pays. They are for
    `with_measured(data)`.
    """

    def alone(signal: str) -> Contender:
        def score(train: CascadeData, test: Answers) -> FloatArray:
            only = {signal: train.answers.signals[signal]}
            verifier = CombinedVerifier(("signals",), seed=seed).fit(replace(train.answers, signals=only), train.cheap)
            return verifier.predict(test)

        return score

    found = {f"{signal}, {data.costs.get(signal, UNSERVED)}": alone(signal) for signal in data.measured}
    if found:
        takes = list(dict.fromkeys(data.costs.get(signal, UNSERVED) for signal in data.measured))
        known = takes[0] if len(takes) == 1 else UNSERVED if UNSERVED in takes else "their calls"
        found[f"{COMBINED} and {', '.join(data.measured)}, {known}"] = contenders(make_router, seed)[COMBINED]
    return found


def with_measured(data: CascadeData) -> CascadeData:
    """Return the data with the measured signals among the answers' own."""
    return replace(data, answers=replace(data.answers, signals={**data.answers.signals, **data.measured}))


@each_text_once()
def cross_validate_cascade(
    data: CascadeData,
    entered: Mapping[str, Contender],
    folds: int = 5,
    seed: int = 0,
    together: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> CascadeScores:
    """Compute out-of-fold scores of every contender.

    Parameters
    ----------
    data : CascadeData
        n prompts.
    entered : mapping of str to callable
        The contenders: each fits on a training set and scores other answers.
    folds : int
        Folds; equal prompts share one.
    seed : int
        Seeds the folds.
    together : sequence of str, (n,), optional
        A larger unit to keep in one fold, such as a domain: then every contender is scored out of domain.
    progress : callable
        Receives a sentence about each step.

    Returns
    -------
    CascadeScores

    Raises
    ------
    DataError
        Where a grade is missing or there are fewer distinct prompts than folds.
    """
    if not np.isfinite([data.cheap, data.dear]).all():
        raise DataError(
            "a cascade is evaluated on prompts graded for both tiers; drop the others (`OutcomeTable.only`)"
        )
    fold_of = folds_by_prompt(together or data.answers.prompts.texts, data.cheap, folds, seed)
    if len(np.unique(fold_of)) < folds:
        raise DataError(f"{len(data)} answers in fewer than {folds} separate groups cannot be cross-validated")
    scores = {name: np.empty(len(data)) for name in entered}
    for fold in range(folds):
        inside, outside = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        train, test = data.take(inside), data.answers.take(outside)
        for name, contender in entered.items():
            progress(f"{name}: fold {fold + 1} of {folds}")
            scores[name][outside] = contender(train, test)
    return CascadeScores(scores, fold_of)
