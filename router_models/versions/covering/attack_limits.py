"""Set how much lower a covered prompt's parts may be estimated so that rewriting hard prompts wins nothing.

TUNE's prompts that a tier below the last answers wrong are rewritten as an attacker would, in the ways of `ATTACKS`.
Of all limits on parts those are taken that leave out fewest of TUNE's prompts while the share of hard prompts that are
sent down, and covered, rises by at most ε under each way, to each tier: the upper end of the rise's interval, not its
value. Where no limits do, those with the least rise are taken, and `Attacked.held` is false.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.data.text_cache import each_text_once
from router_models.errors import DataError
from router_models.types import BoolArray, FloatArray, IntArray
from router_models.types.coverage import Coverage
from router_models.types.text_coverage import NOT_SIMULATED, Attacked, TextCoverage
from router_models.versions.covering.covered_rows import (
    conversations,
    coverage_of,
    edge_of,
    unlike_rows,
    usual_of,
)
from router_models.versions.covering.limit_grid import Attack, Measured, choose_limits, tried_limits
from router_models.versions.covering.perturbations import PERTURBATIONS
from router_models.versions.covering.rewriting import (
    ADDED,
    RIGHT,
    easiest,
    embedded_rows,
    likest_of,
    rewritten_rows,
)
from router_models.versions.covering.text_checks import APART, PIECES, WINDOWS
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
LIKE = "joined to a like easy question"
"""As `ATTACKS[2]`, with the easy question that is most like the hard one: parts lie as near as they can."""
EMBEDDED_ATTACKS = (*(name for name in ATTACKS if name not in (ATTACKS[1], ATTACKS[3], ATTACKS[7])), LIKE)
"""Those on a router that embeds: one of each that leave the same pieces, one sentence that is no question."""
MOST_HARD, FIRST_HARD = 400, 100
"""Hard prompts of each tier that are rewritten; the first of these alone where that is plainly no attack."""
MOST_ORDINARY = 1000
QUANTILES = (0.99, 0.97, 0.95, 0.92, 0.89, 0.86, 0.83, 0.8, 0.75, 0.7, 0.65, 0.6, 0.5)
"""Limits that are tried beside the usual ones and 0: of what is measured of TUNE's prompts that are sent down."""
FEW_QUANTILES = (0.97, 0.9, 0.8, 0.65, 0.5)
"""The same for limits below the threshold, which seldom decide."""
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Of TUNE's prompts, for which a tier is tried in the simulation where thresholds are still to be found together."""
NAMES = (*WINDOWS, *PIECES, *APART)


