"""Configuration of comparisons: requests that both versions of a rollout decide, off their path."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from serve_graph.config.base import Frozen
from serve_graph.config.prices import Amount
from serve_graph.config.tiers import TierName


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
