"""Whether asking for signals of a tier's answers pays: what they save after their own calls, out of fold.

Every set of signals gets the verifier that reads it best, and that verifier the thresholds that `cheapest_route_at`
would place; the dollars of every prompt, the calls for the signals included, are compared with those without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.asked_signals import asked_among, cannot_ask
from router_models.estimators.calibrators.scores import choose_calibrator
from router_models.estimators.routers import ROUTERS, AskedFirstRouter
from router_models.estimators.signal_costs import first_costs, not_had, signal_costs
from router_models.metrics import bootstrap
from router_models.metrics.intervals import Interval
from router_models.pricing.call_costs import call_costs
from router_models.risk_control.evidence import CascadeEvidence, replay_policy
from router_models.training.candidate import Settings
from router_models.training.evidence import answers_as_served, cheapest_route_at, one_pair
from router_models.training.selection.model_selection import Scored, choose_router, choose_verifier
from router_models.types import FloatArray, Progress
from router_models.types.exchange import BEFORE_NAMES
from router_models.versions.router_version import RouterVersion

READING_VERIFIERS = ("combined",)
"""What `auto` chooses among where signals are asked for: families that read whatever is there."""


@dataclass(frozen=True, slots=True)
class VerifierChoice:
    """Hold a tier's verifier family, as scored out of fold, and the signals that are asked for it."""

    best: Scored
    asked: tuple[str, ...] = ()


def recorded_signals(table: OutcomeTable, tier: str, settings: Settings) -> tuple[str, ...]:
    """Return the signals that can be asked for of a tier's answers and that a table holds of most of them."""
    columns, last = table.answers_of(tier).signals, settings.tiers[-1]
    return tuple(
        name
        for name in asked_among(columns)
        if cannot_ask(name, tier, last, settings.kinds, settings.asking) is None
        and np.isfinite(columns[name]).mean() > 0.5
    )


def asking_first(table: OutcomeTable, settings: Settings) -> OutcomeTable:
    """Return a table whose prompts have those signals alone that routers may read: had of most, askable, permitted."""
    tier, *_, last = settings.tiers
    permitted = BEFORE_NAMES if settings.signals is None else settings.signals
    kept = {
        name: column
        for name, column in table.prompts.signals.items()
        if name in permitted
        and np.isfinite(column).mean() > 0.5
        and cannot_ask(name, tier, last, settings.kinds, settings.asking) is None
    }
    return replace(table, prompts=replace(table.prompts, signals=kept))


def asked_first_usd(version: RouterVersion, table: OutcomeTable, settings: Settings) -> float:
    """Dollars of what the cheapest tier is asked before a tier is chosen, for the average prompt of a table."""
    if not version.asked_first:
        return 0.0
    usd = first_costs(table, settings.tiers[0], version.asked_first, settings.prices, settings.asking)
    return float(usd.mean())


def asking_first_gain(
    table: OutcomeTable, tier: str, without: Scored, asked: Scored, names: tuple[str, ...], settings: Settings
) -> Interval | None:
    """What a router that asks first saves beside one that does not, as `asking_gains`; None where that cannot be said.

    Both have the verifier that reads whatever answers bring by themselves, shown the estimate of its router. Asking is
    paid for every prompt, whoever answers.

    Parameters
    ----------
    table : OutcomeTable
        The labelled rows that the scores are of, with token counts.
    tier : str
        The cheapest tier.
    without, asked : Scored
        The routers' out-of-fold scores.
    names : tuple of str
        What is asked for.
    settings : Settings
        Prices, what is promised, how signals are asked for.
    """
    y, paid = table.grade(tier), []
    for scored in (without, asked):
        estimate = choose_calibrator(scored.scores, y, seed=settings.seed).predict(scored.scores)
        shown = answers_as_served(table, settings.tiers, tier, estimate, settings.kind(tier))
        verifier, _ = choose_verifier(shown, y, table.groups, READING_VERIFIERS, seed=settings.seed)
        try:
            paid.append(_dollars(table, tier, estimate, verifier.scores, (), settings))
        except DataError:
            return None
    saved = paid[0] - paid[1] - first_costs(table, tier, names, settings.prices, settings.asking)

    def mean(weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ saved / weights.sum(axis=1), dtype=np.float64)

    return bootstrap(mean, len(saved), seed=settings.seed, groups=table.groups)


