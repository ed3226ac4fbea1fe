"""Configuration of what is learned after an answer: which labels count, and what an alarm does."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AnyHttpUrl, Field, SecretStr

from serve_graph.config.base import Frozen
from serve_graph.config.prices import Amount
from serve_graph.config.tiers.tier import TierName


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


class GoldenConfig(Frozen):
    """The same tasks asked again and again, so that a hosted model which changes is noticed
    (docs/guides/learning/golden.md).
    """

    tasks: Literal["starter", "kept"] | Path = "starter"
    """What is asked: `starter`, tasks that this release draws, which programs grade; `kept`, prompts that callers
    sent, where `records.keep_prompts` keeps them (they leave the set with their decisions); or a file of tasks as
    `collect --tasks` reads it.
    """
    size: Annotated[int, Field(ge=5, le=1000)] = 40
    """Tasks that are asked in a run, drawn by `seed` from those that there are."""
    seed: int = 0
    """Another seed draws other tasks."""
    tiers: tuple[TierName, ...] | None = None
    """The tiers that are asked; null: the hosted ones."""
    every_s: Annotated[float, Field(gt=0)] = 86_400.0
    """Seconds between two runs of a tier."""
    reference_runs: Annotated[int, Field(ge=2, le=20)] = 5
    """Runs that make the reference: how far a model repeats its own answers is measured between them."""
    reference_every_s: Annotated[float, Field(ge=0)] = 3600.0
    """Seconds between two runs of the reference."""
    decoding: dict[str, Any] = Field(default_factory=lambda: {"temperature": 0.0})
    """Sampling settings of the calls. Where an API refuses them it is asked without: its answers repeat themselves
    less then, and less is found.
    """
    budget_usd_per_day: Amount = Decimal(1)
    """US dollars for runs and their grading in one day (UTC). When it is spent, a run is made on the next day."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    """Calls of one tier at once."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for each call."""
    false_share: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """Where no model changes, the probability with which a ticket is ever opened, at most: by any run of any tier
    since the reference.
    """
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """Where no model changes, the probability with which the alarm is ever raised, at most, likewise."""
    poll_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds between two looks of each ingress replica at whether a run is due."""
