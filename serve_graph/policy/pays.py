"""Break-even of a version with the graph's own prices: a version that loses money is not served unless told so.

What was measured stands in the version's certificate (`pricing.break_even`); prices, those to come included, and what
router and verifier cost come from the configuration.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import numpy as np

from router_models.errors import LossError
from router_models.estimators.asked_signals import asked_signal
from router_models.estimators.questions.terms import AskedTier
from router_models.pricing.break_even import MeasuredBreakEven, measured_break_even
from router_models.pricing.prices import Price
from router_models.types import Completion, Query, Usage
from router_models.versions.router_version import RouterVersion
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.bindings import asked_settings, price_lists

REPEATS = 9
WORDS = (8, 64, 256)


def break_even_of(
    version: RouterVersion, config: GraphConfig, now: datetime, overhead: tuple[float, float] | None = None
) -> MeasuredBreakEven | None:
    """A version's break-even at the prices in force at a moment; None where its certificate measured no tries.

    `overhead`: dollars of a decision and of a verdict, where they are known already.
    """
    made = version.certificate
    if made is None or made.tries is None:
        return None
    prices = {tier: listed.at(now) for tier, listed in price_lists(config).items()}
    if not {made.tries.last, *made.tries.spent} <= prices.keys():
        return None
    router_usd, verifier_usd = overhead or overhead_usd(version, config)
    router_usd += asked_first_usd(version, config, prices)
    return measured_break_even(made.tries, prices, router_usd, verifier_usd + asked_usd(version, config, prices))


def loss_of(
    version: RouterVersion, config: GraphConfig, now: datetime, overhead: tuple[float, float] | None = None
) -> str | None:
    """Why a version would lose money at a moment, in a sentence; None where it would not, or may."""
    found = None if config.policy.allow_loss else break_even_of(version, config, now, overhead)
    return f"it would lose money: {found.text()}" if found is not None and found.loses else None


def check_pays(version: RouterVersion, config: GraphConfig, now: datetime, *, allow_loss: bool = False) -> None:
    """Raise LossError where a version would lose money now, unless that is allowed."""
    if not allow_loss and (loss := loss_of(version, config, now)) is not None:
        named = version.name if "/" in version.name else "this version"
        raise LossError(
            f"{named}: {loss}. Look for a better verifier or another pair; --allow-loss goes on all the same, and "
            "policy.allow_loss: true in the configuration serves it"
        )


def later_losses(version: RouterVersion, config: GraphConfig, now: datetime) -> list[tuple[datetime, str]]:
    """From when on a version would lose money by listed prices that are not in force yet, with the sentence."""
    moments = sorted({at for listed in price_lists(config).values() for at, _ in listed.changes if at > now})
    if not moments or version.certificate is None or version.certificate.tries is None:
        return []
    overhead = overhead_usd(version, config)
    found = ((moment, loss_of(version, config, moment, overhead)) for moment in moments)
    return [(moment, loss) for moment, loss in found if loss is not None]


def overhead_usd(version: RouterVersion, config: GraphConfig) -> tuple[float, float]:
    """Dollars of one decision and of one verdict: what a second costs as configured, times seconds measured here.

    Nothing is measured where a second costs nothing; a version that pre-routes asks for no verdict.
    """
    a_second = float(config.policy.router_usd_per_s), float(config.policy.verifier_usd_per_s)
    if not any(a_second):
        return 0.0, 0.0
    router_s, verifier_s = seconds_of(version)
    return a_second[0] * router_s, 0.0 if version.policy.pattern == "pre-route" else a_second[1] * verifier_s


def asked_usd(version: RouterVersion, config: GraphConfig, prices: Mapping[str, Price]) -> float:
    """Dollars of what a version asks for before it judges an answer, for the average try that certified it."""
    made = version.certificate
    if made is None or made.tries is None or not version.asked:
        return 0.0
    found, tries, settings = 0.0, 0, asked_settings(config, bound=False)
    for tier, spent in made.tries.spent.items():
        tries += spent.calls
        if spent.calls == 0:
            continue
        prompt, answer = (
            np.array([tokens / spent.calls]) for tokens in (spent.prompt_tokens, spent.completion_tokens)
        )
        for name in version.asked_of(tier):
            row = asked_signal(name)
            who = row.who(tier, made.tries.last)
            sent, generated = row.tokens(prompt, answer, settings)
            usage = Usage(round(float(sent[0])), round(float(generated[0])))
            price = settings.verifiers[who].price if row.asks is AskedTier.VERIFIER else prices[who]
            found += spent.calls * float(price.cost(usage))
    return found / max(tries, 1)


def asked_first_usd(version: RouterVersion, config: GraphConfig, prices: Mapping[str, Price]) -> float:
    """Dollars of what a version asks the cheapest tier for before it chooses one, for the average prompt."""
    made, first = version.certificate, version.policy.tiers[0]
    if made is None or made.tries is None or not version.asked_first:
        return 0.0
    spent = made.tries.spent.get(first)
    if spent is None or spent.calls == 0:
        return 0.0
    sent, settings = np.array([spent.prompt_tokens / spent.calls]), asked_settings(config, bound=False)
    usd = Decimal(0)
    for name in version.asked_first:
        prompt, answer = asked_signal(name).tokens(sent, np.zeros(1), settings)
        usd += prices[first].cost(Usage(round(float(prompt[0])), round(float(answer[0]))))
    return float(usd)


def seconds_of(version: RouterVersion, clock: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    """The median seconds of one decision and of one verdict of a version, over prompts of several lengths."""
    signals = dict.fromkeys(version.asked, 0.5)
    queries = [replace(Query.from_prompt(" ".join(["word"] * n)), signals=signals) for n in WORDS]
    answer = Completion(" ".join(["word"] * WORDS[0]), token_logprobs=(-0.1,) * WORDS[0], signals=signals)
    decisions = [version.decide(query) for query in queries]
    decided, judged = [], []
    for i in range(REPEATS):
        query = queries[i % len(queries)]
        begun = clock()
        version.decide(query)
        between = clock()
        version.judge(query, answer, decisions[i % len(queries)])
        decided.append(between - begun)
        judged.append(clock() - between)
    return statistics.median(decided), statistics.median(judged)
