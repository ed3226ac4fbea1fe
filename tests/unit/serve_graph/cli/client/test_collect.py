"""Collecting: resumable, never mixing engines, never overwriting unasked; asked of the shipped fakes."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from router_models.data.outcomes import prompt_id, read_outcomes
from router_models.data.starter import Task
from serve_graph.cli import app
from serve_graph.cli.client.collect import (
    ask,
    binds_behind,
    claim,
    collect_outcomes,
    other_tiers,
    partial_of,
    read_tasks,
    refuse_finished,
)
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.errors import EngineError, ServeGraphError
from serve_graph.policy.bindings import binds_digest, collected_binds, tier_binds

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
            return httpx.Response(status, text="no", headers={"retry-after": "0"})
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "It is brown."},
            "logprobs": {"content": TOKENS},
        }
        usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": tier, "choices": [choice]}
        return httpx.Response(200, json=reply | {"usage": usage, "serve_graph": {"tier": tier}})


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> Callable[[Api], Api]:
    """Send what collect's own client asks to an Api in this process, and let no pause between tries pass."""
    client = httpx.AsyncClient

    def install(api: Api) -> Api:
        monkeypatch.setattr(httpx, "AsyncClient", lambda **k: client(transport=httpx.MockTransport(api), **k))
        return api

    async def no_pause(_: float) -> None:
        return None

    monkeypatch.setattr(asyncio, "sleep", no_pause)
    return install


async def run(out: Path, binds: dict[str, str] | None = BINDS) -> Any:
    return await collect_outcomes("http://test", TIERS, TASKS, out, binds=binds)


async def test_a_table_is_written_with_its_engines_and_nothing_partial_is_left(
    tmp_path: Path, through: Callable[[Api], Api]
) -> None:
    api, out = through(Api()), tmp_path / "o.parquet"
    outcomes = await run(out)
    assert len(api.asked) == len(outcomes) == 8
    assert {o.grade for o in outcomes} == {1.0}
    assert len(read_outcomes(out)) == 4
    assert collected_binds(out) == BINDS
    assert {p.name for p in tmp_path.iterdir()} == {"o.parquet", "o.parquet.binds.json"}


async def test_a_failing_tier_is_an_error_and_the_next_run_asks_only_what_is_missing(
    tmp_path: Path, through: Callable[[Api], Api]
) -> None:
    out = tmp_path / "o.parquet"
    through(Api(lambda tier, prompt, n: 503 if tier == "frontier" and "number 2" in prompt else 200))
    with pytest.raises(EngineError, match=r"1 task\(s\) got no answer .*first: frontier answered 503"):
        await run(out)
    assert not out.exists()
    again = through(Api())
    assert len(await run(out)) == 8
    assert again.asked == [("frontier", TASKS[2].prompt)]


async def test_a_line_cut_short_is_asked_again(tmp_path: Path, through: Callable[[Api], Api]) -> None:
    out = tmp_path / "o.parquet"
    through(Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200))
    with pytest.raises(EngineError):
        await run(out)
    partial = partial_of(out)
    partial.write_text(partial.read_text()[:-30])
    again = through(Api())
    outcomes = await run(out)
    assert len(outcomes) == len({(o.prompt_id, o.tier) for o in outcomes}) == 8
    assert sum(tier == "cheap" for tier, _ in again.asked) == 1


async def test_answers_with_line_separators_of_unicode_are_kept(tmp_path: Path, through: Callable[[Api], Api]) -> None:
    out = tmp_path / "o.parquet"
    through(Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200))
    with pytest.raises(EngineError):
        await run(out)
    partial = partial_of(out)
    partial.write_text(partial.read_text().replace('"answer": "', '"answer": "\u2028'))
    again = through(Api())
    await run(out)
    assert not any(tier == "cheap" for tier, _ in again.asked)


async def test_what_was_collected_is_graded_again_by_the_grader_of_today(
    tmp_path: Path, through: Callable[[Api], Api]
) -> None:
    out = tmp_path / "o.parquet"
    through(Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200))
    with pytest.raises(EngineError):
        await run(out)
    partial = partial_of(out)
    partial.write_text(partial.read_text().replace('"grade": 1.0', '"grade": 0.0'))
    through(Api())
    assert {o.grade for o in await run(out)} == {1.0}


async def test_busy_answers_are_tried_again_and_a_refusal_is_not(through: Callable[[Api], Api]) -> None:
    api = Api(lambda tier, prompt, n: 429 if n < 3 else 200)
    async with httpx.AsyncClient(transport=httpx.MockTransport(api), base_url="http://test") as client:
        through(api)
        assert (await ask(client, "cheap", TASKS[0])).prompt_id == prompt_id(TASKS[0].prompt)
        assert len(api.asked) == 3
        api.fail = lambda tier, prompt, n: 400
        with pytest.raises(EngineError, match="answered 400"):
            await ask(client, "cheap", TASKS[1])
        assert len(api.asked) == 4


