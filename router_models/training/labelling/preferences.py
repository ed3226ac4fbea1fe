"""Votes beside grades: which of them may train, what they are worth, and a router of both.

Votes train the router of a tier and nothing else. They place no threshold and certify nothing: a certificate needs
grades of both tiers. Votes on prompts (or of groups) that TUNE or CERT hold are left out, so that those parts stay
unseen. What votes are worth is measured on TRAIN's grades, each prompt by routers and votes of other prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from router_models.data.formats.preference_votes import VoteTable
from router_models.data.outcomes import OutcomeTable, group_duplicates
from router_models.errors import DataError, by_number
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.combined.voted import VotedRouter, mixed, mixing_weights
from router_models.estimators.routers.embedding.preferences import PreferenceRouter
from router_models.metrics import RoutingSums
from router_models.training.labelling.given_stages import RouterChoice
from router_models.training.selection.model_selection import Scored, grouped_folds, simplest_good
from router_models.training.splits import LabelledSplits
from router_models.types import IntArray, Progress
from router_models.versions.router_version import RouterVersion

LEAST_VOTES = 50
VOTE_FOLDS = 5
VOTES_ALONE = PreferenceRouter.family
"""The family that learns from votes alone; every other one is mixed with them."""


@dataclass(frozen=True)
class VotesToLearnFrom:
    """Hold votes, and what models stand for the tiers.

    Parameters
    ----------
    table : VoteTable
        With embeddings.
    names : mapping of tier to str
        The model of the votes that a tier is, where it has another name there.
    """

    table: VoteTable
    names: Mapping[str, str] = field(default_factory=dict)

    def apart_from(self, splits: LabelledSplits) -> tuple[VotesToLearnFrom, int]:
        """Return the votes on prompts and groups that TUNE and CERT do not hold, and how many others there are.

        DataError where fewer than `LEAST_VOTES` are left.
        """
        rest = splits.table.take(~np.isin(splits.table.groups, splits.train.groups))
        held = set(group_duplicates(rest.prompts.texts).tolist()) if len(rest) else set()
        named = set(rest.column(splits.group_by)) - {""} if splits.group_by and len(rest) else set()
        asked = group_duplicates(self.table.prompts.texts).tolist()
        kept = [g not in held and group not in named for g, group in zip(asked, self.table.groups, strict=True)]
        found = self.table.take(np.array(kept, dtype=np.bool_))
        if len(found) < LEAST_VOTES:
            raise DataError(
                f"{len(found)} of {len(self.table)} votes may train (the others are on prompts that tune or certify): "
                f"at least {LEAST_VOTES} are needed"
            )
        return VotesToLearnFrom(found, self.names), len(self.table) - len(found)

    def fitted(
        self, tier: str, top: str, seed: int, *, without: IntArray | None = None, penalty: float | None = None
    ) -> PreferenceRouter:
        """Return a router of a tier against the last one, of the votes on none of the groups `without`."""
        table = self.table
        if without is not None:
            table = table.take(~np.isin(group_duplicates(table.prompts.texts), without))
        names = {name: self.names.get(name, name) for name in (tier, top)}
        router = PreferenceRouter(names[tier], names[top], penalty, seed)
        return router.fit_votes(table.prompts, table.left, table.right, table.results)


def with_votes(
    best: Scored,
    others: Sequence[Scored],
    votes: VotesToLearnFrom,
    train: OutcomeTable,
    tier: str,
    top: str,
    *,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> RouterChoice | None:
    """Measure what votes add to a chosen family, out of fold on TRAIN.

    Parameters
    ----------
    best : Scored
        The chosen family, with scores out of fold. Of `VOTES_ALONE` only the votes count.
    others : sequence of Scored
        All that were tried, the baseline first.
    votes : VotesToLearnFrom
        Those that may train (`apart_from`).
    train : OutcomeTable
        The graded prompts that the scores are of.
    tier, top : str
        The tier, and the last one.
    seed : int
        Of folds and resamples.
    progress : callable
        Receives a sentence.

    Returns
    -------
    RouterChoice or None
        None where the mixture orders TRAIN worse than the family alone, out of fold: `progress` says so.
    """  # fmt: skip
    y, alone, baseline = train.grade(tier), best.family == VOTES_ALONE, others[0]
    folds = grouped_folds(train.groups, VOTE_FOLDS, seed)
    whole = votes.fitted(tier, top, seed)
    voted = np.zeros(len(train))
    for _, outside in folds:
        asked = train.prompts.take(outside)
        others_only = votes.fitted(tier, top, seed, without=group_duplicates(asked.texts), penalty=whole.penalty)
        voted[outside] = others_only.predict(asked)
    family, scores = VOTES_ALONE if alone else VotedRouter.family, voted
    if not alone:
        scores = np.zeros(len(train))
        for inside, outside in folds:
            mix = mixing_weights(best.scores[inside], voted[inside], y[inside])
            scores[outside] = mixed(mix, best.scores[outside], voted[outside])
    _, judged = simplest_good(
        baseline.family, {baseline.family: baseline.scores, family: scores}, y, train.groups, seed
    )
    scored = _with_area(judged[1], train, tier, top)
    tried = (*(one for one in others if one.family != family), scored)
    if alone:
        return RouterChoice(whole, tried, f"{tier}: learned from {whole.votes_:,} votes alone")
    _, over = simplest_good(best.family, {best.family: best.scores, family: scores}, y, train.groups, seed)
    gain = over[1]
    words = f"AUC {gain.advantage:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) over {best.family} without them"
    mix = mixing_weights(best.scores, voted, y)
    if gain.advantage < 0:
        progress(f"votes on {tier}: left out, they order the graded prompts worse: {words}")
        return None
    said = f"{tier}: learned from {whole.votes_:,} votes and {len(train):,} {by_number(len(train), 'grade')}; {words}"
    router = VotedRouter(ROUTERS[best.family], whole, mix).fit(train.prompts, y)
    return RouterChoice(router, tried, said)


def _with_area(scored: Scored, train: OutcomeTable, tier: str, top: str) -> Scored:
    w, s = train.grade(tier), train.grade(top)
    if not s.mean() > w.mean():
        return scored
    return replace(scored, apgr=float(RoutingSums(scored.scores, w, s).apgr(np.ones((1, len(w))))[0]))


def learned_words(version: RouterVersion) -> str:
    """Return what a version's routers learned from, where votes are among it; '' where they are not."""
    parts = []
    for tier, stage in version.stages.items():
        found = {} if stage.router is None else dict(stage.router.learned_from)
        if found.get("votes"):
            grades = (
                f" and {found['grades']:,} {by_number(found['grades'], 'grade')}"
                if "grades" in found
                else ", and from no grades"
            )
            parts.append(f"the router of {tier} learned from {found['votes']:,} votes{grades}")
    return f"{'; '.join(parts)}. Votes certify nothing: what is promised rests on grades" if parts else ""
