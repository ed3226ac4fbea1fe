"""Sections of the configuration about callers: keys and what they may, sessions."""

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
    """One access key: never the key itself, but its sha256, and what it may.

    Scopes: `use` asks questions, `force` chooses the tier as well, `admin` reads decisions and metrics. Limits are per
    ingress replica and minute; budgets are per UTC day and month, for all replicas. Requests of this key are answered
    with at least `quality_floor` promised, whatever they ask for. null: no limit.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] = ("use",)
    requests_per_min: Count | None = None
    tokens_per_min: Count | None = None
    usd_per_day: Dollars | None = None
    usd_per_month: Dollars | None = None
    quality_floor: Annotated[float, Field(ge=0, le=1)] | None = None
    escalations_per_h: Count | None = None


class EscalationWatchConfig(Frozen):
    """When a key's share of escalated requests is too far above everybody else's to be chance.

    Over `window_s`, after at least `min_requests` of the key: a share above `times` that of all other requests, at the
    one-sided level `alpha` of an exact binomial test. Such a key gets 429 until enough of its escalations are over.
    """

    window_s: Annotated[float, Field(gt=0)] = 3600.0
    min_requests: Annotated[int, Field(ge=1)] = 50
    times: Annotated[float, Field(ge=1)] = 3.0
    alpha: Annotated[float, Field(gt=0, lt=1)] = 1e-4


class AccessConfig(Frozen):
    """Who may ask. Without any key the endpoint answers this machine only; with one, nobody without a key.

    `open`: as long as there is no key, whoever reaches the endpoint may do everything. For graphs behind something
    that asks callers who they are.

    Keys are those listed here and those in `keys_file` (default: `keys.yaml` under the state folder), which is read
    again when it changes. Spending is summed up from the decision store every `refresh_s` seconds.
    """

    keys: tuple[KeyConfig, ...] = ()
    keys_file: Path | None = None
    open: bool = False
    refresh_s: Annotated[float, Field(gt=0)] = 10.0
    watch: EscalationWatchConfig = EscalationWatchConfig()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [key.name for key in self.keys]
        if len(set(names)) != len(names):
            raise ValueError(f"key names must differ: {names}")
        return self


class SessionsConfig(Frozen):
    """How long, and on what assumptions, a conversation keeps its tier (docs/guides/sessions.md).

    `ttl_s` must not outlive the prompt caches (a tier's `prompt_cache_s` shortens it for that tier); 0 turns sessions
    off. `expected_turns` are those still to come, of `turn_tokens` new tokens each. At most `most` are remembered.
    """

    ttl_s: Annotated[float, Field(ge=0)] = 300.0
    expected_turns: Annotated[float, Field(ge=1)] = 3.0
    turn_tokens: Annotated[int, Field(ge=0)] = 200
    most: Annotated[int, Field(ge=1)] = 50_000
