"""Whose batches are whose, and what their keys permit: ownership, rates, budgets, places, revocation."""

from collections.abc import Callable
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeEngine
from tests.unit.serve_graph.cluster.batches.batch_graph import CHAT, BatchGraph, jsonl, line

Graphs = Callable[..., BatchGraph]
ANN, BOB, ADMIN = {"name": "ann"}, {"name": "bob"}, {"name": "root", "scopes": ("use", "admin")}


async def test_a_key_sees_its_own_files_and_batches_and_one_with_admin_everybodys(graph: Graphs) -> None:
    at = graph(keys=(ANN, BOB, ADMIN))
    batch = await at.run(jsonl(line(1)), "ann")
    names = [batch["input_file_id"], batch["output_file_id"]]
    for path in (f"/v1/batches/{batch['id']}", *(f"/v1/files/{name}" for name in names)):
        assert [(await at.get(path, key)).status_code for key in ("ann", "bob", "root")] == [200, 404, 200]
        assert set((await at.get(path, "bob")).json()["error"]) == {"message", "type", "param", "code"}
    assert (await at.get(f"/v1/files/{names[1]}/content", "bob")).status_code == 404
    async with at.client("bob") as bob:
        assert (await bob.delete(f"/v1/files/{names[0]}")).status_code == 404
        assert (await bob.post(f"/v1/batches/{batch['id']}/cancel")).status_code == 404
        body = {"input_file_id": names[0], "endpoint": CHAT, "completion_window": "24h"}
        foreign = await bob.post("/v1/batches", json=body)
        assert (foreign.status_code, foreign.json()["error"]["param"]) == (404, "input_file_id")
    for path in ("/v1/files", "/v1/batches"):
        found = {key: (await at.get(path, key)).json()["data"] for key in ("ann", "bob", "root")}
        assert found["bob"] == []
        assert found["ann"] == found["root"] != []


async def test_lines_are_asked_and_billed_as_requests_of_the_key(graph: Graphs) -> None:
    at = graph(keys=(ANN,))
    batch = await at.run(jsonl(line(1), line(2)), "ann")
    assert batch["request_counts"]["completed"] == 2
    assert {record.key for record in at.sink.records} == {"ann"}
    month, _ = at.accounts.spending.spent("ann", at.accounts.today())
    assert month == sum(record.cost_usd for record in at.sink.records) > 0


async def test_a_model_that_the_key_may_not_choose_is_refused_line_by_line(graph: Graphs) -> None:
    at = graph(keys=(ANN,))
    asked = {"model": "frontier", "messages": [{"role": "user", "content": "x"}]}
    batch = await at.run(jsonl(line(1), line(2, CHAT, **asked)), "ann")
    [refused] = await at.lines(batch["error_file_id"], "ann")
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("row-2", 403)


