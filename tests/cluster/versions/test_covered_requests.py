"""A version certified for two system prompts and two decodings by the commands, served: it covers exactly these."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from router_models.data.outcomes import prompt_id, write_outcomes
from router_models.types import Message, Outcome, Usage
from router_models.types.conditions import PLAIN, Conditions, system_prompt_of
from router_models.types.exchange import logprob_summary
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.policy.bindings import tier_binds, write_collected_binds
from tests.fixtures.registry import approve_version

pytestmark = pytest.mark.timeout(600)

Graph = Any
BRIEF = "Answer in one line."
TIERS: list[dict[str, Any]] = [
    {
        "name": name,
        "engine": "echo",
        "default_max_tokens": 64,
        "decoding": {"temperature": 0.0},
        "price": {"input_usd_per_mtok": usd, "output_usd_per_mtok": 2 * usd},
    }
    for name, usd in (("cheap", 0.01), ("frontier", 0.11))
]
POLICY = {"version": "stable", "safe_tier": "frontier", "epsilon": 0.1}
ASK, SAID = {"role": "user", "content": "What colour is cat 512?"}, {"role": "assistant", "content": "echo"}
TOLD = Conditions(system_prompt=system_prompt_of((Message("system", BRIEF),)))
WARM = Conditions(decoding='{"temperature":0.7}')

COVERED: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"temperature": 0.7},
    {"messages": [{"role": "system", "content": BRIEF}, ASK]},
    {"messages": [ASK, SAID, ASK]},
]
UNCOVERED: dict[str, dict[str, Any]] = {
    "decoding": {"temperature": 1.9},
    "system_prompt": {"messages": [{"role": "system", "content": "You are a poet. " * 200}, ASK]},
    "tools": {"tools": [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]},
    "turns": {"messages": [ASK, SAID, ASK, SAID, ASK]},
    "choices": {"n": 2},
    "response_format": {"response_format": {"type": "json_object"}},
    "max_tokens": {"max_tokens": 3},
    "novelty": {"messages": [{"role": "user", "content": "∑ ∀x∈ℝ: {λ[0]} ⇒ `~|#^&*` 0x7f;\n" * 60}]},
}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> str:
    """Where the version is registered: the cheap tier knows 98 % of the questions, under every condition."""
    folder = tmp_path_factory.mktemp("covered")
    uri = new_registry(folder / "mlflow.db")
    config = {"tiers": TIERS, "policy": POLICY, "tracking_uri": uri, "state_folder": str(folder / "state")}
    (folder / "graph.yaml").write_text(yaml.safe_dump(config))
    outcomes = _outcomes()
    table = folder / "outcomes.parquet"
    write_outcomes(table, outcomes)
    write_collected_binds(table, tier_binds(load_config(folder / "graph.yaml")))
    given = ["--config", folder / "graph.yaml", "--outcomes", table]
    call("train", *given, "--out", folder / "candidate", "--router", "surface", "--verifier", "logprob")
    call("certify", *given, "--candidate", folder / "candidate", "--alias", "stable")
    approve_version(uri)
    return uri


def _outcomes() -> list[Outcome]:
    chance, outcomes = random.Random(5), []
    for i in range(900):
        asked = chance.choices((PLAIN, WARM, TOLD, Conditions(turns=2)), (4, 3, 3, 3))[0]
        hard = chance.random() < 0.2
        text = f"Prove in full that theorem {100 + i} of the list holds." if hard else f"What colour is cat {100 + i}?"
        if asked is TOLD:
            text = f"{BRIEF}\n{text}"
        elif asked.turns == 2:
            text = f"What colour is cat {100 + i % 7}?\necho\n{text}"
        right = chance.random() < (0.1 if hard else 0.98)
        logprobs = tuple(-0.05 if right else -2.0 for _ in range(8))
        for tier, grade in (("cheap", right), ("frontier", chance.random() < 0.95)):
            outcomes.append(
                Outcome(prompt_id(text), text, tier, "So it is.", float(grade), Usage(10, 8), 0.01, "stop",
                        logprob_summary(logprobs), asked.columns())
            )  # fmt: skip
    return outcomes


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def served(new_graph: Callable[..., Graph], registry: str) -> Iterator[Graph]:
    graph = new_graph(20.0, tiers=TIERS, policy=POLICY, tracking_uri=registry, records={"retry_s": 0.3})
    yield graph
    graph.end()


def test_exactly_what_was_certified_is_promised(served: Graph) -> None:
    for fields in COVERED:
        for wish in ({}, {"stream": True}, {"serve_graph": {"quality_floor": 0.9}}):
            reply = ask(served, **fields, **wish)
            record = served.record_of(reply)
            assert (record.tier, record.outcome, record.evidence["promised"]) == ("cheap", "accepted", 0.9), fields
    before = served.client.get("/readyz").json()["coverage"]
    for reason, fields in UNCOVERED.items():
        for wish in ({}, {"stream": True}, {"serve_graph": {"quality_floor": 0.5}}):
            record = served.record_of(ask(served, **fields, **wish))
            assert (record.evidence["promised"], record.evidence["uncovered"]) == (None, reason)
            assert (record.tier, record.outcome) == ("frontier", "routed"), reason
    after = served.client.get("/readyz").json()["coverage"]
    assert after["uncovered"] - before["uncovered"] == 3 * len(UNCOVERED)
    assert set(after["reasons"]) == set(UNCOVERED)
    counted = [line for line in served.client.get("/metrics").text.splitlines() if "serve_graph_uncovered_req" in line]
    assert len([line for line in counted if not line.startswith("#")]) == len(UNCOVERED)


def test_every_api_is_compared_alike_over_http(served: Graph) -> None:
    bodies: list[tuple[str, dict[str, Any], str | None]] = [
        ("/v1/completions", {"prompt": ASK["content"]}, None),
        ("/v1/completions", {"prompt": ASK["content"], "temperature": 1.9}, "decoding"),
        ("/v1/responses", {"input": ASK["content"], "instructions": BRIEF}, None),
        ("/v1/responses", {"input": ASK["content"], "text": {"format": {"type": "json_object"}}}, "response_format"),
        ("/v1/messages", {"messages": [ASK], "system": BRIEF, "max_tokens": 64}, None),
        ("/v1/messages", {"messages": [ASK], "max_tokens": 64, "thinking": {"type": "adaptive"}}, "decoding"),
    ]
    for path, body, reason in bodies:
        reply = served.client.post(path, json={"model": "auto", **body})
        assert reply.status_code == 200, reply.text
        record = served.record_of(reply)
        assert record.evidence.get("uncovered") == reason
        assert record.evidence["promised"] == (0.9 if reason is None else None)


def ask(graph: Graph, **fields: Any) -> Any:
    reply = graph.client.post("/v1/chat/completions", json={"model": "auto", "messages": [ASK], **fields})
    assert reply.status_code == 200, reply.text
    return reply