@dataclass(frozen=True)
class _Seen:
    """What a version makes of n prompts: estimates by tier, covered but for their parts, and how far parts lie below.

    `below` is inf where it was not measured: such a prompt is sent nowhere, or lies beyond the loosest limits.
    """

    p_route: Mapping[str, FloatArray]
    covered: BoolArray
    below: FloatArray

    def measured(self, tried: Mapping[str, float] | None) -> Measured:
        """Return those that reach one of some tiers' thresholds as sent down; None: all that are covered."""
        if tried is None:
            return Measured(self.covered, self.below)
        reached = np.any([self.p_route[tier] >= least for tier, least in tried.items()], axis=0)
        return Measured(np.asarray(self.covered & reached), self.below)

    def joined(self, more: _Seen) -> _Seen:
        """Return these prompts and others."""
        p_route = {tier: np.append(one, more.p_route[tier]) for tier, one in self.p_route.items()}
        return _Seen(p_route, np.append(self.covered, more.covered), np.concatenate([self.below, more.below]))


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

    Every tier below the last is attacked, with the prompts that it answers wrong: the share of them that reach it, or
    a cheaper one, may not rise. Where its thresholds are still to be found, all together, several are simulated.

    Parameters
    ----------
    version : RouterVersion
        With thresholds, or with none yet.
    coverage : Coverage
        What is usual, as `TextModels.coverage` found it, and how far from the training data is near.
    train, tune : OutcomeTable
        Whence easy questions come, and which prompts are attacked; with embeddings where a router reads them.
    epsilon : float
        By how much the share of hard prompts that are sent down may rise.
    """
    text, settings = coverage.text, _settings(version, tune)
    if text.drop is None or text.cut_drop is None or not settings:
        return text
    wrong = _wrong(tune, settings)
    try:
        easy = easiest([version], train)
    except DataError:
        easy = []
    if not wrong or len(easy) < ADDED:
        return replace(text, attacked=Attacked(0, epsilon, NOT_SIMULATED, 0.0, 1.0, 0.0))
    asked = replace(tune.take(np.arange(min(len(tune), MOST_ORDINARY))), answers={})
    with each_text_once():
        ordinary = _seen(version, coverage, asked, settings)
        attacks = list(_attacks(version, coverage, tune, wrong, easy, settings, epsilon))
    sent = ordinary.measured(settings[0] if text.sent_down else None)
    return _tightened(text, sent, attacks, epsilon, min(map(len, wrong.values())))


def _attacks(
    version: RouterVersion,
    coverage: Coverage,
    tune: OutcomeTable,
    wrong: Mapping[str, IntArray],
    easy: Sequence[str],
    settings: Sequence[Mapping[str, float]],
    epsilon: float,
) -> Iterator[Attack]:
    """Rewrite hard prompts in every way, and measure them before and after, for each tier and way of trying it.

    The first prompts say whether a way is worth more: under most, at the usual limits, nothing rises by half of ε.
    """
    early = np.unique(np.concatenate([rows[:FIRST_HARD] for rows in wrong.values()]))
    rows = np.concatenate([early, np.setdiff1d(np.concatenate(list(wrong.values())), early)])
    hard, place = replace(tune.take(rows), answers={}), {int(row): at for at, row in enumerate(rows)}
    before, loosest = _seen(version, coverage, hard, settings), _loosest(coverage.text)
    for way in EMBEDDED_ATTACKS if version.needs_encoder else ATTACKS:
        likest = likest_of(version, hard, easy) if way == LIKE else None
        rewritten = rewritten_rows(hard, PERTURBATIONS[ATTACKS[2] if way == LIKE else way], easy, likest)

        def attacks(after: _Seen, way: str = way) -> list[Attack]:
            known = {tier: np.array([place[int(row)] for row in those]) for tier, those in wrong.items()}
            kept = {tier: those[those < len(after.covered)] for tier, those in known.items()}
            return [
                Attack(f"{way}{called}", before.measured(tried).take(at), after.measured(tried).take(at))
                for tier, at in kept.items()
                for called, tried in _tried(version, settings, tier).items()
            ]

        first = _seen(version, coverage, rewritten.take(np.arange(len(early))), settings)
        found = attacks(first)
        if len(early) < len(rows) and any(one.high_within(loosest) > epsilon / 2 for one in found):
            rest = _seen(version, coverage, rewritten.take(np.arange(len(early), len(rows))), settings)
            found = attacks(first.joined(rest))
        yield from found


def _settings(version: RouterVersion, tune: OutcomeTable) -> list[dict[str, float]]:
    """Return from which estimates on tiers below the last are tried: as decided, or several ways; none where never."""
    routers = {
        tier: stage.router
        for tier in version.policy.tiers[:-1]
        if (stage := version.stages.get(tier)) is not None and stage.router is not None
    }
    if any(router.needs_grades or router.needs_reader or router.wants_signals for router in routers.values()):
        return []
    points = version.policy.points
    if points or not routers:
        placed = {tier: points[tier].route_at for tier in routers if tier in points}
        return [placed] if placed else []
    p = {tier: version.stages[tier].estimate_route(tune.prompts) for tier in routers}
    return [{tier: float(np.quantile(one, 1 - share)) for tier, one in p.items()} for share in SHARES]


def _tried(
    version: RouterVersion, settings: Sequence[Mapping[str, float]], tier: str
) -> dict[str, Mapping[str, float]]:
    """Return from which estimates on a tier or a cheaper one is tried, by what that is called beside an attack."""
    to = f", to {tier}" if len(version.policy.tiers) > 2 else ""
    upto = version.policy.tiers[: version.policy.tiers.index(tier) + 1]
    return {
        f"{to}{f', tried for {share:.0%}' if len(settings) > 1 else ''}": {u: one[u] for u in upto if u in one}
        for share, one in zip(SHARES, settings, strict=False)
    }


def _wrong(tune: OutcomeTable, settings: Sequence[Mapping[str, float]]) -> dict[str, IntArray]:
    """Return the first prompts, in the table's order that a hash drew, that each tier answers wrong; none unknown."""
    found = {}
    for tier in settings[0]:
        try:
            rows = np.flatnonzero(tune.grade(tier) < RIGHT)[:MOST_HARD]
        except DataError:
            continue
        if len(rows):
            found[tier] = rows
    return found


