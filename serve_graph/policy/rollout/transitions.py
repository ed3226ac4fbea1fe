"""How a rollout moves: one pure function from a rollout and an event to the rollout after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from serve_graph.policy.rollout.states import Rollout, RolloutState


class Happened(StrEnum):
    """What may happen to a rollout. Where a person does it, the verb is the command's."""

    STEP_PASSED = "step_passed"
    PAUSE = "pause"
    RESUME = "resume"
    SET_WEIGHT = "set_weight"
    PROMOTE = "promote"
    PROMOTE_REFUSED = "promote_refused"
    ABORT = "abort"
    EVIDENCE_PROMOTE = "evidence_promote"
    EVIDENCE_ROLL_BACK = "evidence_roll_back"
    STABLE_CHANGED = "stable_changed"
    NOT_LOADABLE = "not_loadable"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class RolloutEvent:
    """What happened, when, by whom and why. `weight`: of `set_weight`; `stable`: what is served, of `stable_changed`.

    `by` is an actor as the audit log has it: `graph`, or whoever ran a command.
    """

    what: Happened
    at: str
    by: str = "graph"
    reason: str = ""
    weight: float | None = None
    stable: str | None = None


def next_state(rollout: Rollout, event: RolloutEvent) -> Rollout:
    """The rollout after an event, one epoch later.

    An end is final, a shadow never has weight, and the weight never falls while a canary is progressing: who was
    answered by the candidate is answered by it until the rollout ends, or a person sets the weight.

    Raises ValueError, in a sentence, where the event is not possible now.
    """
    if not rollout.is_active:
        raise ValueError(
            f"the rollout of {rollout.candidate} has ended: {rollout.state}, {rollout.reason}".rstrip(", ")
        )
    if rollout.state is RolloutState.PROMOTING and event.what not in _WHILE_PROMOTING:
        raise ValueError(f"{rollout.candidate} is being promoted; `versions rollback` goes back afterwards")
    if rollout.kind == "shadow" and event.what in _OF_CANARIES:
        raise ValueError(f"{rollout.candidate} is a shadow, which has no share of traffic: abort it, start a canary")
    moved = _MOVES[event.what](rollout, event)
    return replace(moved, by=event.by, reason=event.reason, updated_at=event.at, epoch=rollout.epoch + 1)


def _step_passed(rollout: Rollout, event: RolloutEvent) -> Rollout:
    if rollout.state is not RolloutState.PROGRESSING or rollout.is_last_step:
        raise ValueError(
            f"no step follows: the rollout of {rollout.candidate} is {rollout.state} at its last or paused"
        )
    step = rollout.step + 1
    weight = max(rollout.weight, rollout.steps[step] / 100)
    return replace(rollout, step=step, weight=weight, step_at=event.at)


def _pause(rollout: Rollout, event: RolloutEvent) -> Rollout:
    if rollout.state is RolloutState.PAUSED:
        raise ValueError(f"the rollout of {rollout.candidate} is paused already")
    return replace(rollout, state=RolloutState.PAUSED)


def _resume(rollout: Rollout, event: RolloutEvent) -> Rollout:
    """Go on at the first step that is no less than the weight; its pause begins anew."""
    if rollout.state is not RolloutState.PAUSED:
        raise ValueError(f"the rollout of {rollout.candidate} is not paused")
    step, weight = rollout.step, rollout.weight
    if rollout.steps:
        step = next((i for i, percent in enumerate(rollout.steps) if percent / 100 >= weight), len(rollout.steps) - 1)
        weight = max(weight, rollout.steps[step] / 100)
    return replace(rollout, state=RolloutState.PROGRESSING, step=step, weight=weight, step_at=event.at)


def _set_weight(rollout: Rollout, event: RolloutEvent) -> Rollout:
    """A person's weight stays until `resume`, so that no rule moves it."""
    if event.weight is None or not 0 < event.weight <= 1:
        raise ValueError("a weight is more than 0 and at most 100 percent; `versions abort` takes all traffic back")
    return replace(rollout, state=RolloutState.PAUSED, weight=event.weight, step_at=event.at)


def _promote(rollout: Rollout, event: RolloutEvent) -> Rollout:
    return replace(rollout, state=RolloutState.PROMOTING)


def _evidence_promote(rollout: Rollout, event: RolloutEvent) -> Rollout:
    if rollout.state is not RolloutState.PROGRESSING:
        raise ValueError(f"the rollout of {rollout.candidate} is paused: a person goes on with it")
    return _promote(rollout, event)


def _promote_refused(rollout: Rollout, event: RolloutEvent) -> Rollout:
    return replace(rollout, state=RolloutState.PAUSED)


def _stable_changed(rollout: Rollout, event: RolloutEvent) -> Rollout:
    """The candidate itself is served: by the promotion, or by a person who moved the alias."""
    if event.stable == rollout.candidate:
        return replace(rollout, state=RolloutState.HEALTHY, weight=0.0 if rollout.kind == "shadow" else 1.0)
    return _abort(rollout, event)


def _abort(rollout: Rollout, event: RolloutEvent) -> Rollout:
    return replace(rollout, state=RolloutState.ABORTED, weight=0.0)


def _roll_back(rollout: Rollout, event: RolloutEvent) -> Rollout:
    return replace(rollout, state=RolloutState.DEGRADED, weight=0.0)


_WHILE_PROMOTING = frozenset(
    {Happened.STABLE_CHANGED, Happened.PROMOTE_REFUSED, Happened.WITHDRAWN, Happened.NOT_LOADABLE}
)
_OF_CANARIES = frozenset(
    {
        Happened.STEP_PASSED,
        Happened.SET_WEIGHT,
        Happened.PROMOTE,
        Happened.PROMOTE_REFUSED,
        Happened.EVIDENCE_PROMOTE,
    }
)
_MOVES: Mapping[Happened, Callable[[Rollout, RolloutEvent], Rollout]] = {
    Happened.STEP_PASSED: _step_passed,
    Happened.PAUSE: _pause,
    Happened.RESUME: _resume,
    Happened.SET_WEIGHT: _set_weight,
    Happened.PROMOTE: _promote,
    Happened.PROMOTE_REFUSED: _promote_refused,
    Happened.ABORT: _abort,
    Happened.EVIDENCE_PROMOTE: _evidence_promote,
    Happened.EVIDENCE_ROLL_BACK: _roll_back,
    Happened.STABLE_CHANGED: _stable_changed,
    Happened.NOT_LOADABLE: _roll_back,
    Happened.WITHDRAWN: _abort,
}
