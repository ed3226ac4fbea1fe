"""What fails while collecting is kept with its reason; the other answers are not lost for it."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from router_models.data.outcomes import read_outcomes
from router_models.data.starter import Task
from serve_graph.cli.client.collect import collect_outcomes
from serve_graph.cli.client.unfinished import failures_of, other_tiers, partial_of, refuse_finished, reopen
from serve_graph.errors import EngineError, ServeGraphError

TIERS = ("cheap", "frontier")
Reply = Callable[[str], Any]


def task(i: int, grader: str = "mentions", reference: dict[str, Any] | None = None) -> Task:
    return Task(f"t{i}", f"What is the colour of the cat number {i}?", "notes", 1, "en", grader,
                {"accepted": ["brown"]} if reference is None else reference, "brown", 8)  # fmt: skip


TASKS = [task(i) for i in range(4)]


def said(text: str = "It is brown.", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4}} | more


class Server:
    """An API that answers as told about cat number 2, and well about all others."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        tier, prompt = body["model"], body["messages"][-1]["content"]
        self.asked.append((tier, prompt[-2:-1]))
        reply = self.reply(tier) if "number 2" in prompt else said()
        if asyncio.iscoroutine(reply):
            reply = await reply
        if isinstance(reply, Exception):
            raise reply
        content = reply if isinstance(reply, bytes) else json.dumps(reply).encode()

        async def body_of() -> Any:
            yield content

        return httpx.Response(200, content=body_of())


def bad(reply: Any, tiers: tuple[str, ...] = TIERS) -> Server:
    return Server(lambda tier: reply if tier in tiers else said())


async def run(server: Server, out: Path, **more: Any) -> Any:
    client = httpx.AsyncClient(transport=httpx.MockTransport(server))
    return await collect_outcomes("http://test", TIERS, TASKS, out, http_client=client, **more)


def failures(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in failures_of(out).read_text().splitlines()]


def logprob(value: Any) -> dict[str, Any]:
    reply = said()
    reply["choices"][0]["logprobs"] = {"content": [{"token": "It", "logprob": value}]}
    return reply


REPLIES: dict[str, tuple[Any, str]] = {
    "HTML": (b"<html><body>Bad gateway</body></html>", "JSONDecodeError"),
    "nothing": (b"", "JSONDecodeError"),
    "half a reply": (b'{"choices": [{"mess', "JSONDecodeError"),
    "bytes": (b"\xff\xfe\x00", "no answer"),
    "a list": ([], "no answer"),
    "a text": ("fine", "no answer"),
    "no choices": ({}, "KeyError"),
    "empty choices": ({"choices": []}, "no answer"),
    "an error object": ({"error": {"message": "out of memory"}}, "with an error: .*out of memory"),
    "no message": ({"choices": [{}]}, "no answer"),
    "a number for a text": (said(5), "no answer"),  # type: ignore[arg-type]
    "nested without end": (b"[" * 100_000, "RecursionError"),
    "facts that are none": (said(serve_graph="x"), "AttributeError"),
    "another tier": (said(serve_graph={"tier": "third"}), "third answered task t2 instead of"),
    "a logprob without end": (logprob(-1e400), "logprob is infinite"),
    "a logprob in words": (logprob("low"), "no answer"),
}


@pytest.mark.parametrize(("reply", "reason"), REPLIES.values(), ids=REPLIES)
async def test_a_reply_that_is_none_is_a_failure_and_the_others_go_on(tmp_path: Path, reply: Any, reason: str) -> None:
    out = tmp_path / "o.parquet"
    with pytest.raises(EngineError, match=r"2 task\(s\) got no answer \(cheap 1, frontier 1\)"):
        await run(bad(reply), out)
    assert [(f["task"], f["tier"]) for f in failures(out)] == [("t2", "cheap"), ("t2", "frontier")]
    assert all(re.search(reason, f["reason"]) for f in failures(out))
    again = bad(said())
    assert len(await run(again, out)) == 8
    assert again.asked == [("cheap", "2"), ("frontier", "2")]
    assert {p.name for p in tmp_path.iterdir()} == {"o.parquet", "o.parquet.binds.json"}


@pytest.mark.parametrize("count", [-1, 10**30, "many"])
async def test_impossible_token_counts_are_counted_as_none(tmp_path: Path, count: Any) -> None:
    out = tmp_path / "o.parquet"
    await run(bad(said(usage={"prompt_tokens": count})), out)
    assert sorted(read_outcomes(out).prompt_tokens["cheap"].tolist()) == [0, 9, 9, 9]


async def test_half_a_character_in_an_answer_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    await run(bad(said("brown \ud83d")), out)
    assert sorted(set(read_outcomes(out).answers["cheap"].texts)) == ["It is brown.", "brown \ufffd"]


