"""Where to put the thresholds that need no certificate, and what a policy costs and yields on labelled prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.pricing.prices import Price
from router_models.types import FloatArray, Usage
from router_models.versions.router_version import ROUTER_SCORE, RouterVersion, Stage


@dataclass(frozen=True, slots=True)
class Evidence:
    """Labelled prompts as a policy sees them; all (n,).

    `p_route_ok` before generation, `p_cheap_ok` and `p_frontier_ok` after; `*_right` grades; `*_usd` what each call
    costs at the given prices; `lengths` prompt characters.
    """

    p_route_ok: FloatArray
    p_cheap_ok: FloatArray
    p_frontier_ok: FloatArray
    cheap_right: FloatArray
    frontier_right: FloatArray
    cheap_usd: FloatArray
    frontier_usd: FloatArray
    lengths: FloatArray

    @property
    def cheap_wrong(self) -> FloatArray:
        return 1.0 - self.cheap_right

    def __len__(self) -> int:
        return len(self.p_route_ok)


@dataclass(frozen=True, slots=True)
class Replay:
    """What happens to each prompt under given thresholds: masks and per-prompt cost and rightness, all (n,)."""

    tried: np.ndarray
    accepted: np.ndarray
    usd: FloatArray
    right: FloatArray


def evidence_of(
    version: RouterVersion, table: OutcomeTable, tiers: tuple[str, str], prices: Mapping[str, Price]
) -> Evidence:
    """Score every prompt and answer of a table with a version's models; batch, embeddings must be present."""
    cheap, frontier = tiers
    stage = version.stages[cheap]
    if stage.router is None or stage.router_calibrator is None:
        raise DataError(f"the version has no router for tier {cheap!r}")
    p_route = stage.router_calibrator.predict(stage.router.predict(table.prompts))
    return Evidence(
        p_route_ok=p_route,
        p_cheap_ok=_verified(version.stages[cheap], table, cheap, p_route),
        p_frontier_ok=_verified(version.stages[frontier], table, frontier, p_route),
        cheap_right=table.grade(cheap),
        frontier_right=table.grade(frontier),
        cheap_usd=call_costs(table, cheap, prices[cheap]),
        frontier_usd=call_costs(table, frontier, prices[frontier]),
        lengths=np.array([len(text) for text in table.prompts.texts], dtype=np.float64),
    )


def replay_policy(seen: Evidence, route_at: float, accept_at: float | FloatArray) -> Replay:
    """Run the two-tier cascade on labelled prompts: try cheap at ≥ route_at, keep it at ≥ accept_at, else frontier.

    `accept_at` may differ from prompt to prompt, (n,).
    """
    tried = seen.p_route_ok >= route_at
    accepted = tried & (seen.p_cheap_ok >= accept_at)
    usd = np.where(tried, seen.cheap_usd, 0.0) + np.where(accepted, 0.0, seen.frontier_usd)
    return Replay(tried, accepted, usd, np.where(accepted, seen.cheap_right, seen.frontier_right))


def cheapest_route_at(seen: Evidence, epsilon: float) -> tuple[float, float]:
    """The routing threshold that makes TUNE cheapest, with a provisional acceptance threshold.

    Provisional acceptance: the lowest verifier score above which TUNE's accepted answers err at most 3/4 ε, so that a
    certificate is likely to reach about as low. Ties go to the higher routing threshold (fewer wasted tries).
    """
    accept_at = _provisional(seen.p_cheap_ok, seen.cheap_right, 0.75 * epsilon)
    grid = np.unique(np.quantile(seen.p_route_ok, np.linspace(0.0, 0.95, 39)))
    costs = [float(replay_policy(seen, route_at, accept_at).usd.mean()) for route_at in grid]
    best = len(grid) - 1 - int(np.argmin(costs[::-1]))
    return float(grid[best]), accept_at


def route_at_for_share(p_route_ok: FloatArray, share: float) -> float:
    """RouteLLM's knob: the routing threshold that sends about `share` of prompts like these to the last tier.

    A share of traffic, not a promise about quality. Ties go to the cheap tier together, so the share is met at most.
    """
    if not 0 <= share <= 1:
        raise DataError(f"a share lies in [0, 1], got {share}")
    ordered = np.sort(p_route_ok)
    k = int(np.floor(share * len(ordered) + 1e-9))
    return float("inf") if k >= len(ordered) else float(ordered[k])


def call_costs(table: OutcomeTable, tier: str, price: Price) -> FloatArray:
    """Dollars per prompt at a tier, from recorded token counts; DataError where there are none, or not for all."""
    if tier not in table.prompt_tokens or tier not in table.completion_tokens:
        raise DataError(f"outcomes of tier {tier!r} carry no token counts: costs cannot be computed")
    sent, made = table.prompt_tokens[tier], table.completion_tokens[tier]
    if gaps := int((~np.isfinite(sent) | ~np.isfinite(made)).sum()):
        raise DataError(f"{gaps} of {len(sent)} outcomes of tier {tier!r} carry no token counts: record or drop them")
    costs: list[Decimal] = [price.cost(Usage(int(p), int(c))) for p, c in zip(sent, made, strict=True)]
    return np.array([float(cost) for cost in costs])


def _verified(stage: Stage, table: OutcomeTable, tier: str, p_route: FloatArray) -> FloatArray:
    answers = table.answers_of(tier)
    answers = replace(answers, signals={**answers.signals, ROUTER_SCORE: p_route})
    raw = stage.verifier.predict(answers)
    return raw if stage.verifier_calibrator is None else stage.verifier_calibrator.predict(raw)


def _provisional(p_ok: FloatArray, right: FloatArray, budget: float) -> float:
    order = np.argsort(-p_ok, kind="stable")
    wrong_share = np.cumsum(1.0 - right[order]) / np.arange(1, len(order) + 1)
    within = np.flatnonzero(wrong_share <= budget)
    return float(p_ok[order][within[-1]]) if len(within) else float(p_ok.max())
