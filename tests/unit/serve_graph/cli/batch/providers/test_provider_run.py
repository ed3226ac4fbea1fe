"""`batch run --provider-batches`: rows through the cascade in this process, hosted tiers by a provider's batches."""

import asyncio
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import VERIFIERS
from router_models.types import Answers, OperatingPoint, Prompts
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.errors import ServeGraphError
from serve_graph.records.store import DecisionStore
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer, echo_reply


def batch_run(folder: Path, *more: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    words = [
        "batch", "run", folder / "in.jsonl", "--out", folder / "out.jsonl", "--provider-batches", "--poll-s", 0.05,
        "-c", folder / "graph.yaml", "--json", *more,
    ]  # fmt: skip
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code in (0, 1), done.output
    out = folder / "out.jsonl"
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return json.loads(done.stdout), rows


def test_rows_are_one_batch_at_half_the_price_with_records_and_a_second_run_sends_nothing(
    provider: ProviderServer, tmp_path: Path
) -> None:
    summary, rows = batch_run(tmp_path, "--records")
    assert [row["answer"] for row in rows] == [f"m-frontier: row {n % 5}" for n in range(6)]
    assert {row["serve_graph_tier"] for row in rows} == {"frontier"}
    assert provider.sizes == [6], "rows with an id of their own have answers of their own"
    assert {Decimal(row["serve_graph_cost_usd"]) for row in rows} == {Decimal(14 * 1000) / 1_000_000 / 2}
    assert Decimal(summary["spent_usd"]) == Decimal("0.042")
    assert summary["provider_batches"]["frontier"] == {"batches": 1, "price_factor": "0.5"}
    assert summary["always"]["frontier"]["usd"] == pytest.approx(0.042)
    assert summary["records"]["read"] == 6
    stored = asyncio.run(_stored(tmp_path, rows[0]["serve_graph_decision"]))
    assert stored.tier == "frontier"
    assert stored.cost_usd == Decimal("0.007")
    assert not provider.files
    again, _ = batch_run(tmp_path)
    assert (again["asked"], provider.sizes) == (0, [6])


async def _stored(folder: Path, decision: str) -> Any:
    store = DecisionStore(load_config(folder / "graph.yaml").records_url)
    try:
        return await store.get(decision)
    finally:
        await store.close()


def test_the_budget_is_kept_before_anything_is_sent(provider: ProviderServer, tmp_path: Path) -> None:
    summary, rows = batch_run(tmp_path, "--budget-usd", 0.001)
    assert provider.sizes == []
    assert "has no room for another row" in summary["stopped"]
    assert (summary["answered"], summary["failed"], summary["left"]) == (0, 0, 6)
    assert all(row["answer"] is None for row in rows)


def test_a_line_that_the_provider_refuses_fails_its_row_alone(provider: ProviderServer, tmp_path: Path) -> None:
    provider.statuses = {"row 1": 400}
    summary, rows = batch_run(tmp_path, "--model", "cheap")
    assert (summary["answered"], summary["failed"]) == (5, 1)
    assert rows[1]["serve_graph_status"] == "400"
    assert {row["serve_graph_tier"] for row in rows if row["answer"]} == {"cheap"}
    assert provider.sizes == [6]


def saying(body: dict[str, Any]) -> dict[str, Any]:
    """As `echo_reply`; a question about an answer, of one token or in words, has the reply no where it is of row 1."""
    reply = echo_reply(body)
    if str(body["messages"][-1]["content"]).endswith("Verdict:"):
        wrong = "row 1" in json.dumps(body["messages"])
        reply["choices"][0]["message"]["content"] = f"The AI answer is {'incorrect' if wrong else 'correct'}."
        reply["usage"] = {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41}
    if body.get("max_tokens") == 1:
        yes = 0.05 if "row 1" in json.dumps(body["messages"]) else 0.95
        top = [{"token": word, "logprob": math.log(p)} for word, p in (("Yes", yes), ("No", 1 - yes))]
        reply["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        reply["usage"] = {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41}
    return reply


def fitted_verifier(name: str) -> Any:
    """A verifier that believes what its signal says."""
    verifier = VERIFIERS[name]()
    y = np.array([1.0, 0.0] * 30)
    told = {verifier.wants_signals[0]: 0.1 + 0.8 * y}
    prompts = Prompts(tuple(f"question {n}" for n in range(60)))
    verifier.fit(Answers(prompts, ("an answer",) * 60, ("stop",) * 60, told), y)
    return verifier


@pytest.mark.parametrize("name", ["p-true", "last-tier-verdict", "self-verification"])
def test_signals_of_answers_are_lines_of_batches_and_on_the_bill(
    provider: ProviderServer, tmp_path: Path, name: str
) -> None:
    provider.answer = saying
    verifier = fitted_verifier(name)
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.5)})
    version = RouterVersion(policy, {"cheap": Stage(LengthRouter(), None, verifier, None)})
    version.save(tmp_path / "state" / "builtin" / "builtin-uncertified")
    graph = yaml.safe_load((tmp_path / "graph.yaml").read_text())
    samples = 4 if name == "self-verification" else 0
    signals = {"timeout_s": 0.001, "self_verification": {"samples": samples}}
    graph |= {"policy": {"version": "builtin"}, "signals": signals}
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(graph))
    summary, rows = batch_run(tmp_path, "--records")
    tiers = [row["serve_graph_tier"] for row in rows]
    assert tiers == ["cheap", "frontier", "cheap", "cheap", "cheap", "cheap"]
    calls = samples or 1
    assert provider.sizes == [6, 6 * calls, 1], "answers, what is said of them, and one that is escalated"
    asked = calls * 41 * (1000 if name == "last-tier-verdict" else 100) / 2
    bills = [14 * 100 / 2 + asked + (14 * 1000 / 2 if tier == "frontier" else 0) for tier in tiers]
    assert [float(row["serve_graph_cost_usd"]) for row in rows] == pytest.approx([bill / 1e6 for bill in bills])
    assert float(summary["spent_usd"]) == pytest.approx(sum(bills) / 1e6)
    stored = asyncio.run(_stored(tmp_path, rows[0]["serve_graph_decision"]))
    assert stored.evidence["asked_signals"] == {verifier.wants_signals[0]: pytest.approx(4.5 / 5 if samples else 0.95)}


