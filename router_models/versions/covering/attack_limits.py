"""Set how much lower a covered prompt's parts may be estimated so that rewriting hard prompts wins nothing.

TUNE's prompts that the cheapest tier answers wrong are rewritten as an attacker would, in the ways of `ATTACKS`. Of
all limits on parts those are taken that leave out fewest of TUNE's prompts while the share of hard prompts that are
sent down, and covered, rises by at most ε under each way: the upper end of the rise's interval, not its value. Where
no limits do, those with the least rise are taken, and `Attacked.held` is false.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy.stats import beta

from router_models.data.outcomes import OutcomeTable
from router_models.data.text_cache import each_text_once
from router_models.errors import DataError
from router_models.types import BoolArray, FloatArray
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import Attacked, TextCoverage
from router_models.versions.covering.covered_rows import (
    conversations,
    coverage_of,
    edge_of,
    unlike_rows,
    usual_of,
)
from router_models.versions.covering.perturbations import PERTURBATIONS
from router_models.versions.covering.rewriting import ADDED, RIGHT, easiest, embedded_rows, rewritten_rows
from router_models.versions.covering.text_checks import PIECES, WINDOWS, rounded_up
from router_models.versions.router_version import RouterVersion

ATTACKS = (
    "one easy question before",
    "one easy question after",
    "joined to an easy question",
    "an easy question on either side",
    "the question split around an easy one",
    "an easy question as an example",
    "a polite sentence before",
    "French sentence",
    "junk before",
)
"""The ways that are simulated; others do as these, or are not covered for their spelling or conditions."""
EMBEDDED_ATTACKS = tuple(name for name in ATTACKS if name not in (ATTACKS[1], ATTACKS[3], ATTACKS[7]))
"""Those on a router that embeds: one of each that leave the same pieces, one sentence that is no question."""
MOST_HARD, MOST_HARD_EMBEDDED, LEAST_HARD = 400, 100, 30
"""Hard prompts that are rewritten; below the least no rise would be known to stay within .1."""
MOST_ORDINARY = 1000
QUANTILES = (None, 0.97, 0.9, 0.8, 0.65, 0.5)
"""Limits that are tried: of what is measured of TUNE's prompts that are sent down; None: the usual one, or none."""
NAMES = (*WINDOWS, *PIECES)


@dataclass(frozen=True)
class _Measured:
    """Which of n prompts are sent down, and covered but for their parts, (n,); how far parts lie below, (n, 4)."""

    down: BoolArray
    below: FloatArray

    def within(self, limits: FloatArray) -> BoolArray:
        return np.asarray(self.down & (self.below <= limits).all(axis=1))


def certified_coverage(
    version: RouterVersion, train: OutcomeTable, tune: OutcomeTable, cert: OutcomeTable, epsilon: float
) -> Coverage:
    """Return what a certificate on these CERT rows would cover, its limits tightened by simulated attacks on TUNE.

    Parameters
    ----------
    version : RouterVersion
        Not certified yet.
    train, tune, cert : OutcomeTable
        Whence easy questions come, which prompts say what is usual and are attacked, and the rows that may count.
        Labels of TUNE and TRAIN are read, of CERT none.
    epsilon : float
        By how much the share of hard prompts that are sent down may rise.
    """
    usual = Coverage(novelty=edge_of(version, tune), text=usual_of(version, tune))
    return coverage_of(version, tune, cert, attack_limits(version, usual, train, tune, epsilon))


def attack_limits(
    version: RouterVersion, coverage: Coverage, train: OutcomeTable, tune: OutcomeTable, epsilon: float
) -> TextCoverage:
    """Return the coverage's text limits, tightened as far as simulated attacks on TUNE's hard prompts require.

    Parameters
    ----------
    version : RouterVersion
        With a threshold for its cheapest tier; of one without, nothing is known, and nothing changes.
    coverage : Coverage
        What is usual, as `TextModels.coverage` found it, and how far from the training data is near.
    train, tune : OutcomeTable
        Whence easy questions come, and which prompts are attacked; with embeddings where a router reads them.
    epsilon : float
        By how much the share of hard prompts that are sent down may rise.
    """
    text, tier = coverage.text, version.policy.tiers[0]
    point, stage = version.policy.points.get(tier), version.stages.get(tier)
    if point is None or stage is None or stage.router is None or text.drop is None or text.cut_drop is None:
        return text
    if not text.sent_down or stage.router.needs_grades or stage.router.needs_reader:
        return text
    try:
        wrong = tune.grade(tier) < RIGHT
        easy = easiest([version], train)
    except DataError:
        return text
    most, ways = (MOST_HARD_EMBEDDED, EMBEDDED_ATTACKS) if version.needs_encoder else (MOST_HARD, ATTACKS)
    hard = replace(tune.take(np.flatnonzero(wrong)[:most]), answers={})
    if len(hard) < LEAST_HARD or len(easy) < ADDED:
        return text
    with each_text_once():
        ordinary = _measure(
            version, coverage, replace(tune.take(np.arange(min(len(tune), MOST_ORDINARY))), answers={})
        )
        before = _measure(version, coverage, hard)
        after = {name: _measure(version, coverage, rewritten_rows(hard, PERTURBATIONS[name], easy)) for name in ways}
    return _chosen(text, ordinary, before, after, epsilon)


