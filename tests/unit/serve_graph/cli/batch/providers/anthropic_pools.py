"""A pool of lines for Anthropic's batches, as tests and the processes that they kill use it: quick to import."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.providers.anthropic_api import AnthropicBatchApi
from serve_graph.cli.batch.providers.batch_pool import BatchPool
from serve_graph.cli.batch.providers.held_money import HeldMoney
from serve_graph.cli.batch.providers.provider_ledger import ProviderLedger, ProviderLine
from serve_graph.config.tiers.parts import HostedDeploymentConfig

MOST = Decimal("0.10")


def api_of(url: str) -> AnthropicBatchApi:
    os.environ["POOL_KEY"] = "secret"
    config = HostedDeploymentConfig(
        name="p", model="claude", base_url=f"{url}/v1", api_key_env="POOL_KEY", api="anthropic"
    )
    return AnthropicBatchApi(config, pause_s=0.01, look_s=0.02)


def line(api: AnthropicBatchApi, n: int) -> ProviderLine:
    body = json.dumps(api.body({"messages": [{"role": "user", "content": f"row {n}"}], "max_tokens": 5}))
    return ProviderLine(f"{n:064x}"[::-1], f"row-{n}", "cheap", body, MOST)


def run(url: str, path: Path, use: Callable[[BatchPool, AnthropicBatchApi], Awaitable[Any]]) -> Any:
    async def whole() -> Any:
        api, ledger = api_of(url), ProviderLedger(Journal(path).connection)
        pool = BatchPool("cheap", api, ledger, HeldMoney(), lambda reply: Decimal(0), linger_s=0.05, poll_s=0.02)
        pool.purse.on_stop = lambda _: pool.stop()
        pool.take_up()
        try:
            return await use(pool, api)
        finally:
            pool.stop()
            await pool.finish()
            pool.ledger._db.close()

    return asyncio.run(whole())


async def ask(pool: BatchPool, api: AnthropicBatchApi, *numbers: int) -> list[str]:
    replies = await asyncio.gather(*(pool.reply(line(api, n)) for n in numbers), return_exceptions=True)
    return [
        str(one["choices"][0]["message"]["content"] if "choices" in one else one["error"]["message"])
        if isinstance(one, dict)
        else str(one)
        for one in replies
    ]
