"""A chain of three tiers, certified by the commands and served on a cluster, with both ends asked on a sample."""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router_models.data.outcomes import prompt_id, write_outcomes
from router_models.types import DecisionRecord, Outcome, Usage
from router_models.types.exchange import logprob_summary
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.engines.echo.engine import question_draw
from serve_graph.policy.bindings import tier_binds, write_collected_binds
from tests.fixtures.registry import approve_version

pytestmark = pytest.mark.timeout(900)

Graph = Any
SKILL = {"cheap": 0.5, "middle": 0.8, "frontier": 1.0}
USD_PER_MTOK = {"cheap": 0.01, "middle": 0.05, "frontier": 0.3}
TIERS: list[dict[str, Any]] = [
    {
        "name": name,
        "engine": "echo",
        "skill": skill,
        "default_max_tokens": 64,
        "price": {"input_usd_per_mtok": USD_PER_MTOK[name], "output_usd_per_mtok": 2 * USD_PER_MTOK[name]},
    }
    for name, skill in SKILL.items()
]
CRITIC = {"name": "critic", "engine": "echo", "price": {"input_usd_per_mtok": 2, "output_usd_per_mtok": 0}}
BUDGET = Decimal("0.006")
BOTH = {"metadata": {"experiment": "both"}}
POLICY = {
    "version": "stable",
    "safe_tier": "frontier",
    "epsilon": 0.1,
    "ensemble": {
        "share": 0.5,
        "judge": "reward:critic",
        "budget_usd_per_day": str(BUDGET),
        "only": {"metadata": {"experiment": ["both"]}},
    },
}
TAGS = ("", "", "", "[cheap:fail] ", "[middle:fail] ", "[critic:fail] ")
"""What prompts begin with: half of them with the fault of a day on which all went well when they were collected."""


@dataclass(frozen=True)
class Made:
    """Where the version is registered, and prompts by the first tier that is sure of its answer, and its tag."""

    uri: str
    sure: Mapping[tuple[str, str], str]

    def prompt(self, tier: str, tag: str = "") -> str:
        return self.sure[tier, tag]


def first_sure(prompt: str) -> str:
    return next(tier for tier, skill in SKILL.items() if question_draw(prompt) < skill)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Made:
    """Of easy prompts each tier knows 97 % where it is sure and few where not; hard ones only the last one knows."""
    folder = tmp_path_factory.mktemp("chain")
    uri = new_registry(folder / "mlflow.db")
    config = {"tiers": TIERS, "verifiers": [CRITIC], "policy": POLICY, "tracking_uri": uri}
    (folder / "graph.yaml").write_text(yaml.safe_dump(config | {"state_folder": str(folder / "state")}))
    outcomes, sure = recorded()
    table = folder / "outcomes.parquet"
    write_outcomes(table, outcomes)
    write_collected_binds(table, tier_binds(load_config(folder / "graph.yaml")))
    given = ["--config", folder / "graph.yaml", "--outcomes", table]
    call("train", *given, "--out", folder / "candidate", "--router", "surface", "--verifier", "logprob")
    call("certify", *given, "--candidate", folder / "candidate", "--alias", "stable", "--pattern", "chain")
    approve_version(uri)
    return Made(uri, sure)


def recorded() -> tuple[list[Outcome], dict[tuple[str, str], str]]:
    """What the echo tiers say, graded; and the first prompt of each kind."""
    chance, outcomes, sure = random.Random(5), [], dict[tuple[str, str], str]()
    for i in range(1000, 2400):
        hard, tag = chance.random() < 0.15, chance.choice(TAGS)
        prompt = f"Prove in full that theorem {i} of the list holds." if hard else f"{tag}What colour is cat {i}?"
        if not hard:
            sure.setdefault((first_sure(prompt), tag), prompt)
        for tier, skill in SKILL.items():
            is_sure, answer = question_draw(prompt) < skill, f"echo {tier}: {prompt}"
            logprobs = (-0.01 if is_sure else -3.0,) * len(answer.split())
            knows = (0.9 if tier == "frontier" else 0.05) if hard else 0.97 if is_sure else 0.15
            grade, usage = float(chance.random() < knows), Usage(10, len(logprobs))
            outcomes.append(
                Outcome(prompt_id(prompt), prompt, tier, answer, grade, usage, 0.01, "stop", logprob_summary(logprobs))
            )
    return outcomes, sure


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture(scope="module")
def served(new_graph: Callable[..., Graph], made: Made) -> Iterator[Graph]:
    graph = new_graph(
        20.0, tiers=TIERS, verifiers=[CRITIC], policy=POLICY, tracking_uri=made.uri, records={"retry_s": 0.3}
    )
    yield graph
    graph.end()


