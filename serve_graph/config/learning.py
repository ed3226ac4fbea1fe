"""Configuration of what is learned after an answer: which labels count, and what an alarm does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AnyHttpUrl, Field, SecretStr

from serve_graph.config.base import Frozen


class FeedbackConfig(Frozen):
    """Whose feedback the alarms go by (docs/guides/feedback.md). All of it is recorded."""

    alarm_sources: tuple[Literal["human", "programmatic"], ...] = ("human", "programmatic")
    """Whose labels (`kind: label`, given with the scope `admin` or by `decisions label`) count for the alarms of a
    certificate that rests on people's or programs' labels. One that certifies agreement with a judge is watched by
    that judge's labels alone. What callers say (thumbs, scores, texts) never counts: who says it is no random sample,
    and anybody with a key could make everybody pay for the last tier.
    """
    label_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The share of decisions that are put up for labelling, chosen by a hash of their id. Only labels of these count
    for the alarms: those of decisions that somebody picked out say nothing of the others.
    """


class AlarmsConfig(Frozen):
    """What is made of labels that contradict a certificate."""

    run_length: Annotated[float, Field(ge=100)] = 10_000.0
    """Labels between two false alarms of drift, on average, at least."""
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """Probability at most with which a certificate that holds is ever revoked by its labels."""
    on_drift: Literal["safe_mode", "report"] = "safe_mode"
    """What an alarm of drift does: `safe_mode`, as a revocation does, sends everything to the last tier until a new
    version serves or somebody lifts it; `report` only says so.
    """
    poll_s: Annotated[float, Field(gt=0)] = 1.0
    """Seconds between two looks of each ingress replica at the labels and alarms in the store."""
    webhook: AnyHttpUrl | None = None
    """An address that alarms and their lifting are posted to as JSON; redirects are not followed."""
    webhook_secret: SecretStr | None = None
    """With it, posts carry `x-serve-graph-timestamp` and `x-serve-graph-signature: sha256=HEX`, the HMAC-SHA256 of
    `TIMESTAMP.BODY`.
    """


class TicketsConfig(Frozen):
    """When changes in traffic that nobody labelled are reported (docs/guides/learning/tickets.md)."""

    window: Annotated[int, Field(ge=100, le=10_000)] | None = 500
    """Decisions of a window. Each window of a version's traffic is compared with its first; null: none is."""
    false_share: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """Where nothing has changed, the probability with which a window is reported, at most."""
    escalation_at_most: Annotated[float, Field(gt=0, lt=1)] | None = 0.30
    """The share of tried cheap answers that may be rejected; a window with significantly more is reported, the first
    included. null: only a change is.
    """
    poll_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between two looks of each ingress replica at the store."""
