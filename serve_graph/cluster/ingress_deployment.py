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
from serve_graph.access.keys import Keyring
from serve_graph.access.sessions import ConsoleSessions
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.http import Backend, build_http
from serve_graph.cascade.certificate import ANSWERS
from serve_graph.cluster.batches.serving import served_batches
from serve_graph.cluster.load.expected_calls import ExpectedLoad
from serve_graph.cluster.load.long_work import side_by_side
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
from serve_graph.cluster.rollouts.rollout_metrics import RolloutMetrics
from serve_graph.cluster.rollouts.tried_version import TriedVersion
from serve_graph.cluster.service import (
    alarm_watch,
    build_service,
    cascade_context,
    live_ensemble,
    live_judge,
    unlabelled_watches,
)
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.gateway.constraints import routing_context_for
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

TOLD_WITHIN_S = 30.0
"""How long a new replica is not ready for want of being told what is served; then the last tier answers."""
logger = logging.getLogger(__name__)
ASK_EVERY_S, ASK_AGAIN_S, ASK_WITHIN_S = 5.0, 1.0, 5.0
"""Between questions of what is served, after one that was not answered, and for the answer: in seconds."""


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
        self.version = begun
        self._waits_until = time.monotonic() + TOLD_WITHIN_S
        self._switched = asyncio.Event()
        self._looks: set[asyncio.Task[None]] = set()
        self.tried: TriedVersion | None = None
        self.certificate_status = CertificateStatus(begun.policy.validity, begun.name)
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
            self.certificate_status,
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
        self.alarms = alarm_watch(config, begun.policy, self.store, self.certificate_status)
        unlabelled = unlabelled_watches(
            config, engines, self.store, lambda: self.served, self.service, self._tried_policy
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
            lambda: self.served,
            self.readiness,
            self.maintenance.audit,
            self.feedback,
            self.config.records.keeps_answers,
            self.config.feedback.label_share,
            self.graph_metrics.engine_counters,
            lambda: self.alarms.values(),
            lambda: None if self.version.files is None else self.version.files.on_this_node(),
        )

    @property
    def served(self) -> ServedPolicy:
        return self.version.policy

    def _tried_policy(self) -> ServedPolicy | None:
        rollout = self.version.rollout
        return None if rollout is None else rollout.candidate.policy

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
            await side_by_side(self.sink.run(), self.maintenance.run(), self._watch(), self._follow(), *beside)
        finally:
            await self.sink.drain_last()  # the node, and its spool with it, may go with this replica
            if self.tracer is not None:
                await asyncio.to_thread(self.tracer.close)

    async def labelled(self) -> None:
        """Let a label act before its reply leaves."""
        written, sink = self.sink.written, self.sink
        await self.alarms.look_once(lambda: sink.delivered >= written)

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
        return self.version.epoch

    async def comparing(self, rollout_id: str) -> dict[str, Any]:
        """What became of a rollout's requests that were offered to be compared here."""
        return await self.comparer.told(rollout_id)

    async def _follow(self) -> None:
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

    async def _watch(self) -> None:
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

    async def readiness(self) -> dict[str, Any]:
        """Ready means: the safe tier, which every failure falls back on, answers or, once it has, any other tier.

        A replica that follows the registry is not ready before it is told what is served, or has waited for that.
        """
        tiers, alarms = self.tiers_ready, self.alarms.facts()
        told = self.version, self.certificate_status, self.tier_names, self.safe_tier, await tiers.tiers()
        report = readiness_report(*told, tiers.faults, alarms, seen=tiers.seen)
        covers = {} if self.served.coverage is None else {"coverage": self.service.metrics.coverage()}
        waits = self.controller is not None and self.version.epoch == 0 and time.monotonic() < self._waits_until
        tickets = {"tickets": self.tickets.facts()} if self.tickets.open else {}
        covers |= {} if self.catalogue is None else {"catalogue": self.catalogue.facts()}
        return report | covers | tickets | ({"ready": False} if waits else {})

    def _families(self) -> list[Metric]:
        watches = (self.comparer, self.judge, self.golden, self.both)
        beside: list[Collector] = [one.metrics for one in watches if one is not None]
        beside += [] if self.catalogue is None else [CatalogueMetrics(self.catalogue.fault is None)]
        beside += [] if self.batches is None else [self.batches.worker.metrics]
        refused = {ANSWERS: 0.0} if self.version.refused else {}
        return metric_families(
            self.service.metrics,
            self.sink.pending,
            {name: engine.gate.counters() for name, engine in self.engines.items()},
            self.accounts.watch.caps,
            held=self.sink.held,
            lost=self.sink.lost,
            certificates=self.certificate_status.left_s() if self.served.certified else refused,
            alarms=self.alarms.values() if self.served.watched else {},
            revoked=self.certificate_status.revoked is not None,
            waiting_s=self.sink.waiting_s,
            others=(self.tickets, RolloutMetrics(self.version.rollout), self.budgets, *beside),
        )
