"""A batch from its upload to its results, over fakes: every way it can go."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeEmbedder, FakeEngine
from serve_graph.errors import EngineError, SaturatedError, StoreUnavailableError
from tests.unit.serve_graph.cluster.batches.batch_graph import CHAT, BatchGraph, failing_notes, jsonl, line

Graphs = Callable[..., BatchGraph]


def ids(lines: list[dict[str, Any]]) -> list[str]:
    return [one["custom_id"] for one in lines]


async def test_every_line_has_an_answer_with_its_custom_id_in_the_files_order(graph: Graphs) -> None:
    at = graph()
    batch = await at.run(jsonl(*(line(n) for n in range(25))), metadata={"job": "a"})
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 25, "completed": 25, "failed": 0}
    assert batch["metadata"] == {"job": "a"}
    assert batch["error_file_id"] is None
    assert batch["usage"]["total_tokens"] == 25 * 15
    assert batch["created_at"] <= batch["in_progress_at"] <= batch["finalizing_at"] <= batch["completed_at"]
    lines = await at.lines(batch["output_file_id"])
    assert ids(lines) == [f"row-{n}" for n in range(25)]
    one = lines[7]
    assert set(one) == {"id", "custom_id", "response", "error"}
    assert (one["error"], one["response"]["status_code"]) == (None, 200)
    body = one["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "cheap says"
    [record] = [record for record in at.sink.records if record.id == body["serve_graph"]["decision"]]
    assert record.evidence["request_id"] == one["response"]["request_id"] == f"{batch['id']}:8"
    assert len(at.sink.records) == 25


@pytest.mark.parametrize(
    ("url", "body", "shape"),
    [
        ("/v1/completions", {"model": "auto", "prompt": "x"}, "text_completion"),
        ("/v1/responses", {"model": "auto", "input": "x"}, "response"),
        ("/v1/embeddings", {"model": "auto", "input": "x"}, "list"),
    ],
)
async def test_other_endpoints_answer_in_their_own_shape(
    graph: Graphs, url: str, body: dict[str, Any], shape: str
) -> None:
    at = graph(fakes={"embedder": FakeEmbedder()})
    batch = await at.run(jsonl(line(1, url, **body)), endpoint=url)
    [one] = await at.lines(batch["output_file_id"])
    assert one["response"]["body"]["object"] == shape
    assert batch["usage"]["total_tokens"] > 0


async def test_lines_that_are_refused_are_in_the_error_file_as_their_route_would_refuse_them(graph: Graphs) -> None:
    asked = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}
    bad = [{**asked, "stream": True}, {**asked, "model": "gpt-17"}, {**asked, "n": 100}]
    lines = [line(0), *(line(n, CHAT, **body) for n, body in enumerate(bad, 1))]
    at = graph()
    batch = await at.run(jsonl(*lines))
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 4, "completed": 1, "failed": 3})
    assert ids(await at.lines(batch["output_file_id"])) == ["row-0"]
    told = await at.lines(batch["error_file_id"])
    errors = {one["custom_id"]: one["response"]["body"]["error"] for one in told}
    assert {name: error["param"] for name, error in errors.items()} == {
        "row-1": "stream",
        "row-2": "model",
        "row-3": "n",
    }
    assert [one["response"]["status_code"] for one in told] == [400, 404, 400]
    assert all(one["error"] is None for one in told)


@pytest.mark.parametrize(
    ("content", "code", "number", "param"),
    [
        (b"", "empty_file", None, None),
        (b"\n\r\n  \n", "empty_file", None, None),
        (jsonl(line(1)) + b"{nonsense\n", "invalid_json_line", 2, None),
        (jsonl(line(1)) + b"[1]\n", "invalid_json_line", 2, None),
        (jsonl(line(1), line(2), line(1)), "duplicate_custom_id", 3, "custom_id"),
        (jsonl({**line(1), "custom_id": None}), "missing_required_parameter", 1, "custom_id"),
        (jsonl({**line(1), "custom_id": 7}), "invalid_type", 1, "custom_id"),
        (jsonl({**line(1), "method": "GET"}), "invalid_method", 1, "method"),
        (jsonl(line(1), line(2, "/v1/embeddings")), "url_mismatch", 2, "url"),
        (jsonl({**line(1), "body": "x"}), "invalid_type", 1, "body"),
        (jsonl(line(1, CHAT, model="auto", messages="x" * 5000)), "line_too_long", 1, None),
        (jsonl(*(line(n) for n in range(31))), "too_many_tasks", None, None),
    ],
)
async def test_a_file_with_a_malformed_line_fails_and_says_which(
    graph: Graphs, content: bytes, code: str, number: int | None, param: str | None
) -> None:
    at = graph(batches={"max_lines": 30})
    batch = await at.run(content)
    assert batch["status"] == "failed"
    assert batch["failed_at"] is not None
    [error] = batch["errors"]["data"]
    assert (error["code"], error["line"], error["param"]) == (code, number, param)
    assert error["message"]
    assert at.sink.records == []


async def test_byte_order_mark_line_ends_of_windows_and_blank_lines_are_read_over(graph: Graphs) -> None:
    at = graph()
    content = b"\xef\xbb\xbf" + b"\r\n".join(jsonl(line(n)).strip() for n in range(3)) + b"\r\n\r\n"
    batch = await at.run(content + jsonl(line(9)).strip())
    assert ids(await at.lines(batch["output_file_id"])) == ["row-0", "row-1", "row-2", "row-9"]


async def test_cancelling_keeps_what_is_done_and_names_the_rest(graph: Graphs) -> None:
    at = graph(batches={"concurrency": 2, "beside": 2}, fakes={"cheap": FakeEngine("done", slow_s=0.1)})
    batch = await at.create(jsonl(*(line(n) for n in range(40))))
    async with at.working():
        await at.until(batch, lambda one: one["request_counts"]["completed"] >= 2)
        async with at.client() as client:
            cancelling = (await client.post(f"/v1/batches/{batch['id']}/cancel")).json()
            assert cancelling["status"] == "cancelling"
            assert cancelling["cancelling_at"] is not None
        ended = await at.ended(batch)
        async with at.client() as client:
            again = await client.post(f"/v1/batches/{batch['id']}/cancel")
    assert ended["status"] == "cancelled"
    done, left = await at.lines(ended["output_file_id"]), await at.lines(ended["error_file_id"])
    assert sorted(ids(done) + ids(left), key=lambda name: int(name[4:])) == [f"row-{n}" for n in range(40)]
    assert 2 <= len(done) == ended["request_counts"]["completed"] < 40
    assert {(one["response"], one["error"]["code"]) for one in left} == {(None, "batch_cancelled")}
    assert len(at.sink.records) == len(done)
    error = again.json()["error"]
    assert (again.status_code, error["code"]) == (400, "invalid_batch_status")
    assert "status 'cancelled'" in error["message"]


async def test_what_is_not_answered_when_the_window_is_over_expires(graph: Graphs) -> None:
    at = graph(batches={"concurrency": 1}, fakes={"cheap": FakeEngine("done", slow_s=0.1)})
    batch = await at.create(jsonl(*(line(n) for n in range(20))))
    async with at.working():
        await at.until(batch, lambda one: one["request_counts"]["completed"] >= 1)
        at.offset_ms = 25 * 3600 * 1000
        ended = await at.ended(batch)
    assert ended["status"] == "expired"
    assert ended["expired_at"] >= ended["expires_at"]
    left = await at.lines(ended["error_file_id"])
    assert {one["error"]["code"] for one in left} == {"batch_expired"}
    assert len(left) + len(await at.lines(ended["output_file_id"])) == 20


async def test_another_process_goes_on_where_one_was_cut_off_and_no_line_is_lost_or_doubled(graph: Graphs) -> None:
    """The first one has answered lines that it could not write: those were in flight, and are asked again."""
    slow = FakeEngine("slow", slow_s=0.1)
    at = graph(batches={"concurrency": 4, "beside": 4}, fakes={"cheap": slow}, lease_s=1.0)
    batch = await at.create(jsonl(*(line(n) for n in range(60))))
    written = 0

    class CutOff(type(at.parts.batches)):  # type: ignore[misc]
        async def note(self, row: Any, results: Any, until_ms: int, *, again: bool = False) -> Any:
            nonlocal written
            if written >= 10:
                raise StoreUnavailableError("cut off")
            written += len(results)
            return await super().note(row, results, until_ms, again=again)

    first = at.worker(replace(at.parts, batches=CutOff(at.store)))
    async with at.working(first):
        await asyncio.sleep(1.5)
    asked_by_first = len(at.sink.records)
    assert written < asked_by_first < 60
    at.offset_ms = 2000  # its hold is over
    async with at.working():
        ended = await at.ended(batch)
    assert ended["request_counts"] == {"total": 60, "completed": 60, "failed": 0}
    assert ids(await at.lines(ended["output_file_id"])) == [f"row-{n}" for n in range(60)]
    assert len(at.sink.records) == asked_by_first + 60 - written


async def test_a_worker_that_has_lost_its_batch_writes_nothing_and_stops_asking(graph: Graphs) -> None:
    slow = FakeEngine("slow", slow_s=0.2)
    at = graph(batches={"concurrency": 2, "beside": 2}, fakes={"cheap": slow}, lease_s=1.0)
    batch = await at.create(jsonl(*(line(n) for n in range(12))))
    async with at.working() as first:
        await at.until(batch, lambda one: one["request_counts"]["completed"] >= 2)
        row = await at.parts.batches.get(batch["id"], None)
        assert row is not None
        taken = await at.parts.batches.take(row, "another", at.now_ms + 60_000)
        assert taken is not None
        await asyncio.sleep(0.7)
        asked, counts = len(at.sink.records), (await at.parts.batches.get(batch["id"], None))
        await asyncio.sleep(0.7)
        assert counts is not None
        assert len(at.sink.records) == asked < 12
        assert (await at.parts.batches.get(batch["id"], None)) == counts
        assert first.metrics.lost == 1


async def test_a_worker_that_is_stopped_frees_its_batches_at_once(graph: Graphs) -> None:
    at = graph(batches={"concurrency": 1}, fakes={"cheap": FakeEngine("x", slow_s=0.1)})
    batch = await at.create(jsonl(*(line(n) for n in range(8))))
    async with at.working():
        await at.until(batch, lambda one: one["request_counts"]["completed"] >= 1)
    async with at.working():
        ended = await at.ended(batch, seconds=10)  # the first one's hold would be longer
    assert ended["request_counts"]["completed"] == 8


async def test_a_full_tier_is_waited_for_and_one_that_fails_is_tried_again(
    graph: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_graph.cluster.batches.line_run.FIRST_WAIT_S", 0.01)
    faults: list[Exception] = [SaturatedError("full", retry_after_s=0.01)] * 6 + [EngineError("away")]

    class Faulty(FakeEngine):
        async def generate(self, query: Any, left_s: float = 9.0) -> Any:
            if faults:
                raise faults.pop()
            return await super().generate(query, left_s)

    both = Faulty("well")
    at = graph(fakes={"cheap": both, "frontier": both}, batches={"concurrency": 1})
    batch = await at.run(jsonl(line(1)))
    assert (batch["status"], batch["request_counts"]["completed"]) == ("completed", 1)


async def test_a_line_whose_tiers_never_answer_fails_after_its_attempts(
    graph: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve_graph.cluster.batches.line_run.FIRST_WAIT_S", 0.01)
    dead = FakeEngine(error=EngineError("died"))
    at = graph(fakes={"cheap": dead, "frontier": dead}, batches={"attempts": 3})
    batch = await at.run(jsonl(line(1)))
    [one] = await at.lines(batch["error_file_id"])
    assert one["response"]["status_code"] == 503
    assert len(at.sink.records) == 3


async def test_deleting_the_input_of_a_batch_under_way_is_refused_and_its_loss_ends_it(graph: Graphs) -> None:
    at = graph()
    batch = await at.create(jsonl(line(1)))
    async with at.client() as client:
        refused = await client.delete(f"/v1/files/{batch['input_file_id']}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "file_in_use")
    (at.folder / "files" / batch["input_file_id"]).unlink()
    async with at.working():
        ended = await at.ended(batch)
    assert ended["status"] == "failed"
    assert ended["errors"]["data"][0]["code"] == "input_file_not_found"


async def test_results_wait_while_the_store_is_away_and_nothing_more_is_begun(graph: Graphs) -> None:
    at = graph(batches={"concurrency": 2}, lease_s=0.4)
    await at.create(jsonl(*(line(n) for n in range(500))))
    async with at.working(at.worker(failing_notes(at.parts))):
        await asyncio.sleep(1.0)
        asked = len(at.sink.records)
        await asyncio.sleep(0.5)
        assert len(at.sink.records) == asked < 500


async def test_result_files_are_readable_by_their_owner_alone(graph: Graphs) -> None:
    at = graph()
    batch = await at.run(jsonl(line(1)))
    folder = at.folder / "files"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert {path.name for path in folder.iterdir()} == {batch["input_file_id"], batch["output_file_id"]}


async def test_old_files_and_batches_are_forgotten(graph: Graphs) -> None:
    at = graph(batches={"keep_days": 1})
    batch = await at.run(jsonl(line(1)))
    at.offset_ms = 2 * 86_400_000
    await at.worker().tidy()
    assert list((at.folder / "files").iterdir()) == []
    assert (await at.get(f"/v1/batches/{batch['id']}")).status_code == 404
    assert json.loads((await at.get("/v1/files")).text)["data"] == []
