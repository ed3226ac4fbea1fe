"""The version that one ingress replica serves: taken from the controller, its certificate and alarms watched.

Beside it stands the candidate that a rollout tries, if there is one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve_graph.cluster.policy_client import PolicySource
from serve_graph.cluster.rollouts.tried_version import TriedVersion
from serve_graph.cluster.service import alarm_watch, cascade_context
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.constraints import routing_context_for
from serve_graph.gateway.handler import Service
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.validity import CertificateStatus
from serve_graph.records.store import DecisionStore

TOLD_WITHIN_S = 30.0
"""How long a new replica is not ready for want of being told what is served; then the last tier answers."""
logger = logging.getLogger(__name__)
ASK_EVERY_S, ASK_AGAIN_S, ASK_WITHIN_S = 5.0, 1.0, 5.0
"""Between questions of what is served, after one that was not answered, and for the answer: in seconds."""


class ReplicaVersion:
    """Have a service answer by the version that is to be served.

    Parameters
    ----------
    config : GraphConfig
        The graph's configuration.
    begun : ServedVersion
        What is served at first.
    certificate_status : CertificateStatus
        Of that version.
    service : Service
        Answers by it already.
    store : DecisionStore
        Where labels and alarms are.
    engines : dict of HandleEngine
        All tiers, by name.
    policies : PolicySource
        Who decides and judges.
    controller : DeploymentHandle, optional
        Says what is to be served; None: always what is served at first.
    """

    def __init__(
        self,
        config: GraphConfig,
        begun: ServedVersion,
        certificate_status: CertificateStatus,
        service: Service,
        store: DecisionStore,
        engines: dict[str, HandleEngine],
        policies: PolicySource,
        controller: DeploymentHandle[Any] | None,
    ) -> None:
        self.config, self.service, self.store = config, service, store
        self.engines, self.policies, self.controller = engines, policies, controller
        self.version = begun
        self.certificate_status = certificate_status
        self.alarms = alarm_watch(config, begun.policy, store, certificate_status)
        self.tried: TriedVersion | None = None
        self._waits_until = time.monotonic() + TOLD_WITHIN_S
        self._switched = asyncio.Event()
        self._looks: set[asyncio.Task[None]] = set()

    @property
    def policy(self) -> ServedPolicy:
        """What the version answers by."""
        return self.version.policy

    @property
    def tried_policy(self) -> ServedPolicy | None:
        """What the candidate answers by; None where none is tried."""
        rollout = self.version.rollout
        return None if rollout is None else rollout.candidate.policy

    @property
    def is_to_be_told(self) -> bool:
        """Whether it is not known yet what is served, and worth waiting for."""
        return self.controller is not None and self.version.epoch == 0 and time.monotonic() < self._waits_until

    async def take(self, version: ServedVersion) -> bool:
        """Serve another version from now on; False for one that is no newer. Requests under way keep theirs.

        Alarms that stand against it are known before its first request; so are those against what is tried beside it.
        Raises ArtifactError where router and verifier run here and its files are damaged.
        """
        if self.policies.held is not None and version.files is not None and version.epoch > self.version.epoch:
            await self.policies.held.prepare(version.files)
        tried = await self._tried_with(version)
        if version.serves_as(self.version) and version.epoch > self.version.epoch:
            self.version = version
            self._try_beside(tried)
            return True
        status = CertificateStatus(version.policy.validity, version.name)
        alarms = alarm_watch(self.config, version.policy, self.store, status)
        if version.epoch > self.version.epoch:
            await alarms.know_before_serving()
        if version.epoch <= self.version.epoch:
            if tried is not None and tried is not self.tried:
                tried.stop()
            return False
        self.alarms.stop()
        self.version, self.certificate_status, self.alarms = version, status, alarms
        context = cascade_context(self.config, version.policy, self.engines, self.policies)
        self.service.serve(context, routing_context_for(self.config, version.policy, status))
        self._try_beside(tried)
        self._switched.set()
        logger.info("epoch %d: %s is served", version.epoch, version.name)
        return True

    async def _tried_with(self, version: ServedVersion) -> TriedVersion | None:
        """The candidate that is to be tried: the one at hand where only its share changes."""
        rollout = version.rollout
        if rollout is None or version.epoch <= self.version.epoch:
            return None
        if self.tried is not None and self.tried.tries(rollout):
            return self.tried
        context = cascade_context(self.config, rollout.candidate.policy, self.engines, self.policies)
        tried = TriedVersion(self.config, rollout, context, self.store)
        await tried.watch()
        return tried

    def _try_beside(self, tried: TriedVersion | None) -> None:
        """Have the candidate answer its share, or none."""
        rollout = self.version.rollout
        if self.tried is not None and self.tried is not tried:
            self.tried.stop()
        self.tried = tried
        self.service.try_beside(None if tried is None or rollout is None else tried.arms(rollout))

    async def follow(self) -> None:
        """Ask for what is served: at once, and again where a switch was missed; for ever."""
        said = None
        while self.controller is not None:
            current: ServedVersion | None = None
            try:
                current = await asyncio.wait_for(self.controller.current.remote(), ASK_WITHIN_S)
                if current is not None:
                    await self.take(current)
                fault = None
            except Exception as error:  # noqa: BLE001 (whatever Ray raises: what is served stays so)
                fault = f"{type(error).__name__}: {error}"
                if fault != said:
                    logger.warning("what is to be served is not known: %s", fault)
            said = fault
            await asyncio.sleep(ASK_EVERY_S if current is not None else ASK_AGAIN_S)

    async def watch(self) -> None:
        """Watch the certificate of the version that is served and the labels of its answers; for ever."""
        while True:
            self._switched.clear()
            looks = asyncio.create_task(self.alarms.run())  # ends by itself after a switch: a look is not cut off
            self._looks.add(looks)
            looks.add_done_callback(self._looks.discard)
            watch = asyncio.create_task(self.certificate_status.watch())
            try:
                await self._switched.wait()
            except asyncio.CancelledError:
                ended = [look for look in self._looks if look.cancel()]
                await asyncio.gather(*ended, return_exceptions=True)  # they read the store, which is closed next
                raise
            finally:
                watch.cancel()
