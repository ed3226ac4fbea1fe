"""The comparer of one ingress replica, from the configuration: what it may call, and when it gives way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from serve_graph.cascade.context import CascadeContext
from serve_graph.cluster.policy_client import HandlePolicy
from serve_graph.cluster.service import tiers_beside
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import JudgeConfig, judge_source, pairwise
from serve_graph.learning.comparing.comparer import Comparer
from serve_graph.learning.judging.judge_budget import JudgeBudget
from serve_graph.learning.judging.live_judge import LiveJudge
from serve_graph.learning.judging.task_graders import TaskGraders
from serve_graph.records.comparisons import Comparison
from serve_graph.records.maintenance import answer_keeper

Policy = TypeVar("Policy")


def live_comparer(
    config: GraphConfig,
    engines: Mapping[str, HandleEngine],
    write: Callable[[Comparison], None],
    judge: LiveJudge | None = None,
) -> Comparer:
    """What compares the versions of rollouts; `write` keeps its rows. It gives way to `judge`, as to requests.

    It has a quarter of a tier's places at most, one at least, and none while so many are taken: the judge has half.
    """
    gates = {tier: engines[tier].gate for tier in config.asked_names}
    spare = {tier: (gate.spare + 1) // 2 for tier, gate in gates.items()}

    def is_busy(tier: str) -> bool:
        return gates[tier].is_busy or gates[tier].in_flight >= spare[tier]

    def gives_way() -> bool:
        behind = judge is not None and judge.metrics.waiting > judge.config.max_queued // 2
        return behind or any(map(is_busy, gates))

    grading = grading_config(config)
    return Comparer(
        config.comparisons,
        grading,
        judge_source(config.tier(grading.tier)),
        tiers_beside(config, engines, is_busy, spare),
        write,
        JudgeBudget(config.state_folder.resolve() / "comparisons.json", config.comparisons.budget_usd_per_day),
        gives_way=gives_way,
        apart=context_apart,
        keep_answer=answer_keeper(config.records),
        programs=TaskGraders.read(config.graders.tasks),
    )


def grading_config(config: GraphConfig) -> JudgeConfig:
    """How answers that differ are graded: by `comparisons.judge`, else the judge's tier, else the last one."""
    tier = config.comparisons.judge or (config.tier_names[-1] if config.judge is None else config.judge.tier)
    return pairwise(config.judge, tier)


def context_apart(context: CascadeContext) -> CascadeContext:
    """A version's context with router and verifier whose failures are remembered apart from those of requests."""
    return replace(context, decider=_apart(context.decider), judge=_apart(context.judge))


def _apart(policy: Policy) -> Policy | HandlePolicy:
    return policy.apart() if isinstance(policy, HandlePolicy) else policy
