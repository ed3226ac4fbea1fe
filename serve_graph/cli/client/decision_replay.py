"""`decisions replay`: a registered version decides kept requests again; what it needs and nobody kept is asked for."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from openai import AsyncOpenAI

from router_models.data.slices import slice_of
from router_models.data.starter import Task
from router_models.errors import by_number
from router_models.types import Action, Completion, Decision, DecisionRecord, Progress, Query, Verdict
from router_models.versions.router_version import RouterVersion
from serve_graph.cascade.context import CascadeContext
from serve_graph.cli.client.ask import api_client, ask_whole
from serve_graph.cli.client.replayed import HOW_TO_KEEP
from serve_graph.cli.offline.label_terminal import plain
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ServeGraphError
from serve_graph.gateway.compared import UNSLICED
from serve_graph.gateway.constraints import RoutingContext, request_context, routing_context_for
from serve_graph.gateway.context_length import Room
from serve_graph.gateway.options import ResolvedOptions
from serve_graph.gateway.worst_case import worst_case
from serve_graph.learning.comparing.paths import AnswerCalls, TierAnswers, path_of
from serve_graph.learning.judging.judge_calls import NotJudgedError
from serve_graph.learning.judging.task_graders import TaskGraders
from serve_graph.learning.kept_tasks import replayed_task
from serve_graph.learning.retraining.decision_replay import (
    DecisionReplay,
    ReplayedDecision,
    ReplayedPart,
    grades_by_labels,
)
from serve_graph.policy.bindings import price_lists
from serve_graph.policy.served_policy import ServedPolicy
from serve_graph.policy.validity import CertificateStatus
from serve_graph.records.feedback import FeedbackTable
from serve_graph.records.store import DecisionStore

MISSING = "missing"
_EXAMPLE_CHARS = 70


class NoAnswers:
    """There are none but those that were kept."""

    async def make(self, tier: str, query: Query, what: str) -> tuple[Completion, Decimal]:
        raise NotJudgedError(MISSING)


class AskedAnswers:
    """Asks a running graph for a tier by name, as long as the dollars last: none is asked for that may exceed them."""

    def __init__(self, client: AsyncOpenAI, usd: Decimal, worst: Callable[[str, Query], Decimal]) -> None:
        self.client = client
        self.left_usd = usd
        self.worst = worst
        self.task: Task | None = None
        self.asked = 0

    async def make(self, tier: str, query: Query, what: str) -> tuple[Completion, Decimal]:
        most = self.worst(tier, query)
        if self.task is None or most > self.left_usd:
            raise NotJudgedError(MISSING)
        completion, facts = await ask_whole(self.client, tier, self.task)
        said = facts.get("cost_usd")
        usd = most if said is None else Decimal(str(said))
        self.left_usd -= usd
        self.asked += 1
        return completion, usd


class _VersionPolicy:
    """A version as Decider and Judge, in this process."""

    def __init__(self, version: RouterVersion) -> None:
        self.version = version

    async def decide(self, query: Query) -> Decision:
        return await asyncio.to_thread(self.version.decide, query)

    async def judge(self, query: Query, completion: Completion, decision: Decision) -> Verdict:
        return await asyncio.to_thread(self.version.judge, query, completion, decision)


class _Nobody:
    """Stands for a tier: `path_of` takes the answers at hand."""

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        raise NotJudgedError(MISSING)


_NOBODY = _Nobody()


class VersionReplay:
    """One version over kept decisions, by the rules that serve: thresholds, coverage, capabilities, context lengths.

    A kept answer has no probabilities of its tokens: where the version's verifier reads these, it is none.
    """

    def __init__(self, version: RouterVersion, config: GraphConfig, answers: AskedAnswers | NoAnswers) -> None:
        self.answers = answers
        self.programs = TaskGraders.read(config.graders.tasks)
        served = ServedPolicy.of(version, version.name, "replayed", config)
        self.routing: RoutingContext = routing_context_for(config, served, CertificateStatus())
        self.prices = price_lists(config)
        policy = _VersionPolicy(version)
        self.context = CascadeContext(
            dict.fromkeys(config.tier_names, _NOBODY), {}, policy, policy, served.policy, self.prices,
            config.policy.safe_tier, version.name, config.policy.router_usd_per_s, config.policy.verifier_usd_per_s,
        )  # fmt: skip
        self.slicer = version.slicer or UNSLICED
        self.unread = {tier for tier, stage in version.stages.items() if stage.verifier.wants_signals}

    async def run(self, store: DecisionStore, most: int, progress: Progress) -> DecisionReplay:
        """Replay the newest decisions that a store keeps whole; raises ServeGraphError where there is none."""
        left_out: Counter[str] = Counter()
        kept: list[tuple[DecisionRecord, Task]] = []
        async with aclosing(store.kept_prompts()) as records:
            async for record in records:
                if len(kept) >= most:
                    break
                if (task := replayed_task(record, left_out)) is not None:
                    kept.append((record, task))
        if not kept:
            raise ServeGraphError(f"no record holds a prompt, and a version decides by its text: {HOW_TO_KEEP}")
        labels = await FeedbackTable(store).labels_on([record.id for record, _ in kept])
        found = []
        for done, (record, task) in enumerate(kept):
            if done and done % 200 == 0:
                progress(f"{done} of {len(kept)} decisions replayed")
            right = grades_by_labels(labels.get(record.id, ()), record.tier, self.context.policy.top)
            found.append(await self._one(record, task, right))
        return DecisionReplay(self.context.version, tuple(found), left_out)

    async def _one(self, record: DecisionRecord, task: Task, right: dict[str, float]) -> ReplayedDecision:
        query = replace(task.query, metadata=dict(record.metadata))
        wishes = record.evidence.get("wishes") or {}
        forbids = wishes.get("abstain") == "forbid"
        share = wishes.get("cost_quality") if self.routing.score_shares.quantiles else None
        resolved = ResolvedOptions(
            quality_floor=wishes.get("quality_floor"), forbids_abstaining=forbids, cost_quality=share
        )
        context = request_context(self.context, resolved, self.routing, self.context.policy.top, query=query)
        if isinstance(self.answers, AskedAnswers):
            self.answers.task = task
        taken = await path_of(context, query, None, _answers_of(record, self.answers, self.unread))
        grades, grader = (right.get(record.tier), right.get(taken.tier)), "label"
        asked = None if self.programs is None else self.programs.task_for(task.query)
        if asked is not None and self.programs is not None:
            shown = record.evidence.get("answer")
            before = Completion(shown) if isinstance(shown, str) and record.outcome != Action.ABSTAINED else None
            grader, pair = asked.grader, (before, None if taken.abstained else taken.completion)
            found = [None if one is None else float(await self.programs.is_right(asked, one)) for one in pair]
            grades = found[0], found[1]
        return ReplayedDecision(
            record.id,
            (record.tier, record.outcome),
            (taken.tier, taken.action),
            taken.why_not,
            (float(record.cost_usd), float(taken.usd)),
            grades,
            slice_of(self.slicer, query),
            task.prompt,
            grader,
        )


def _answers_of(record: DecisionRecord, answers: AnswerCalls, unread: Collection[str]) -> TierAnswers:
    """The answer of a record, where it was kept and its tier is not `unread`; others would cost as it did."""
    lines = {line.tier: line for line in record.calls}
    line, text = lines.get(record.tier), record.evidence.get("answer")
    finish = (record.evidence.get("signals") or {}).get("finish_reason") or "stop"
    if line is None:
        return TierAnswers(answers, {}, {})
    completion = Completion(str(text or ""), str(finish), line.usage)
    usd = {name: one.cost_usd for name, one in lines.items()}
    kept = {record.tier: completion} if text and record.tier not in unread else {}
    return TierAnswers(answers, kept, {tier: usd[tier] for tier in kept}, (completion, line.latency_s))


async def replay_decisions(
    url: str,
    version: RouterVersion,
    config: GraphConfig,
    most: int,
    progress: Progress,
    ask: str | None = None,
    usd: Decimal = Decimal(0),
) -> tuple[DecisionReplay, int]:
    """Replay a version on a store's newest decisions; how many answers a running graph at `ask` was asked for."""
    prices = price_lists(config)
    rooms = {tier.name: Room(tier.context_limit, tier.default_max_tokens) for tier in config.tiers}
    store = DecisionStore(url)
    try:
        if ask is None:
            return await VersionReplay(version, config, NoAnswers()).run(store, most, progress), 0
        async with api_client(ask) as client:
            asked = AskedAnswers(client, usd, lambda tier, query: worst_case(query, (tier,), prices, rooms)[tier])
            return await VersionReplay(version, config, asked).run(store, most, progress), asked.asked
    finally:
        await store.close()


