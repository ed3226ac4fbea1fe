"""Signals that are asked for, in passes: the same values, outcomes and bills as of requests to the graph."""

import asyncio
import functools
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_models.estimators.asked_signals import ASKED_SIGNALS
from router_models.estimators.routers import ROUTERS, RouterModel
from router_models.estimators.verifiers import VERIFIERS, CombinedVerifier, VerifierModel
from router_models.types import Answers, Prompts, Query
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary
from serve_graph.cluster.batches.passes.pass_rows import RowPieces
from serve_graph.cluster.batches.passes.passes import LocalPasses
from serve_graph.config.graph import GraphConfig
from serve_graph.policy.served_version import ServedVersion
from serve_graph.policy.serving_version import serving_version
from serve_graph.records.explanation import explained
from serve_graph.records.store import DecisionStore
from tests.fixtures.upstream import DirectHandle
from tests.unit.serve_graph.cli.batch.passes.conftest import LONG, echo_config

Run = Callable[..., Any]
FAMILIES = {
    "p-true": ("p_true",),
    "self-verification": ("self_verification",),
    "agreement": ("agreement",),
    "last-tier-verdict": ("last_tier_verdict",),
    "last-tier-likelihood": ("last_tier_likelihood",),
    "combined": tuple(ASKED_SIGNALS),
    "reward": ("reward:critic",),
    "asked-first": (*ASKED_SIGNALS, "reward:critic"),
}
CRITIC = {"name": "critic", "engine": "echo", "price": {"input_usd_per_mtok": 3, "output_usd_per_mtok": 0}}
ROWS = [{"prompt": f"[{n}] What is the name of the river?" + (LONG if n % 7 == 0 else "")} for n in range(21)]
ROWS[3]["prompt"] += " [echo:mute]"
ROWS[4]["prompt"] += " [cheap:fail]"
ROWS[5]["prompt"] += " [frontier:mute]"
CRITIC_FAILS = 16
ROWS[CRITIC_FAILS]["prompt"] += " [critic:fail]"


@functools.cache
def verifier(family: str) -> VerifierModel:
    """A verifier that learned from its signals, which say much about the grades."""
    rng = np.random.default_rng(0)
    y = (rng.random(200) < 0.6).astype(np.float64)
    told = {name: np.clip(0.15 + 0.7 * y + rng.normal(0, 0.1, 200), 0.02, 0.98) for name in FAMILIES[family]}
    if "last_tier_likelihood" in told:
        told["last_tier_likelihood"] = -(0.05 + 3 * (1 - told["last_tier_likelihood"]))
    if "reward:critic" in told:
        told["reward:critic"] = 6 * told["reward:critic"] - 3
    summaries = [logprob_summary([-0.1, -0.2, -0.1 * n / 200]) for n in range(200)]
    told |= {name: np.array([one[name] for one in summaries]) for name in LOGPROB_NAMES}
    prompts = Prompts(tuple(f"Question {n}?" for n in range(200)), rng.normal(size=(200, 8)).astype(np.float32))
    reads_all = CombinedVerifier(sources=("logprob", "signals"))
    made = reads_all if family in ("combined", "asked-first") else VERIFIERS[family]()
    return made.fit(Answers(prompts, ("an answer",) * 200, ("stop",) * 200, told), y)


@functools.cache
def asked_first() -> RouterModel:
    """A router that learned from what the cheap tier says before it answers."""
    rng = np.random.default_rng(1)
    y = (rng.random(200) < 0.6).astype(np.float64)
    said = {
        "p_yes": 0.2 + 0.5 * y + 0.2 * rng.random(200),
        "first_token_entropy": 0.4 + 0.2 * rng.random(200) - 0.2 * y,
    }
    vectors = rng.normal(size=(200, 384)).astype(np.float32)
    prompts = Prompts(tuple(f"Question {n}?" for n in range(200)), vectors, signals=said)
    return ROUTERS["asked-first"]().fit(prompts, y)


def config_of(folder: Path, family: str = "p-true", **more: Any) -> GraphConfig:
    router = asked_first() if family == "asked-first" else None
    policy = {"version": "builtin", "placement": "ingress", "timeout_s": 60}  # on a busy machine a request waits, too
    signals = {"timeout_s": 60, "self_verification": {"samples": 3 if family == "self-verification" else 0}}
    given: dict[str, Any] = {"verifiers": [CRITIC], "signals": signals, "policy": policy} | more
    return echo_config(folder, 0.5, verifier(family), router, **given)


