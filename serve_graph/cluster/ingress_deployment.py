"""The ingress as a Ray Serve deployment: builds a Service over the tiers' handles and forwards to it.

Classes of deployments stay plain (`serve.deployment(name=…)(Class)` in `app`), so they are typed and can be built in
a test without a cluster. No decision is made in any of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from fastapi import FastAPI
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from ray.serve.handle import DeploymentHandle

from serve_graph.access.accounts import AccountingSink, Accounts
from serve_graph.access.console.sessions import ConsoleSessions
from serve_graph.access.keys import Keyring
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.http import Backend, build_http
from serve_graph.cascade.certificate import ANSWERS
from serve_graph.cluster.batches.serving import served_batches
from serve_graph.cluster.load.expected_calls import ExpectedLoad
from serve_graph.cluster.load.long_work import side_by_side
from serve_graph.cluster.load.new_connections import accept_in_bursts
from serve_graph.cluster.load.sleep_watch import SleepWatch
from serve_graph.cluster.policy_client import PolicySource
from serve_graph.cluster.policy_deployment import PolicyDeployment
from serve_graph.cluster.readiness import TierReadiness, readiness_report
from serve_graph.cluster.replicas.broadcast import in_replica, let_threads_give_way
from serve_graph.cluster.replicas.budget_metrics import BudgetMetrics
from serve_graph.cluster.replicas.graph_metrics import graph_metrics, siblings_of
from serve_graph.cluster.replicas.in_process import TierHandle, tiers_called_here
from serve_graph.cluster.replicas.lease_store import shared_leases
from serve_graph.cluster.replicas.news import SiblingNews
from serve_graph.cluster.replicas.replica_logs import log_in_replica, tracer_of
from serve_graph.cluster.replicas.sibling_calls import SiblingCalls
from serve_graph.cluster.rollouts.live_comparer import live_comparer
from serve_graph.cluster.rollouts.replica_version import ASK_WITHIN_S, ReplicaVersion
from serve_graph.cluster.rollouts.rollout_metrics import RolloutMetrics
from serve_graph.cluster.service import (
    build_service,
    cascade_context,
    live_ensemble,
    live_judge,
    unlabelled_watches,
)
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.learning.feedback import FeedbackIntake
from serve_graph.policy.catalogue_watch import CatalogueMetrics, CatalogueWatch
from serve_graph.policy.registry_events import RegistryEvents
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.served_version import NONE, ServedVersion, VersionFiles
from serve_graph.policy.validity import CertificateStatus
from serve_graph.records.feedback import FeedbackTable
from serve_graph.records.maintenance import Maintenance, prompt_keeper
from serve_graph.records.metrics import metric_families
from serve_graph.records.spool.private_files import private_folder
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore

logger = logging.getLogger(__name__)


class IngressDeployment(SiblingCalls):
    """The HTTP face: one Service over the tiers' handles. Ray Serve asks for the ASGI app after construction."""

    def __init__(
        self,
        config: GraphConfig,
        begun: ServedVersion,
        tiers: dict[str, DeploymentHandle[Any]],
        router: DeploymentHandle[Any] | None,
        verifier: DeploymentHandle[Any] | None,
        affinity_secret: bytes,
        keys_required: bool = False,
        controller: DeploymentHandle[Any] | None = None,
        catalogue: CatalogueWatch | None = None,
    ) -> None:
        let_threads_give_way()
        accept_in_bursts()
        log_in_replica(config.logging)
        self.config = config
        self.controller = controller
        self.catalogue = CatalogueWatch.of(config) if catalogue is None else catalogue
        self.policies = PolicySource(router, verifier)
        if config.policy.placement == "ingress" and (begun.files is not None or controller is not None):
            policy = config.policy
            held = PolicyDeployment(
                begun.files, policy.uncovered, policy.give_up_s, controller, in_thread=True, catalogue=self.catalogue
            )
            self.policies = PolicySource(held=held)
        self.called_here = tiers_called_here(config)
        handles: dict[str, TierHandle] = {**tiers, **self.called_here}
        engines = {name: HandleEngine(handle, config.tier(name)) for name, handle in handles.items()}
        self.engines = engines
        self.tier_names = config.tier_names
        self.safe_tier = config.policy.safe_tier
        self.tiers_ready = TierReadiness(handles, engines)
        private_folder(config.state_folder.resolve())
        self.store = DecisionStore(config.records_url)
        self.sink = SpooledSink(self.store, config.state_folder.resolve() / "spool", config.records.retry_s)
        self.keyring = Keyring(config.access.keys, config.keys_file, required=keys_required)
        self.is_open = config.access.open
        self.accounts = Accounts(config.access.watch, leases=shared_leases(config, self.store))
        if controller is not None:  # a replica may be later than switches from what the graph was started with
            begun = ServedVersion(
                0, ServedPolicy.of(None, NONE, "it is not known yet which version is served", config)
            )
        certificate_status = CertificateStatus(begun.policy.validity, begun.name)
        self.budgets = BudgetMetrics(self.accounts.spending, lambda: self.keyring.keys)
        self.judge = live_judge(config, engines, self.sink.write)
        self.comparer = live_comparer(config, engines, self.sink.write, self.judge)
        self.tracer = tracer_of(config)
        self.sleep = SleepWatch(handles, config)
        self.both = live_ensemble(config)
        self.load = ExpectedLoad(AccountingSink(self.sink, self.accounts, self.keyring.named), engines)
        self.service = build_service(
            config,
            begun.policy,
            cascade_context(config, begun.policy, engines, self.policies),
            certificate_status,
            self.load,
            affinity_secret,
            self.accounts,
            self.judge,
            self.comparer,
            self.tracer,
            self.sleep.asleep,
            self.both,
        )
        self.maintenance = Maintenance(self.store, self.sink, self.keyring, self.accounts.spending, config)
        self.serving = ReplicaVersion(
            config, begun, certificate_status, self.service, self.store, engines, self.policies, controller
        )
        unlabelled = unlabelled_watches(
            config, engines, self.store, lambda: self.serving.policy, self.service, lambda: self.serving.tried_policy
        )
        self.tickets, self.golden = unlabelled
        self.feedback = FeedbackIntake(
            self.store.get,
            self.sink.write,
            prompt_keeper(config.records),
            self.service.metrics.add_feedback,
            labelled=self.labelled,
            said=FeedbackTable(self.store).of,
        )
        self.http, self.unknown_fields = config.http, config.policy.unknown_fields
        siblings = siblings_of(config)
        self.graph_metrics = graph_metrics(config, self._families, handles, siblings)
        self.news = SiblingNews(
            siblings, self.accounts.watch, lambda: self.service.routing.sessions, time.monotonic, self.accounts.traffic
        )
        self.batches = served_batches(config, self.store, self.service, self.accounts, self.keyring)
        self.sessions = ConsoleSessions(affinity_secret, self.keyring)

    def __serve_build_asgi_app__(self) -> FastAPI:
        http, service = self.http, self.service
        return build_http(
            Backend(
                service,
                self.store.get,
                self.readiness,
                self.graph_metrics.page,
                self.background,
                http.max_body_bytes,
                http.keep_alive_s,
                http.start_before_commit,
                keyring=self.keyring,
                accounts=self.accounts,
                is_open=self.is_open,
                unknown_fields=self.unknown_fields,
                names_requests=not in_replica(),
                cors=http.cors,
                body_timeout_s=http.body_timeout_s,
                feedback=self.feedback,
                audit=self.maintenance.audit,
                console=self._console() if http.console else None,
                batches=None if self.batches is None else self.batches.parts,
                registry_events=self._registry_events(),
            )
        )

    def _registry_events(self) -> RegistryEvents | None:
        """What takes the registry's events, where there is somebody to tell and a secret that they are signed with."""
        secret, controller = self.config.policy.registry_webhook_secret, self.controller
        if secret is None or controller is None:
            return None

        async def changed() -> None:
            try:
                await asyncio.wait_for(controller.changed.remote(), ASK_WITHIN_S)
            except Exception as error:  # noqa: BLE001 (whatever Ray raises: it looks by itself before long)
                logger.warning("the controller was not told of a change in the registry: %s", type(error).__name__)

        return RegistryEvents(secret.get_secret_value(), changed)

    def _console(self) -> ConsoleParts:
        return ConsoleParts(
            self.sessions,
            self.accounts.refusals,
            self.store,
            self.service,
            lambda: self.serving.policy,
            self.readiness,
            self.maintenance.audit,
            self.feedback,
            self.config.records.keeps_answers,
            self.config.feedback.label_share,
            self.graph_metrics.engine_counters,
            lambda: self.serving.alarms.values(),
            lambda: None if (files := self.serving.version.files) is None else files.on_this_node(),
        )

    async def background(self) -> None:
        watches = (self.comparer, self.tickets, self.judge, self.golden)
        beside = [one.run() for one in watches if one is not None]
        beside += [self.graph_metrics.keep_told(), self.news.run(), self.sleep.run()]
        if self.batches is not None:
            beside.append(self.batches.worker.run())
        if self.catalogue is not None and self.policies.held is None:  # else router and verifier, which run here, do
            beside.append(self.catalogue.follow())
        if self.accounts.leases is not None:
            beside.append(self.accounts.leases.run())
        try:
            await side_by_side(
                self.sink.run(), self.maintenance.run(), self.serving.watch(), self.serving.follow(), *beside
            )
        finally:
            await self.sink.drain_last()  # the node, and its spool with it, may go with this replica
            if self.tracer is not None:
                await asyncio.to_thread(self.tracer.close)

    async def labelled(self) -> None:
        """Let a label act before its reply leaves."""
        written, sink = self.sink.written, self.sink
        await self.serving.alarms.look_once(lambda: sink.delivered >= written)

    async def take(self, version: ServedVersion) -> bool:
        """Serve another version from now on; False for one that is no newer. Requests under way keep theirs."""
        return await self.serving.take(version)

    async def prepare(self, files: VersionFiles) -> bool:
        """Load a version before it is served, where router and verifier run here."""
        return self.policies.held is None or await self.policies.held.prepare(files)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Say how many calls of each tier are to come; Ray Serve asks, and passes it to the deployment's policy."""
        return self.load.stats()

    def check_health(self) -> None:
        """Fail where threads of router and verifier are stuck here."""
        if self.policies.held is not None:
            self.policies.held.check_health()

    async def epoch(self, _: None = None) -> int:
        """The epoch of what is served here."""
        return self.serving.version.epoch

    async def comparing(self, rollout_id: str) -> dict[str, Any]:
        """What became of a rollout's requests that were offered to be compared here."""
        return await self.comparer.told(rollout_id)

    async def readiness(self) -> dict[str, Any]:
        """Ready means: the safe tier, which every failure falls back on, answers or, once it has, any other tier.

        A replica that follows the registry is not ready before it is told what is served, or has waited for that.
        """
        tiers, serving = self.tiers_ready, self.serving
        alarms = serving.alarms.facts()
        told = serving.version, serving.certificate_status, self.tier_names, self.safe_tier, await tiers.tiers()
        report = readiness_report(*told, tiers.faults, alarms, seen=tiers.seen)
        covers = {} if serving.policy.coverage is None else {"coverage": self.service.metrics.coverage()}
        tickets = {"tickets": self.tickets.facts()} if self.tickets.open else {}
        covers |= {} if self.catalogue is None else {"catalogue": self.catalogue.facts()}
        return report | covers | tickets | ({"ready": False} if serving.is_to_be_told else {})

    def _families(self) -> list[Metric]:
        watches = (self.comparer, self.judge, self.golden, self.both)
        beside: list[Collector] = [one.metrics for one in watches if one is not None]
        beside += [] if self.catalogue is None else [CatalogueMetrics(self.catalogue.fault is None)]
        beside += [] if self.batches is None else [self.batches.worker.metrics]
        serving = self.serving
        refused = {ANSWERS: 0.0} if serving.version.refused else {}
        return metric_families(
            self.service.metrics,
            self.sink.pending,
            {name: engine.gate.counters() for name, engine in self.engines.items()},
            self.accounts.watch.caps,
            held=self.sink.held,
            lost=self.sink.lost,
            certificates=serving.certificate_status.left_s() if serving.policy.certified else refused,
            alarms=serving.alarms.values() if serving.policy.watched else {},
            revoked=serving.certificate_status.revoked is not None,
            waiting_s=self.sink.waiting_s,
            others=(self.tickets, RolloutMetrics(serving.version.rollout), self.budgets, *beside),
        )
