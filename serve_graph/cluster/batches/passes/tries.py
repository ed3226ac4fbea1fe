"""How often a row is asked of what fails for a moment, a hosted tier's API for one, and after which pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from router_models.types import Attempt
from serve_graph.engines.error_meanings import ErrorFault
from serve_graph.engines.scores import NO_SCORE

ROW_TRIES = 5
"""As many as a row that is asked over HTTP has; each makes as many calls as `failover` says of any request."""
LONGEST_TRY_WAIT_S = 60.0
PASSING_FAULTS = frozenset({ErrorFault.BUSY, ErrorFault.TIMEOUT, ErrorFault.UNAVAILABLE})
TierAnswer = tuple[dict[str, Any], float]
"""A tier's reply, and the seconds that it took."""


@dataclass(frozen=True)
class RowTries:
    """Asks again what may be answered in a moment. `pause_s`: the first pause; each next one is twice as long."""

    deployment: str
    most: int = ROW_TRIES
    pause_s: float = 1.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, ask: Callable[[], Awaitable[TierAnswer]]) -> TierAnswer:
        """The answer, or the last failure, with every call that was made; a refused row is asked once."""
        made: list[dict[str, Any]] = []
        seconds = 0.0
        for number in range(self.most):
            reply, took = await ask()
            seconds += took
            calls = list(reply.get("attempts") or ())
            wait_s = passing_wait_s(reply)
            if not calls and (number or wait_s is not None):
                calls = [asdict(Attempt(self.deployment, _status(reply), took))]
            made += calls
            if wait_s is None or number + 1 == self.most:
                break
            await self.sleep(min(LONGEST_TRY_WAIT_S, max(wait_s, self.pause_s * 2**number)))
        return (reply | {"attempts": made} if made else reply), seconds


def passing_wait_s(reply: Mapping[str, Any]) -> float | None:
    """For how long an API asks to wait before it is asked again; None: the reply is final."""
    error = reply.get("error")
    if not error or error.get("type") == NO_SCORE:
        return None
    fault = error.get("fault") or (ErrorFault.TIMEOUT if error.get("code") == 504 else ErrorFault.REQUEST)
    return float(error.get("retry_after_s") or 0.0) if fault in PASSING_FAULTS else None


def _status(reply: Mapping[str, Any]) -> int:
    return int(reply["error"].get("code") or 500) if reply.get("error") else 200
