"""What judging may cost in a day: one sum for all ingress replicas that share a state folder, kept over restarts."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Protocol, TypeVar

from serve_graph.records.spool.private_files import private_file, private_folder

T = TypeVar("T")


class Budget(Protocol):
    """What calls are paid from."""

    path: Path

    def hold(self, usd: Decimal) -> str | None: ...

    def settle(self, day: str, held: Decimal, usd: Decimal) -> None: ...


class JudgeBudget:
    """Hold what a call may cost before it is made, and settle for what it did.

    What a process holds when it is killed counts as spent. Both methods raise OSError where the file cannot be read or
    written, and ValueError where somebody else has damaged it.
    """

    def __init__(
        self, path: Path, usd_per_day: Decimal, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.path = path
        self.usd_per_day = usd_per_day
        self.now = now

    def hold(self, usd: Decimal) -> str | None:
        """Hold an amount; returns the day that it is of, or None where the day's budget does not have it."""
        with self._locked():
            day, spent = self._read()
            if spent + usd > self.usd_per_day:
                return None
            self._write(day, spent + usd)
            return day

    def settle(self, day: str, held: Decimal, usd: Decimal) -> None:
        """Replace what was held of a day by what was spent."""
        with self._locked():
            today, spent = self._read()
            if today == day and held != usd:
                self._write(day, max(Decimal(0), spent - held + usd))

    def spent(self) -> Decimal:
        """What is spent or held today."""
        with self._locked():
            return self._read()[1]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        private_folder(self.path.parent)
        with open(f"{self.path}.lock", "ab", opener=private_file) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> tuple[str, Decimal]:
        today = self.now().astimezone(UTC).date().isoformat()
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return today, Decimal(0)
        try:
            found = json.loads(text)
            day, spent = date.fromisoformat(found["day"]).isoformat(), Decimal(found["usd"])
            if not spent.is_finite() or spent < 0:
                raise ValueError(f"{spent} is no amount")
        except (KeyError, TypeError, ValueError, InvalidOperation) as error:
            raise ValueError(f"{self.path} does not say what was spent: remove it") from error
        return (day, spent) if day >= today else (today, Decimal(0))

    def _write(self, day: str, usd: Decimal) -> None:
        scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with open(scratch, "w", encoding="utf-8", opener=private_file) as file:
            json.dump({"day": day, "usd": f"{usd:f}"}, file)
        scratch.replace(self.path)


async def hold_whole(budget: Budget, usd: Decimal) -> str | None:
    """Hold an amount, off the event loop, as `Budget.hold`; given back where whoever asks is cancelled meanwhile."""
    holding = asyncio.ensure_future(asyncio.to_thread(budget.hold, usd))
    try:
        return await _to_its_end(holding)
    except asyncio.CancelledError:
        is_held = holding.done() and not holding.cancelled() and holding.exception() is None
        if is_held and (day := holding.result()) is not None:
            await settle_whole(budget.settle, day, usd, Decimal(0))
        raise


async def settle_whole(settle: Callable[..., None], *of: object) -> None:
    """Settle, off the event loop, to the end: also for who is cancelled before a thread has begun it."""
    await _to_its_end(asyncio.ensure_future(asyncio.to_thread(settle, *of)))


async def _to_its_end(work: asyncio.Future[T]) -> T:
    """What comes of work; cancelled meanwhile, it is waited for all the same."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