def _measure(version: RouterVersion, coverage: Coverage, table: OutcomeTable) -> _Measured:
    table = embedded_rows(version, table) if version.needs_encoder else table
    down = version.sent_down(table.prompts)
    near = version.distance(table.prompts) if coverage.novelty is not None else None
    if near is not None and coverage.novelty is not None:
        down &= near <= coverage.novelty
    spelled = replace(
        coverage, text=replace(coverage.text, drop=None, cut_drop=None, shortfall=None, cut_shortfall=None)
    )
    rows = np.flatnonzero(down)
    down[rows] = [why is None for why in unlike_rows(spelled, version, table.take(rows))]
    rows = np.flatnonzero(down)
    below, texts, size = np.zeros((len(table), 4)), conversations(table), coverage.text.part_chars
    if len(rows):
        prompts, said = table.prompts.take(rows), [texts[row] for row in rows]
        models = version.text_models
        below[rows, :2] = models.below_of_windows(prompts, said, size)
        below[rows, 2:] = models.below_of_pieces(prompts, said, size, averaged=coverage.text.averaged)
    return _Measured(down, below)


def _chosen(
    text: TextCoverage, ordinary: _Measured, before: _Measured, after: dict[str, _Measured], epsilon: float
) -> TextCoverage:
    """Return the limits that leave out fewest, of those that hold; else those with the least rise."""
    sent = max(int(ordinary.down.sum()), 1)
    priced = sorted(
        (
            (1 - ordinary.within(limits).sum() / sent, place, limits)
            for place, limits in enumerate(_tried(text, ordinary))
        ),
        key=lambda one: one[:2],
    )
    least: tuple[Attacked, FloatArray] | None = None
    for price, _, limits in priced:
        found = _worst(before.within(limits), {name: one.within(limits) for name, one in after.items()})
        attacked = Attacked(len(before.down), epsilon, *found, price=float(price))
        if least is None or attacked.high < least[0].high:
            least = attacked, limits
        if attacked.held:
            break
    assert least is not None
    kept = {name: None if limit == np.inf else float(limit) for name, limit in zip(NAMES, least[1], strict=True)}
    return replace(text, **kept, attacked=least[0])  # type: ignore[arg-type]


def _tried(text: TextCoverage, ordinary: _Measured) -> Iterator[FloatArray]:
    """Every combination of limits, the usual ones first; none looser than these."""
    usual = [np.inf if limit is None else limit for limit in (getattr(text, name) for name in NAMES)]
    sent = ordinary.below[ordinary.down] if ordinary.down.any() else np.zeros((1, 4))
    columns: list[Sequence[float]] = []
    for column, loosest in enumerate(usual):
        tried = [rounded_up(float(np.quantile(sent[:, column], q))) for q in QUANTILES if q is not None]
        columns.append(list(dict.fromkeys([loosest, *(min(one, loosest) for one in tried), 0.0])))
    return (np.array(one) for one in itertools.product(*columns))


def _worst(before: BoolArray, after: dict[str, BoolArray]) -> tuple[str, float, float]:
    """Return the way under which the upper end of the rise is largest, the rise, and that end."""
    rises = {name: _rise(before, one) for name, one in after.items()}
    name = max(rises, key=lambda one: rises[one][1])
    return name, *rises[name]


def _rise(before: BoolArray, after: BoolArray) -> tuple[float, float]:
    """Return by how much a share of the same n prompts rose, and the upper end of its one-sided 95 % interval.

    The larger one of the end by discordant pairs, and of the exact end of the share that was gained.
    """
    n, gained, lost = len(before), int((after & ~before).sum()), int((before & ~after).sum())
    rise = (gained - lost) / n
    paired = rise + 1.645 * float(np.sqrt(max(gained + lost - (gained - lost) ** 2 / n, 0.0))) / n
    return rise, max(paired, _upper(gained, n) - lost / n)


@cache
def _upper(hits: int, n: int) -> float:
    """Return the upper end of a share's exact one-sided 95 % interval."""
    return float(beta.ppf(0.95, hits + 1, n - hits)) if hits < n else 1.0
