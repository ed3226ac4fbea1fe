"""Configuration of callers: access keys with their scopes and limits, and sessions."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from serve_graph.config.base import Frozen

Scope = Literal["use", "force", "admin"]
Count = Annotated[int, Field(ge=1)]
Dollars = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]


class KeyConfig(Frozen):
    """One access key, stored as its sha256, with its scopes, limits and budgets.

    Limits and budgets are those of all ingress replicas together; budgets are of UTC days and months.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    """The key's name in records and bills."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """The sha256 of the key as 64 hex digits; the key itself is not stored."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("use",)
    """`use`: send requests; `force`: also choose the tier; `admin`: read decisions and metrics."""
    requests_per_min: Count | None = None
    """Requests per minute; null: no limit."""
    tokens_per_min: Count | None = None
    """Prompt and completion tokens per minute; null: no limit."""
    usd_per_day: Dollars | None = None
    """Budget in US dollars per UTC day; null: none."""
    usd_per_month: Dollars | None = None
    """Budget in US dollars per UTC month; null: none."""
    quality_floor: Annotated[float, Field(ge=0, le=1)] | None = None
    """The least certified share of correct answers for this key's requests, whatever they ask for; null: none."""
    max_quality_floor: Annotated[float, Field(ge=0, le=1)] | None = None
    """The highest `quality_floor` that this key's requests may ask for: a floor that no cheaper tier keeps is a way to
    the last tier; null: any.
    """
    max_tokens: Count | None = None
    """The longest answer, in tokens and for each choice, that a request of this key may ask for; null: any."""
    max_choices: Count | None = None
    """The most choices (`n`) that a request of this key may ask for; null: any."""
    concurrency: Count | None = None
    """Requests in progress at a time; null: no limit."""
    escalations_per_h: Count | None = None
    """Escalated requests per hour; null: no limit."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Metadata of all this key's requests, whatever they say themselves (`language`, `domain`, `user_tier`, …): where
    slices are certified, the certificate holds of a request whose slice its key names.
    """

    @property
    def bounds(self) -> dict[str, float | None]:
        """What its requests may ask for at most, and how many there may be, by the setting's name."""
        names = ("max_quality_floor", "max_tokens", "max_choices", "concurrency", "escalations_per_h")
        return {name: getattr(self, name) for name in names}

    @property
    def has_budget(self) -> bool:
        """Whether what the key's requests may cost is bounded."""
        return self.usd_per_day is not None or self.usd_per_month is not None


class EscalationWatchConfig(Frozen):
    """Detection of keys whose requests are escalated too often.

    A key is flagged if the odds that a request of it is escalated exceed `times` those of all other requests, by an
    exact one-sided binomial test at level `alpha`. It receives 429 until enough of its escalations have left the
    window.
    """

    window_s: Annotated[float, Field(gt=0)] = 3600.0
    """Length of the sliding window, in seconds."""
    min_requests: Annotated[int, Field(ge=1)] = 50
    """Requests of the key, and of all others, in the window below which nothing is tested."""
    times: Annotated[float, Field(ge=1)] = 3.0
    """Factor above the others' odds from which a key counts as abnormal."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """Significance level of the test."""


class AccessConfig(Frozen):
    """Who may use the endpoint.

    Without any key, only clients on this machine are served; with at least one, every request needs a key. Keys are
    those listed here and those in `keys_file`.
    """

    keys: tuple[KeyConfig, ...] = ()
    """The access keys of the configuration file."""
    keys_file: Path | None = None
    """A YAML file with more keys, re-read when it changes; null: `keys.yaml` in the state folder."""
    open: bool = False
    """Serve every client, with all scopes, as long as there is no key: for graphs behind a proxy that authenticates
    callers.
    """
    refresh_s: Annotated[float, Field(gt=0)] = 10.0
    """Seconds between two summations of each key's spending from the decision store, and between checks of
    `keys_file`.
    """
    watch: EscalationWatchConfig = EscalationWatchConfig()
    """Detection of keys whose requests are escalated too often."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [key.name for key in self.keys]
        if len(set(names)) != len(names):
            raise ValueError(f"key names must differ: {names}")
        return self


class SessionsConfig(Frozen):
    """How long, and under which assumptions, a conversation stays on its tier (docs/guides/sessions.md)."""

    ttl_s: Annotated[float, Field(ge=0)] = 300.0
    """Seconds after its last request for which a conversation is remembered; must not exceed the longest
    `prompt_cache_s` of the tiers (a tier's own shortens it for that tier). 0 disables sessions.
    """
    expected_turns: Annotated[float, Field(ge=1)] = 3.0
    """Further turns to expect of a conversation when the cost of a change of tier is weighed."""
    turn_tokens: Annotated[int, Field(ge=0)] = 200
    """New tokens to expect per turn."""
    most: Annotated[int, Field(ge=1)] = 50_000
    """Sessions remembered at most, per ingress replica."""
