"""Anthropic's tiers through its Message Batches: as one batch, at its price, found again, told apart from others'."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.requests import Request
from starlette.responses import Response
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.cli.batch.providers.anthropic_api import AnthropicBatchApi, read_result
from serve_graph.cli.batch.providers.batch_pool import MOST_TRIES, BatchPool
from serve_graph.cli.batch.providers.provider_ledger import Submission
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.providers.anthropic_pools import api_of, ask, line, run
from tests.unit.serve_graph.cli.batch.providers.anthropic_server import AnthropicServer


def test_lines_are_one_batch_that_is_deleted_once_it_is_read(tmp_path: Path) -> None:
    server = AnthropicServer(looks=3)
    with listening(server.app) as url:
        said = run(url, tmp_path / "j", lambda pool, api: ask(pool, api, *range(5)))
    assert said == [f"claude: row {n}" for n in range(5)]
    assert (server.sizes, server.deleted, server.keys) == ([5], ["msgbatch_1"], {"secret"})


def test_what_expires_or_fails_for_a_moment_is_sent_again_and_what_is_refused_is_not(tmp_path: Path) -> None:
    server = AnthropicServer(
        kinds={
            "row 0": ["expired", "succeeded"],
            "row 1": ["overloaded_error", "succeeded"],
            "row 2": ["invalid_request_error"],
            "row 3": ["canceled"],
        }
    )
    with listening(server.app) as url:
        said = run(url, tmp_path / "j", lambda pool, api: ask(pool, api, *range(5)))
    assert said[:2] == ["claude: row 0", "claude: row 1"]
    assert said[2:] == ["no: invalid_request_error", "the batch was cancelled", "claude: row 4"]
    assert server.sizes == [5, 3, 1]
    assert len(server.sizes) == MOST_TRIES


@pytest.mark.parametrize("status", [500, 504])
def test_what_was_created_though_the_reply_said_otherwise_is_not_created_again(tmp_path: Path, status: int) -> None:
    server = AnthropicServer(refuses=[status])
    with listening(server.app) as url:
        assert run(url, tmp_path / "j", lambda pool, api: ask(pool, api, 0, 1)) == ["claude: row 0", "claude: row 1"]
    assert server.sizes == [2]


def test_what_was_not_created_is_sent_again(tmp_path: Path) -> None:
    server = AnthropicServer(statuses=[529, 500])
    with listening(server.app) as url:
        assert run(url, tmp_path / "j", lambda pool, api: ask(pool, api, 0)) == ["claude: row 0"]
    assert server.sizes == [1]


def test_a_key_that_is_refused_ends_the_run_and_fails_no_line(tmp_path: Path) -> None:
    server = AnthropicServer(statuses=[401])
    with listening(server.app) as url:
        [said] = run(url, tmp_path / "j", lambda pool, api: ask(pool, api, 0))
        assert "the batches of tier 'cheap' do not work: 401" in said
        assert "secret" not in said
        assert run(url, tmp_path / "j", lambda pool, api: ask(pool, api, 0)) == ["claude: row 0"]


@pytest.mark.parametrize("route", ["_look", "_create"])
def test_a_reply_that_is_longer_than_is_read_ends_the_run_with_that_reason(
    tmp_path: Path, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def too_long(request: Request) -> Response:
        return Response(b" " * 2**21)

    monkeypatch.setattr("serve_graph.engines.http_client.MOST_REPLY_BYTES", 2**20)
    server = AnthropicServer()
    monkeypatch.setattr(server, route, too_long)

    async def in_time(pool: BatchPool, api: AnthropicBatchApi) -> list[str]:
        async with asyncio.timeout(20):
            return await ask(pool, api, 0)

    with listening(server.app) as url:
        [said] = run(url, tmp_path / "j", in_time)
    assert "the batches of tier 'cheap' do not work: the reply is longer than 1 MiB" in said


CHILD = """
import sys
from pathlib import Path
from tests.unit.serve_graph.cli.batch.providers.anthropic_pools import ask, run
print(run(sys.argv[1], Path(sys.argv[2]), lambda pool, api: ask(pool, api, *range(4))))
"""


def test_killed_before_its_batch_is_noted_a_run_finds_it_among_others_of_that_size(tmp_path: Path) -> None:
    server = AnthropicServer()

    def kill(_: str) -> None:
        if len(server.batches) == 2:
            os.kill(child.pid, signal.SIGKILL)

    server.on = kill
    with listening(server.app) as url:
        stranger = run(url, tmp_path / "other", lambda pool, api: ask(pool, api, *range(4)))
        child = subprocess.Popen([sys.executable, "-c", CHILD, url, str(tmp_path / "j")])
        assert child.wait(120) == -signal.SIGKILL
        assert run(url, tmp_path / "j", lambda pool, api: ask(pool, api, *range(4))) == stranger
    assert server.sizes == [4, 4], "one batch of each run, whoever was killed"
    assert server.deleted == ["msgbatch_1", "msgbatch_2"]


async def test_a_batch_of_somebody_else_is_none_of_ours() -> None:
    server = AnthropicServer()
    with listening(server.app) as url:
        api = api_of(url)
        lines = [line(api, n) for n in range(2)]
        other, own = Submission("a" * 32, "cheap", 0.0), Submission("b" * 32, "cheap", 0.0)
        assert await api.create(other, "", lines) == "msgbatch_1"
        assert await api.find_batch(own, lines) is None
        assert await api.create(own, "", lines) == "msgbatch_2"
        assert await api.find_batch(own, lines) == "msgbatch_2"
        assert await api.find_batch(other, lines) == "msgbatch_1"
        await api.close()


async def test_the_key_goes_to_the_tiers_own_host_alone() -> None:
    server = AnthropicServer(foreign="http://127.0.0.1:9/stolen")
    with listening(server.app) as url:
        api = api_of(url)
        lines, begun = [line(api, 0)], Submission("a" * 32, "cheap", 0.0)
        await api.create(begun, "", lines)
        found = await api.look("msgbatch_1")
        assert found.answers == (f"{url}/v1/messages/batches/msgbatch_1/results",)
        assert list(await api.replies(found, lines)) == [lines[0].key]
        await api.close()


@pytest.mark.parametrize(
    "result", [None, "x", {}, {"type": "succeeded"}, {"type": "errored"}, {"type": "errored", "error": 3}]
)
def test_a_result_that_is_none_is_an_error(result: Any) -> None:
    assert "error" in read_result(result)


def test_rows_of_an_anthropic_tier_are_billed_at_the_batch_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "none")
    server = AnthropicServer()
    rows = "".join(json.dumps({"prompt": f"row {n}"}) + "\n" for n in range(3))
    rows += (
        json.dumps({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}) + "\n"
    )
    (tmp_path / "in.jsonl").write_text(rows)
    with listening(server.app) as url:
        tiers = [
            {"name": name, "engine": "openai", "api": "anthropic", "model": name, "base_url": f"{url}/v1",
             "api_key_env": "API_KEY", "default_max_tokens": 20,
             "price": {"input_usd_per_mtok": 1000, "output_usd_per_mtok": 1000, "batch_factor": 0.5}}
            for name in ("cheap", "frontier")
        ]  # fmt: skip
        given = {"tiers": tiers, "state_folder": str(tmp_path / "state"), "policy": {"version": "none"}}
        (tmp_path / "graph.yaml").write_text(yaml.safe_dump(given))
        words = ["batch", "run", tmp_path / "in.jsonl", "--out", tmp_path / "out.jsonl", "--provider-batches",
                 "--poll-s", 0.05, "-c", tmp_path / "graph.yaml", "--json"]  # fmt: skip
        done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    summary = json.loads(done.stdout)
    found = [json.loads(text) for text in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in found[:3]] == [f"frontier: row {n}" for n in range(3)]
    assert {Decimal(row["serve_graph_cost_usd"]) for row in found[:3]} == {Decimal("0.007")}
    assert found[3]["serve_graph_status"] == "400", "what the API has no counterpart for fails that row alone"
    assert summary["provider_batches"]["frontier"] == {"batches": 1, "price_factor": "0.5"}