def asking_gains(
    table: OutcomeTable,
    tier: str,
    estimate: FloatArray,
    without: Scored,
    with_signals: Mapping[tuple[str, ...], Scored],
    settings: Settings,
) -> dict[tuple[str, ...], Interval]:
    """What sets of signals save, in dollars per prompt net of their calls, with paired 95 % bootstrap intervals.

    Parameters
    ----------
    table : OutcomeTable
        The labelled rows that the scores are of, with token counts.
    tier : str
        Whose answers are judged.
    estimate : array of float, (n,)
        The router's out-of-fold estimates.
    without : Scored
        The verifier that asks for nothing.
    with_signals : mapping of tuple of str to Scored
        Out-of-fold verifiers, by the signals that they read.
    settings : Settings
        Prices, what is promised, how signals are asked for.

    Returns
    -------
    dict of tuple of str to Interval
        Where asking makes a try as dear as the last tier, or a grade is neither right nor wrong, a set is left out.
    """
    paid = _dollars(table, tier, estimate, without.scores, (), settings)
    found: dict[tuple[str, ...], Interval] = {}
    for asked, scored in with_signals.items():
        try:
            saved = paid - _dollars(table, tier, estimate, scored.scores, asked, settings)
        except DataError:  # a try that costs no less than the last tier's answer: it can only lose
            continue

        def mean(weights: FloatArray, saved: FloatArray = saved) -> FloatArray:
            return np.asarray(weights @ saved / weights.sum(axis=1), dtype=np.float64)

        found[asked] = bootstrap(mean, len(saved), seed=settings.seed, groups=table.groups)
    return found


def _dollars(
    table: OutcomeTable,
    tier: str,
    estimate: FloatArray,
    scores: FloatArray,
    asked: tuple[str, ...],
    settings: Settings,
) -> FloatArray:
    """Dollars of every prompt under the thresholds that make these rows cheapest, between this tier and the last."""
    last = settings.tiers[-1]
    p_ok = choose_calibrator(scores, table.grade(tier), seed=settings.seed).predict(scores)
    p_ok = np.where(not_had(table.answers_of(tier), asked), 0.0, p_ok)
    tried = call_costs(table, tier, settings.prices[tier])
    tried = tried + signal_costs(table, tier, last, asked, settings.prices, settings.asking)
    seen = CascadeEvidence.of(
        (tier, last),
        estimate[:, None],
        np.column_stack([p_ok, np.ones(len(table))]),
        np.column_stack([tried, call_costs(table, last, settings.prices[last])]),
        np.column_stack([table.grade(tier), table.grade(last)]),
    )
    route_at, accept_at = cheapest_route_at(seen, settings.epsilon, harm=settings.promised == "harm")
    return replay_policy(seen, one_pair(route_at, accept_at)).cost_usd


def lacking_first(router: str, train: OutcomeTable) -> list[str]:
    """Return the signals that a named router family cannot do without and that these prompts lack."""
    reads = [name for name in BEFORE_NAMES if name in ROUTERS[router].reads]
    lacking = [name for name in reads if name not in train.prompts.signals]
    return lacking if router == "p-yes" or lacking == reads else []


def router_that_asks(
    train: OutcomeTable, tier: str, settings: Settings, best: Scored, tried: list[Scored], progress: Progress
) -> Scored | None:
    """Return the router that asks the cheapest tier first, where that surely saves; it is noted in `tried`."""
    names = tuple(train.prompts.signals)
    if not names or tier != settings.tiers[0] or train.prompts.embeddings is None:
        return None
    family = AskedFirstRouter.family
    _, found = choose_router(train.prompts, train.grade(tier), train.groups, (family,), seed=settings.seed)
    asked = next(one for one in found if one.family == family)
    tried.append(asked)
    gain = asking_first_gain(train, tier, best, asked, names, settings)
    if gain is None:
        return None
    pays = "they pay for themselves" if gain.low > 0 else "not asked for"
    progress(f"tier {tier}: {' and '.join(names)} before a tier is chosen save {per_thousand(gain)}: {pays}")
    return asked if gain.low > 0 else None


def per_thousand(gain: Interval) -> str:
    """Return dollars per prompt as dollars a thousand, with the interval."""
    return f"${1000 * gain.value:+.3g} a thousand prompts ({1000 * gain.low:+.3g} to {1000 * gain.high:+.3g})"
