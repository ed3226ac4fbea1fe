"""Callers who leave, at every moment there is, over plain ASGI."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from router_models.types import Action
from serve_graph.api.transport.connection import read_body, while_connected
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge
from serve_graph.errors import PayloadTooLargeError

Endpoints = Callable[..., Any]
HELLO = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
LONG = "word " * 60


class Wire:
    """One request over plain ASGI, from a caller who can leave: after some messages, or when `gone` is set."""

    def __init__(self, app: Any, leave_after: int = 2, stream: bool = True) -> None:
        self.app = app
        self.leave_after = leave_after
        self.body = json.dumps(HELLO | {"stream": stream}).encode()
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self.asked = False

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        if len(self.sent) >= self.leave_after:
            self.gone.set()

    async def run(self, spec_version: str = "2.3") -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec_version},
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "query_string": b"",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "scheme": "http",
            "root_path": "",
        }
        await asyncio.wait_for(self.app(scope, self.receive, self.send), 60)


async def hang_up_once(wire: Wire, called: Callable[[], bool]) -> None:
    """Leave as soon as `called` is true."""
    task = asyncio.ensure_future(wire.run())
    while not called():
        await asyncio.sleep(0.001)
    wire.gone.set()
    await task


async def test_caller_who_hangs_up_ends_the_engines_call_and_is_recorded(endpoint: Endpoints) -> None:
    frontier = FakeEngine(LONG, hang_after=3)
    at = endpoint(frontier=frontier, decider=FakeDecider("frontier"))
    await Wire(at.app).run()
    assert frontier.closed == 1
    assert (at.record.status, at.record.error) == (499, "client_closed_request")
    assert [call.tier for call in at.record.calls] == ["frontier"]


@pytest.mark.parametrize("stream", [False, True])
async def test_caller_who_hangs_up_before_the_commit_ends_the_cheap_call(endpoint: Endpoints, stream: bool) -> None:
    cheap = FakeEngine(LONG, slow_s=60)
    at = endpoint(cheap=cheap)
    await hang_up_once(Wire(at.app, 1_000, stream), lambda: bool(cheap.queries))
    assert cheap.closed == 1
    assert (at.record.status, at.record.error) == (499, "client_closed_request")


@pytest.mark.parametrize("stream", [False, True])
async def test_caller_who_hangs_up_on_an_escalation_ends_it(endpoint: Endpoints, stream: bool) -> None:
    frontier = FakeEngine(LONG, slow_s=60)
    at = endpoint(frontier=frontier, judge=FakeJudge(Action.ESCALATED))
    await hang_up_once(Wire(at.app, 1_000, stream), lambda: bool(frontier.queries))
    assert frontier.closed == 1
    assert (at.record.status, at.record.calls[0].tier) == (499, "cheap")


async def test_caller_who_hangs_up_on_a_reply_that_has_begun_uncommitted_is_recorded(endpoint: Endpoints) -> None:
    cheap = FakeEngine(LONG, slow_s=60)
    at = endpoint(cheap=cheap, keep_alive_s=0.01)
    await Wire(at.app, leave_after=4).run()
    assert cheap.closed == 1
    assert at.record.status == 499


async def test_caller_whose_socket_breaks_before_the_first_byte_is_recorded(endpoint: Endpoints) -> None:
    class Broken(Wire):
        async def send(self, message: dict[str, Any]) -> None:
            raise OSError("broken pipe")

    frontier = FakeEngine(LONG)
    at = endpoint(frontier=frontier, decider=FakeDecider("frontier"))
    with pytest.raises(Exception):  # noqa: B017, PT011 (whatever the server is told)
        await Broken(at.app).run("2.4")
    assert frontier.closed == 1
    assert at.record.status == 499


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("wait_for_call", [False, True])
async def test_request_that_the_server_cancels_is_recorded(
    endpoint: Endpoints, stream: bool, wait_for_call: bool
) -> None:
    frontier = FakeEngine(LONG, slow_s=60)
    at = endpoint(frontier=frontier, decider=FakeDecider("frontier"))
    wire = Wire(at.app, 1_000, stream)
    task = asyncio.ensure_future(wire.run())
    while not (frontier.queries if wait_for_call else wire.asked):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert frontier.closed == len(frontier.queries)
    assert [record.status for record in at.sink.records] in ([499], [])
    assert len(at.sink.records) >= len(frontier.queries)


async def test_request_that_the_server_cancels_while_it_streams_is_recorded(endpoint: Endpoints) -> None:
    frontier = FakeEngine(LONG, hang_after=3)
    at = endpoint(frontier=frontier, decider=FakeDecider("frontier"))
    wire = Wire(at.app, leave_after=1_000)
    task = asyncio.ensure_future(wire.run())
    while len(wire.sent) < 2:  # its headers and its first words; the next would be a comment, after seconds of silence
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert frontier.closed == 1
    assert at.record.status == 499


@pytest.mark.parametrize("pieces", [0, 3], ids=["nothing comes", "it comes bit by bit"])
async def test_a_body_that_does_not_arrive_in_time_is_a_408(endpoint: Endpoints, pieces: int) -> None:
    wire = Wire(endpoint(body_timeout_s=0.2).app)
    left = iter([b"{" for _ in range(pieces)])

    async def slow() -> dict[str, Any]:
        piece = next(left, None)
        await asyncio.sleep(60 if piece is None else 0)  # a busy machine must not count as a slow caller
        return {"type": "http.request", "body": piece or b"", "more_body": True}

    wire.receive = slow  # type: ignore[method-assign]
    await wire.run()
    assert wire.sent[0]["status"] == 408
    error = json.loads(wire.sent[1]["body"])["error"]
    assert (error["type"], error["code"]) == ("timeout_error", "request_timeout")
    assert f"{pieces} bytes came" in error["message"]


@pytest.mark.parametrize(("length", "is_read"), [("9" * 5000, False), ("\u00b2", True), ("-1", True), ("1e9", True)])
async def test_a_length_that_no_reader_makes_a_number_of_is_no_failure(length: str, is_read: bool) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    request = Request({"type": "http", "headers": [(b"content-length", length.encode("latin-1"))]}, receive)
    if is_read:
        assert await read_body(request, 10) == (b"{}", ())
    else:
        with pytest.raises(PayloadTooLargeError):
            await read_body(request, 10)


class Leaving:
    """A caller who leaves when `gone` is set."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.mark.parametrize("steps", range(5))
async def test_who_leaves_as_the_work_ends_cancels_it_or_nothing(steps: int) -> None:
    caller = Leaving()

    async def work() -> str:
        await asyncio.sleep(0)
        caller.gone.set()
        for _ in range(steps):
            await asyncio.sleep(0)
        return "done"

    with contextlib.suppress(ClientDisconnect):
        assert await while_connected(Request({"type": "http"}, caller.receive), work()) == "done"
    for _ in range(5):  # what is due from then on must not end what the caller's task does next
        await asyncio.sleep(0)
    here = asyncio.current_task()
    assert here is not None
    assert here.cancelling() == 0


@pytest.mark.parametrize("fails", [False, True])
async def test_work_that_ends_in_its_own_way_when_its_caller_leaves_leaves_no_cancellation(fails: bool) -> None:
    caller, here = Leaving(), asyncio.current_task()

    async def work() -> str:
        caller.gone.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        if fails:
            raise ValueError("it broke")
        return "done"

    with pytest.raises(ValueError, match="it broke") if fails else contextlib.nullcontext():
        assert await while_connected(Request({"type": "http"}, caller.receive), work()) == "done"
    assert here is not None
    assert here.cancelling() == 0
