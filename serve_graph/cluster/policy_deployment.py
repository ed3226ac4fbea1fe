"""Router and verifier as Ray Serve deployments: each holds router versions and forwards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

from ray.serve.handle import DeploymentHandle

from router_models.errors import ArtifactError, RegistryError
from router_models.types import Action, Completion, Decision, Query, Verdict
from router_models.versions.router_version import RouterVersion
from serve_graph.cluster.load.decided_together import DecidedTogether
from serve_graph.cluster.load.long_work import LongWork
from serve_graph.cluster.replicas.broadcast import let_threads_give_way
from serve_graph.cluster.replicas.replica_logs import log_in_replica
from serve_graph.config.policy import WhenUncovered
from serve_graph.config.records import LoggingConfig
from serve_graph.engines.telemetry.call_context import CallContext, take_over
from serve_graph.errors import PolicyUnavailableError
from serve_graph.policy.catalogue_watch import CatalogueWatch
from serve_graph.policy.held_versions import HeldVersions
from serve_graph.policy.served_version import ServedVersion, VersionFiles
from serve_graph.policy.validity import Clock, utc_now

T = TypeVar("T")
logger = logging.getLogger(__name__)
CATCH_UP_TRIES = 60
QUICK_CHARS = 1_024
"""Characters up to which a text is read on the event loop: one window of the encoder. A thread would cost it more."""
LONG_TO_CHECK = frozenset({"tools", "response_format"})
"""Parameters with a schema, whose check may take long however short the texts are."""
_content = attrgetter("content")


class PolicyDeployment:
    """Loaded router versions, asked by name for decisions or verdicts. One class, two deployments.

    Once a version's certificate has ended it decides on the last tier only; the ingress, which checks too, does not
    ask then. So it does on prompts that lie farther from the training data than was certified, unless `uncovered` is
    `route`.

    What may take long is done in a few threads and given up after `limit_s`: then, and for texts that are too long to
    be read at all, the last tier answers, a cheap answer is escalated, and nothing is promised. Others do not wait.

    Parameters
    ----------
    begun : VersionFiles, optional
        The version that the graph is started with; None: none is served until a switch.
    uncovered : str
        `policy.uncovered`.
    limit_s : float
        Seconds after which long work is given up.
    controller : handle, optional
        Knows the files of versions that this replica was not told to load; None: no others are served.
    logs : LoggingConfig, optional
        How this replica logs; None: as it is.
    catalogue : CatalogueWatch, optional
        The intents that decide before the router; None: none do. Its file is followed where an event loop runs.
    in_thread : bool
        Embed prompts in a thread, as the event loop has other work; else on the loop, which is quicker. Either way
        those that wait at the same time are embedded together.
    """

    def __init__(
        self,
        begun: VersionFiles | None,
        uncovered: WhenUncovered = "last_tier",
        limit_s: float = 1.5,
        controller: DeploymentHandle[Any] | None = None,
        logs: LoggingConfig | None = None,
        catalogue: CatalogueWatch | None = None,
        *,
        in_thread: bool = False,
        clock: Clock = utc_now,
    ) -> None:
        let_threads_give_way()
        log_in_replica(logs)
        find_files = None if controller is None else controller.files.remote
        if catalogue is not None:
            catalogue.look()
        self.held = HeldVersions(
            find_files,
            novel_to_top=uncovered == "last_tier",
            clock=clock,
            catalogue=None if catalogue is None else catalogue.catalogue,
        )
        self.long_work = LongWork(limit_s)
        self.controller = controller
        self._thread = ThreadPoolExecutor(1, "router") if in_thread else None
        self._together = DecidedTogether(self._thread)
        if begun is not None:
            try:
                self.held.add(begun)
            except (
                ArtifactError,
                RegistryError,
            ) as error:  # where versions are followed, another may be served by now
                if controller is None:
                    raise
                logger.warning("%s is not held: %s", begun.name, error)
        if controller is not None:
            self.catching_up = asyncio.create_task(self._catch_up())
        if catalogue is not None and is_running():
            self.following = asyncio.create_task(catalogue.follow(self.held.use))

    async def prepare(self, files: VersionFiles) -> bool:
        """Load a version before it is served."""
        await self.held.load(files)
        return True

    async def _catch_up(self) -> None:
        """Load what is served by now: this replica may be later than the switch to it."""
        for _ in range(CATCH_UP_TRIES):
            try:
                current: ServedVersion | None = await self.controller.current.remote()  # type: ignore[union-attr]
                if current is not None:
                    for files in current.every_files():
                        await self.held.load(files)
                    return
            except Exception as error:  # noqa: BLE001 (whatever Ray raises, or damaged files: requests ask again)
                logger.warning("what is served is not held yet: %s", error)
            await asyncio.sleep(1.0)

    def check_health(self) -> None:
        """Fail where threads are stuck: Ray Serve replaces a replica whose check fails several times on end."""
        if (fault := self.long_work.fault()) is not None:
            raise PolicyUnavailableError(fault)

    async def decide(self, query: Query, version: str, carried: CallContext | None = None) -> Decision:
        take_over(carried)
        held = self.held.loaded.get(version) or await self.held.fetch(version)
        top = held.version.policy.top
        if fault := held.certificate_status.fault():
            return Decision(top, fault)
        size = sum(map(len, map(_content, query.messages)))
        if size <= QUICK_CHARS and not held.version.needs_encoder:
            return held.version.decide(query)
        try:
            if size <= QUICK_CHARS:
                deciding = self._together.decide(held.version, query)
                return await (deciding if self._thread is None else self._in_time(deciding))
            check_size(size, held.most_chars)
            return await self.long_work.run(partial(held.version.decide, query))
        except PolicyUnavailableError as error:
            return Decision(top, f"not routed: {error}: {top}", promised=False, layer="rule")

    async def judge(
        self,
        query: Query,
        completion: Completion,
        decision: Decision,
        version: str,
        carried: CallContext | None = None,
    ) -> Verdict:
        take_over(carried)
        held = self.held.loaded.get(version) or await self.held.fetch(version)
        fault, policy = held.certificate_status.fault(), held.version.policy
        if fault and decision.tier != policy.top:
            return Verdict(Action.ESCALATED, fault)
        size = len(completion.text) + sum(map(len, map(_content, query.messages)))
        is_quick = size <= QUICK_CHARS and LONG_TO_CHECK.isdisjoint(query.parameters)
        if is_quick and (self._thread is None or not judge_embeds(held.version, decision)):
            return held.version.judge(query, completion, decision)
        try:
            if is_quick:
                judging = partial(held.version.judge, query, completion, decision)
                return await self._in_time(asyncio.get_running_loop().run_in_executor(self._thread, judging))
            check_size(size, held.most_chars)
            return await self.long_work.run(partial(held.version.judge, query, completion, decision))
        except PolicyUnavailableError as error:
            if decision.tier == policy.top:
                return policy.judge_unmeasured(decision.tier, str(error))
            return Verdict(Action.ESCALATED, f"not judged: {error}", promised=False)

    async def _in_time(self, work: Awaitable[T]) -> T:
        """What is done in the thread for what embeds a short prompt; PolicyUnavailableError where that is too long."""
        try:
            async with asyncio.timeout(self.long_work.limit_s):
                return await work
        except TimeoutError:
            raise PolicyUnavailableError(f"not done in {self.long_work.limit_s:g} s") from None


def is_running() -> bool:
    """Whether this code runs on an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def judge_embeds(version: RouterVersion, decision: Decision) -> bool:
    """Whether a verdict embeds the prompt itself, as the decision did not: by a forced tier, or by words alone."""
    if decision.embedding is not None:
        return False
    stages = version.stages.get(decision.tier), version.prefix_stages.get(decision.tier)
    return any(stage is not None and stage.verifier.wants_embeddings for stage in stages)


def check_size(size: int, most: int) -> None:
    """Raise PolicyUnavailableError where a text is too long to be read; in characters."""
    if size > most:
        raise PolicyUnavailableError(f"{size} characters are more than are read ({most})")
