"""What passes are to go by: the version that the graph would serve, checked as a start of the graph checks it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from serve_graph.cluster.batches.passes.row_cascade import PassesPlan
from serve_graph.cluster.batches.passes.vllm_stage import passes_faults, with_max_num_seqs
from serve_graph.cluster.service import alarm_watch
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, VllmTierConfig
from serve_graph.errors import ConfigError
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import Served, serving_version
from serve_graph.policy.validity import CertificateStatus
from serve_graph.records.store import DecisionStore


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """A plan, and what is promised under it. `made_under`: all that a row's story depends on, as text."""

    plan: PassesPlan
    version: str
    promise: str
    certificate: str
    made_under: str


def checked_plan(config: GraphConfig, max_num_seqs: int | None = None) -> CheckedPlan:
    """Find the version that decides, and say whether its certificate holds of answers in passes.

    It does where a start of the graph would serve under it: its tiers' weights, every engine argument, decoding and
    prices are compared with what it was made for, and the engines of the passes are started with the same. With
    `max_num_seqs` they compute so many rows at a time instead, which the promise says.

    Raises ConfigError where a tier's answers would not be those that it is served with, or its engine cannot compute
    so many rows at a time.
    """
    own = [tier for tier in config.tiers if isinstance(tier, VllmTierConfig)]
    if max_num_seqs is not None and not own:
        raise ConfigError("--max-num-seqs is for tiers of vLLM, and the configuration has none")
    wide = {tier.name: with_max_num_seqs(tier, max_num_seqs) for tier in own}
    others = [tier.name for tier in own if wide[tier.name] != tier]
    steps = {name: n for name in others if (n := _step_tokens(wide[name])) != _step_tokens(config.tier(name))}
    faults = [fault for tier in own if (fault := passes_faults(tier))]
    if faults:
        raise ConfigError(
            f"{'; '.join(faults)}: passes over the data would answer otherwise than the graph does. Start the graph "
            "and leave --passes out"
        )
    found = serving_version(config)
    served = ServedVersion.of(found, config)
    revoked = asyncio.run(_revoked(config, served, found)) if served.policy.watched is not None else None
    policy = served.policy
    if not policy.certified:
        said = f"nothing is promised of these rows: {found.reason}"
    elif config.policy.share is not None:
        said = f"nothing is promised of these rows: {policy.promise}"
    elif revoked is not None:
        said = f"nothing is promised of these rows: {revoked}"
    else:
        said = promise_held(others, max_num_seqs, steps)
    plan = PassesPlan(config, policy, served.files, revoked)
    digest = "none" if served.files is None else served.files.digest
    told = config.policy.model_dump_json() + "".join(
        tier.model_dump_json() for tier in (*config.tiers, *config.verifiers)
    )
    rest = hashlib.sha256(told.encode()).hexdigest()[:16]  # what decides, and what it costs: stories hold under these
    made_under = f"{policy.name} {digest} {policy.binds} {rest} {revoked or ''}".strip()
    return CheckedPlan(plan, policy.name, policy.promise, said, made_under)


def _step_tokens(tier: AnyTierConfig) -> int | None:
    return tier.engine_kwargs.get("max_num_batched_tokens") if isinstance(tier, VllmTierConfig) else None


def promise_held(
    others: list[str], max_num_seqs: int | None, steps: Mapping[str, int | None] = MappingProxyType({})
) -> str:
    """That a certificate holds; `others`: the tiers whose engines compute another number of rows at a time.

    `steps`: those of them whose steps have another number of tokens for it, and which.
    """
    said = (
        "its certificate holds of these rows: the engines have the weights, arguments and decoding that it was "
        "made for, and router and verifier are the graph's own; what it does not cover is answered as "
        "policy.uncovered says"
    )
    if not others:
        return said
    more = "".join(f", {name} with max_num_batched_tokens {tokens}" for name, tokens in steps.items())
    return (
        f"{said}. {'Two arguments differ' if steps else 'One argument differs'}: {' and '.join(others)} computed up "
        f"to {max_num_seqs} rows at a time, not as many as served{more}; below 32 bits an answer's last bits depend "
        "on what is computed beside it, there as here"
    )


async def _revoked(config: GraphConfig, served: ServedVersion, found: Served) -> str | None:
    """Why an alarm voids the version's certificate; None where none does."""
    status = CertificateStatus(found.validity, found.name)
    store = DecisionStore(config.records_url)
    try:
        await alarm_watch(config, served.policy, store, status, keeps_note=False).know_before_serving()
    finally:
        await store.close()
    return status.revoked
