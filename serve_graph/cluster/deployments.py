"""Ray Serve's side: thin deployment classes, and handles that look like the cascade's seams.

No decision is made here. Classes stay plain (`serve.deployment(name=…)(Class)` in `app`), so they are typed and can
be built in a test without a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray.serve.handle import DeploymentHandle

from router_models.types import Action, Completion, Decision, Query, Verdict
from router_models.versions.policy import Policy, always
from router_models.versions.router_version import RouterVersion
from serve_graph.access.accounts import AccountingSink, Accounts
from serve_graph.access.keys import Keyring
from serve_graph.api.http import Backend, build_http
from serve_graph.cascade.context import CascadeContext
from serve_graph.cascade.streaming import StreamMode, StreamTerms
from serve_graph.cluster.policy_client import AlwaysTop, HandlePolicy
from serve_graph.cluster.readiness import TierReadiness
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers import EchoTierConfig, HostedTierConfig
from serve_graph.engines.echo.engine import EchoEngine, EchoError
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.gateway.constraints import routing_context_for
from serve_graph.gateway.handler import Service
from serve_graph.gateway.tool_affinity import ToolAffinity
from serve_graph.policy.bindings import binds_digest, price_list, price_lists
from serve_graph.policy.validity import CertificateStatus, CertifiedPolicy, Clock, Validity, utc_now
from serve_graph.records.maintenance import Maintenance, prompt_keeper
from serve_graph.records.metrics import render_metrics
from serve_graph.records.spool import SpooledSink
from serve_graph.records.store import DecisionStore


class PolicyDeployment:
    """Router or verifier: a loaded RouterVersion, asked for decisions or verdicts. One class, two deployments.

    Once its certificate has ended it knows the last tier only; the ingress, which looks too, does not ask it then.
    """

    def __init__(self, folder: str, validity: Validity | None = None, clock: Clock | None = None) -> None:
        self.version = RouterVersion.load(Path(folder))
        self.certificate_status = CertificateStatus(validity, self.version.name, clock or utc_now)
        self._warm_up()

    def _warm_up(self) -> None:
        """Load the encoder and the models' libraries before the first request pays for them."""
        query = Query.from_prompt("warm-up")
        decision = self.version.decide(query)
        completion = Completion("warm-up", token_logprobs=(-0.1, -0.2))
        for tier in self.version.stages:
            self.version.estimate(query, completion, Decision(tier, "warm-up", decision.p_cheap_ok))

    async def decide(self, query: Query) -> Decision:
        if fault := self.certificate_status.faults().get("answers"):
            return Decision(self.version.policy.top, fault)
        return self.version.decide(query)

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        fault = self.certificate_status.faults().get("answers")
        if fault and decision.tier != self.version.policy.top:
            return Verdict(Action.ESCALATED, fault)
        return self.version.judge(query, completion, decision)


class EchoDeployment:
    """A tier without a model. Counts what it is busy with under vLLM's own name for it."""

    def __init__(self, config: EchoTierConfig) -> None:
        self.engine = EchoEngine(config)
        self.running = 0

    async def generate(self, body: dict[str, Any]) -> dict[str, Any]:
        self.running += 1
        try:
            return await self.engine.generate(body)
        except EchoError as fault:
            return {"error": {"message": fault.message, "code": fault.status}}
        finally:
            self.running -= 1

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        self.running += 1
        try:
            async for piece in self.engine.stream(body):
                yield piece
        except EchoError as fault:
            yield {"error": {"message": fault.message, "code": fault.status}}
        finally:
            self.running -= 1

    async def embed(self, body: dict[str, Any]) -> dict[str, Any]:
        return self.engine.embed(body)

    async def counters(self) -> dict[str, float]:
        return {"num_requests_running": float(self.running)}


class HostedDeployment:
    """A tier behind one or several OpenAI-compatible APIs."""

    def __init__(self, config: HostedTierConfig) -> None:
        self.engine = HostedEngine(config)

    async def generate(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        return await self.engine.generate(body, timeout_s)

    async def stream(self, body: dict[str, Any], timeout_s: float) -> AsyncIterator[dict[str, Any]]:
        async with aclosing(self.engine.stream(body, timeout_s)) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        return await self.engine.embed(body, timeout_s)

    async def counters(self) -> dict[str, float]:
        return self.engine.failover.counters()


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """What the ingress needs to know of the served version: its thresholds' shape, its name, its promises.

    `prefixes`: what is promised of the answers of a tier that are shown by their beginning. `joint`: thresholds were
    certified together, `promised` is of all answers.
    """

    policy: Policy
    name: str
    promise: str
    certified: bool
    binds: str
    promised: float | None = None
    joint: bool = False
    validity: Validity = field(default_factory=Validity)
    prefixes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        version: RouterVersion | None,
        name: str,
        promise: str,
        config: GraphConfig,
        validity: Validity | None = None,
    ) -> ServedPolicy:
        policy = always(config.tier_names) if version is None else version.policy
        certificate = None if version is None else version.certificate
        joint, voided = certificate is not None and certificate.joint, False
        if config.policy.abstain == "forbid":
            voided = joint and policy.abstains  # what was certified counts on silence
            policy = policy.without_abstention()
        if not config.policy.spill:
            policy = replace(policy, overload_points={})
        promised = None if certificate is None or voided else 1.0 - certificate.promised_risk
        begun = {} if version is None else {t: made.summary() for t, made in version.prefix_certificates.items()}
        digest, promising = binds_digest(config), certificate is not None and not voided
        if voided:
            promise = f"nothing: policy.abstain is forbid, and abstaining was counted on in {promise!r}"
        return cls(policy, name, promise, promising, digest, promised, joint, validity or Validity(), begun)


