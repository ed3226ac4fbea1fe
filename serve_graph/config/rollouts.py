"""Configuration of rollouts: what a candidate may cost before it is taken back, what promotes it, and comparisons.

Comparisons are requests that both versions of a rollout decide, off their path.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from router_models.monitoring.canary_limits import CanaryLimits
from serve_graph.config.base import Frozen
from serve_graph.config.prices import Amount
from serve_graph.config.tiers.tier import TierName

ProperShare = Annotated[float, Field(gt=0, lt=1)]
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]


_USUAL = CanaryLimits()


class RolloutsConfig(Frozen):
    """The limits of canaries and shadows (docs/operate/rollouts.md). Read when the graph starts."""

    margin: ProperShare = _USUAL.margin
    """How much lower the candidate's share of right answers may be."""
    alpha: ProperShare = _USUAL.alpha
    """Probability at most that a candidate beyond any of the limits is ever promoted by evidence."""
    alpha_rollback: ProperShare = _USUAL.alpha_rollback
    """Probability at most, of each kind of test, that a candidate within its limit is ever rolled back."""
    harm_margin: ProperShare | None = _USUAL.harm_margin
    """How much higher its share of harmed answers may be; null: harm is not tested."""
    cost_ceiling: PositiveNumber = _USUAL.cost_ceiling
    """Its mean cost of a request, as a multiple of the stable version's, at most."""
    cost_bound_usd: PositiveNumber | None = _USUAL.cost_bound_usd
    """What no request costs more than, in US dollars; null: each request's costs are compared as shares of what the
    last tier's answer to it costs.
    """
    error_margin: ProperShare = _USUAL.error_margin
    """How much higher its share of failed requests may be."""
    latency_margin: ProperShare = _USUAL.latency_margin
    """How much higher its share of requests may be that take longer than `latency_limit_s`."""
    latency_limit_s: PositiveNumber | None = _USUAL.latency_limit_s
    """Seconds after which a request counts as slow; null: latency is not tested."""
    settles_s: PositiveNumber | None = None
    """Seconds after its arrival at which a request counts for errors, latency and the split: all that came with it
    have ended by then. null: `http.deadline_s`, else the time limits of all tiers together; and half a minute.
    """
    capacity_share: ProperShare | None = 0.9
    """The part of a tier's places (`max_replicas` × `max_ongoing_requests`; of a hosted tier
    `admission.max_in_flight`) that may be taken on average at the next step, by live numbers: a step beyond it is not
    passed. null: not checked.
    """
    slices: tuple[str, ...] = _USUAL.slices
    """The slices that are tested by themselves; empty: every one that is seen."""

    def limits(self) -> CanaryLimits:
        """What the tests of a candidate go by."""
        return CanaryLimits(**self.model_dump(include=set(CanaryLimits.__dataclass_fields__)))


class ComparisonsConfig(Frozen):
    """How the two versions of a rollout are compared on live requests (docs/concepts/comparisons.md). Which share of
    requests is compared the rollout itself says.
    """

    judge: TierName | None = None
    """The tier that grades answers which differ, in both orders: it is sent both, and the request. null: `judge.tier`
    where a judge is configured, else the last tier. Its prompt (where `judge.mode` is pairwise), length, sampling and
    time are those of `judge`.
    """
    budget_usd_per_day: Amount = Decimal(1)
    """US dollars for answers that only a comparison needs and for grading, in one day (UTC), of all ingress replicas
    that share the state folder. A comparison begins only where what it is likely to cost is left of it: when it is
    spent, none does until the next day.
    """
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    """Requests that one ingress replica compares at once."""
    max_queued: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Requests that may wait in one ingress replica; what comes beyond is not compared."""
    within_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    """Seconds from a request's end to the end of its comparison. In their first half it begins, once nothing that it
    gives way to is busy, or it is left out; what is not known at their end stays ungraded. Pairs count so much later.
    """
    max_chars: Annotated[int, Field(ge=1)] = 20_000
    """Characters of request and answers together, above which answers are not graded."""
