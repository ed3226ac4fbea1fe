"""This replica, and all of a deployment: what a process knows of itself, and how every one is called."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any, Protocol

from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

logger = logging.getLogger(__name__)
GIVES_WAY_AFTER_S = 0.0005
"""When a thread with long work gives way to the event loop: Python's 5 ms are waited for at every await."""


def in_replica() -> bool:
    """Whether this process is a replica of Ray Serve."""
    try:
        serve.get_replica_context()
    except RayServeException:
        return False
    return True


def let_threads_give_way() -> None:
    """Have this replica's threads give way to its event loop soon; nothing where this process is no replica."""
    if in_replica():
        sys.setswitchinterval(GIVES_WAY_AFTER_S)


def running_replicas() -> dict[str, int]:
    """How many replicas each deployment of this replica's application has that run; asks Ray Serve, and waits for it.

    Raises RayServeException, or RayError, where Ray Serve cannot be asked.
    """
    application = serve.status().applications.get(serve.get_replica_context().app_name)
    deployments = {} if application is None else application.deployments
    return {name: found.replica_states.get("RUNNING", 0) for name, found in deployments.items()}


class Replicas(Protocol):
    """All replicas of one deployment."""

    async def all(self, method: str, argument: object, within_s: float) -> list[Any]:
        """Call a method of each; returns the replies: what it returned, or the exception that it raised itself.

        Replicas that did not answer, because they are not there, were killed or took too long, are left out.
        """


class ApplicationReplicas:
    """The replicas of a deployment of this replica's own application, found by its name when they are first needed."""

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self._handle: DeploymentHandle[Any] | None = None

    async def all(self, method: str, argument: object, within_s: float) -> list[Any]:
        """Call a method of each, as `Replicas.all` says."""
        until = time.monotonic() + within_s
        try:
            if self._handle is None:
                self._handle = serve.get_deployment_handle(self.deployment, serve.get_replica_context().app_name)
            # `results_async` has nothing of the others where one of them is late
            asked = self._handle.broadcast(method, argument)._fetch_replica_results_async()
            calls = await asyncio.wait_for(asked, within_s)
            replies = [asyncio.ensure_future(call.get_async()) for call in calls]
            late = (await asyncio.wait(replies, timeout=max(0.0, until - time.monotonic())))[1] if replies else ()
        except DeploymentUnavailableError:
            logger.debug("%s: `%s` was heard by none, as it has no replica", self.deployment, method)
            return []
        except Exception as error:  # noqa: BLE001 (whatever Ray raises: replicas that were missed ask by themselves)
            logger.warning("%s: `%s` was not heard by all: %s", self.deployment, method, type(error).__name__)
            return []
        for reply in late:
            reply.cancel()
        if late:
            logger.warning("%s: `%s` was not answered in time by %d replica(s)", self.deployment, method, len(late))
        told = await asyncio.gather(*(reply for reply in replies if reply not in late), return_exceptions=True)
        for fault in told:
            if isinstance(fault, BaseException):
                logger.warning("%s: `%s` failed on a replica: %s", self.deployment, method, fault)
        return [reply for reply in told if not _is_outage(reply)]


def _is_outage(reply: object) -> bool:
    """Whether a replica did not answer; what the method itself has raised is an answer, a Ray error around it too."""
    if isinstance(reply, TimeoutError | ConnectionError | asyncio.CancelledError | RayServeException):
        return True
    return isinstance(reply, RayError) and not isinstance(reply, RayTaskError)
