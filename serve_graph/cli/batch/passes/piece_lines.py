"""Rows of a pass as lines of a provider's batches: asked so many at a time, given back piece by piece."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from router_models.types import Query
from serve_graph.cli.batch.providers.batch_api import ProviderReply
from serve_graph.cli.batch.providers.batch_pool import BatchPool
from serve_graph.cli.batch.providers.batched_tiers import batch_pool, batch_terms
from serve_graph.cli.batch.providers.held_money import HeldMoney
from serve_graph.cli.batch.providers.provider_engine import billed_all_the_same, provider_line
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger
from serve_graph.cluster.batches.passes.pass_rows import Columns, RowPieces, error_reply
from serve_graph.cluster.batches.passes.workers import tier_body
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.errors import EngineError

SETTLE_S = 0.1
"""How long pieces are waited for that end together, as those of one batch do."""


class PieceLines:
    """The rows of a pass, or the calls for their signals, at one tier.

    `by_logprobs`: its answers are judged by their log-probabilities. `most_lines`: that are under way at a time; a
    piece that has more begins alone.
    """

    def __init__(
        self,
        tier: HostedTierConfig,
        chunks: RowPieces,
        by_logprobs: bool,
        ledger: ProviderLedger,
        money: HeldMoney,
        most_lines: int,
    ) -> None:
        self.tier, self.chunks, self.by_logprobs = tier, chunks, by_logprobs
        self.ledger, self.money, self.most_lines = ledger, money, most_lines
        self.numbers = iter(range(chunks.count))
        self.under_way: dict[asyncio.Task[Columns], int] = {}
        self.bill = batch_terms(tier)
        self.pool: BatchPool | None = None
        self.has_logprobs, self.lack_logprobs = False, 0

    @property
    def batches(self) -> int:
        """How many batches were sent, or waited for."""
        return 0 if self.pool is None else self.pool.batches

    async def open(self, poll_s: float, linger_s: float, tell: Callable[[str], None]) -> None:
        """Take up what an earlier run had sent."""
        pool = self.pool = batch_pool(self.tier, self.ledger, self.money, poll_s, linger_s, tell)
        self.money.on_stop = lambda _: pool.stop()
        pool.take_up()

    async def close(self) -> None:
        """Leave what is under way at the provider, where the next run finds it."""
        for task in self.under_way:
            task.cancel()
        if self.pool is not None:
            self.pool.stop()
            await self.pool.finish()

    async def ended(self) -> list[Columns]:
        """Pieces that have ended, with the columns `reply` and `seconds`, once there are any; none: all have.

        Rows that might not be sent, or have no reply when the run is stopped, are left out.
        """
        while True:
            self._begin_more()
            if not self.under_way:
                return []
            await asyncio.wait(self.under_way, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(self.under_way, timeout=SETTLE_S)
            done = [task for task in self.under_way if task.done()]
            for task in done:
                del self.under_way[task]
            if self.lack_logprobs and not self.has_logprobs:
                self.money.stop(
                    f"none of {self.lack_logprobs:,} replies of a batch of tier {self.tier.name!r} has "
                    "log-probabilities, by which they would be judged: "
                    f"--interactive {self.tier.name} asks call by call"
                )
                return []
            if found := [piece for task in done if (piece := task.result())["key"]]:
                return found

    def _begin_more(self) -> None:
        while self.money.stopped is None and sum(self.under_way.values()) < self.most_lines:
            if (number := next(self.numbers, None)) is None:
                return
            columns = self.chunks.columns(number)
            self.under_way[asyncio.create_task(self._piece(columns))] = len(columns["key"])

    async def _piece(self, columns: Columns) -> Columns:
        asked = list(zip(columns["key"], columns["body"], columns["call"], strict=True))
        replies = await asyncio.gather(*(self._reply(*line) for line in asked))
        kept = [n for n, reply in enumerate(replies) if reply is not None]
        for n in kept:
            self._look_for_logprobs(replies[n] or {}, asked[n][2])
        told: Columns = {"reply": [json.dumps(replies[n]) for n in kept], "seconds": [0.0] * len(kept)}
        return {name: [values[n] for n in kept] for name, values in columns.items()} | told

    async def _reply(self, key: str, body: str, call: str) -> ProviderReply | None:
        assert self.pool is not None, "it is open"
        try:
            asked = tier_body(self.tier, body, call)
            sent = json.dumps(self.pool.api.body(asked), ensure_ascii=False)
        except EngineError as error:
            return error_reply(str(error), 400)
        except DeploymentError as error:  # the API has no counterpart for what is asked
            return {"error": error.body()["error"]}
        line = provider_line(key, self.tier.name, sent, self.bill.most_usd(Query((), parameters=asked)))
        try:
            reply = await self.pool.reply(line)
        except EngineError:  # the run has ended before there is one
            return None
        billed = billed_all_the_same(reply, self.tier.apis[0].name)
        return reply | {"attempts": [asdict(attempt) for attempt in billed]} if billed else reply

    def _look_for_logprobs(self, reply: ProviderReply, call: str) -> None:
        """Note whether a reply has the log-probabilities that are read of it."""
        reads = bool(json.loads(call)[1].get("top_logprobs")) if call else self.by_logprobs
        choice: dict[str, Any] = (reply.get("choices") or [{}])[0]
        if reads and (choice.get("message") or {}).get("content"):
            has = bool((choice.get("logprobs") or {}).get("content"))
            self.has_logprobs, self.lack_logprobs = self.has_logprobs or has, self.lack_logprobs + (not has)