async def test_a_spent_budget_is_not_waited_out() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(429, text="insufficient_quota", headers={"retry-after": "43200"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://test") as client:
        async with asyncio.timeout(60):  # it asks for half a day
            with pytest.raises(EngineError, match="insufficient_quota"):
                await ask(client, "cheap", TASKS[0])


async def test_a_date_to_come_back_at_is_waited_for_like_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    busy = Api(lambda tier, prompt, n: 429 if n == 1 else 200)

    def answer(request: httpx.Request) -> httpx.Response:
        reply = busy(request)
        if reply.status_code == 429:
            reply.headers["retry-after"] = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        return reply

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://test") as client:
        assert (await ask(client, "cheap", TASKS[0])).answer == "It is brown."
    assert 30 < max(paused) <= 60


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"choices": []}', b'{"choices": [{"message": null}]}'])
async def test_a_reply_that_holds_no_answer_is_an_error_and_not_a_crash(content: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=content))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(EngineError, match="cheap's reply to task t0 holds no answer"):
            await ask(client, "cheap", TASKS[0])


async def test_a_run_begun_with_other_engines_is_not_finished_with_these(
    tmp_path: Path, through: Callable[[Api], Api]
) -> None:
    out = tmp_path / "o.parquet"
    through(Api(lambda tier, prompt, n: 503 if tier == "frontier" else 200))
    with pytest.raises(EngineError):
        await run(out)
    api = through(Api())
    for other in (BINDS | {"cheap.engine": "c" * 64}, None):
        with pytest.raises(ServeGraphError, match=r"begun with other engines: cheap\.engine.* differ"):
            await run(out, other)
    assert api.asked == []


async def test_unknown_engines_are_noted_as_unknown_even_where_an_older_table_knew_its_own(
    tmp_path: Path, through: Callable[[Api], Api]
) -> None:
    out = tmp_path / "o.parquet"
    through(Api())
    await run(out)
    await run(out, None)
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


def test_tasks_are_read_and_the_first_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(json.dumps(t.to_json()) for t in TASKS) + "\n\n")
    assert read_tasks(path) == TASKS
    path.write_text(json.dumps(TASKS[0].to_json()) + '\n{"id": 1}\n')
    with pytest.raises(ServeGraphError, match=r"tasks\.jsonl:2: not a task"):
        read_tasks(path)
    path.write_text("[1]\n")
    with pytest.raises(ServeGraphError, match=r"tasks\.jsonl:1: not a task"):
        read_tasks(path)
    path.write_text("\n")
    with pytest.raises(ServeGraphError, match="holds no task"):
        read_tasks(path)


@pytest.mark.parametrize("content", [None, b"\xb6\xff"], ids=["missing", "not text"])
def test_a_file_of_tasks_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tasks.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ServeGraphError, match=r"tasks\.jsonl: cannot be read as JSON lines"):
        read_tasks(path)


def test_line_separators_inside_a_text_do_not_end_its_line(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    odd = replace(TASKS[0], prompt="one\u2028two\x85three")
    path.write_text(json.dumps(odd.to_json(), ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_tasks(path) == [odd]


async def test_tokens_are_kept_and_cut_short_runs_keep_them_too(tmp_path: Path, through: Callable[[Api], Api]) -> None:
    through(Api(lambda tier, prompt, n: 400 if "number 3" in prompt and tier == "frontier" else 200))
    out = tmp_path / "o.parquet"
    with pytest.raises(EngineError):
        await run(out)
    through(Api())
    await run(out)
    kept = read_outcomes(out).tokens["cheap"]
    assert kept.texts == (("It", " is", " brown.", "<end>"),) * 4
    assert kept.logprobs[0] == pytest.approx((-0.1,) * 4, rel=1 / 4096)


def test_a_tier_that_the_configuration_lacks_is_refused(tmp_path: Path) -> None:
    words = ["collect", "--config", str(ROOT / "configs" / "echo.yaml"), "--tier", "chepa", "--out"]
    result = CliRunner().invoke(app, [*words, str(tmp_path / "o.parquet")])
    assert result.exit_code == 1
    assert "it has cheap, frontier" in str(result.exception)


async def test_one_tier_is_asked_again_and_the_others_rows_stay(tmp_path: Path, through: Callable[[Api], Api]) -> None:
    through(Api())
    out = tmp_path / "o.parquet"
    await run(out)
    api = through(Api())
    beside = other_tiers(out, ["cheap"], BINDS)
    await collect_outcomes("http://test", ["cheap"], TASKS, out, binds=BINDS, beside=beside)
    assert {tier for tier, _ in api.asked} == {"cheap"}
    table = read_outcomes(out)
    assert (len(table), set(table.tiers)) == (4, set(TIERS))


async def test_rows_of_other_engines_do_not_stay(tmp_path: Path, through: Callable[[Api], Api]) -> None:
    through(Api())
    await run(tmp_path / "o.parquet")
    with pytest.raises(ServeGraphError, match="of other engines"):
        other_tiers(tmp_path / "o.parquet", ["cheap"], {"cheap.engine": "c" * 64})
    assert other_tiers(tmp_path / "o.parquet", TIERS, {"cheap.engine": "c" * 64}) == []
    assert other_tiers(tmp_path / "none.parquet", ["cheap"], BINDS) == []
