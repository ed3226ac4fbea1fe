"""How outcomes of served traffic were chosen, what is done about it, and where nothing can be. Pure.

Two questions, with two answers. *What may certify*: only a draw of prompts by chance, of which every single one has
its row; else the version that served, or whoever labelled, has chosen the evidence. *What trains*: all whole rows, or,
weighted by the inverse of their probability, those that chance chose, where that can stand for all of the traffic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.stats import binom

from router_models.errors import by_number
from router_models.monitoring.off_policy import BALANCE_LEVEL, LEAST_EFFECTIVE
from router_models.types import Action
from serve_graph.learning.labelled import up_for_labelling
from serve_graph.learning.retraining.served_prompts import ServedPrompt

OUTAGE = str(Action.FALLBACK)


@dataclass(frozen=True, slots=True)
class RouteCount:
    """The prompts that were answered in one way first.

    `graded`: those with a grade of the answer that was shown; `drawn`: those that chance chose to be graded; `whole`:
    those with answers and grades of every tier; `by_chance`: those of them whose probability is known, `stands_for`:
    the sum of its inverses, `expected`: how many there should be by it; None where nothing is known.
    """

    route: str
    prompts: int
    graded: int
    whole: int
    by_chance: int
    stands_for: float
    rate: float | None

    def shown(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Draw:
    """A share of prompts, by the hash of their first decision, and what is missing of them: `Counter` by what.

    `tried`: of how many shares it was chosen as one. A bound on each would hold with probability 1 - δ; so that the
    chosen draw's does, a certificate of it divides δ among them (`label_budget`).
    """

    share: float
    prompts: int
    missing: Counter[str]
    tried: int = 1

    @property
    def holds(self) -> bool:
        """Whether every prompt that was drawn has its row, so that the rows are a random sample of the traffic."""
        return self.prompts > 0 and not self.missing


@dataclass(frozen=True, slots=True)
class Correction:
    """The weights of rows in training, by prompt id; None, and why, where they are not corrected."""

    weights: Mapping[str, float] | None
    why_not: tuple[str, ...] = ()
    effective_n: float = 0.0


@dataclass(frozen=True, slots=True)
class Selection:
    """What is stated of how outcomes were chosen."""

    prompts: int
    requests: int
    one_tier_only: Mapping[str, int]
    routes: tuple[RouteCount, ...]
    draw: Draw
    correction: Correction
    sources: Mapping[str, int] = field(default_factory=dict)
    outages: int = 0


def selection_of(
    served: Sequence[ServedPrompt], tiers: Sequence[str], shares: Sequence[float], *, correct: bool = True
) -> Selection:
    """State how rows were chosen, and find the draw and the weights.

    Parameters
    ----------
    served : sequence of ServedPrompt
        All prompts of the window, whole or not.
    tiers : sequence of str
        The ladder.
    shares : sequence of float
        Shares of decisions that may have been graded by chance: fixed before any grade is seen. Of those of which
        every prompt has its row the largest is the draw.
    correct : bool
        Whether to weight rows in training where that is possible.
    """
    traffic = [one for one in served if one.first.record.outcome != OUTAGE]
    only = Counter(next(iter(one.answers)) for one in served if len(one.answers) == 1)
    routes = _routes(traffic, tiers)
    draws = [_draw(traffic, tiers, share) for share in sorted(set(shares), reverse=True)]
    draw = next((one for one in draws if one.holds), None)
    if draw is None:
        draw = min(draws, key=lambda one: (one.missing.total() / max(one.prompts, 1), -one.share))
    draw = replace(draw, tried=len(draws))
    correction = _correction(traffic, routes, tiers) if correct else Correction(None, ("it was not asked for",))
    sources = Counter(one.source for one in served if one.source)
    requests = sum(one.requests for one in served)
    return Selection(
        len(served), requests, dict(only), routes, draw, correction, dict(sources), len(served) - len(traffic)
    )


def is_drawn(prompt: ServedPrompt, draw: Draw) -> bool:
    """Whether a prompt's row is one of a random sample of the traffic."""
    in_share = up_for_labelling(prompt.first.record.id, draw.share)
    return draw.holds and in_share and prompt.first.record.outcome != OUTAGE


def _draw(traffic: Sequence[ServedPrompt], tiers: Sequence[str], share: float) -> Draw:
    inside = [one for one in traffic if up_for_labelling(one.first.record.id, share)]
    missing: Counter[str] = Counter()
    for one in inside:
        if (lacking := one.lacks(tiers)) is not None:
            missing[lacking] += 1
    return Draw(share, len(inside), missing)


def _routes(traffic: Sequence[ServedPrompt], tiers: Sequence[str]) -> tuple[RouteCount, ...]:
    by_route: dict[str, list[ServedPrompt]] = {}
    for one in traffic:
        by_route.setdefault(one.first.route, []).append(one)
    found = []
    for route, ones in by_route.items():
        whole = [one for one in ones if one.is_whole(tiers)]
        chances = [one.probability for one in whole if one.probability is not None]
        graded = sum(one.first.record.tier in one.grades for one in ones)
        rate = float(np.median(chances)) if chances else None
        stands_for = float(sum(1 / chance for chance in chances))
        found.append(RouteCount(route, len(ones), graded, len(whole), len(chances), stands_for, rate))
    return tuple(sorted(found, key=lambda one: (-one.prompts, one.route)))


def _correction(traffic: Sequence[ServedPrompt], routes: Sequence[RouteCount], tiers: Sequence[str]) -> Correction:
    """Weights by inverse propensity, or by name and number why they cannot stand for the traffic."""
    total = sum(one.prompts for one in routes)
    why: list[str] = []
    for one in routes:
        if one.rate is None:
            why.append(
                f"{one.prompts} of {total} prompts {by_number(one.prompts, 'was', 'were')} "
                f"{_words(one.route)} first, and of none of them chance had "
                "every tier answer and be graded: their propensity is 0, and no weight stands for them"
            )
            continue
        tails = binom.cdf(one.by_chance, one.prompts, one.rate), binom.sf(one.by_chance - 1, one.prompts, one.rate)
        if min(tails) < BALANCE_LEVEL / 2:
            why.append(
                f"of {one.prompts} prompts {_words(one.route)} first {one.by_chance} are whole where {one.rate:g} of "
                f"them, about {one.prompts * one.rate:.0f}, were to be: what is missing is not missing by that chance"
            )
    if why:
        return Correction(None, tuple(why))
    chances = {
        one.first.task.prompt_id: one.probability
        for one in traffic
        if one.probability is not None and one.is_whole(tiers)
    }
    weights = {name: 1 / chance for name, chance in chances.items()}
    values = np.array(list(weights.values()))
    effective = float(values.sum() ** 2 / (values**2).sum()) if len(values) else 0.0
    if effective < LEAST_EFFECTIVE:
        said = f"the {len(values)} whole rows that chance chose are worth {effective:.0f} by their weights"
        return Correction(None, (f"{said}; {LEAST_EFFECTIVE} are needed",), effective)
    mean = float(values.mean())
    return Correction({name: round(weight / mean, 9) for name, weight in weights.items()}, (), effective)


def _words(route: str) -> str:
    outcome, _, tier = route.partition(", ")
    return f"{outcome} ({tier})"
