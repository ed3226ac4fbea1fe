"""Router and verifier behind Ray Serve handles or in this process; and what stands in where no version serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ray.serve.handle import DeploymentHandle

from router_models.types import Completion, Decision, Query, Verdict
from router_models.versions.policy import Policy
from serve_graph.cascade.interfaces import Decider, Judge
from serve_graph.cluster.policy_deployment import PolicyDeployment
from serve_graph.cluster.replicas.handle_methods import HandleMethods
from serve_graph.engines.telemetry.call_context import carried
from serve_graph.errors import PolicyUnavailableError
from serve_graph.policy.served_version import NONE

T = TypeVar("T")


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
        self.methods = HandleMethods(handle)
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
            async with asyncio.timeout(self.timeout_s):
                return await self.methods.of(method).remote(*args, **carried())
        except TimeoutError:
            self._resting_until = self.clock() + self.rest_s
            raise PolicyUnavailableError(f"{self.what}: no reply in {self.timeout_s:g} s") from None
        except Exception as error:
            raise PolicyUnavailableError(f"{self.what}: {type(error).__name__}") from error


def without_messages(query: Query) -> Query:
    """Return the query without the messages in an engine's form, photos included: policies read its text."""
    kept = {name: value for name, value in query.parameters.items() if name != "messages"}
    return replace(query, parameters=kept)


class LocalPolicy:
    """Decider and Judge by one version that is held in this process."""

    def __init__(self, held: PolicyDeployment, version: str, timeout_s: float) -> None:
        self.held = held
        self.version = version
        self.timeout_s = timeout_s

    async def decide(self, query: Query) -> Decision:
        return await self._guarded("router", self.held.decide(query, self.version))

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        return await self._guarded("verifier", self.held.judge(query, completion, decision, self.version))

    async def _guarded(self, what: str, work: Coroutine[Any, Any, T]) -> T:
        try:
            if self.version in self.held.held.loaded:  # what may be long then has a limit of its own
                return await work
            async with asyncio.timeout(self.timeout_s):
                return await work
        except PolicyUnavailableError:
            raise
        except TimeoutError:
            raise PolicyUnavailableError(f"{what}: no reply in {self.timeout_s:g} s") from None
        except Exception as error:
            raise PolicyUnavailableError(f"{what}: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class PolicySource:
    """Where router and verifier of any version are to be had: behind handles, in this process, or nowhere."""

    router: DeploymentHandle[Any] | None = None
    verifier: DeploymentHandle[Any] | None = None
    held: PolicyDeployment | None = None

    def of(self, policy: Policy, version: str, timeout_s: float) -> tuple[Decider, Judge]:
        """Decider and Judge by a version; the last tier for everything where there is none."""
        if self.held is not None and version != NONE:
            local = LocalPolicy(self.held, version, timeout_s)
            return local, local
        top = AlwaysTop(policy)
        if version == NONE:
            return top, top
        router, verifier = self.router, self.verifier
        return (
            HandlePolicy(router, "router", version, timeout_s) if router else top,
            HandlePolicy(verifier, "verifier", version, timeout_s) if verifier else top,
        )


class AlwaysTop:
    """Decider and Judge of a graph without a certified version: the last tier, accepted as it is."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    async def decide(self, query: Query) -> Decision:
        return Decision(self.policy.top, "no certified router version: always the last tier", layer="rule")

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        return self.policy.judge(decision.tier, 1.0)
