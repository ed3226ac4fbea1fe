"""A pool of lines for a provider's batches, as tests and the processes that they kill use it: quick to import."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.providers.batch_pool import BatchPool
from serve_graph.cli.batch.providers.held_money import HeldMoney
from serve_graph.cli.batch.providers.provider_api import ProviderApi
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger, ProviderLine
from serve_graph.config.tiers.parts import HostedDeploymentConfig

MOST, COST = Decimal("0.10"), Decimal("0.04")


def line(n: int) -> ProviderLine:
    body = f'{{"model":"m","messages":[{{"role":"user","content":"row {n}"}}]}}'
    return ProviderLine(f"key-{n}", f"row-{n}", "cheap", body, MOST)


def said(reply: dict[str, Any]) -> str:
    return str(reply["choices"][0]["message"]["content"] if "choices" in reply else reply["error"]["message"])


def pool_of(url: str, path: Path, limit: Decimal | None = None, **settings: Any) -> BatchPool:
    os.environ["POOL_KEY"] = "none"
    api = ProviderApi(
        HostedDeploymentConfig(name="p", model="m", base_url=f"{url}/v1", api_key_env="POOL_KEY"), pause_s=0.01
    )
    ledger = ProviderLedger(Journal(path).connection)
    purse = HeldMoney(limit, ledger.unaccounted_usd())
    given: dict[str, Any] = {"linger_s": 0.05, "poll_s": 0.02} | settings
    pool = BatchPool("cheap", api, ledger, purse, lambda reply: COST if "choices" in reply else Decimal(0), **given)
    purse.on_stop = lambda _: pool.stop()
    return pool


def run(url: str, path: Path, use: Callable[[BatchPool], Awaitable[Any]], **settings: Any) -> Any:
    async def whole() -> Any:
        pool = pool_of(url, path, **settings)
        pool.take_up()
        try:
            return await use(pool)
        finally:
            pool.stop()
            await pool.finish()
            pool.ledger._db.close()

    return asyncio.run(whole())


async def ask(pool: BatchPool, *numbers: int) -> list[str]:
    replies = await asyncio.gather(*(pool.reply(line(n)) for n in numbers), return_exceptions=True)
    return [said(reply) if isinstance(reply, dict) else f"{type(reply).__name__}: {reply}" for reply in replies]
