"""What the workers of a pass hold: the cascade, or a tier's engine. Rows come and go as columns of text.

Each worker takes a table of rows and gives one of as many; a row that fails is a row with an error, and no other row
notices. Ray Data runs them as actors (`ray_passes`), tests call them as they are (`LocalPasses`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from functools import partial
from typing import Any

from serve_graph.cluster.batches.passes.pass_rows import (
    Columns,
    PassRow,
    RowProgress,
    TierReply,
    about,
    before,
    error_reply,
)
from serve_graph.cluster.batches.passes.row_cascade import PassesPlan, RowCascade
from serve_graph.cluster.batches.passes.tries import ROW_TRIES, RowTries
from serve_graph.config.tiers.kinds import AnyTierConfig, EchoTierConfig, HostedTierConfig
from serve_graph.engines.echo.engine import EchoError
from serve_graph.engines.echo.verifier import echo_engine
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.errors import EngineError
from serve_graph.protocol.requests import ChatRequest, chat_query, engine_body, parse_request

PROGRESS_FIELDS = tuple(field.name for field in fields(RowProgress))


class CascadeWorker:
    """Decides and judges rows."""

    def __init__(self, plan: PassesPlan, tier: str | None = None) -> None:
        self.cascade = RowCascade(plan)
        self.tier = tier

    async def __call__(self, rows: Columns) -> Columns:
        """Take every row on; the result is in the column `progress`, as JSON.

        A row some of whose calls are missing is left out.
        """
        made = [await self._row(*row) for row in _each(rows, self.tier)]
        return {"progress": [text for text in made if text is not None]}

    async def _row(self, row: PassRow, given: TierReply | None, said: Mapping[int, TierReply]) -> str | None:
        try:
            progress = await self.cascade.go(row, given, said)
            if said and progress.tier in (about(self.tier or ""), before(self.tier or "")):
                return None
        except Exception as error:  # noqa: BLE001 (a row that breaks the code is that row's failure)
            why = f"the row cannot be worked on ({type(error).__name__}: {error})"
            progress = RowProgress(row.key, "0", result={"status": 500, "error": why[:2000], "kind": "server_error"})
        return json.dumps({name: getattr(progress, name) for name in PROGRESS_FIELDS})


class TierWorker:
    """Holds the engine of an echo tier or the client of a hosted one, and asks it the rows of a table side by side.

    A row that takes longer than the tier's `timeout_s` fails by itself. What a hosted API fails at for a moment (429,
    5xx, no connection, no answer in time) is asked again, as rows are over HTTP; meanwhile others have the place.
    `ask`: what asks an engine that runs elsewhere, a verifier model's of vLLM; so is what it fails at for a moment.
    """

    def __init__(self, tier: AnyTierConfig, ask: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] | None = None):
        self.tier = tier
        self.ask = ask
        self.places = asyncio.Semaphore(tier.admission.max_in_flight or tier.scaling.max_ongoing_requests)
        self.echo = echo_engine(tier) if isinstance(tier, EchoTierConfig) else None
        self.hosted = HostedEngine(tier) if isinstance(tier, HostedTierConfig) else None
        self.tries = RowTries(tier.name, ROW_TRIES if ask is not None else 1)
        if isinstance(tier, HostedTierConfig):
            self.tries = RowTries(tier.apis[0].name)

    async def __call__(self, rows: Columns) -> Columns:
        """Add the columns `reply` and `seconds`."""
        asked = zip(rows["body"], rows["call"], strict=True)
        replies = await asyncio.gather(*(self.tries.run(partial(self._reply, *line)) for line in asked))
        return rows | {"reply": [json.dumps(reply) for reply, _ in replies], "seconds": [s for _, s in replies]}

    async def close(self) -> None:
        """Close the connections to a hosted tier."""
        if self.hosted is not None:
            await self.hosted.close()

    async def _reply(self, body: str, call: str) -> tuple[dict[str, Any], float]:
        async with self.places:
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self.tier.timeout_s):
                    reply = await self._asked(tier_body(self.tier, body, call))
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
        if self.ask is not None:
            return await self.ask(body)
        assert self.hosted is not None, "vLLM's tiers have workers of their own"
        reply = await self.hosted.generate(body, self.tier.timeout_s, True)
        return reply | {"attempts": [asdict(attempt) for attempt in reply.get("attempts", ())]}


def tier_body(tier: AnyTierConfig, body: str, call: str = "") -> dict[str, Any]:
    """A row's request, or a call for a signal of it, as a tier's engine gets it when it is served.

    Raises EngineError where it cannot take the request.
    """
    if call:
        made: dict[str, Any] = json.loads(call)[1]
        return made
    query = chat_query(parse_request(ChatRequest, body.encode("utf-8", "surrogatepass")))
    return dict(engine_body(query, tier.name, {**tier.decoding, "max_tokens": tier.default_max_tokens}, tier.engine))


def progress_of_rows(columns: Mapping[str, Iterable[Any]]) -> Iterator[RowProgress]:
    """What a CascadeWorker gave."""
    for text in columns["progress"]:
        yield RowProgress(**json.loads(text))


def _each(rows: Columns, tier: str | None) -> Iterator[tuple[PassRow, TierReply | None, Mapping[int, TierReply]]]:
    """The rows of a table with what a tier said: to each, or by the calls' numbers, of its answer."""
    found: dict[str, tuple[PassRow, dict[int, TierReply]]] = {}
    for n, key in enumerate(rows["key"]):
        row = PassRow(key, rows["body"][n], rows["story"][n])
        given = None if tier is None else TierReply(tier, json.loads(rows["reply"][n]), float(rows["seconds"][n]))
        if not (call := rows["call"][n]) or given is None:
            yield row, given, {}
            continue
        known, said = found.get(key) or (row, {})
        found[key] = (row if row.body else known), said
        said[json.loads(call)[0]] = given
    yield from ((row, None, said) for row, said in found.values() if row.body)