async def requested(config: GraphConfig) -> list[dict[str, Any]]:
    """The rows as requests to a graph with the same configuration: what is told of each, and its record."""
    from serve_graph.cluster.echo_deployment import EchoDeployment
    from serve_graph.cluster.hosted_deployment import HostedDeployment
    from serve_graph.cluster.ingress_deployment import IngressDeployment

    made = {"echo": EchoDeployment, "openai": HostedDeployment}
    running = {tier.name: made[tier.engine](tier) for tier in config.every_tier}
    tiers: Any = {name: DirectHandle(one) for name, one in running.items()}
    begun = ServedVersion.of(serving_version(config), config)
    ingress = IngressDeployment(config, begun, tiers, None, None, b"x" * 16)
    found = []
    try:
        for row in ROWS:
            request = ingress.service.open(Query.from_prompt(row["prompt"]), "auto", False)
            reply = await ingress.service.answer(request)
            told = reply["serve_graph"] | {"answer": reply["choices"][0]["message"]["content"]}
            found.append(told | {"state": request.state, "p_ok": request.state.verdict})
    finally:
        ingress.sink.close()
        await ingress.store.close()
        for one in running.values():
            if isinstance(one, HostedDeployment):
                await one.engine.close()
    return found


async def recorded(config: GraphConfig, ids: list[str]) -> list[Any]:
    store = DecisionStore(config.records_url)
    await store.open()
    try:
        return [await store.get(one) for one in ids]
    finally:
        await store.close()