async def test_a_budget_that_is_spent_fails_the_lines_that_are_left(graph: Graphs) -> None:
    """A call costs $0.00002: the budget has room for some, each held with the most that it may cost."""
    at = graph(keys=({"name": "ann", "usd_per_day": "0.001", "max_tokens": 5},), batches={"concurrency": 2})
    asked = {"model": "auto", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
    batch = await at.run(jsonl(*(line(n, CHAT, **asked) for n in range(60))), "ann")
    counts = batch["request_counts"]
    assert (batch["status"], counts["completed"] + counts["failed"]) == ("completed", 60)
    assert 20 < counts["completed"] < 60
    told = await at.lines(batch["error_file_id"], "ann")
    assert {one["response"]["status_code"] for one in told} == {429}
    assert {one["response"]["body"]["error"]["type"] for one in told} == {"rate_limit_error"}
    assert all("budget" in one["response"]["body"]["error"]["message"] for one in told)


async def test_a_rate_is_waited_for(graph: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_graph.cluster.batches.line_run.FIRST_WAIT_S", 0.01)
    at = graph(keys=({"name": "ann", "requests_per_min": 60},))
    now = at.accounts.clock()
    seconds = [0.0]
    at.accounts.clock = lambda: now + seconds[0]
    batch = await at.create(jsonl(*(line(n) for n in range(70))), "ann")
    async with at.working() as worker:
        await at.until(batch, lambda _: worker.metrics.retries["rate_limit",] > 0, "ann")
        waiting = await at.until(batch, lambda one: one["request_counts"]["completed"] >= 55, "ann")
        assert waiting["request_counts"]["completed"] < 70
        seconds[0] = 120.0
        ended = await at.ended(batch, "ann")
    assert ended["request_counts"] == {"total": 70, "completed": 70, "failed": 0}


async def test_half_of_a_keys_places_are_left_for_its_other_requests(graph: Graphs) -> None:
    most = [0]

    class Counting(FakeEngine):
        async def generate(self, query: Any, left_s: float = 9.0) -> Any:
            most[0] = max(most[0], at.accounts.spending.in_progress("ann"))
            return await super().generate(query, left_s)

    at = graph(
        keys=({"name": "ann", "concurrency": 4},), batches={"beside": 16}, fakes={"cheap": Counting("x", slow_s=0.02)}
    )
    await at.run(jsonl(*(line(n) for n in range(20))), "ann")
    assert most[0] == 2


async def test_a_key_that_is_revoked_fails_what_is_left(graph: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_graph.cluster.batches.line_run.KEY_SPREADS_S", 0.0)
    at = graph(keys=(ANN, ADMIN), batches={"concurrency": 1}, fakes={"cheap": FakeEngine("x", slow_s=0.05)})
    batch = await at.create(jsonl(*(line(n) for n in range(15))), "ann")
    async with at.working():
        await at.until(batch, lambda one: one["request_counts"]["completed"] >= 1, "root")
        at.keyring._by_hash = {h: key for h, key in at.keyring._by_hash.items() if key.name != "ann"}
        ended = await at.ended(batch, "root")
    assert 0 < ended["request_counts"]["completed"] < 15
    told = await at.lines(ended["error_file_id"], "root")
    assert len(told) == ended["request_counts"]["failed"] == 15 - ended["request_counts"]["completed"]
    assert {one["response"]["body"]["error"]["code"] for one in told} == {"invalid_api_key"}
    assert {one["response"]["status_code"] for one in told} == {401}


async def test_a_key_that_is_not_known_here_yet_is_waited_for(graph: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replica has read the keys' file, and this one not yet."""
    monkeypatch.setattr("serve_graph.cluster.batches.line_run.FIRST_WAIT_S", 0.01)
    at = graph(keys=(ANN, ADMIN))
    known = at.keyring._by_hash
    batch = await at.create(jsonl(line(1), line(2)), "ann")
    at.keyring._by_hash = {name: key for name, key in known.items() if key.name != "ann"}
    async with at.working() as worker:
        await at.until(batch, lambda _: worker.metrics.retries["key",] > 0, "root")
        at.keyring._by_hash = known
        ended = await at.ended(batch, "root")
    assert ended["request_counts"] == {"total": 2, "completed": 2, "failed": 0}


async def test_a_small_batch_of_another_key_is_not_kept_waiting_by_a_large_one(graph: Graphs) -> None:
    at = graph(keys=(ANN, BOB), batches={"concurrency": 2, "beside": 2}, fakes={"cheap": FakeEngine("x", slow_s=0.05)})
    large = await at.create(jsonl(*(line(n) for n in range(60))), "ann")
    async with at.working():
        await at.until(large, lambda one: one["request_counts"]["completed"] >= 2, "ann")
        small = await at.create(jsonl(line(1)), "bob")
        await at.ended(small, "bob")
        assert (await at.get(f"/v1/batches/{large['id']}", "ann")).json()["status"] == "in_progress"


async def test_a_key_has_so_many_open_batches(graph: Graphs) -> None:
    at = graph(keys=(ANN, BOB), batches={"max_open": 2})
    for _ in range(2):
        await at.create(jsonl(line(1)), "ann")
    name = (await at.upload(jsonl(line(1)), "ann")).json()["id"]
    async with at.client("ann") as ann:
        body = {"input_file_id": name, "endpoint": CHAT, "completion_window": "24h"}
        refused = await ann.post("/v1/batches", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "too_many_batches")
    await at.create(jsonl(line(1)), "bob")
