"""One line of a batch: asked under the key that owns the batch, and again where it had to wait, for a result."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from serve_graph.access.accounts import Accounts
from serve_graph.access.caller import CALLER, Caller
from serve_graph.access.keys import Keyring
from serve_graph.api.batches.answering import answered_line, failure, tokens_of
from serve_graph.api.batches.lines import Line, custom_id_of, opened_line, result_line
from serve_graph.cluster.batches.batch_metrics import BatchMetrics
from serve_graph.cluster.batches.pace import Pace
from serve_graph.config.access import KeyConfig
from serve_graph.errors import (
    AuthenticationError,
    BudgetSpentError,
    ConfigError,
    EngineError,
    EngineRequestError,
    PolicyUnavailableError,
    RateLimitedError,
    RequestError,
    SaturatedError,
    StoreUnavailableError,
    TierSetupError,
)
from serve_graph.gateway.handler import Service
from serve_graph.protocol.bounds import PARSED_AT_ONCE
from serve_graph.protocol.requests import UnknownFields
from serve_graph.records.batches.batches_table import BatchRow, LineResult

logger = logging.getLogger(__name__)
LONGEST_PUT_OFF_S = 60.0
FIRST_WAIT_S = 1.0
KEY_SPREADS_S = 90.0
"""For how long a new batch's key may not be known here yet: replicas, and nodes, read the keys' file in their time."""
FAILING = (EngineError, PolicyUnavailableError, StoreUnavailableError)
"""What may be otherwise in a moment."""
FINAL = (EngineRequestError, TierSetupError)


@dataclass(frozen=True)
class LineRunner:
    """Answers lines through the service of this replica. `attempts`: how often one is tried whose tiers fail."""

    service: Service
    accounts: Accounts
    keyring: Keyring
    pace: Pace
    metrics: BatchMetrics
    attempts: int = 3
    unknown_fields: UnknownFields = "refuse"

    async def run(self, batch: BatchRow, line: Line, stop: asyncio.Event) -> LineResult | None:
        """A line's result; None where `stop` was set before there was one."""
        request_id = f"{batch.id}:{line.number}"
        try:
            custom_id, body = await self._opened(batch, line)
        except RequestError as error:
            return self._failed(batch, line, custom_id_of(line), request_id, error)
        waits = failed = 0
        while True:
            async with self.pace.place():
                if stop.is_set():
                    return None
                try:
                    reply = await self._asked(batch, request_id, body)
                    put, made = tokens_of(reply)
                    text = result_line(_name(batch, line), custom_id, request_id, 200, reply)
                    self.metrics.lines["answered",] += 1
                    return LineResult(line.number, True, text, put, made)
                except Exception as error:  # noqa: BLE001 (whatever it is, the line says it)
                    reason, failed = self._again(batch, error, failed)
                    if reason is None:
                        return self._failed(batch, line, custom_id, request_id, error)
                    wait_s = _wait_s(error, waits)
            waits += 1
            self.metrics.retries[reason,] += 1
            try:
                async with asyncio.timeout(wait_s):
                    await stop.wait()
                return None
            except TimeoutError:
                continue

    async def _opened(self, batch: BatchRow, line: Line) -> tuple[str, bytes]:
        """As `opened_line`; a long one in its key's turn."""
        if len(line.text) <= PARSED_AT_ONCE:
            return opened_line(line)
        while True:
            try:
                return await self.accounts.turns.run_on(batch.owner, len(line.text), lambda: opened_line(line))
            except RateLimitedError as error:
                await asyncio.sleep(error.retry_after_s)

    async def _asked(self, batch: BatchRow, request_id: str, body: bytes) -> dict[str, Any]:
        key = self._key(batch)
        token = CALLER.set(Caller(key=key, request_id=request_id, in_background=True))
        self.metrics.under_way += 1
        try:
            if key is not None:
                await self._admitted(key)
            return await answered_line(self.service, batch.endpoint, body, self.accounts.turns, self.unknown_fields)
        finally:
            self.metrics.under_way -= 1
            CALLER.reset(token)

    def _key(self, batch: BatchRow) -> KeyConfig | None:
        """The key that owns a batch; raises AuthenticationError where it is not in force any more."""
        if batch.owner is None and not self.keyring.required:
            return None
        key = None if batch.owner is None else self.keyring.named(batch.owner)
        if key is None:
            self._read_keys()
            key = None if batch.owner is None else self.keyring.named(batch.owner)
        if key is None:
            raise AuthenticationError("the access key that this batch belongs to was revoked", code="invalid_api_key")
        if "use" not in key.scopes:
            raise AuthenticationError("the access key of this batch may not ask any more", code="invalid_api_key")
        return key

    def _read_keys(self) -> None:
        try:
            self.keyring.refresh()
        except ConfigError as error:
            logger.warning("%s", error)

    async def _admitted(self, key: KeyConfig) -> None:
        try:
            self.accounts.admit(key)
        except RateLimitedError:
            if not await self.accounts.renewed():
                raise
            self.accounts.admit(key)

    def _again(self, batch: BatchRow, error: Exception, failed: int) -> tuple[str | None, int]:
        """Why a line is asked again, None where it is not; and how often its tiers have failed.

        A budget that is spent stays so until its day or month is over. One that has no room for what a request may
        cost has some again when those under way are charged.
        """
        if isinstance(error, BudgetSpentError):
            return ("budget" if self._budget_may_have_room(batch) else None), failed
        if isinstance(error, RateLimitedError):
            return "rate_limit", failed
        if isinstance(error, AuthenticationError) and time.time() - batch.created_ms / 1000 < KEY_SPREADS_S:
            return "key", failed
        if isinstance(error, SaturatedError):
            return "saturated", failed
        if isinstance(error, FAILING) and not isinstance(error, FINAL) and failed + 1 < self.attempts:
            return "failed", failed + 1
        return None, failed

    def _budget_may_have_room(self, batch: BatchRow) -> bool:
        key = None if batch.owner is None else self.keyring.named(batch.owner)
        spending = self.accounts.spending
        if key is None or spending.exceeded(key, self.accounts.today()) is not None:
            return False
        return spending.in_progress(key.name) > 0

    def _failed(self, batch: BatchRow, line: Line, custom_id: str, request_id: str, error: Exception) -> LineResult:
        status, body = failure(error)
        if status == 500:
            logger.error("line %d of %s: %s", line.number, batch.id, type(error).__name__, exc_info=error)
        self.metrics.lines["failed",] += 1
        text = result_line(_name(batch, line), custom_id, request_id, status, body)
        return LineResult(line.number, False, text)


def not_sent(batch: BatchRow, line: Line, code: str, message: str) -> str:
    """The line of the error file for a request that was never sent."""
    error = {"code": code, "message": message}
    return result_line(_name(batch, line), custom_id_of(line), None, 0, None, error)


def _name(batch: BatchRow, line: Line) -> str:
    return f"batch_req_{batch.id.removeprefix('batch_')[:24]}{line.number:08d}"


def _wait_s(error: Exception, waits: int) -> float:
    said: float | None = getattr(error, "retry_after_s", None)
    return min(LONGEST_PUT_OFF_S, max(said or 0.0, FIRST_WAIT_S * 2.0 ** min(waits, 6)))
