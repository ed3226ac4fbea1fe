"""A purse that workers on a Ray cluster share."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import ray

from serve_graph.cluster.batches.passes.purse import Purse
from serve_graph.errors import ServeGraphError

ASK_AGAIN_S = 0.1
KEPT_SO_FAR = "what is answered is kept; run it again"
PATIENCE_S = 900.0
"""How long rows wait for the cost of others: then those are taken to be lost with their worker, and these begin."""
LULL_S = 60.0
"""The same where no money is counted, once rows come: more are under way then than were to be, and that is all."""


class _HeldPurse:
    def __init__(self, purse: Purse) -> None:
        self.purse = purse
        self.changed_at, self.patience_s = time.monotonic(), PATIENCE_S

    def granted(self, rows: int) -> int | None:
        found = self.purse.granted(rows)
        if found is None and time.monotonic() - self.changed_at > self.patience_s:
            self.purse.under_way, self.changed_at = 0, time.monotonic()
            found = self.purse.granted(rows)
        return found

    def ended(self, rows: int, spent: Decimal, dearest: Decimal) -> None:
        self.changed_at = time.monotonic()
        self.patience_s = LULL_S if self.purse.budget is None else PATIENCE_S
        self.purse.ended(rows, spent, dearest)


class RemotePurse:
    """A purse in a process of its own.

    One that dies is started anew, and knows again with the next rows that end; until then it lets one row begin, where
    money is counted, and forgets what was under way.
    """

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    @classmethod
    def of(cls, purse: Purse) -> RemotePurse:
        """Have a process hold a purse, for as long as Ray runs."""
        return cls(ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_HeldPurse).remote(purse))

    def begin(self, rows: int) -> int:
        while (found := _said(self.actor.granted.remote(rows))) is None:
            time.sleep(ASK_AGAIN_S)
        return int(found)

    def ended(self, rows: int, spent: Decimal, dearest: Decimal) -> None:
        _said(self.actor.ended.remote(rows, spent, dearest))


def _said(reply: Any) -> Any:
    try:
        return ray.get(reply)
    except ray.exceptions.RayError as error:
        raise ServeGraphError(
            f"the process that keeps the budget is gone ({type(error).__name__}): {KEPT_SO_FAR}"
        ) from error