async def test_a_task_that_hangs_costs_its_time_and_no_more(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    server = Server(lambda tier: asyncio.sleep(60))
    async with asyncio.timeout(10):
        with pytest.raises(EngineError, match=r"2 task\(s\) got no answer"):
            await run(server, out, task_s=0.2)
    assert {f["reason"] for f in failures(out)} == {
        "cheap gave task t2 no answer in 0.2 s",
        "frontier gave task t2 no answer in 0.2 s",
    }


async def test_a_tier_that_answers_nothing_is_given_up(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    tasks = [task(200 + i) for i in range(20)]  # each of them a "number 2…"
    server = Server(lambda tier: asyncio.sleep(60) if tier == "cheap" else said())
    client = httpx.AsyncClient(transport=httpx.MockTransport(server))
    async with asyncio.timeout(20):
        with pytest.raises(EngineError, match=r"20 task\(s\) got no answer \(cheap 20\).*no answer at all of cheap"):
            await collect_outcomes(
                "http://test", TIERS, tasks, out, http_client=client, task_s=0.2, concurrency=4, skip_failed=True
            )
    assert sum(tier == "cheap" for tier, _ in server.asked) <= 8
    assert sum(tier == "frontier" for tier, _ in server.asked) == 20
    assert sum(f["reason"].startswith("not asked: ") for f in failures(out)) >= 12


async def test_a_connection_that_is_reset_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "o.parquet"
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with pytest.raises(EngineError, match=r"2 task\(s\) got no answer"):
        await run(bad(httpx.ReadError("connection reset by peer")), out)
    assert len(failures(out)) == 2


async def test_the_table_can_be_finished_without_what_failed_and_the_rest_asked_later(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    rows = await run(bad(b"<html>", ("frontier",)), out, skip_failed=True)
    assert len(rows) == 7
    table = read_outcomes(out)
    assert len(table) == 4
    assert len(table.only(*TIERS)) == 3
    assert [f["task"] for f in failures(out)] == ["t2"]
    refuse_finished(out)
    reopen(out, {row.prompt_id for row in rows}, TIERS, None)
    again = bad(said())
    assert len(await run(again, out)) == 8
    assert again.asked == [("frontier", "2")]
    with pytest.raises(ServeGraphError, match="is complete"):
        refuse_finished(out)


async def test_a_table_of_other_tasks_or_engines_is_not_taken_up(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    rows = await run(bad(b"<html>", ("frontier",)), out, skip_failed=True)
    ids = {row.prompt_id for row in rows}
    for prompts, binds in ((set(), None), (ids, {"cheap.engine": "a"})):
        with pytest.raises(ServeGraphError, match="from other tasks or engines"):
            reopen(out, prompts, TIERS, binds)
    assert not partial_of(out).exists()


@pytest.mark.parametrize("change", [{"grade": "x"}, {"prompt_tokens": None}, {"token_texts": "x"}])
async def test_a_table_that_was_changed_by_hand_is_not_added_to(tmp_path: Path, change: dict[str, Any]) -> None:
    out = tmp_path / "o.parquet"
    await run(bad(said()), out)
    pd.read_parquet(out).assign(**change).to_parquet(out)
    with pytest.raises(ServeGraphError, match="not a table that `collect` wrote"):
        other_tiers(out, ["frontier"], None)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"a,b"])
def test_a_file_that_is_no_table_is_not_added_to(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "o.parquet").write_bytes(content)
    with pytest.raises(ServeGraphError, match="not a table that `collect` wrote"):
        other_tiers(tmp_path / "o.parquet", ["cheap"], None)


async def test_an_answer_that_cannot_be_graded_is_kept_and_graded_by_the_next_run(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    server = bad(said())
    tasks = [task(0), task(2, "number", {"value": "two"})]
    client = httpx.AsyncClient(transport=httpx.MockTransport(server))
    with pytest.raises(EngineError, match="the answer cannot be graded: TypeError"):
        await collect_outcomes("http://test", TIERS, tasks, out, http_client=client)
    again = bad(said())
    client = httpx.AsyncClient(transport=httpx.MockTransport(again))
    rows = await collect_outcomes("http://test", TIERS, [task(0), task(2)], out, http_client=client)
    assert again.asked == []
    assert [row.grade for row in rows] == [1.0] * 4


@pytest.mark.parametrize("cut", [1, 3, 30, 200], ids="{} bytes short".format)
async def test_a_run_that_was_killed_is_taken_up_where_it_was(tmp_path: Path, cut: int) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "o.parquet"
    answer = said("It is brown – «brün» \u2028 \U0001f408")
    expected = await run(bad(answer), whole)
    with pytest.raises(EngineError):
        await run(Server(lambda tier: answer if tier == "cheap" else b""), out)
    partial = partial_of(out)
    partial.write_bytes(partial.read_bytes()[:-cut])
    with pytest.raises(EngineError):  # what is asked again stands on a line of its own
        await run(Server(lambda tier: answer if tier == "cheap" else b""), out)
    again = bad(answer)
    rows = await run(again, out)
    assert again.asked == [("frontier", "2")]
    assert [(r.prompt_id, r.tier, r.answer, r.grade) for r in rows] == [
        (r.prompt_id, r.tier, r.answer, r.grade) for r in expected
    ]


async def test_a_conversation_is_sent_as_it_is(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which colour?"}]
    sent = []

    async def listen(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content)["messages"])
        return await bad(said())(request)

    record = TASKS[0].to_json() | {"prompt": chat}
    client = httpx.AsyncClient(transport=httpx.MockTransport(listen))
    out = tmp_path / "o.parquet"
    await collect_outcomes("http://test", TIERS, [Task.from_json(record)], out, http_client=client)
    assert sent == [chat, chat]
    assert read_outcomes(out).prompts.texts == ("Be brief.\nWhich colour?",)
