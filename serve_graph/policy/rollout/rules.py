"""When a rollout moves by itself: one pure function of what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from serve_graph.policy.rollout.states import Rollout, RolloutState
from serve_graph.policy.rollout.transitions import Happened


@dataclass(frozen=True, slots=True)
class RolloutFacts:
    """What a step is decided by.

    `step_pairs`: requests that both versions have decided since the step began. `verdict` of all evidence;
    `against`: the tests that the candidate has failed, in words. `held`: why nothing moves now, an alarm against the
    stable version; `alarm`: one against the candidate.
    """

    step_pairs: int = 0
    verdict: Literal["promote", "roll_back", "go_on"] = "go_on"
    against: str = ""
    held: str | None = None
    alarm: str | None = None


def due_event(rollout: Rollout, facts: RolloutFacts, now: datetime) -> tuple[Happened, str] | None:
    """What is to happen by rule, and why; None where the rollout stays as it is.

    Evidence against a candidate takes it back at once, paused or not. A step passes when its pause is over and its
    minimum is reached; after the last one evidence promotes, and without it a person does.
    """
    if facts.verdict == "roll_back":
        return Happened.EVIDENCE_ROLL_BACK, facts.against or "the evidence is against it"
    if facts.alarm is not None:
        return Happened.EVIDENCE_ROLL_BACK, facts.alarm
    if rollout.state is not RolloutState.PROGRESSING or rollout.kind == "shadow" or facts.held is not None:
        return None
    waited_s = (now - datetime.fromisoformat(rollout.step_at)).total_seconds()
    if waited_s < rollout.pause_s or facts.step_pairs < rollout.minimum:
        return None
    if not rollout.is_last_step:
        pairs = f", {facts.step_pairs} request(s) decided by both versions" if rollout.rate else ""
        return Happened.STEP_PASSED, f"after {waited_s:.0f} s at {100 * rollout.weight:g} %{pairs}"
    if facts.verdict == "promote":
        return Happened.EVIDENCE_PROMOTE, "every test of the evidence is for it"
    return None
