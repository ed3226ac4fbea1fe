"""A dataset's rows, asked of a running graph: so many at a time, each once, within a budget."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx

from serve_graph.cli.batch.journal import Journal
from serve_graph.cluster.batches.passes.row_answer import row_answer, row_failure

AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
REFUSES_ALL = frozenset({401, 403, 404, 405})
"""What is refused thus is the key, the model or the address: those are the same for all rows."""
NO_QUOTA = "insufficient_quota"
LONGEST_PAUSE_S = 60.0
JSON_BODY = {"content-type": "application/json"}
RowAsk = tuple[str, list[Any]]
"""A row's key, and its messages."""
ROW: ContextVar[str] = ContextVar("row", default="")
"""The key of the row that is asked, for whatever answers it in this process."""


@dataclass
class RowAsker:
    """Asks rows and notes what became of them. `spent`: dollars so far, those of earlier runs included.

    `held`: dollars that may be due for what is sent already, for which a budget leaves room.

    With `budget`, nothing is begun that might exceed it, as far as the dearest answer so far tells: before the first
    answer one row is asked. What is under way ends. A key whose own budget is spent ends the run as well, and so does
    what would be refused to every row, and with `budget` an answer whose cost is not told.
    """

    client: httpx.AsyncClient
    journal: Journal
    settings: Mapping[str, Any]
    concurrency: int = 16
    budget: Decimal | None = None
    attempts: int = 5
    spent: Decimal = Decimal(0)
    held: Decimal = Decimal(0)
    dearest: Decimal | None = None
    asked: int = 0
    tokens: int = 0
    stopped: str | None = None
    once_s: float = 0.0
    pause_s: float = 1.0
    advance: Callable[[], None] = lambda: None
    interrupted: Callable[[], None] = lambda: None
    answered: Callable[[str], None] = lambda key: None
    """Called with a row's key as its answer is noted, and written with it."""
    is_lost: Callable[[str], bool] = lambda key: False
    """Whether a row may have been answered and paid for, and that answer is lost: it is not asked again by itself."""
    unanswered: Callable[[str], None] = lambda key: None
    """Called with a row's key where a request of it was answered with an error."""

    async def run(self, rows: Iterator[RowAsk]) -> None:
        """RowAsk every row; where this is cancelled, what is under way ends all the same."""
        under_way: dict[str, asyncio.Task[None]] = {}
        try:
            for key, messages in rows:
                if key in under_way:  # the same row twice: one answer
                    continue
                while not self._may_begin(len(under_way)) and self.stopped is None:
                    await asyncio.wait(under_way.values(), return_when=asyncio.FIRST_COMPLETED)
                    under_way = {name: task for name, task in under_way.items() if not _has_ended(task)}
                if self.stopped is not None:
                    break
                under_way[key] = asyncio.create_task(self._row(key, messages))
        except asyncio.CancelledError:
            self.stopped = "interrupted"
            self.interrupted()
            raise
        finally:
            if under_way:
                await asyncio.wait(under_way.values())
        for task in under_way.values():
            task.result()

    def _may_begin(self, under_way: int) -> bool:
        if self.budget is None:
            return under_way < self.concurrency
        if self.spent >= self.budget:
            self.stopped = f"the budget of ${self.budget} is spent (${self.spent:.6f})"
            return False
        due = f", up to ${self.held:.6f} due for what was sent" if self.held else ""
        no_room = f"the budget of ${self.budget} has no room for another row (${self.spent:.6f} spent{due})"
        if self.spent + self.held >= self.budget:
            self.stopped = no_room
            return False
        if self.dearest is None:
            return under_way == 0
        if self.spent + self.held + self.dearest * (under_way + 1) > self.budget:
            if under_way == 0:
                self.stopped = no_room
            return False
        return under_way < self.concurrency

    async def _row(self, key: str, messages: list[Any]) -> None:
        ROW.set(key)
        try:
            body = request_bytes({**self.settings, "messages": messages})
        except (TypeError, ValueError, RecursionError) as error:
            return self._failed(key, {"status": 0, "error": f"the row is no JSON ({error})", "kind": "malformed"})
        result: dict[str, Any] = {}
        began = time.perf_counter()
        for attempt in range(self.attempts):
            if attempt and self.stopped is not None:
                return None  # it was not answered: the next run asks it
            wait_s = self.pause_s * 2**attempt
            try:
                reply = await self.client.post("/v1/chat/completions", content=body, headers=JSON_BODY)
                result = read_answer(reply)
                if reply.status_code == 200:
                    return self._done(key, result | {"seconds": time.perf_counter() - began})
                self.unanswered(key)
                if reply.status_code in REFUSES_ALL:
                    self.stopped = f"the graph refuses these requests ({reply.status_code}): {result['error']}"
                    return None
                if result["kind"] == NO_QUOTA:
                    self.stopped = f"the access key's budget is spent: {result['error']}"
                    return None
                if reply.status_code not in AGAIN or self.is_lost(key):
                    break
                if self.stopped is not None:
                    return None  # whatever ended the run may be why there is no answer
                if result.get("code") != NO_QUOTA:  # it may have room when others are charged, not only tomorrow
                    wait_s = max(wait_s, _seconds(reply.headers.get("retry-after")))
            except httpx.HTTPError as error:
                result = {"status": 0, "error": f"no reply ({type(error).__name__})", "kind": "unreachable"}
            if self.stopped is not None:
                return None  # it was not asked: the next run asks it
            if attempt + 1 < self.attempts:
                await asyncio.sleep(min(LONGEST_PAUSE_S, wait_s))
        if result.get("code") == NO_QUOTA:
            self.stopped = f"the access key's budget has no room: {result['error']}"
            return None
        return self._failed(key, result)

    def _failed(self, key: str, result: dict[str, Any]) -> None:
        self.journal.note(key, False, result)
        self.asked += 1
        self.advance()

    def _done(self, key: str, result: dict[str, Any]) -> None:
        with self.journal.at_once():
            self.journal.note(key, True, result)
            self.answered(key)
        self.asked += 1
        self.tokens += int(result["tokens"])
        if self.budget is not None and result["cost_usd"] is None:
            self.stopped = "an answer came without its cost: a budget cannot be kept"
        cost = Decimal(result["cost_usd"] or 0)
        self.spent += cost
        self.dearest = max(cost, self.dearest or Decimal(0))
        self.advance()


def request_bytes(body: Mapping[str, Any]) -> bytes:
    """A request as JSON; half a character goes as it is, for the graph to refuse that row."""
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass")


def _has_ended(task: asyncio.Task[None]) -> bool:
    if task.done():
        task.result()
    return task.done()


def read_answer(reply: httpx.Response) -> dict[str, Any]:
    """What a reply says, as it is kept: the answer, or the error."""
    try:
        data = reply.json()
        if not isinstance(data, dict):
            raise ValueError
    except ValueError:
        return {"status": reply.status_code, "error": "the reply is no JSON object", "kind": "malformed"}
    return row_answer(data) if reply.status_code == 200 else row_failure(reply.status_code, data)


def _seconds(value: str | None) -> float:
    return float(value) if value is not None and value.isdecimal() and len(value) < 6 else 0.0
