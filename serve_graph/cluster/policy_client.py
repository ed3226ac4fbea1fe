"""Router and verifier behind their Ray Serve handles; and what stands in for them where no version serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ray.serve.handle import DeploymentHandle

from router_models.types import Completion, Decision, Query, Verdict
from router_models.versions.policy import Policy
from serve_graph.errors import PolicyUnavailableError


class HandlePolicy:
    """Router and verifier handles as Decider and Judge by one version, with a deadline and a short memory of failures.

    After a time-out, calls fail at once for `rest_s`, so that one dead replica does not add its time-out to every
    request until Ray has replaced it. Other failures are quick, and may be one query's own: they do not count.
    """

    def __init__(
        self,
        handle: DeploymentHandle[Any],
        what: str,
        version: str,
        timeout_s: float,
        rest_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handle = handle
        self.what = what
        self.version = version
        self.timeout_s = timeout_s
        self.rest_s = rest_s
        self.clock = clock
        self._resting_until = float("-inf")

    def apart(self) -> HandlePolicy:
        """The same with a memory of failures of its own: what fails off their path is no matter of requests."""
        return HandlePolicy(self.handle, self.what, self.version, self.timeout_s, self.rest_s, self.clock)

    async def decide(self, query: Query) -> Decision:
        decision: Decision = await self._guarded("decide", without_messages(query), self.version)
        return decision

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        verdict: Verdict = await self._guarded("judge", without_messages(query), completion, decision, self.version)
        return verdict

    async def _guarded(self, method: str, *args: Any) -> Any:
        if self.clock() < self._resting_until:
            raise PolicyUnavailableError(f"{self.what} did not reply a moment ago")
        try:
            return await asyncio.wait_for(getattr(self.handle, method).remote(*args), self.timeout_s)
        except TimeoutError:
            self._resting_until = self.clock() + self.rest_s
            raise PolicyUnavailableError(f"{self.what}: no reply in {self.timeout_s:g} s") from None
        except Exception as error:
            raise PolicyUnavailableError(f"{self.what}: {type(error).__name__}") from error


def without_messages(query: Query) -> Query:
    """Return the query without the messages in an engine's form, photos included: policies read its text."""
    kept = {name: value for name, value in query.parameters.items() if name != "messages"}
    return replace(query, parameters=kept)


class AlwaysTop:
    """Decider and Judge of a graph without a certified version: the last tier, accepted as it is."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    async def decide(self, query: Query) -> Decision:
        return Decision(self.policy.top, "no certified router version: always the last tier")

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        return self.policy.judge(decision.tier, 1.0)
