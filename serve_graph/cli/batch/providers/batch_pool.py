"""Calls of one hosted tier, gathered into the provider's batches: sent when nothing more comes, awaited, told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from router_models.errors import by_number
from serve_graph.cli.batch.providers.batch_api import (
    GONE,
    PASSING,
    BatchApi,
    ProviderBatch,
    ProviderError,
    ProviderReply,
)
from serve_graph.cli.batch.providers.held_money import HeldMoney
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger, ProviderLine, Submission
from serve_graph.engines.error_meanings import ErrorFault
from serve_graph.errors import ConfigError, EngineError

MOST_LINES, MOST_BATCH_BYTES = 50_000, 100_000_000
"""Of a batch; OpenAI's own bounds are 50,000 lines and 200 MB."""
MOST_TRIES = 3
"""How often a line is sent that a batch left unanswered: expired, cancelled, an error that may pass."""

LOST = (
    "its batch {} is not at the provider any more (deleted, too old, or of another project than this key's), nor is "
    "an answer to this line: whether it was answered, and billed, cannot be known; --retry-failed sends it again"
)


@dataclass
class BatchPool:
    """One tier's lines. A batch is sent once no line came for `linger_s`; the provider is asked every `poll_s`.

    Lines of batches that an earlier run had begun are those of this one. `cost`: what a reply costs, in dollars;
    `price_factor`: the part of the tier's prices that it is, for the summary.
    """

    tier: str
    api: BatchApi
    ledger: ProviderLedger
    purse: HeldMoney
    cost: Callable[[ProviderReply], Decimal]
    linger_s: float = 2.0
    poll_s: float = 30.0
    most_lines: int = MOST_LINES
    price_factor: Decimal = Decimal(1)
    tell: Callable[[str], None] = lambda text: None
    on_lost: Callable[[str], None] = lambda row: None
    """Called with the row of a line that a batch held which is gone: it may have been answered, and paid for."""
    waiting: dict[str, ProviderLine] = field(default_factory=dict)
    answers: dict[str, asyncio.Future[ProviderReply]] = field(default_factory=dict)
    sent: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    deleting: set[asyncio.Task[None]] = field(default_factory=set)
    batches: int = 0
    _sender: asyncio.Task[None] | None = None
    _came: float = 0.0

    def take_up(self) -> None:
        """Wait for the batches that an earlier run had begun, and pay what is held for them."""
        for begun in self.ledger.open():
            if begun.tier == self.tier:
                self._follow(begun, self.ledger.lines(begun.token))

    async def reply(self, line: ProviderLine) -> ProviderReply:
        """The provider's reply to a line; raises EngineError where the run has ended before there is one."""
        if (known := self.ledger.reply(line.key)) is not None:
            if "error" in known:
                self.ledger.forget(line.key)
            return self._told(line, known)
        if self.purse.stopped is not None:
            raise EngineError(self.purse.stopped)
        answer = self.answers.get(line.key)
        if answer is None:
            answer = self.answers[line.key] = asyncio.get_running_loop().create_future()
            if not self.ledger.is_sent(line.key):
                self._wait(line)
        return self._told(line, await asyncio.shield(answer))

    def _told(self, line: ProviderLine, reply: ProviderReply) -> ProviderReply:
        error = reply.get("error")
        self.ledger.tell(line, error is not None)
        if error is not None and error.get("lost"):
            self.on_lost(line.row)
        return reply

    async def read_ended(self) -> None:
        """Read what has ended of what was sent, though nobody waits for it: what it cost is known then."""
        for begun in self.ledger.open():
            if begun.tier != self.tier or begun.batch is None:
                continue
            lines = self.ledger.lines(begun.token)
            try:
                found, replies = await self._came_of(begun.batch, lines, self._looked)
            except ProviderError as error:
                self.tell(f"{self.tier}: batch {begun.batch} cannot be read: {error.said}")
                continue
            if found.has_ended or found.status == GONE:
                for line in lines:
                    self.purse.hold(line.most_usd)
                self._hand_out(begun, found, replies, lines)
                self.deleting.add(asyncio.create_task(self.api.tidy(found)))

    def stop(self) -> None:
        """Nothing is sent any more, and nobody waits: what was sent is found again by the next run."""
        for task in (*self.sent.values(), *([self._sender] if self._sender else [])):
            task.cancel()
        self.waiting.clear()
        for answer in self.answers.values():
            if not answer.done():
                answer.set_exception(EngineError(self.purse.stopped or "the run has ended"))
                answer.exception()  # nobody may be left to look at it
        self.answers.clear()

    async def finish(self) -> None:
        """Close the connections, once the files of batches that have ended are deleted: ten seconds for that."""
        if self.deleting:
            await asyncio.wait(self.deleting, timeout=10.0)
        await self.api.close()

    def _wait(self, line: ProviderLine) -> None:
        self.waiting[line.key] = line
        self._came = asyncio.get_running_loop().time()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_when_quiet())
            self._sender.add_done_callback(self._broke_off)

    async def _send_when_quiet(self) -> None:
        loop = asyncio.get_running_loop()
        while self.waiting:
            quiet_s = loop.time() - self._came
            if quiet_s < self.linger_s and len(self.waiting) < self.most_lines:
                await asyncio.sleep(self.linger_s - quiet_s)
                continue
            lines = self._next_lines()
            if lines:
                self.batches += 1
                self._follow(self.ledger.begin(self.tier, lines), lines, is_new=True)
            elif self.purse.held == 0:
                self.purse.stop(self.purse.no_room())
                return
            else:
                await asyncio.sleep(min(self.poll_s, 1.0))  # until what is under way has cost less than it might

    def _next_lines(self) -> list[ProviderLine]:
        """As many of the waiting lines as a batch takes and the budget permits, held at the most that they cost."""
        chosen: list[ProviderLine] = []
        size = 0
        for line in list(self.waiting.values()):
            size += len(line.body) * 4 + 200
            if len(chosen) == self.most_lines or size > MOST_BATCH_BYTES or not self.purse.fits(line.most_usd):
                break
            self.purse.hold(line.most_usd)
            chosen.append(replace(self.waiting.pop(line.key), tries=line.tries + 1))
        return chosen

    def _follow(self, begun: Submission, lines: list[ProviderLine], is_new: bool = False) -> None:
        if not is_new:
            for line in lines:
                self.purse.hold(line.most_usd)
        task = self.sent[begun.token] = asyncio.create_task(self._submitted(begun, lines, is_new))
        task.add_done_callback(lambda _: self.sent.pop(begun.token, None))
        task.add_done_callback(self._broke_off)

    def _broke_off(self, task: asyncio.Task[None]) -> None:
        """End the run where a task that lines wait for did not do what it was to: they would wait for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            said = f"{type(error).__name__}: {error}"[:300]
            self.purse.stop(f"the batches of tier {self.tier!r} do not work: {said}")

    async def _submitted(self, begun: Submission, lines: list[ProviderLine], is_new: bool) -> None:
        """Send what is not sent yet, wait until it has ended, and hand out what came of it."""
        try:
            batch = begun.batch or await self._create(begun, lines, is_new)
            found, replies = await self._came_of(batch, lines, self._ended)
        except (ProviderError, ConfigError) as error:
            said = error.said if isinstance(error, ProviderError) else str(error)[:300]
            self.purse.stop(f"the batches of tier {self.tier!r} do not work: {said}")
            return
        self._hand_out(begun, found, replies, lines)
        self.deleting.add(asyncio.create_task(self.api.tidy(found)))

    async def _create(self, begun: Submission, lines: list[ProviderLine], is_new: bool) -> str:
        """The batch's id: found where a run had created it that was killed before it noted so, else created."""
        if not is_new and (there := await self.api.find_batch(begun, lines)) is not None:
            self.ledger.note(begun.token, batch=there)
            return there
        try:
            file = begun.file if begun.file is not None else await self._uploaded(begun, lines, is_new)
            batch = await self.api.create(begun, file, lines)
        except ProviderError as error:
            if not error.is_gone or begun.file is None:
                raise
            batch = await self.api.create(begun, await self._uploaded(begun, lines, True), lines)  # the file is gone
        self.ledger.note(begun.token, batch=batch)
        return batch

    async def _uploaded(self, begun: Submission, lines: list[ProviderLine], is_new: bool) -> str:
        file = await self.api.file_of(begun, lines, is_new)
        self.ledger.note(begun.token, file=file)
        return file

    async def _came_of(
        self, batch: str, lines: list[ProviderLine], look: Callable[[str], Awaitable[ProviderBatch]]
    ) -> tuple[ProviderBatch, dict[str, ProviderReply]]:
        """A batch, with its replies where it has ended; of one that is gone, those that can still be read."""
        found = ProviderBatch(batch, GONE)
        try:
            found = await look(batch)
            return found, await self.api.replies(found, lines) if found.has_ended else {}
        except ProviderError as error:
            if not error.is_gone:
                raise
        replies = await self.api.remains(found, lines)
        lost = sum(line.key not in replies for line in lines)
        self.tell(
            f"{self.tier}: batch {batch} is gone at the provider, and the answers to {lost:,} of its {len(lines):,} "
            f"{by_number(len(lines), 'line')}: what cannot be read is in no sum, and no budget is held for it"
        )
        return replace(found, status=GONE), replies

    async def _looked(self, batch: str) -> ProviderBatch:
        """A batch as it stands; it is looked for twice, since one that was just made may not be shown yet."""
        try:
            return await self.api.look(batch)
        except ProviderError as error:
            if not error.is_gone:
                raise
        await asyncio.sleep(self.poll_s)
        return await self.api.look(batch)

    async def _ended(self, batch: str) -> ProviderBatch:
        while True:
            try:
                found = await self._looked(batch)
            except ProviderError as error:
                if error.status is not None:
                    raise
                await asyncio.sleep(self.poll_s)  # it is worked on all the same: a night's network may be away
                continue
            if found.has_ended:
                return found
            done = (
                f"{found.done:,} of {found.total:,} {by_number(found.total, 'line')}"
                if found.total
                else "no lines yet"
            )
            self.tell(f"{self.tier}: batch {batch} {found.status}, {done}")
            await asyncio.sleep(self.poll_s)

    def _hand_out(
        self, begun: Submission, found: ProviderBatch, replies: dict[str, ProviderReply], lines: list[ProviderLine]
    ) -> None:
        kept: dict[str, tuple[ProviderReply, Decimal]] = {}
        again: list[ProviderLine] = []
        for line in lines:
            reply = replies.get(line.key) or {"error": _unanswered(found)}
            usd = self.cost(reply)
            self.purse.pay(line.most_usd, usd)
            if "error" in reply and _may_pass(reply["error"]) and line.tries < MOST_TRIES:
                again.append(line)
            else:
                kept[line.key] = (reply, usd)
        self.ledger.end(begun.token, found.status, kept)
        if found.status == "failed" and not replies:  # the provider takes none of it: another would fare the same
            self.purse.stop(f"a batch of tier {self.tier!r} failed: {_unanswered(found)['message']}")
            return
        for line in again if self.purse.stopped is None else ():
            self._wait(line)
        for key, (reply, _) in kept.items():
            answer = self.answers.pop(key, None)
            if answer is not None and not answer.done():
                answer.set_result(reply)
                if "error" in reply:
                    self.ledger.forget(key)


def _unanswered(found: ProviderBatch) -> dict[str, Any]:
    if found.status == GONE:
        fault = str(ErrorFault.UNAVAILABLE)
        return {"message": LOST.format(found.id), "code": 502, "fault": fault, "reason": None, "lost": True}
    said = "; ".join(found.said)
    return {"message": f"the batch {found.id} is {found.status}{': ' if said else ''}{said}", "code": 503}


def _may_pass(error: dict[str, Any]) -> bool:
    return error.get("code") in PASSING and "fault" not in error
