"""Collecting: resumable, never mixing engines, never overwriting unasked; asked of the shipped fakes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from router_models.data.outcomes import prompt_id, read_outcomes
from router_models.data.starter import Task
from router_models.types.drawn import oldest
from serve_graph.cli import app
from serve_graph.cli.client.ask import RETRIES, api_client, ask
from serve_graph.cli.client.collect import binds_behind, collect_outcomes
from serve_graph.cli.client.unfinished import claim, failures_of, other_tiers, partial_of, refuse_finished
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.errors import EngineError, ServeGraphError
from serve_graph.policy.bindings import binds_digest, collected_binds, tier_binds
from tests.fixtures.made_up_time import hurry, hurry_when

BINDS = {"cheap.engine": "a" * 64, "frontier.engine": "b" * 64}
TIERS = ("cheap", "frontier")
ROOT = Path(__file__).parents[5]
TOKENS = [
    {"token": text, "logprob": -0.1, "bytes": None, "top_logprobs": []} for text in ("It", " is", " brown.", "<end>")
]


def task(i: int) -> Task:
    return Task(f"t{i}", f"What is the colour of the cat number {i}?", "notes", 1, "en", "mentions",
                {"accepted": ["brown"]}, "brown", 8)  # fmt: skip


TASKS = [task(i) for i in range(4)]


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


class Api:
    """An OpenAI-compatible API that says `brown`, keeps what it was asked and fails as told."""

    def __init__(self, fail: Callable[[str, str, int], int] = lambda tier, prompt, n: 200) -> None:
        self.fail = fail
        self.asked: list[tuple[str, str]] = []
        self.binds: str | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        tier, prompt = body["model"], body["messages"][0]["content"]
        self.asked.append((tier, prompt))
        status = self.fail(tier, prompt, self.asked.count((tier, prompt)))
        if status != 200:
            return httpx.Response(status, text="no", headers={"retry-after-ms": "1"})
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "It is brown."},
            "logprobs": {"content": TOKENS},
        }
        usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": tier, "choices": [choice]}
        whole = json.dumps(reply | {"usage": usage, "serve_graph": {"tier": tier}}).encode()
        return httpx.Response(200, content=pieces(whole))  # read by the client, which times that


def client_of(api: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(api))


async def run(api: Api, out: Path, binds: dict[str, str] | None = BINDS) -> Any:
    return await collect_outcomes("http://test", TIERS, TASKS, out, binds=binds, http_client=client_of(api))


async def test_a_table_is_written_with_its_engines_and_nothing_partial_is_left(tmp_path: Path) -> None:
    api, out = Api(), tmp_path / "o.parquet"
    outcomes = await run(api, out)
    assert len(api.asked) == len(outcomes) == 8
    assert {o.grade for o in outcomes} == {1.0}
    assert len(read_outcomes(out)) == 4
    assert collected_binds(out) == BINDS
    assert {p.name for p in tmp_path.iterdir()} == {"o.parquet", "o.parquet.binds.json"}


async def test_a_failing_tier_is_an_error_and_the_next_run_asks_only_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" and "number 2" in prompt else 200)
    with pytest.raises(EngineError, match=r"1 task\(s\) got no answer .*first: frontier answered 503"):
        await run(api, out)
    assert not out.exists()
    (failed,) = map(json.loads, failures_of(out).read_text().splitlines())
    assert (failed["task"], failed["tier"]) == ("t2", "frontier")
    assert "answered 503" in failed["reason"]
    again = Api()
    assert len(await run(again, out)) == 8
    assert again.asked == [("frontier", TASKS[2].prompt)]
    assert not failures_of(out).exists()


async def test_a_line_cut_short_is_asked_again(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200)
    with pytest.raises(EngineError):
        await run(api, out)
    partial = partial_of(out)
    partial.write_text(partial.read_text()[:-30])
    again = Api()
    outcomes = await run(again, out)
    assert len(outcomes) == len({(o.prompt_id, o.tier) for o in outcomes}) == 8
    assert sum(tier == "cheap" for tier, _ in again.asked) == 1


async def test_answers_with_line_separators_of_unicode_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200)
    with pytest.raises(EngineError):
        await run(api, out)
    partial = partial_of(out)
    partial.write_text(partial.read_text().replace('"answer": "', '"answer": "\u2028'))
    again = Api()
    await run(again, out)
    assert not any(tier == "cheap" for tier, _ in again.asked)


async def test_what_was_collected_is_graded_again_by_the_grader_of_today(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200)
    with pytest.raises(EngineError):
        await run(api, out)
    partial = partial_of(out)
    partial.write_text(partial.read_text().replace('"grade": 1.0', '"grade": 0.0'))
    api = Api()
    assert {o.grade for o in await run(api, out)} == {1.0}


ANSWERED = {"fault": "none"}
PAUSED_S = 0.05


async def tried(api: Any, times: int) -> None:
    """Wait for so many tries; the pauses before them pass at once, and so does the time-out of one that hangs."""
    for before in range(1, times):
        await hurry_when(lambda before=before: api.state()["seen"] == before, 0.0)  # type: ignore[misc]
        await asyncio.sleep(PAUSED_S)
        assert api.state()["seen"] == before, "a pause comes first"
        while api.state()["seen"] == before:
            hurry(30.0)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("faults", "seen"),
    [
        ([{"fault": "status", "status": 429, "times": 3}], 4),
        ([{"fault": "status", "status": 500}, {"fault": "reset"}], 3),
        ([{"fault": "hang"}], 2),
    ],
    ids=["busy", "an error and a broken connection", "silence"],
)
async def test_what_may_pass_is_tried_again(api: Any, faults: list[dict[str, Any]], seen: int) -> None:
    api.plays(*faults, ANSWERED)
    started = time.monotonic()
    async with api_client(api.url.removesuffix("/v1"), timeout_s=600.0) as client:
        asking = asyncio.ensure_future(ask(client, "cheap", TASKS[0]))
        await tried(api, seen)
        outcome = await asking
    assert (outcome.prompt_id, api.state()["seen"]) == (prompt_id(TASKS[0].prompt), seen)
    # The latency is of the try that answered, without those before and the pauses between.
    assert time.monotonic() - started - outcome.latency_s > PAUSED_S * (seen - 1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"fault": "status", "status": 400, "message": "too long"}, "cheap answered 400 to task t0: .*too long"),
        ({"fault": "status", "status": 429, "retry_after": 43200, "message": "spent"}, "answered 429 .*spent"),
        ({"fault": "malformed"}, "cheap gave task t0 no answer: JSONDecodeError"),
        ({"fault": "no_choices"}, "cheap gave task t0 no answer: ValueError"),
    ],
    ids=["a refusal", "a spent budget", "half a reply", "no choice"],
)
async def test_what_will_not_pass_is_an_error_at_once(api: Any, fault: dict[str, Any], message: str) -> None:
    api.plays(fault)
    async with api_client(api.url.removesuffix("/v1")) as client, asyncio.timeout(60):
        with pytest.raises(EngineError, match=message):
            await ask(client, "cheap", TASKS[0])
    assert api.state()["seen"] == 1


async def test_a_pause_that_the_reply_asks_for_is_made(api: Any) -> None:
    api.plays({"fault": "status", "status": 429, "retry_after": 60}, ANSWERED)
    async with api_client(api.url.removesuffix("/v1")) as client:
        asking = asyncio.ensure_future(ask(client, "cheap", TASKS[0]))
        await hurry_when(lambda: api.state()["seen"] == 1, 0.0)
        await asyncio.sleep(PAUSED_S)
        hurry(50.0)
        await asyncio.sleep(PAUSED_S)
        assert api.state()["seen"] == 1
        hurry(10.0)
        await asking
    assert api.state()["seen"] == 2


async def test_a_tier_that_keeps_failing_is_given_up(api: Any) -> None:
    api.plays({"fault": "status", "status": 503, "times": 9})
    async with api_client(api.url.removesuffix("/v1")) as client:
        asking = asyncio.ensure_future(ask(client, "cheap", TASKS[0]))
        await tried(api, 1 + RETRIES)
        with pytest.raises(EngineError, match="answered 503"):
            await asking
    assert api.state()["seen"] == 1 + RETRIES


def test_the_key_is_the_graphs_own_and_not_a_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider")
    monkeypatch.delenv("SERVE_GRAPH_KEY", raising=False)
    assert api_client("http://test").api_key == "none"
    monkeypatch.setenv("SERVE_GRAPH_KEY", "sg-own")
    assert api_client("http://test").api_key == "sg-own"


async def test_a_run_begun_with_other_engines_is_not_finished_with_these(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200)
    with pytest.raises(EngineError):
        await run(api, out)
    api = Api()
    for other in (BINDS | {"cheap.engine": "c" * 64}, None):
        with pytest.raises(ServeGraphError, match=r"begun with other engines: cheap\.engine.* differ"):
            await run(api, out, other)
    assert api.asked == []


async def test_unknown_engines_are_noted_as_unknown_even_where_an_older_table_knew_its_own(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    api = Api()
    await run(api, out)
    await run(api, out, None)
    assert collected_binds(out) is None


def test_a_finished_table_is_refused_and_one_under_way_is_not(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "o.parquet"
    refuse_finished(out)
    claim(out, BINDS)
    out.touch()
    refuse_finished(out)
    partial_of(out).unlink()
    with pytest.raises(ServeGraphError, match="is complete; --overwrite"):
        refuse_finished(out)


@pytest.fixture
def context() -> GraphConfig:
    return load_config(ROOT / "configs" / "echo.yaml")


def endpoint_says(monkeypatch: pytest.MonkeyPatch, reply: httpx.Response) -> None:
    monkeypatch.setattr(httpx, "get", lambda *_, **__: reply)


def test_an_endpoint_is_believed_when_it_runs_the_same_engines(
    context: GraphConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint_says(monkeypatch, httpx.Response(200, json={"binds": binds_digest(context)}))
    assert binds_behind("http://x", context) == tier_binds(context)


def test_an_endpoint_with_other_engines_is_refused(context: GraphConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint_says(monkeypatch, httpx.Response(200, json={"binds": "f" * 64}))
    with pytest.raises(ServeGraphError, match="runs other engines"):
        binds_behind("http://x", context)


@pytest.mark.parametrize(
    "reply", [httpx.Response(404, text="?"), httpx.Response(200, text="ok"), httpx.Response(200, json=[1])]
)
def test_a_foreign_endpoint_claims_no_engines(
    reply: httpx.Response, context: GraphConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint_says(monkeypatch, reply)
    assert binds_behind("http://x", context) is None


def test_an_endpoint_that_is_down_is_one_clear_error(context: GraphConfig) -> None:
    with pytest.raises(ServeGraphError, match="does not answer"):
        binds_behind("http://127.0.0.1:9", context)


async def test_tokens_are_kept_and_cut_short_runs_keep_them_too(tmp_path: Path) -> None:
    api = Api(lambda tier, prompt, n: 400 if "number 3" in prompt and tier == "frontier" else 200)
    out = tmp_path / "o.parquet"
    with pytest.raises(EngineError):
        await run(api, out)
    api = Api()
    await run(api, out)
    kept = read_outcomes(out).tokens["cheap"]
    assert kept.texts == (("It", " is", " brown.", "<end>"),) * 4
    assert kept.logprobs[0] == pytest.approx((-0.1,) * 4, rel=1 / 4096)


def test_a_tier_that_the_configuration_lacks_is_refused(tmp_path: Path) -> None:
    words = ["collect", "--config", str(ROOT / "configs" / "echo.yaml"), "--tier", "chepa", "--out"]
    result = CliRunner().invoke(app, [*words, str(tmp_path / "o.parquet")])
    assert result.exit_code == 1
    assert "it has cheap, frontier" in str(result.exception)


async def test_one_tier_is_collected_again_and_the_other_rows_are_kept(tmp_path: Path) -> None:
    api = Api()
    out = tmp_path / "o.parquet"
    await run(api, out)
    api = Api()
    beside = [
        replace(row, metadata={**row.metadata, "collected_at": "2026-03-01T12:00:00+00:00"})
        for row in other_tiers(out, ["cheap"], BINDS)
    ]
    await collect_outcomes(
        "http://test", ["cheap"], TASKS, out, binds=BINDS, beside=beside, http_client=client_of(api)
    )
    assert {tier for tier, _ in api.asked} == {"cheap"}
    table = read_outcomes(out)
    assert (len(table), set(table.tiers)) == (4, set(TIERS))
    assert set(table.collected_at["frontier"]) == {"2026-03-01T12:00:00+00:00"}
    since = oldest(table.collected_at["cheap"], datetime.now(UTC))
    assert since is not None
    assert datetime.now(UTC) - since < timedelta(minutes=5), "when each was asked"


async def test_rows_of_other_engines_do_not_stay(tmp_path: Path) -> None:
    api = Api()
    await run(api, tmp_path / "o.parquet")
    with pytest.raises(ServeGraphError, match="of other engines"):
        other_tiers(tmp_path / "o.parquet", ["cheap"], {"cheap.engine": "c" * 64})
    assert other_tiers(tmp_path / "o.parquet", TIERS, {"cheap.engine": "c" * 64}) == []
    assert other_tiers(tmp_path / "none.parquet", ["cheap"], BINDS) == []