def calls_of(record: DecisionRecord) -> list[tuple[str, str]]:
    return [(made.tier, made.what) for made in record.calls]


def shown(graph: Graph, record: DecisionRecord) -> str:
    return call("decisions", "show", record.id, "--config", graph.state / "graph.yaml")


ENDS = {
    "cheap": ("accepted", [("cheap", "answer")]),
    "middle": ("accepted", [("cheap", "attempt"), ("middle", "answer")]),
    "frontier": ("escalated", [("cheap", "attempt"), ("middle", "attempt"), ("frontier", "escalation")]),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tier", SKILL)
def test_a_request_ends_at_the_first_tier_whose_answer_is_accepted_and_pays_for_every_one_before(
    served: Graph, made: Made, events: Callable[[Any], list[dict[str, Any]]], tier: str, stream: bool
) -> None:
    assert served.client.get("/readyz").json()["pattern"] == "chain"
    outcome, calls = ENDS[tier]
    reply = served.chat(made.prompt(tier), stream=stream)
    record = served.record_of(reply)
    if stream:
        pieces = events(reply)
        text = "".join(choice["delta"].get("content") or "" for piece in pieces for choice in piece["choices"])
        facts = pieces[-1]["serve_graph"]
    else:
        text, facts = reply.json()["choices"][0]["message"]["content"], reply.json()["serve_graph"]
        assert reply.headers["x-serve-graph-tier"] == tier
    assert text == f"echo {tier}: {made.prompt(tier)}"
    assert (facts["tier"], facts["outcome"]) == (record.tier, record.outcome) == (tier, outcome)
    assert calls_of(record) == calls
    for made_call in record.calls:
        used, price = made_call.usage, Decimal(str(USD_PER_MTOK[made_call.tier])) / 1_000_000
        assert made_call.cost_usd == price * (used.prompt_tokens + 2 * used.completion_tokens) > 0
    assert record.cost_usd == sum(line.cost_usd for line in record.bill)
    assert abs(record.cost_usd - Decimal(str(facts["cost_usd"]))) < Decimal("1e-9")
    assert [line.what for line in record.overhead].count("judging") == min(len(calls), 2)
    assert (record.evidence["pattern"], record.evidence["promised"]) == ("chain", None if tier == "frontier" else 0.9)
    page = shown(served, record)
    assert all(f"Paid: {what} by {name}," in page for name, what in calls)


def test_what_the_router_sends_to_the_last_tier_is_tried_by_none_before(served: Graph) -> None:
    record = served.record_of(served.chat("Prove in full that theorem 1007 of the list holds."))
    assert (record.outcome, calls_of(record)) == ("routed", [("frontier", "answer")])


@pytest.mark.parametrize("stream", [False, True])
def test_where_the_middle_tier_fails_the_last_one_takes_over_and_nothing_is_promised(
    served: Graph, made: Made, stream: bool
) -> None:
    record = served.record_of(served.chat(made.prompt("middle", "[middle:fail] "), stream=stream))
    assert (record.tier, record.outcome) == ("frontier", "fallback")
    assert record.evidence["promised"] is None
    assert calls_of(record) == [("cheap", "attempt"), ("frontier", "fallback")]
    assert ("middle", "failed", Decimal(0)) in [(line.tier, line.what, line.cost_usd) for line in record.overhead]
    unhurt = served.record_of(served.chat(made.prompt("cheap", "[middle:fail] "), stream=stream))
    assert (unhurt.tier, unhurt.outcome) == ("cheap", "accepted"), "it is not asked where the first answer is good"


def test_a_middle_tier_whose_process_is_killed_is_replaced_and_asked_again(
    served: Graph, made: Made, wait_until: Callable[..., float]
) -> None:
    served.kill("middle")
    reply = served.chat(made.prompt("middle"))
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-serve-graph-tier"] in ("middle", "frontier")
    wait_until(lambda: served.chat(made.prompt("middle")).headers["x-serve-graph-tier"] == "middle")


def ask_both(graph: Graph, content: str, unit: str | None = None, **fields: Any) -> Any:
    """A request that is meant; with a unit it is drawn by it, else it asks for both."""
    wish = {"serve_graph": {"ensemble": True}} if unit is None else {}
    body = {"model": "auto", "messages": [{"role": "user", "content": content}], **BOTH, **wish, **fields}
    headers = {} if unit is None else {"x-request-id": unit}
    reply = graph.client.post("/v1/chat/completions", json=body, headers=headers)
    assert reply.status_code == 200, reply.text
    return reply


def test_a_share_of_what_is_meant_is_answered_by_both_tiers_and_a_retry_as_the_first(
    served: Graph, made: Made
) -> None:
    asked = [[ask_both(served, made.prompt("middle"), f"unit-{i}") for i in range(24)] for _ in range(2)]
    first, again = ([reply.headers["x-serve-graph-outcome"] for reply in replies] for replies in asked)
    assert first == again
    assert 3 <= first.count("ensemble") <= 21
    assert set(first) == {"ensemble", "accepted"}, "the chain's middle tier has the others"
    assert "ensemble" not in served.record_of(served.chat(made.prompt("middle"))).evidence, "it has no label"
    sampled = served.record_of(asked[0][first.index("ensemble")])
    assert sampled.evidence["ensemble"]["share"] == 0.5
    streamed = served.record_of(ask_both(served, made.prompt("cheap"), f"unit-{first.index('ensemble')}", stream=True))
    assert streamed.outcome == "accepted", "a stream is left out"


@pytest.mark.parametrize(("more", "picked", "tie"), [("", "cheap", True), ("[critic:frontier=2] ", "frontier", False)])
def test_the_pick_is_shown_and_recorded_and_both_tiers_are_paid(
    served: Graph, more: str, picked: str, tie: bool
) -> None:
    prompt = f"{more}What colour is the dog?"
    reply = ask_both(served, prompt)
    record, facts = served.record_of(reply), reply.json()["serve_graph"]
    assert reply.json()["choices"][0]["message"]["content"] == f"echo {picked}: {prompt}"
    assert (facts["tier"], facts["outcome"], facts["picked_by"]) == (picked, "ensemble", "reward:critic")
    entry = record.evidence["ensemble"]
    assert (entry["tiers"], entry["picked"], entry["tie"]) == (["cheap", "frontier"], picked, tie)
    assert entry["said"]["frontier"] - entry["said"]["cheap"] == pytest.approx(0 if tie else 2)
    lines = [(line.tier, line.what) for line in record.bill if line.usage.prompt_tokens]
    other = "frontier" if picked == "cheap" else "cheap"
    assert sorted(lines) == sorted(
        [(picked, "answer"), (other, "attempt"), ("critic", "reward:critic"), ("critic", "reward:critic")]
    )
    assert record.cost_usd == sum(line.cost_usd for line in record.bill)
    assert Decimal(entry["usd"]) == sum(line.cost_usd for line in record.bill if line.usage.prompt_tokens) > 0
    assert record.evidence["promised"] is None
    assert f"reward:critic picked {picked}" in shown(served, record)


def test_what_cannot_be_picked_goes_along_the_chain_with_the_answers_that_are_there(served: Graph, made: Made) -> None:
    for tier, (_, calls) in ENDS.items():
        record = served.record_of(ask_both(served, made.prompt(tier, "[critic:fail] ")))
        assert record.evidence["ensemble"]["why_not"].startswith("judge: reward:critic failed")
        assert record.tier == tier
        called = [name for name, _ in calls_of(record)]
        assert sorted(called) == sorted({"cheap", "frontier", *(name for name, _ in calls)}), "nobody is called twice"
    record = served.record_of(ask_both(served, made.prompt("cheap", "[cheap:fail] ")))
    assert record.evidence["ensemble"]["why_not"].startswith("tier: cheap failed")
    assert (record.tier, record.outcome, calls_of(record)) == ("frontier", "fallback", [("frontier", "fallback")])


def test_without_budget_a_chain_alone_answers_and_the_day_costs_no_more(served: Graph, made: Made) -> None:
    spent = served.state / "ensemble.json"
    for _ in range(200):
        reply = ask_both(served, made.prompt("middle"))
        if reply.headers["x-serve-graph-outcome"] != "ensemble":
            break
    record = served.record_of(reply)
    assert record.evidence["ensemble"]["why_not"].startswith("budget: ")
    assert (record.outcome, calls_of(record)) == ENDS["middle"]
    assert BUDGET / 2 < Decimal(json.loads(spent.read_text())["usd"]) <= BUDGET
    other = served.record_of(served.chat(made.prompt("middle")))
    assert (other.outcome, other.evidence["promised"]) == ("accepted", 0.9), "what is not drawn is as it was"
    said = call("decisions", "ensemble", "--config", served.state / "graph.yaml")
    assert "cheap" in said
    assert "budget" in said
