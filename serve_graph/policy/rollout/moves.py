"""What a person does to the rollout that goes on: read, moved and written again where the controller was faster."""

from __future__ import annotations

from serve_graph.errors import ServeGraphError
from serve_graph.policy.rollout.audited import change_entry
from serve_graph.policy.rollout.states import Rollout
from serve_graph.policy.rollout.table import RolloutTable
from serve_graph.policy.rollout.transitions import RolloutEvent, next_state

TRIES = 5


async def move_rollout(table: RolloutTable, model: str, event: RolloutEvent) -> Rollout:
    """Move a model's rollout, with its audit entry; returns what it is now.

    Raises ServeGraphError where none goes on, or where the event is not possible now.
    """
    for _ in range(TRIES):
        rollout = await table.active(model)
        if rollout is None:
            raise ServeGraphError(f"no rollout of {model} is under way; `serve-graph versions canary` begins one")
        try:
            after = next_state(rollout, event)
        except ValueError as error:
            raise ServeGraphError(str(error)) from error
        if await table.change(rollout, after, change_entry(rollout, after, event)):
            return after
    raise ServeGraphError(f"the rollout of {model} is changed by others again and again: try once more")