def elsewhere(made: Any) -> Any:
    """What a coroutine gives, run in a loop of another thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(made)))
    thread.start()
    thread.join()
    return found[0]


def line(call: Any) -> tuple[Any, ...]:
    return call.tier, call.what, call.usage, call.cost_usd, call.metered


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_judged_by_the_same_signals_for_the_same_money(in_passes: Run, tmp_path: Path, family: str) -> None:
    config = config_of(tmp_path, family)
    summary, rows, _ = in_passes(ROWS, config, records=True)
    wanted = elsewhere(requested(config))
    records = elsewhere(recorded(config, [row["serve_graph_decision"] for row in rows]))
    assert summary["answered"] == len(ROWS)
    outcomes = [row["serve_graph_outcome"] for row in rows]
    if family == "asked-first":
        assert {"accepted", "escalated", "routed"} <= set(outcomes)
        assert (outcomes[3], rows[3]["serve_graph_tier"]) == ("routed", "frontier"), "nobody says anything of it"
    else:
        assert {"accepted", "escalated", "routed", "fallback"} <= set(outcomes)
        assert outcomes[3] == "escalated", "nobody says anything of its answer"
    assert "reward:critic" not in FAMILIES[family] or outcomes[CRITIC_FAILS] == "escalated", "its score is missing"
    for row, record, one in zip(rows, records, wanted, strict=True):
        state = one["state"]
        assert (row["serve_graph_tier"], row["serve_graph_outcome"], row["answer"]) == (
            one["tier"], one["outcome"], one["answer"],
        )  # fmt: skip
        assert Decimal(row["serve_graph_cost_usd"]) == Decimal(one["cost_usd"]) == record.cost_usd
        assert record.evidence.get("asked_signals", {}) == pytest.approx(state.signals)
        assert record.p_answer_ok == (None if one["p_ok"] is None else pytest.approx(one["p_ok"].p_ok))
        assert record.verdict_reason == (None if one["p_ok"] is None else one["p_ok"].reason)
        timed = {"router", "verifier"}
        lines = [sorted(map(line, found)) for found in (record.overhead, state.overhead)]
        bills = [[one for one in found if one[0] not in timed] for found in lines]
        if "mute" not in row["prompt"]:  # of several calls the graph breaks off what is of no use any more
            assert bills[0] == bills[1]
        assert [note for note in record.route_reason.split("; ") if note.startswith("no ")] == [
            note for note in state.notes if note.startswith("no ")
        ]
    assert explained(records[0], {}, config.tier_names)["id"] == rows[0]["serve_graph_decision"]
    asked = [name for record in records for name in record.evidence.get("asked_signals", ())]
    assert set(asked) == set(FAMILIES[family])
    firsts = [note for one in wanted for note in one["state"].notes if note.startswith(("no p_yes", "no first_token"))]
    assert (family != "asked-first") or firsts


def test_each_tier_has_a_pass_of_its_own_about_answers(in_passes: Run, tmp_path: Path) -> None:
    passes: list[tuple[str, str | None, int]] = []

    class Noting(LocalPasses):
        def answer(self, tier: str, chunks: RowPieces) -> Any:
            passes.append((tier, chunks.about, chunks.rows))
            return super().answer(tier, chunks)

    in_passes(ROWS, config_of(tmp_path, "combined"), make=Noting)
    assert [(tier, about) for tier, about, _ in passes] == [
        ("cheap", None), ("cheap", "cheap"), ("frontier", "frontier"), ("frontier", None),
    ]  # fmt: skip
    assert passes[1][2] == passes[2][2] == len(ROWS) - 3 - 1  # three are routed to the last tier, one fails


def test_requests_are_asked_about_before_they_are_routed_and_answers_of_a_verifier_model_last(
    in_passes: Run, tmp_path: Path
) -> None:
    passes: list[tuple[str, str | None, int]] = []

    class Noting(LocalPasses):
        def answer(self, tier: str, chunks: RowPieces) -> Any:
            passes.append((tier, chunks.about, chunks.rows))
            return super().answer(tier, chunks)

    said: list[str] = []
    _, rows, _ = in_passes(ROWS, config_of(tmp_path, "asked-first"), make=Noting, say=said.append)
    assert [(tier, about) for tier, about, _ in passes] == [
        ("cheap", "cheap"), ("cheap", None), ("cheap", "cheap"), ("frontier", "frontier"), ("critic", "critic"),
        ("frontier", None),
    ]  # fmt: skip
    assert passes[0][2] == len(ROWS)
    routed = sum(row["serve_graph_outcome"] == "routed" for row in rows)
    assert 3 <= routed < len(ROWS) - 3
    assert passes[1][2] == len(ROWS) - routed
    named = [text for text in said if "a pass of" in text]
    assert named[0].endswith("at cheap, before routing")
    assert any(text.endswith("at critic, about answers") for text in named)


@pytest.mark.sampled(None, one_in=4)
@pytest.mark.parametrize("at", range(8))
def test_broken_off_anywhere_no_call_is_paid_twice_but_what_was_under_way(
    in_passes: Run, tmp_path: Path, at: int
) -> None:
    config, calls = config_of(tmp_path, "combined"), list[tuple[str, str | None, int]]()

    def counting(most: int | None) -> type[LocalPasses]:
        class Counting(LocalPasses):
            def answer(self, tier: str, chunks: RowPieces) -> Any:
                for progress in super().answer(tier, chunks):
                    calls.append((tier, chunks.about, len(progress)))
                    if most is not None and len(calls) > most:
                        raise KeyboardInterrupt
                    yield progress

        return Counting

    with pytest.raises(KeyboardInterrupt):
        in_passes(ROWS, config, make=counting(at))
    lost = calls[-1]
    summary, rows, _ = in_passes(ROWS, config, make=counting(None))
    whole = elsewhere(requested(config))
    assert summary["answered"] == len(ROWS)
    assert [row["serve_graph_outcome"] for row in rows] == [one["outcome"] for one in whole]
    assert [Decimal(row["serve_graph_cost_usd"]) for row in rows] == [Decimal(one["cost_usd"]) for one in whole]
    made = {place: sum(n for tier, about, n in calls if (tier, about) == place) for place in {c[:2] for c in calls}}
    assert made[("cheap", None)] - 18 == (lost[2] if lost[:2] == ("cheap", None) else 0)
    assert made[("cheap", "cheap")] - 17 == (lost[2] if lost[:2] == ("cheap", "cheap") else 0)


def test_a_budget_ends_between_an_answer_and_its_verdict_and_goes_on_later(in_passes: Run, tmp_path: Path) -> None:
    rows = [row for n, row in enumerate(ROWS) if n % 7 and n not in (3, 4, 5)]
    config = config_of(tmp_path, "last-tier-verdict")
    summary, _, _ = in_passes(rows, config, budget_usd=0.002)
    assert "at frontier, about answers" in summary["stopped"]
    assert Decimal(summary["total_usd"]) <= Decimal("0.002")
    more, _, _ = in_passes(rows, config, budget_usd=1.0)
    assert (more["answered"], more["stopped"]) == (len(rows), None)


@pytest.mark.parametrize(("family", "outcome"), [("p-true", "escalated"), ("asked-first", "routed")])
def test_what_is_asked_beside_an_answer_kills_its_worker_and_the_row_goes_on_without(
    in_passes: Run, tmp_path: Path, family: str, outcome: str
) -> None:
    class Dying(LocalPasses):
        def answer(self, tier: str, chunks: RowPieces) -> Any:
            for number in range(chunks.count):
                if chunks.about and any("[8]" in row.body for row in chunks.read(number)):
                    continue
                yield from super().answer(tier, _one_of(chunks, number))

    summary, rows, _ = in_passes(ROWS, config_of(tmp_path, family), make=Dying)
    assert (summary["answered"], summary["failed"]) == (len(ROWS), 0)
    assert rows[8]["serve_graph_outcome"] == outcome
    assert Decimal(summary["total_usd"]) == sum(Decimal(row["serve_graph_cost_usd"]) for row in rows)
    assert Decimal(summary["spent_usd"]) == Decimal(summary["total_usd"])


def _one_of(chunks: RowPieces, number: int) -> RowPieces:
    class One(RowPieces):
        def read(self, _: int) -> Any:
            return super().read(number)

    return One(chunks.folder, 1, chunks.rows, chunks.purse, chunks.alone, chunks.about)
