"""A graph as its configuration says, in this process and without Ray: hosted tiers, the served version, HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from router_models.types import DecisionRecord
from serve_graph.api.http import Backend, build_http
from serve_graph.cascade.fakes import ListSink
from serve_graph.cluster.hosted_deployment import HostedDeployment
from serve_graph.cluster.policy_client import PolicySource
from serve_graph.cluster.policy_deployment import PolicyDeployment
from serve_graph.cluster.service import build_service, cascade_context
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.policy.bindings import binds_digest
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import serving_version
from serve_graph.policy.validity import CertificateStatus
from tests.fixtures.local_graph import LocalHandle


class ConfiguredGraph:
    """The HTTP application of a graph of hosted tiers, with the version that its registry names; no file is kept."""

    def __init__(self, config: GraphConfig) -> None:
        self.config = config
        self.version = ServedVersion.of(serving_version(config), config)
        self.hosted = {
            tier.name: HostedDeployment(tier) for tier in config.tiers if isinstance(tier, HostedTierConfig)
        }
        engines = {name: HandleEngine(LocalHandle(one), config.tier(name)) for name, one in self.hosted.items()}  # type: ignore[arg-type]
        files, policy = self.version.files, self.version.policy
        held = None if files is None else PolicyDeployment(files, config.policy.uncovered)
        context = cascade_context(config, policy, engines, PolicySource(held=held))
        self.sink = ListSink()
        status = CertificateStatus(policy.validity, self.version.name)
        self.service = build_service(config, policy, context, status, self.sink, b"0" * 32)
        self.app = build_http(
            Backend(self.service, self._find, self._readiness, self._metrics, self._until_shutdown, 1 << 24)
        )

    async def _find(self, decision: str) -> DecisionRecord | None:
        return next((record for record in self.sink.records if record.id == decision), None)

    async def _readiness(self) -> dict[str, Any]:
        told = {"version": self.version.name, "promise": self.version.policy.promise}
        return {"ready": True, "binds": binds_digest(self.config), **told}

    async def _metrics(self) -> str:
        return ""

    async def _until_shutdown(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for one in self.hosted.values():
                await one.engine.close()