class IngressDeployment:
    """The HTTP face: one Service over the tiers' handles. Ray Serve asks for the ASGI app after construction."""

    def __init__(
        self,
        config: GraphConfig,
        served: ServedPolicy,
        tiers: dict[str, DeploymentHandle[Any]],
        router: DeploymentHandle[Any] | None,
        verifier: DeploymentHandle[Any] | None,
        affinity_secret: bytes,
    ) -> None:
        engines = {name: HandleEngine(handle, config.tier(name)) for name, handle in tiers.items()}
        self.engines = engines
        self.handles = tiers
        self.tier_names = config.tier_names
        self.safe_tier = config.policy.safe_tier
        self.tiers_ready = TierReadiness(tiers, engines)
        self.store = DecisionStore(config.records_url)
        self.sink = SpooledSink(self.store, config.state_folder.resolve() / "spool", config.records.retry_s)
        self.keyring, self.is_open = Keyring(config.access.keys, config.keys_file), config.access.open
        self.accounts = Accounts(config.access.watch)
        self.served = served
        top, wait_s = AlwaysTop(served.policy), config.policy.timeout_s
        self.certificate_status = CertificateStatus(served.validity, served.name)
        certified = CertifiedPolicy(
            HandlePolicy(router, "router", served.policy, wait_s) if router else top,
            HandlePolicy(verifier, "verifier", served.policy, wait_s) if verifier else top,
            self.certificate_status,
        )
        answering = {name: engines[name] for name in config.tier_names}
        embedding = {embedder.name: engines[embedder.name] for embedder in config.embedders}
        context = CascadeContext(
            engines=answering,
            streams=answering,
            decider=certified,
            judge=certified,
            policy=served.policy,
            prices=price_lists(config) | {embedder.name: price_list(embedder) for embedder in config.embedders},
            safe_tier=config.policy.safe_tier,
            version=served.name,
            router_usd_per_s=config.policy.router_usd_per_s,
            verifier_usd_per_s=config.policy.verifier_usd_per_s,
            embedders=embedding | {name: engine for name, engine in answering.items() if engine.config.embeddings},
        )
        policy_config = config.policy
        self.service = Service(
            context,
            AccountingSink(self.sink, self.accounts, self.keyring.named),
            StreamTerms(StreamMode(policy_config.stream), policy_config.first_token_s, policy_config.at_first_token),
            ToolAffinity(affinity_secret),
            pin_tool_loops=policy_config.tool_loop == "stay",
            routing=routing_context_for(config, served.promised, self.certificate_status, joint=served.joint),
            keep_prompt=prompt_keeper(config.records),
            deadline_s=config.http.deadline_s,
        )
        self.maintenance = Maintenance(self.store, self.sink, self.keyring, self.accounts.spending, config)
        self.http = config.http

    def __serve_build_asgi_app__(self) -> FastAPI:
        http, service = self.http, self.service
        return build_http(
            Backend(
                service,
                self.store.get,
                self.readiness,
                self.metrics,
                self.background,
                http.max_body_bytes,
                http.keep_alive_s,
                http.start_before_commit,
                keyring=self.keyring,
                accounts=self.accounts,
                is_open=self.is_open,
            )
        )

    async def background(self) -> None:
        await asyncio.gather(self.sink.run(), self.maintenance.run(), self.certificate_status.watch())

    async def readiness(self) -> dict[str, Any]:
        """Ready means: the safe tier, which every failure falls back on, answers (or may be asleep by its scaling)."""
        served, ready = self.served, await self.tiers_ready.tiers()
        faults, until = self.certificate_status.faults(), self.certificate_status.until()
        return {
            "ready": ready[self.safe_tier] is not False,
            "tiers_ready": ready,
            "tiers": list(self.tier_names),
            "version": served.name,
            "certified": served.certified and "answers" not in faults,
            "promise": faults.get("answers", served.promise),
            "valid_until": None if until is None else until.isoformat(),
            "spills": {
                tier: point.promised
                for tier, point in self.certificate_status.policy(served.policy).overload_points.items()
            },
            "void": faults,
            "prefixes": {t: faults.get(f"prefix:{t}", told) for t, told in served.prefixes.items()},
            "binds": served.binds,
        }

    async def metrics(self) -> str:
        counters = {}
        for name, handle in self.handles.items():
            try:
                counters[name] = await asyncio.wait_for(handle.counters.remote(), 2.0)
            except Exception:  # noqa: BLE001 (a tier that is down has no counters; the rest still has)
                counters[name] = {}
            counters[name] = {**counters[name], **self.engines[name].gate.counters()}
        sink, caps = self.sink, self.accounts.watch.caps
        certificates = self.certificate_status.left_s() if self.served.certified else {}
        return render_metrics(
            self.service.metrics,
            sink.pending,
            counters,
            caps,
            held=sink.held,
            lost=sink.lost,
            certificates=certificates,
        )
