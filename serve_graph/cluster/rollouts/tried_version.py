"""The candidate of a rollout on one ingress replica: what it answers with, its certificate and alarms watched."""

from __future__ import annotations

import asyncio

from serve_graph.cascade.context import CascadeContext
from serve_graph.cluster.service import alarm_watch
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.arms import RolloutArms
from serve_graph.gateway.constraints import routing_context_for
from serve_graph.policy.served_version import ServedRollout
from serve_graph.policy.validity import CertificateStatus
from serve_graph.records.store import DecisionStore


class TriedVersion:
    """A rollout's candidate, watched like the stable version, whose own watch does not know of it."""

    def __init__(
        self, config: GraphConfig, rollout: ServedRollout, context: CascadeContext, store: DecisionStore
    ) -> None:
        policy = rollout.candidate.policy
        self.rollout, self.context = rollout, context
        self.certificate_status = CertificateStatus(policy.validity, policy.name)
        self.alarms = alarm_watch(config, policy, store, self.certificate_status, keeps_note=False)
        self.routing = routing_context_for(config, policy, self.certificate_status)
        self.looks: asyncio.Task[None] | None = None
        self.checks: asyncio.Task[None] | None = None

    def tries(self, rollout: ServedRollout) -> bool:
        """Whether it is the candidate of this rollout, whatever its share."""
        return self.rollout.id == rollout.id and self.rollout.candidate.serves_as(rollout.candidate)

    def arms(self, rollout: ServedRollout) -> RolloutArms:
        """What requests are answered with at the rollout's share."""
        return RolloutArms(rollout, self.context, self.routing)

    async def watch(self) -> None:
        """Know the alarms that stand against it, and watch from now on."""
        await self.alarms.know_before_serving()
        self.looks = asyncio.create_task(self.alarms.run())
        self.checks = asyncio.create_task(self.certificate_status.watch())

    def stop(self) -> None:
        """Watch no longer, after the look at the labels that is under way: it is not cut off."""
        self.alarms.stop()
        if self.checks is not None:
            self.checks.cancel()
