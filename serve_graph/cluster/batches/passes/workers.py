"""What the workers of a pass hold: the cascade, or a tier's engine. Rows come and go as columns of text.

Each worker takes a table of rows and gives one of as many; a row that fails is a row with an error, and no other row
notices. Ray Data runs them as actors (`ray_passes`), tests call them as they are (`LocalPasses`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from serve_graph.cluster.batches.passes.pass_rows import Columns, PassRow, RowProgress, TierReply
from serve_graph.cluster.batches.passes.row_cascade import PassesPlan, RowCascade
from serve_graph.cluster.batches.passes.tries import RowTries
from serve_graph.config.tiers import AnyTierConfig, EchoTierConfig, HostedTierConfig
from serve_graph.engines.echo.engine import EchoEngine, EchoError
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.errors import EngineError
from serve_graph.protocol.requests import ChatRequest, chat_query, engine_body, parse_request


class CascadeWorker:
    """Decides and judges rows."""

    def __init__(self, plan: PassesPlan, tier: str | None = None) -> None:
        self.cascade = RowCascade(plan)
        self.tier = tier

    async def __call__(self, rows: Columns) -> Columns:
        """Take every row on; the result is in the column `progress`, as JSON."""
        made = [await self._row(*row) for row in _each(rows, self.tier is not None)]
        return {"progress": [json.dumps(asdict(one)) for one in made]}

    async def _row(self, row: PassRow, reply: str | None, seconds: float) -> RowProgress:
        given = None if reply is None or self.tier is None else TierReply(self.tier, json.loads(reply), seconds)
        try:
            return await self.cascade.go(row, given)
        except Exception as error:  # noqa: BLE001 (a row that breaks the code is that row's failure)
            why = f"the row cannot be worked on ({type(error).__name__}: {error})"
            return RowProgress(row.key, "0", result={"status": 500, "error": why[:2000], "kind": "server_error"})


class TierWorker:
    """Holds the engine of an echo tier or the client of a hosted one, and asks it the rows of a table side by side.

    A row that takes longer than the tier's `timeout_s` fails by itself. What a hosted API fails at for a moment (429,
    5xx, no connection, no answer in time) is asked again, as rows are over HTTP; meanwhile others have the place.
    """

    def __init__(self, tier: AnyTierConfig) -> None:
        self.tier = tier
        self.places = asyncio.Semaphore(tier.admission.max_in_flight or tier.scaling.max_ongoing_requests)
        self.echo = EchoEngine(tier) if isinstance(tier, EchoTierConfig) else None
        self.hosted = HostedEngine(tier) if isinstance(tier, HostedTierConfig) else None
        self.tries = RowTries(tier.apis[0].name) if isinstance(tier, HostedTierConfig) else RowTries(tier.name, 1)

    async def __call__(self, rows: Columns) -> Columns:
        """Add the columns `reply` and `seconds`."""
        asked = [row.body for row, _, _ in _each(rows, False)]
        replies = await asyncio.gather(*(self.tries.run(partial(self._reply, body)) for body in asked))
        return rows | {"reply": [json.dumps(reply) for reply, _ in replies], "seconds": [s for _, s in replies]}

    async def _reply(self, body: str) -> tuple[dict[str, Any], float]:
        async with self.places:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self.tier.timeout_s):
                    reply = await self._asked(tier_body(self.tier, body))
            except TimeoutError:
                reply = error_reply(f"no answer in {self.tier.timeout_s:g} s", 504)
            except EchoError as fault:
                reply = error_reply(fault.message, fault.status)
            except EngineError as error:
                reply = error_reply(str(error), 400)
            except Exception as error:  # noqa: BLE001 (whatever the engine raises is this row's)
                reply = error_reply(f"{type(error).__name__}: {error}", 500)
            return reply, time.perf_counter() - started

    async def _asked(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.echo is not None:
            return await self.echo.generate(body)
        assert self.hosted is not None, "vLLM's tiers have workers of their own"
        reply = await self.hosted.generate(body, self.tier.timeout_s, True)
        return reply | {"attempts": [asdict(attempt) for attempt in reply.get("attempts", ())]}


def tier_body(tier: AnyTierConfig, body: str) -> dict[str, Any]:
    """A row's request as a tier's engine gets it when it is served; raises EngineError where it cannot take it."""
    query = chat_query(parse_request(ChatRequest, body.encode("utf-8", "surrogatepass")))
    return dict(engine_body(query, tier.name, {**tier.decoding, "max_tokens": tier.default_max_tokens}, tier.engine))


def error_reply(message: str, status: int) -> dict[str, Any]:
    """An engine's error object."""
    return {"error": {"message": message[:2000], "code": status}}


def progress_of_rows(columns: Mapping[str, Iterable[Any]]) -> Iterator[RowProgress]:
    """What a CascadeWorker gave."""
    for text in columns["progress"]:
        yield RowProgress(**json.loads(text))


def _each(rows: Columns, answered: bool) -> Iterator[tuple[PassRow, str | None, float]]:
    count = len(rows["key"])
    replies = rows["reply"] if answered else [None] * count
    seconds = rows["seconds"] if answered else [0.0] * count
    for n in range(count):
        yield PassRow(rows["key"][n], rows["body"][n], rows["story"][n]), replies[n], float(seconds[n])
