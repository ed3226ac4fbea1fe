"""What a rollout is: a candidate tried beside the stable version, as a canary or as a shadow. States in Argo's words.

Progressing ◀──▶ Paused          a canary's weight grows step by step, or stays where it is
     │              │
     ├──────────────┴──▶ Promoting ──▶ Healthy      the alias moves; the candidate is the stable version
     ├──▶ Degraded       rolled back by rule: evidence, alarms, files that cannot be loaded
     └──▶ Aborted        by a person, or because what it was begun with holds no more
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

RolloutKind = Literal["canary", "shadow"]


class RolloutState(StrEnum):
    """Where a rollout is; the last three are ends."""

    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    PROMOTING = "Promoting"
    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    ABORTED = "Aborted"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows it."""
        return self in (RolloutState.HEALTHY, RolloutState.DEGRADED, RolloutState.ABORTED)


def _new_id() -> str:
    return f"rol-{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout at one moment.

    Parameters
    ----------
    model, stable, candidate : str
        The registered model, and the two versions by name (`router/3`).
    kind : {"canary", "shadow"}
        A shadow decides on live traffic and answers none of it: its weight is 0 for ever.
    steps : tuple of float
        Percent of the candidate's traffic, ascending; empty for a shadow.
    step : int
        Which of them is under way, from 0.
    weight : float
        The candidate's share of traffic now, 0 to 1.
    pause_s : float
        Seconds that every step takes at least.
    minimum : int
        Requests decided by both versions that every step needs at least.
    rate : float
        Share of requests that both versions decide, 0 to 1.
    by, reason : str
        Who moved it last, and why.
    evidence : mapping
        What was found so far, JSON-able.
    begun_at, step_at, updated_at : str
        ISO 8601, UTC; `step_at`: since when the step is under way.
    epoch : int
        Grows by one with every change: a writer names the one that it has read.
    """

    model: str
    stable: str
    candidate: str
    kind: RolloutKind
    by: str
    reason: str
    begun_at: str
    step_at: str
    updated_at: str
    steps: tuple[float, ...] = ()
    step: int = 0
    weight: float = 0.0
    pause_s: float = 600.0
    minimum: int = 0
    rate: float = 0.1
    state: RolloutState = RolloutState.PROGRESSING
    evidence: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 1
    id: str = field(default_factory=_new_id)

    @classmethod
    def begin(
        cls,
        model: str,
        stable: str,
        candidate: str,
        *,
        at: str,
        by: str,
        reason: str = "",
        steps: tuple[float, ...] = (),
        pause_s: float = 600.0,
        minimum: int = 0,
        rate: float = 0.1,
    ) -> Rollout:
        """A rollout at its first step; without steps a shadow. Raises ValueError where it could not be one."""
        if stable == candidate:
            raise ValueError(f"{candidate} is the stable version: there is nothing to try")
        rising = all(low < high for low, high in zip((0.0, *steps), steps, strict=False))
        if not rising or any(not 0 < step <= 100 for step in steps):
            raise ValueError("the steps must rise, above 0 and up to 100 percent")
        if not 0 <= pause_s < float("inf") or minimum < 0 or not 0 <= rate <= 1:
            raise ValueError("a pause and a minimum may not be negative, and a rate lies between 0 and 1")
        if not steps and not rate:
            raise ValueError("a shadow at rate 0 would do nothing")
        if minimum and not rate:
            raise ValueError("no request is decided by both versions at rate 0, so that a minimum is never reached")
        kind: RolloutKind = "canary" if steps else "shadow"
        weight = steps[0] / 100 if steps else 0.0
        return cls(
            model, stable, candidate, kind, by, reason, at, at, at,
            steps=steps, weight=weight, pause_s=pause_s, minimum=minimum, rate=rate,
        )  # fmt: skip

    @property
    def is_active(self) -> bool:
        """Whether it still goes on; a model has one such rollout at most."""
        return not self.state.is_end

    @property
    def is_last_step(self) -> bool:
        return self.step + 1 >= len(self.steps)

    def shown(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self) | {"steps": list(self.steps), "state": str(self.state), "evidence": dict(self.evidence)}