def test_a_signal_that_no_batch_and_no_route_asks_for_is_refused(provider: ProviderServer, tmp_path: Path) -> None:
    graph = yaml.safe_load((tmp_path / "graph.yaml").read_text())
    graph["tiers"][1] = {"name": "frontier", "engine": "echo", "price": graph["tiers"][0]["price"]}
    graph |= {"policy": {"version": "builtin"}}
    (tmp_path / "graph.yaml").write_text(yaml.safe_dump(graph))
    verifier = VERIFIERS["last-tier-likelihood"]()
    y = np.array([1.0, 0.0] * 30)
    prompts = Prompts(tuple(f"question {n}" for n in range(60)))
    verifier.fit(Answers(prompts, ("x",) * 60, ("stop",) * 60, {"last_tier_likelihood": y - 2.0}), y)
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.5)})
    version = RouterVersion(policy, {"cheap": Stage(LengthRouter(), None, verifier, None)})
    version.save(tmp_path / "state" / "builtin" / "builtin-uncertified")
    with pytest.raises(ServeGraphError, match="judges answers by last_tier_likelihood of the last tier"):
        batch_run(tmp_path)


def test_without_a_configuration_it_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "a"}\n')
    done = CliRunner().invoke(
        app, ["batch", "run", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "o.jsonl"), "--provider-batches"]
    )
    assert done.exit_code != 0
    assert "--provider-batches needs --config" in str(done.exception or done.output)
