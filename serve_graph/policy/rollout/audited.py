"""The audit entry of each change of a rollout: what, who, why, and the evidence at the time."""

from __future__ import annotations

from collections.abc import Mapping

from serve_graph.policy.rollout.states import Rollout, RolloutState
from serve_graph.policy.rollout.transitions import Happened, RolloutEvent
from serve_graph.records.audit import AuditEntry

_ACTIONS: Mapping[Happened, str] = {
    Happened.STEP_PASSED: "versions.step",
    Happened.PAUSE: "versions.pause",
    Happened.RESUME: "versions.resume",
    Happened.SET_WEIGHT: "versions.setweight",
    Happened.PROMOTE: "versions.promoting",
    Happened.PROMOTE_REFUSED: "versions.pause",
    Happened.ABORT: "versions.abort",
    Happened.EVIDENCE_PROMOTE: "versions.promoting",
    Happened.EVIDENCE_ROLL_BACK: "versions.degrade",
    Happened.NOT_LOADABLE: "versions.degrade",
    Happened.WITHDRAWN: "versions.abort",
}


def begun_entry(rollout: Rollout) -> AuditEntry:
    """The entry of a rollout that begins."""
    action = "versions.canary" if rollout.kind == "canary" else "versions.shadow"
    names = ("stable", "steps", "pause_s", "minimum", "rate")
    detail = {"rollout": rollout.id, **{name: getattr(rollout, name) for name in names}}
    return AuditEntry(rollout.by, action, rollout.candidate, rollout.reason or None, detail)


def change_entry(before: Rollout, after: Rollout, event: RolloutEvent) -> AuditEntry:
    """The entry of one change."""
    ended = "versions.promote" if after.state is RolloutState.HEALTHY else "versions.abort"
    detail = {
        "rollout": after.id,
        "kind": after.kind,
        "stable": after.stable,
        "state": [str(before.state), str(after.state)],
        "weight": [before.weight, after.weight],
        "step": after.step,
        "evidence": dict(after.evidence),
    }
    return AuditEntry(event.by, _ACTIONS.get(event.what, ended), after.candidate, event.reason or None, detail)
