"""The service of one ingress replica, put together from the configuration and the handles of the other deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal

from router_models.monitoring.promise_watch import WatchLimits
from router_models.types import Query
from serve_graph.access.accounts import Accounts
from serve_graph.cascade.context import AskedTerms, CascadeContext
from serve_graph.cascade.interfaces import RecordSink
from serve_graph.cascade.steps import StreamMode, StreamTerms
from serve_graph.cluster.policy_client import PolicySource
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import judge_source, pairwise
from serve_graph.engines.telemetry.tracing import Tracer
from serve_graph.gateway.capabilities import AsleepTiers
from serve_graph.gateway.capabilities.ensemble_sample import EnsembleSample
from serve_graph.gateway.constraints import routing_context_for
from serve_graph.gateway.context_length import Room
from serve_graph.gateway.handler import Service
from serve_graph.gateway.tool_affinity import ToolAffinity
from serve_graph.gateway.worst_case import worst_case, worst_ensemble
from serve_graph.learning.alarm_table import CertifiedOn
from serve_graph.learning.alarms import AlarmRules, AlarmWatch
from serve_graph.learning.comparing.comparer import Comparer
from serve_graph.learning.golden.asking import GoldenAsker
from serve_graph.learning.golden.golden_metrics import GoldenMetrics
from serve_graph.learning.golden.golden_watch import GoldenWatch
from serve_graph.learning.golden.standing import WatchedVersion
from serve_graph.learning.judging.ensemble.picking import JudgePicker, Picker, RewardPicker
from serve_graph.learning.judging.ensemble.two_tiers import TwoTiers
from serve_graph.learning.judging.judge_budget import JudgeBudget
from serve_graph.learning.judging.judge_calls import JudgeCalls, JudgeTiers
from serve_graph.learning.judging.judge_questions import JudgeQuestions
from serve_graph.learning.judging.live_judge import LiveJudge
from serve_graph.learning.judging.task_graders import TaskGraders
from serve_graph.learning.traffic.tickets import TicketWatch
from serve_graph.learning.webhook import webhook_of
from serve_graph.policy.bindings import asked_settings, price_list
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.validity import CertificateStatus
from serve_graph.records.audit import left_in
from serve_graph.records.feedback import Feedback
from serve_graph.records.maintenance import answer_keeper, metadata_keeper, prompt_keeper
from serve_graph.records.store import DecisionStore


def build_service(
    config: GraphConfig,
    served: ServedPolicy,
    context: CascadeContext,
    certificate_status: CertificateStatus,
    sink: RecordSink,
    affinity_secret: bytes,
    accounts: Accounts | None = None,
    judge: LiveJudge | None = None,
    comparer: Comparer | None = None,
    tracer: Tracer | None = None,
    asleep: AsleepTiers | None = None,
    both: TwoTiers | None = None,
) -> Service:
    """The service that answers with `context` and writes records to `sink`; `affinity_secret` is all replicas' own.

    What `accounts` hold of a request in progress is released when its record is written: `sink` must charge them.
    """
    policy = config.policy
    return Service(
        context,
        sink,
        StreamTerms(StreamMode(policy.stream), policy.first_token_s, policy.at_first_token),
        ToolAffinity(affinity_secret),
        pin_tool_loops=policy.tool_loop == "stay",
        routing=replace(routing_context_for(config, served, certificate_status), asleep=asleep or AsleepTiers()),
        keep_prompt=prompt_keeper(config.records),
        keep_answer=answer_keeper(config.records),
        deadline_s=config.http.deadline_s,
        aliases=config.models.aliases,
        accounts=accounts,
        keep_metadata=metadata_keeper(config.records),
        judge=judge,
        comparer=comparer,
        names_calls=config.logging.format == "json",
        tracer=tracer,
        sample=None
        if both is None
        else EnsembleSample(both.config, both.tiers, affinity_secret, both, both.most_usd, both.note_left_out),
    )


def live_ensemble(config: GraphConfig) -> TwoTiers | None:
    """What has two tiers answer a sample of requests, where the configuration has it."""
    ensemble = config.policy.ensemble
    if ensemble is None:
        return None
    tiers = ensemble.tiers or (config.tier_names[0], config.tier_names[-1])
    prices = {tier.name: price_list(tier) for tier in config.every_tier}
    rooms = {tier.name: Room(tier.context_limit, tier.default_max_tokens) for tier in config.tiers}
    if ensemble.reward is not None:
        picker: Picker = RewardPicker(ensemble.judge, ensemble.reward)
        judge, judge_tokens, prompt = ensemble.reward, None, None
    else:
        asked = pairwise(config.judge, ensemble.judge)
        picker = JudgePicker(asked, judge_source(config.tier(ensemble.judge)))
        judge, judge_tokens, prompt = ensemble.judge, asked.max_tokens, asked.prompt

    def most_usd(query: Query) -> dict[str, Decimal]:
        return worst_ensemble(query, tiers, judge, judge_tokens, prices, rooms, prompt)

    budget = JudgeBudget(config.state_folder.resolve() / "ensemble.json", ensemble.budget_usd_per_day)
    return TwoTiers(ensemble, tiers, picker, budget, most_usd)


def live_judge(
    config: GraphConfig, engines: Mapping[str, HandleEngine], write: Callable[[Feedback], None]
) -> LiveJudge | None:
    """The judge of a sample of answers, where the configuration has one; `write` keeps its labels."""
    if config.judge is None:
        return None
    gates = {tier: engines[tier].gate for tier in config.asked_names}
    return LiveJudge(
        config.judge,
        judge_source(config.tier(config.judge.tier)),
        tiers_beside(
            config,
            engines,
            lambda tier: gates[tier].is_busy,
            {tier: gate.spare for tier, gate in gates.items()},
        ),
        write,
        JudgeBudget(config.state_folder.resolve() / "judge.json", config.judge.budget_usd_per_day),
        keep_answer=answer_keeper(config.records),
        programs=TaskGraders.read(config.graders.tasks),
    )


def tiers_beside(
    config: GraphConfig,
    engines: Mapping[str, HandleEngine],
    is_busy: Callable[[str], bool],
    spare: Mapping[str, int],
) -> JudgeTiers:
    """The tiers, and verifier models, for work beside requests, as `JudgeTiers` has them."""
    prices = {tier.name: price_list(tier) for tier in config.every_tier}
    rooms = {tier.name: Room(tier.context_limit, tier.default_max_tokens) for tier in config.tiers}
    answering = {tier: engines[tier].beside() for tier in config.asked_names}

    def most_usd(tier: str, query: Query) -> Decimal:
        return worst_case(query, (tier,), prices, rooms)[tier]

    return JudgeTiers(answering, prices, most_usd, is_busy, spare)


def alarm_watch(
    config: GraphConfig,
    served: ServedPolicy,
    store: DecisionStore,
    certificate_status: CertificateStatus,
    *,
    keeps_note: bool = True,
) -> AlarmWatch:
    """What looks at labels of served answers, and revokes the certificate on this replica where they contradict it.

    One watch of a machine keeps a note for the next start (`keeps_note`): that of the stable version.
    """
    alarms, folder = config.alarms, config.state_folder.resolve()
    rules = AlarmRules(
        served.name,
        served.watched,
        config.feedback.alarm_sources,
        config.feedback.label_share,
        WatchLimits(alarms.run_length, alarms.alpha),
        alarms.on_drift == "safe_mode",
        alarms.poll_s,
        None if served.certificate is None else CertifiedOn.of(served.certificate, served.policy.tiers),
    )
    return AlarmWatch(
        store,
        rules,
        certificate_status.revoke,
        note=folder / "alarms.json" if keeps_note else None,
        audit_left=left_in(config),
        announce=webhook_of(config),
    )


def unlabelled_watches(
    config: GraphConfig,
    engines: Mapping[str, HandleEngine],
    store: DecisionStore,
    served: Callable[[], ServedPolicy],
    service: Service,
    tried: Callable[[], ServedPolicy | None] = lambda: None,
) -> tuple[TicketWatch, GoldenWatch | None]:
    """What reports changes in the served version's traffic that nobody labelled, and changes of models.

    `service` hands prompts' embeddings over from now on. `tried`: the version that is tried beside the served one.
    """
    tickets = TicketWatch(store, config.tickets, lambda: served().name, webhook_of(config))
    service.embedded = None if tickets.sums is None else tickets.sums.waiting
    return tickets, golden_watch(config, engines, store, served, tried)


def golden_watch(
    config: GraphConfig,
    engines: Mapping[str, HandleEngine],
    store: DecisionStore,
    served: Callable[[], ServedPolicy],
    tried: Callable[[], ServedPolicy | None] = lambda: None,
) -> GoldenWatch | None:
    """What asks tiers the same tasks on schedule, where the configuration has it: in a quarter of their places."""
    golden, judge = config.golden, config.judge
    if golden is None:
        return None
    gates = {tier: engines[tier].gate for tier in config.asked_names}
    spare = {tier: (gate.spare + 1) // 2 for tier, gate in gates.items()}

    def is_busy(tier: str) -> bool:
        return gates[tier].is_busy or gates[tier].in_flight >= spare[tier]

    metrics = GoldenMetrics()
    budget = JudgeBudget(config.state_folder.resolve() / "golden.json", golden.budget_usd_per_day)
    tiers = tiers_beside(config, engines, is_busy, spare)
    calls = JudgeCalls(tiers, budget, metrics, golden.concurrency, golden.timeout_s)
    questions = None if judge is None else JudgeQuestions(judge, calls)
    grader = "" if judge is None else judge_source(config.tier(judge.tier))
    return GoldenWatch(
        store,
        golden,
        {tier: f"{judge_source(config.tier(tier))} {grader}" for tier in config.golden_tiers},
        GoldenAsker(golden, calls, questions),
        metrics,
        lambda: [WatchedVersion.of(one.name, one.certificate) for one in (served(), tried()) if one is not None],
        lambda: served().watched is not None,
        webhook_of(config),
    )


def cascade_context(
    config: GraphConfig,
    served: ServedPolicy,
    engines: dict[str, HandleEngine],
    policies: PolicySource,
) -> CascadeContext:
    """What all requests of a graph work with; without a version, or router and verifier, the last tier answers all."""
    policy = config.policy
    decider, judge = policies.of(served.policy, served.name, policy.timeout_s)
    answering = {name: engines[name] for name in config.tier_names}
    embedding = {embedder.name: engines[embedder.name] for embedder in config.embedders}
    reading = {verifier.name: engines[verifier.name] for verifier in config.verifiers}
    return CascadeContext(
        engines=answering,
        streams=answering,
        decider=decider,
        judge=judge,
        policy=served.policy,
        prices={tier.name: price_list(tier) for tier in config.every_tier},
        safe_tier=policy.safe_tier,
        version=served.name,
        router_usd_per_s=policy.router_usd_per_s,
        verifier_usd_per_s=policy.verifier_usd_per_s,
        embedders=embedding | {name: engine for name, engine in answering.items() if engine.config.embeddings},
        asked=AskedTerms(
            served.asked,
            config.tier_names[-1],
            answering | reading,
            asked_settings(config, bound=False),
            config.signals.timeout_s,
            served.asked_first,
            config.tier_names[0] if not served.asked_first else served.policy.tiers[0],
        ),
    )
