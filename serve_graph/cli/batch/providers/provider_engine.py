"""Tiers of a graph that answers a dataset in this process: a provider's batches, or the tiers of a running graph."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx

from router_models.pricing.prices import PriceList, Tariff
from router_models.types import Attempt, Completion, Query, Usage
from serve_graph.cli.batch.asking import ROW
from serve_graph.cli.batch.providers.batch_api import ProviderReply
from serve_graph.cli.batch.providers.batch_pool import BatchPool
from serve_graph.cli.batch.providers.held_money import HeldMoney
from serve_graph.cli.batch.providers.provider_ledger import ProviderLine
from serve_graph.cluster.tier_client import raise_error
from serve_graph.config.tiers.tier import TierConfig
from serve_graph.engines.hosted.deployment_error import DeploymentError
from serve_graph.errors import EngineError
from serve_graph.gateway.context_length import prompt_tokens
from serve_graph.protocol.requests import engine_body
from serve_graph.protocol.responses import MALFORMED, completion_of, usage_of


@dataclass(frozen=True)
class TierTerms:
    """What a call of a tier is made under: its configuration, and what it may cost and does."""

    config: TierConfig
    prices: PriceList
    tariff: Tariff

    def most_usd(self, query: Query) -> Decimal:
        """The most that a call may cost: the prompt counted on the high side, an answer as long as it may be."""
        asked = query.parameters.get("max_tokens") or query.parameters.get("max_completion_tokens")
        longest = int(asked or self.config.default_max_tokens) * int(query.parameters.get("n") or 1)
        price = self.prices.at(datetime.now(UTC))
        return price.cost(Usage(prompt_tokens(query), longest), tariff=self.tariff)

    def usd(self, usage: Usage) -> Decimal:
        """What a call did cost."""
        return self.prices.at(datetime.now(UTC)).cost(usage, tariff=self.tariff)

    def reply_usd(self, reply: ProviderReply) -> Decimal:
        """What a reply did cost, errors that were billed included."""
        return self.usd(usage_of(reply["usage"])) if reply.get("usage") else Decimal(0)

    def body(self, query: Query) -> dict[str, Any]:
        """The request as the tier takes it."""
        defaults = {**self.config.decoding, "max_tokens": self.config.default_max_tokens}
        return engine_body(query, self.config.name, defaults, "openai")


def provider_line(row: str, tier: str, body: str, most_usd: Decimal) -> ProviderLine:
    """A row's request to a tier as a line; equal ones are one line, in whichever run they are asked."""
    key = hashlib.sha256("\0".join((row, tier, body)).encode("utf-8", "surrogatepass")).hexdigest()
    return ProviderLine(key, row, tier, body, most_usd)


def billed_all_the_same(reply: ProviderReply, deployment: str) -> tuple[Attempt, ...]:
    """The call of a line that has no answer, where the provider counted tokens of it; none otherwise."""
    if not (error := reply.get("error")) or not (usage := reply.get("usage")):
        return ()
    status = str(error.get("code"))
    code = int(status) if status.isdecimal() else 502
    return (Attempt(deployment, code, 0.0, {**usage, "service_tier": "batch"}),)


@dataclass(frozen=True)
class ProviderEngine:
    """A hosted tier whose calls are lines of the provider's batches. A row's equal calls are one line."""

    terms: TierTerms
    pool: BatchPool

    @property
    def config(self) -> TierConfig:
        return self.terms.config

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        """Return the answer once its batch has ended, however long that takes."""
        tier, row = self.terms.config.name, ROW.get()
        try:
            body = json.dumps(self.pool.api.body(self.terms.body(query)), ensure_ascii=False)
        except DeploymentError as error:  # the API has no counterpart for what is asked
            raise_error(error.body(), tier)
            raise AssertionError("an error was raised") from error
        reply = await self.pool.reply(provider_line(row, tier, body, self.terms.most_usd(query)))
        raise_error(reply, tier, billed_all_the_same(reply, self.terms.config.name))
        return _completion(reply, tier, 0.0)

    def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]:
        """Nothing streams out of a batch."""
        raise EngineError("a batch streams no answer")


@dataclass(frozen=True)
class GraphTierEngine:
    """A tier without batches, asked of the running graph by its name, in the background, within the same purse."""

    terms: TierTerms
    client: httpx.AsyncClient
    purse: HeldMoney

    @property
    def config(self) -> TierConfig:
        return self.terms.config

    async def generate(self, query: Query, left_s: float = math.inf) -> Completion:
        """Return the tier's own answer."""
        tier, most = self.terms.config.name, self.terms.most_usd(query)
        if not self.purse.fits(most):
            self.purse.stop(self.purse.no_room())
            raise EngineError(self.purse.stopped or "")
        self.purse.hold(most)
        usd, began = Decimal(0), time.perf_counter()
        try:
            sent = {"messages": [{"role": m.role, "content": m.content} for m in query.messages], **query.parameters}
            body = {**sent, "model": tier, "stream": False, "logprobs": True}
            answer = await self.client.post("/v1/chat/completions", json=body)
            reply = answer.json()
            if answer.status_code != 200 and "error" not in reply:
                raise EngineError(f"tier {tier!r}: the graph answered {answer.status_code}")
            if "error" in reply:
                reply["error"]["code"] = answer.status_code
            raise_error(reply, tier)
            usd = self.terms.reply_usd(reply)
            return _completion(reply, tier, time.perf_counter() - began)
        except (httpx.HTTPError, ValueError) as error:
            raise EngineError(f"tier {tier!r}: the graph gave no reply ({type(error).__name__})") from None
        finally:
            self.purse.pay(most, usd)

    def stream(self, query: Query, left_s: float = math.inf) -> AsyncGenerator[Mapping[str, Any], None]:
        """Rows of a dataset are not streamed."""
        raise EngineError("rows are not streamed")


def _completion(reply: ProviderReply, tier: str, seconds: float) -> Completion:
    try:
        return completion_of(reply, seconds)
    except MALFORMED as error:
        raise EngineError(f"tier {tier!r} gave a reply that is no completion ({type(error).__name__})") from error