def _seen(
    version: RouterVersion, coverage: Coverage, table: OutcomeTable, settings: Sequence[Mapping[str, float]]
) -> _Seen:
    table = embedded_rows(version, table) if version.needs_encoder else table
    p_route = {tier: version.stages[tier].estimate_route(table.prompts) for tier in settings[0]}
    risked = np.ones(len(table), dtype=np.bool_)
    if coverage.text.sent_down:
        risked = np.any([p_route[tier] >= least for one in settings for tier, least in one.items()], axis=0)
    near = version.distance(table.prompts) if coverage.novelty is not None else None
    if near is not None and coverage.novelty is not None:
        risked &= near <= coverage.novelty
    text, rows = coverage.text, np.flatnonzero(risked)
    spelled = replace(coverage, text=replace(text, sent_down=False, **dict.fromkeys(NAMES)))  # type: ignore[arg-type]
    risked[rows] = [why is None for why in unlike_rows(spelled, version, table.take(rows))]
    return _Seen(p_route, risked, _below(version, text, table, np.flatnonzero(risked)))


def _below(version: RouterVersion, text: TextCoverage, table: OutcomeTable, rows: IntArray) -> FloatArray:
    """Return how far parts of some rows lie below, (n, 5); windows of those alone that their pieces leave in.

    Pieces are of sentences that several rewritings share; windows are embedded each by itself.
    """
    below, texts, models = np.full((len(table), len(NAMES)), np.inf), conversations(table), version.text_models
    if len(rows):
        said = [texts[row] for row in rows]
        below[rows, 2:4] = models.below_of_pieces(
            table.prompts.take(rows), said, text.part_chars, averaged=text.averaged
        )
        rows = rows[(below[rows, 2:4] <= _loosest(text)[2:4]).all(axis=1)]
    if len(rows):
        below[rows, :2] = models.below_of_windows(
            table.prompts.take(rows), [texts[row] for row in rows], text.part_chars
        )
        below[rows, 4] = models.apart([texts[row] for row in rows], text.part_chars)
    return below


def _loosest(text: TextCoverage) -> FloatArray:
    limits = (getattr(text, name) for name in NAMES)
    return np.array([np.inf if limit is None else limit for limit in limits])


def _tightened(
    text: TextCoverage, ordinary: Measured, attacks: Sequence[Attack], epsilon: float, prompts: int
) -> TextCoverage:
    """Return the chosen limits; below the threshold only where there is one."""
    columns = tried_limits(
        _loosest(text).tolist(),
        ordinary,
        [FEW_QUANTILES if name.endswith("shortfall") else QUANTILES for name in NAMES],
    )
    if not text.sent_down:
        columns = [one[-1:] if name.endswith("shortfall") else one for one, name in zip(columns, NAMES, strict=True)]
    found = choose_limits(columns, ordinary, attacks, epsilon)
    kept = {name: None if limit == np.inf else float(limit) for name, limit in zip(NAMES, found.limits, strict=True)}
    attacked = Attacked(prompts, epsilon, found.way, found.rise, found.high, price=found.price)
    return replace(text, **kept, attacked=attacked)  # type: ignore[arg-type]
