"""A model that is new: its router from a few hundred graded prompts, on what other models' grades say of prompts.

The prompt side is learned from the grades of all other models in the table (`frozen_side`): the factors of a matrix
factorisation, or clusters. Of the new model a vector alone is fitted, or its rate of right answers in every cluster.
Prompts that TUNE or CERT hold teach neither. Before it may be used, what carries over is measured on TRAIN's graded
prompts, beside prompt length: each is scored by a vector of the others over a prompt side that did not see it either.
With it, the side would know from other models how hard that very prompt is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router_models.data.outcomes import OutcomeTable, group_duplicates
from router_models.errors import DataError
from router_models.estimators.routers import ClusterErrorRouter, LengthRouter, MatrixFactorisationRouter, RouterModel
from router_models.estimators.routers.combined.voted import log_odds_within
from router_models.metrics import RoutingSums, auc
from router_models.training.labelling.given_stages import RouterChoice
from router_models.training.selection.model_selection import Scored, grouped_folds, held_out_of_folds, simplest_good
from router_models.training.splits import LabelledSplits
from router_models.types import BoolArray, FloatArray, Prompts

METHODS = (ClusterErrorRouter.family, MatrixFactorisationRouter.family)
LEAST_SIDE, OUTER_FOLDS = 100, 5
LENGTH = LengthRouter.family


@dataclass(frozen=True)
class Transfer:
    """Hold what carried over to a new model.

    Parameters
    ----------
    model : str
        Its name.
    method : str
        `cluster-error` or `matrix-factorisation`.
    graded, side_prompts : int
        Graded prompts of the new model in TRAIN, and prompts that taught the prompt side.
    side_models : tuple of str
        The models whose grades taught it.
    choice : RouterChoice
        The router, and its out-of-fold result beside prompt length's.
    by_method : mapping of str to float
        The out-of-fold AUC of each method, by which one was chosen.
    """

    model: str
    method: str
    graded: int
    side_prompts: int
    side_models: tuple[str, ...]
    choice: RouterChoice
    by_method: Mapping[str, float]

    @property
    def fault(self) -> str | None:
        """Why it should not be used; None where nothing speaks against it."""
        best = self.choice.best
        if best.auc <= 0.5:
            return f"it orders {self.model}'s prompts no better than chance (AUC {best.auc:.3f}, out of fold)"
        if best.advantage <= 0:
            return (
                f"it orders {self.model}'s prompts no better than their length does (AUC {best.auc:.3f}, out of fold, "
                f"{best.advantage:+.3f} over length)"
            )
        return None

    @property
    def doubt(self) -> str | None:
        """What is not known for sure of its use; None where its advantage over length is."""
        best = self.choice.best
        if self.fault is not None or best.low > 0:
            return None
        return (
            f"its advantage over prompt length may be chance ({best.advantage:+.3f}, {best.low:+.3f} to "
            f"{best.high:+.3f}): grade more prompts of {self.model}"
        )


def side_rows(whole: OutcomeTable, splits: LabelledSplits) -> BoolArray:
    """Return which rows of a table may teach: those whose prompts and groups neither TUNE nor CERT hold, (n,)."""
    rest = splits.table.take(~np.isin(splits.table.groups, splits.train.groups))
    return rows_apart(whole, rest, splits.group_by)


def rows_apart(whole: OutcomeTable, held: OutcomeTable, group_by: str | None) -> BoolArray:
    """Return which rows of a table share no prompt, and no value of a column, with those that are held out, (n,)."""
    may = ~np.isin(group_duplicates(whole.prompts.texts), group_duplicates(held.prompts.texts))
    if group_by and len(held):
        values = set(held.column(group_by)) - {""}
        may &= np.array([value not in values for value in whole.column(group_by)], dtype=np.bool_)
    return may


def measure_transfer(
    name: str,
    side: OutcomeTable,
    train: OutcomeTable,
    *,
    methods: Sequence[str] = METHODS,
    seed: int = 0,
    last: str | None = None,
    group_by: str | None = None,
) -> Transfer:
    """Fit the prompt side and the new model on it, and measure out of fold what that is worth.

    Parameters
    ----------
    name : str
        The new model.
    side : OutcomeTable
        Prompts with the grades of other models, and embeddings (`side_rows`).
    train : OutcomeTable
        The new model's graded prompts, with embeddings.
    methods : sequence of str
        Of `METHODS`; of several the one with the larger AUC is taken, in every fold by the prompts of the others.
    seed : int
        Of folds, clusters and factors.
    last : str, optional
        The last tier, among `train`'s: the area by which routers are compared is computed against it.
    group_by : str, optional
        The column whose values are kept together.

    Returns
    -------
    Transfer

    Raises
    ------
    DataError
        For no other model, too few prompts, or grades that are all alike.
    """  # fmt: skip
    others = tuple(tier for tier in side.tiers if tier != name)
    if not others:
        raise DataError(f"the table has no grades of another model than {name!r}: nothing could carry over from them")
    y = train.grade(name)
    if len(y) == 0 or y.min() == y.max():
        raise DataError(f"all {len(y)} grades of {name!r} to learn from are alike: grade harder and easier prompts")
    graded = np.any([np.isfinite(side.grade(tier)) for tier in others], axis=0)
    side = side.take(graded)
    if len(side) < LEAST_SIDE:
        raise DataError(f"{len(side)} prompts with grades of other models: at least {LEAST_SIDE} are needed")
    folds, right = grouped_folds(train.groups, OUTER_FOLDS, seed), (y >= 0.5).astype(np.float64)
    found = {method: np.zeros(len(y)) for method in methods}
    for inside, outside in folds:
        apart = side.take(rows_apart(side, train.take(outside), group_by))
        target, asked = y[inside], train.prompts.take(outside)
        for method in methods:
            found[method][outside] = target.mean()
            if target.min() < target.max():
                known = frozen_side(method, apart, others, seed)
                made = described(known, name, train.prompts.take(inside), target)
                found[method][outside] = _at_level(made.predict(asked), float(y.mean()))
    by_method = {method: auc(scores, right) for method, scores in found.items()}
    method = max(by_method, key=by_method.__getitem__)
    scores = np.zeros(len(y))
    for inside, outside in folds:  # each fold by the method that is better on the others
        if right[inside].min() < right[inside].max():
            on_others = {one: auc(found[one][inside], right[inside]) for one in methods}
            scores[outside] = found[max(on_others, key=on_others.__getitem__)][outside]
    by_length = held_out_of_folds(LENGTH, train.prompts, y, folds)
    _, judged = simplest_good(LENGTH, {LENGTH: by_length, method: scores}, y, train.groups, seed)
    tried = tuple(_with_area(one, train, name, last) for one in judged)
    router = described(frozen_side(method, side, others, seed), name, train.prompts, y)
    return Transfer(name, method, len(y), len(side), others, RouterChoice(router, tried), by_method)


def frozen_side(method: str, side: OutcomeTable, models: Sequence[str], seed: int) -> RouterModel:
    """Return a router that knows prompts from the grades of other models."""
    if method == MatrixFactorisationRouter.family:
        router = MatrixFactorisationRouter(seed=seed, model=models[0])
        return router.fit_grades(side.prompts, {tier: side.grade(tier) for tier in models})
    if method == ClusterErrorRouter.family:
        mean = np.nanmean([side.grade(tier) for tier in models], axis=0)
        return ClusterErrorRouter(seed=seed).fit(side.prompts, mean)
    raise DataError(f"unknown method {method!r}; known: {', '.join(METHODS)}")


def described(side: RouterModel, name: str, X: Prompts, y: FloatArray) -> RouterModel:
    """Return a router of the new model over a prompt side that stays as it is."""
    if isinstance(side, MatrixFactorisationRouter):
        router = MatrixFactorisationRouter.from_state(side.state())
        router.model = name
        return router.add_model(name, X, y)
    assert isinstance(side, ClusterErrorRouter)
    return side.for_model(X, y)


def _at_level(scores: FloatArray, level: float) -> FloatArray:
    """Return one fold's scores about a level that all folds share: what differs between folds orders no prompt."""
    z = log_odds_within(scores)
    z += float(log_odds_within(np.array(level))) - z.mean()
    return np.asarray(1.0 / (1.0 + np.exp(-z)), dtype=np.float64)


def _with_area(scored: Scored, train: OutcomeTable, name: str, last: str | None) -> Scored:
    if last is None or not train.grade(last).mean() > train.grade(name).mean():
        return scored
    sums = RoutingSums(scored.scores, train.grade(name), train.grade(last))
    return replace(scored, apgr=float(sums.apgr(np.ones((1, len(train))))[0]))