def replay_lines(found: DecisionReplay, asked: int, examples: int) -> Iterator[str]:
    """What a replay came to, in words."""
    whole = found.whole()
    yield (
        f"{found.version} on {whole.n} kept {by_number(whole.n, 'decision')}, as of "
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC:"
    )
    yield from _part_lines(whole)
    if asked:
        yield (
            f"  {asked} {by_number(asked, 'answer')} that nobody had kept {by_number(asked, 'was', 'were')} asked for"
        )
    for (tier, why), n in sorted(found.missing().items()):
        more = ": --ask URL --budget-usd asks a running graph for them" if why == MISSING else ""
        yield f"  not known to the end: {n}, for want of an answer of {tier} ({why}){more}"
    for (before, after), n in found.flips().most_common():
        yield f"  {before[0]} ({before[1]}) → {after[0]} ({after[1]}): {n}"
        shown = [
            one.prompt for one in found.decisions if (one.before, one.after) == (before, after) and not one.missing
        ]
        yield from (f"      {plain(' '.join(prompt.split()))[:_EXAMPLE_CHARS]}" for prompt in shown[:examples])
    if by_program := {name: n for name, n in found.graders().items() if name != "label"}:
        yield f"  graded by program: {', '.join(f'{n} by {name}' for name, n in sorted(by_program.items()))}"
    for part in found.slices():
        yield f"slice {part.name}: {part.n} {by_number(part.n, 'decision')}"
        yield from _part_lines(part)
    yield from (f"left out: {n} {why}" for why, n in sorted(found.left_out.items()))


def _part_lines(part: ReplayedPart) -> Iterator[str]:
    if (share := part.flip_share()) is not None:
        yield f"  answered by another tier: {part.flips} of {part.known}, {share} (95 %)"
        before, after = (1000 * usd for usd in part.usd)
        yield f"  cost: ${before:.4g} → ${after:.4g} per 1000 requests"
    if (change := part.difference()) is None:
        yield "  right: not known, as no decision has a label of both answers"
    else:
        yield f"  right: {change} (95 %) over {part.graded} graded, {part.gained} gained, {part.lost} lost"
