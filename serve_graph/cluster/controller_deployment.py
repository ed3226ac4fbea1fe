"""The rollout controller as a Ray Serve deployment: follows the registry, and switches versions while the graph runs.

A switch: every router and verifier replica loads the version, the store's row is written, every ingress replica takes
it. What a request began with it ends with; replicas that come later, or were missed, ask for what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from serve_graph.cluster.replicas.broadcast import ApplicationReplicas, Replicas
from serve_graph.cluster.replicas.replica_logs import log_in_replica
from serve_graph.cluster.rollouts.driver import RolloutDriver
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import PolicyUnavailableError, StoreUnavailableError
from serve_graph.policy.follower import RegistryFollower
from serve_graph.policy.served_version import ServedVersion, VersionFiles
from serve_graph.records.comparisons import ComparisonsTable
from serve_graph.records.served_versions import ServedRow, read_served, write_served
from serve_graph.records.store import DecisionStore

logger = logging.getLogger(__name__)
LOAD_WITHIN_S = 60.0
TAKE_WITHIN_S = 10.0
EPOCH_WITHIN_S = 2.0
FILES_KNOWN = 8
POLICIES = ("router", "verifier")


class ControllerDeployment:
    """Decides which version is served, alone: the store's row says when another process has decided meanwhile.

    Parameters
    ----------
    config : GraphConfig
        What to follow, and how often.
    begun : ServedVersion
        What the graph was started with.
    start : str
        Names this start of the graph; a controller that is restarted resumes what its start had switched to.
    replicas : mapping of deployment to Replicas, optional
        Those of `router`, `verifier` and `ingress`; None: of the application that this deployment belongs to.
    """

    def __init__(
        self,
        config: GraphConfig,
        begun: ServedVersion,
        start: str,
        replicas: Mapping[str, Replicas] | None = None,
    ) -> None:
        log_in_replica(config.logging)
        self.config = config
        self.start = start
        self.model = config.policy.model_name
        self.store = DecisionStore(config.records_url)
        self.follower = RegistryFollower(config)
        self.rollouts = RolloutDriver(config, self.store, ComparisonsTable(self.store).pairs, self._tallies)
        self.replicas = replicas or {name: ApplicationReplicas(name) for name in (*POLICIES, "ingress")}
        self.policies = POLICIES if config.policy.placement == "replicas" else ("ingress",)
        self.served = begun
        self.row: ServedRow | None = None
        self._files: OrderedDict[str, VersionFiles] = OrderedDict()
        self._note_files(begun)
        self._is_known = False
        self._acting = asyncio.Lock()
        self._changed = asyncio.Event()
        self.following = asyncio.create_task(self._follow())

    async def current(self) -> ServedVersion | None:
        """What is served; None while it is not known yet, after a start."""
        return self.served if self._is_known else None

    async def files(self, name: str) -> VersionFiles | None:
        """Where a version's files are that was announced lately; None: it was not."""
        return self._files.get(name)

    async def changed(self) -> None:
        """Look at the registry at once, as something changed there."""
        self._changed.set()

    async def look(self) -> bool:
        """Compare registry and graph once, and switch where they differ; returns whether it did.

        Raises RegistryError, StoreUnavailableError or PolicyUnavailableError where that is not possible now: what is
        served stays so.
        """
        async with self._acting:
            dropped = self.row is None and await self._resume()
            found = await asyncio.to_thread(self.follower.look, self.served)
            if found is not None:
                rollout = self.served.rollout if found.name == self.served.name else None
                try:
                    await self._switch(replace(found, epoch=self.served.epoch + 1, rollout=rollout))
                except BaseException:
                    self.follower.forget()
                    raise
            self._is_known = True  # whatever becomes of the rollout: late replicas ask for what is served
            changed = await self._try_beside()
            return dropped or found is not None or changed

    async def _follow(self) -> None:
        said = None
        while True:
            self._changed.clear()
            try:
                await self.look()
                said = None
            except Exception as error:  # noqa: BLE001 (whatever it is, the next look may find it gone)
                fault = f"{type(error).__name__}: {error}"
                if fault != said:
                    logger.warning("%s stays served: %s", self.served.name, fault)
                said = fault
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self.config.policy.follow_s or 2.0)

    async def _resume(self) -> bool:
        """Begin where this start of the graph was, or, at a new start, with what it was started with.

        Returns whether what had been served was dropped, because it may not be served any more.
        """
        row, latest = await read_served(self.store, self.model), 0
        if row is None or row.start == self.start:  # it may be lost, or a backup's, while replicas have served later
            told = await self.replicas["ingress"].all("epoch", None, EPOCH_WITHIN_S)
            latest = max((reply for reply in told if isinstance(reply, int)), default=0)
        if row is not None and row.start == self.start and row.epoch >= latest:
            served = replace(self.served, epoch=row.epoch)
            if row.version != served.name:
                found = await asyncio.to_thread(self.follower.resolve, row.version)
                served = ServedVersion.of(found, self.config, row.epoch)
                if served.name != row.version:
                    self.row = row
                    await self._switch(replace(served, epoch=row.epoch + 1))
                    return True
        else:
            served = replace(self.served, epoch=max(0 if row is None else row.epoch, self.served.epoch, latest) + 1)
            row = await self._write(served, row)
            self._is_known = True  # it was looked up a moment ago, for this start
        self.served, self.row = served, row
        self._note_files(served)
        return False

    async def _try_beside(self) -> bool:
        """Move the rollout by its rules, and tell every replica what is tried now; returns whether that changed."""
        wanted, now = await self.rollouts.look(self.served), self.served.rollout
        if wanted is not None and (now is None or wanted.id != now.id or not wanted.tries_as(now)):
            if self.served.files is not None:
                await self._load(self.served.files)  # held already: of those held, the one announced first goes
            files = wanted.candidate.files
            reason = None if files is None else await self._load(files)
            if reason is not None:
                await self.rollouts.not_loadable(wanted.id, reason)
                wanted = None
        if wanted is now or (wanted is not None and wanted.tries_as(now)):
            return False
        await self._switch(replace(self.served, epoch=self.served.epoch + 1, rollout=wanted))
        return True

    async def _tallies(self, rollout_id: str) -> list[Mapping[str, Any]]:
        """What ingress replicas say became of the requests that were offered to be compared."""
        told = await self.replicas["ingress"].all("comparing", rollout_id, EPOCH_WITHIN_S)
        return [reply for reply in told if isinstance(reply, Mapping)]

    async def _load(self, files: VersionFiles) -> str | None:
        """Have every replica that decides or judges load a version; why it cannot be used, or None.

        Raises PolicyUnavailableError where no replica of one of them says: that they are away says nothing of it.
        """
        calls = [self.replicas[name].all("prepare", files, LOAD_WITHIN_S) for name in self.policies]
        told = dict(zip(self.policies, await asyncio.gather(*calls), strict=True))
        for name, replies in told.items():
            if replies and True not in replies:
                return f"{files.name} could not be loaded by any replica of {name}; see its log"
        if away := [name for name, replies in told.items() if not replies]:
            raise PolicyUnavailableError(
                f"no replica of {' and '.join(away)} has said whether it can load {files.name}"
            )
        return None

    async def _switch(self, served: ServedVersion) -> None:
        self._note_files(served)
        is_held = served.files is None or served.serves_as(self.served)
        if served.files is not None and not is_held and (reason := await self._load(served.files)) is not None:
            self.follower.refuse(served.name, reason)
            raise PolicyUnavailableError(reason)
        self.row = await self._write(served, self.row)
        before, self.served = self.served, served
        taken = sum(reply is True for reply in await self.replicas["ingress"].all("take", served, TAKE_WITHIN_S))
        why = f" ({served.note})" if served.note else ""
        if served.serves_as(before):
            tried = served.rollout
            share = "nothing" if tried is None else f"{tried.candidate.name} at {100 * tried.weight:g} %"
            logger.warning("epoch %d: %s is tried, by %d ingress replica(s)", served.epoch, share, taken)
            return
        logger.warning(
            "epoch %d: %s is served instead of %s, by %d ingress replica(s)%s: %s",
            served.epoch, served.name, before.name, taken, why, served.policy.promise,
        )  # fmt: skip

    async def _write(self, served: ServedVersion, before: ServedRow | None) -> ServedRow:
        """Note the switch; raises StoreUnavailableError where another graph or controller has noted one meanwhile."""
        reason = served.note or served.policy.promise
        if (tried := served.rollout) is not None:
            reason += f"; {tried.kind} of {tried.candidate.name} at {100 * tried.weight:g} %"
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = ServedRow(self.model, served.epoch, served.name, self.start, reason, moment)
        if not await write_served(self.store, row, before):
            self.row = None  # read it again
            raise StoreUnavailableError(f"another controller has switched {self.model} meanwhile")
        return row

    def _note_files(self, served: ServedVersion) -> None:
        for files in served.every_files():
            self._files[files.name] = files
            self._files.move_to_end(files.name)
        while len(self._files) > FILES_KNOWN:
            self._files.popitem(last=False)
