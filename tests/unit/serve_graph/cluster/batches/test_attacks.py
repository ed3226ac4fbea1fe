"""What would have a batch never end, keep others from theirs, or lose what a line says."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeEngine
from serve_graph.errors import StoreUnavailableError
from serve_graph.records.batches.batches_table import BatchesTable
from tests.unit.serve_graph.cluster.batches.batch_graph import CHAT, BatchGraph, jsonl, line

Graphs = Callable[..., BatchGraph]


@pytest.mark.parametrize("first", [True, False])
async def test_a_line_that_cannot_be_read_any_more_fails_alone(graph: Graphs, first: bool) -> None:
    """The graph was started again with shorter bodies, after the file was checked."""
    at = graph()
    long = {"model": "auto", "messages": [{"role": "user", "content": "x" * 500}]}
    lines = [line(1), line(2, CHAT, **long), line(3)]
    if not first:
        lines[1] = dict(reversed(lines[1].items()))  # its custom_id is behind what is read
    batch = await at.create(jsonl(*lines))
    [row] = await at.parts.batches.free(at.now_ms)
    held = await at.parts.batches.take(row, "former replica", at.now_ms + 9000)
    assert held is not None
    checked = await at.parts.batches.change(held, ("validating",), status="in_progress", total=3)
    await at.parts.batches.release(checked)
    at.max_line_bytes = 300
    async with at.working():
        ended = await at.ended(batch, seconds=5)
    assert (ended["status"], ended["request_counts"]) == ("completed", {"total": 3, "completed": 2, "failed": 1})
    [told] = await at.lines(ended["error_file_id"])
    assert told["custom_id"] == ("row-2" if first else "")
    assert (told["response"]["status_code"], told["response"]["body"]["error"]["code"]) == (400, "line_too_long")


async def test_a_line_that_nests_as_deep_as_may_be_fails_alone(graph: Graphs) -> None:
    """How deep JSON may nest depends on how deep its reader's stack is: what the check can read, others may not."""
    at = graph(max_line_bytes=100_000)
    for depth in range(940, 1000, 4):
        text = json.dumps(line(2)).replace('"auto"', "[" * depth + "]" * depth).encode()
        batch = await at.run(jsonl(line(1)) + text + b"\n")
        counts = batch["request_counts"]
        assert batch["status"] == "failed" or counts == {"total": 2, "completed": 1, "failed": 1}, depth


async def test_large_batches_of_a_key_do_not_keep_anothers_from_beginning(graph: Graphs) -> None:
    at = graph(
        keys=({"name": "ann"}, {"name": "bob"}), batches={"concurrency": 2, "beside": 2},
        fakes={"cheap": FakeEngine("x", slow_s=0.05)},
    )  # fmt: skip
    large = [await at.create(jsonl(*(line(n) for n in range(200))), "ann") for _ in range(6)]
    async with at.working() as worker:
        await at.until(large[0], lambda one: one["request_counts"]["completed"] >= 2, "ann")
        small = await at.create(jsonl(line(1)), "bob")
        await at.ended(small, "bob", seconds=5)
        assert [row.owner for row in worker._rows.values()] == ["ann"] * 4
        for one in large:
            assert (await at.get(f"/v1/batches/{one['id']}", "ann")).json()["completed_at"] is None


async def test_results_whose_writing_was_not_heard_of_are_written_once(graph: Graphs) -> None:
    at = graph()

    class Unheard(BatchesTable):
        left = 2

        async def note(self, row: Any, results: Any, until_ms: int, **how: Any) -> Any:
            noted = await super().note(row, results, until_ms, **how)
            if results and self.left:
                self.left -= 1
                raise StoreUnavailableError("the connection broke after the commit")
            return noted

    batch = await at.create(jsonl(*(line(n) for n in range(20))))
    async with at.working(at.worker(replace(at.parts, batches=Unheard(at.store)))):
        ended = await at.ended(batch, seconds=5)
    assert ended["request_counts"] == {"total": 20, "completed": 20, "failed": 0}
    assert len(await at.lines(ended["output_file_id"])) == 20
    assert len(at.sink.records) == 20


@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a\ud800b", "a\u2029 \ud83d\ude00 ☃"])
async def test_a_custom_id_comes_back_as_it_was_and_no_line_is_broken(graph: Graphs, name: str) -> None:
    at = graph(fakes={"cheap": FakeEngine("one\u2028two\x85three")})
    batch = await at.run(jsonl({**line(1), "custom_id": name}, line(2, CHAT, model="none", messages=[])))
    for file, ids in ((batch["output_file_id"], [name]), (batch["error_file_id"], ["row-2"])):
        text = (await at.get(f"/v1/files/{file}/content")).content.decode()
        assert [json.loads(one)["custom_id"] for one in text.splitlines()] == [json.loads(json.dumps(n)) for n in ids]


async def test_results_are_kept_no_longer_than_the_configuration_says(graph: Graphs) -> None:
    at = graph(batches={"keep_days": 1})
    batch = await at.run(jsonl(line(1)), output_expires_after={"anchor": "created_at", "seconds": 2_592_000})
    file = (await at.get(f"/v1/files/{batch['output_file_id']}")).json()
    assert file["expires_at"] - file["created_at"] == 86_400


async def test_whoever_has_no_key_does_not_slow_batches_down(graph: Graphs) -> None:
    at = graph(keys=({"name": "ann"},))
    async with at.client() as stranger:
        for path in ("/healthz", "/readyz", "/v1/registry/events"):
            await stranger.post(path, content=b"{}")
    assert not at.accounts.traffic.is_there
