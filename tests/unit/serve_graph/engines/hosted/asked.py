"""A hosted tier over scripted APIs, and questions to it."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import HostedTierConfig

Api = Any  # conftest.Api
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "one two three"}], "max_tokens": 20}
PRICE = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
ONCE = {"max_attempts": 1}
OPEN: list[Any] = []
LONG_S = 60.0
"""No machine is so busy that what is waited for so long takes longer."""
QUICK = {"backoff_s": 0.01, "backoff_max_s": 0.05}


def hosted(*apis: Api, timeout_s: float = 20.0, failover: dict[str, Any] | None = None, **fields: Any) -> Any:
    """A HostedDeployment over one API or several."""
    from serve_graph.cluster.hosted_deployment import HostedDeployment

    if len(apis) == 1:
        fields |= {"model": "some-model", "base_url": apis[0].url}
    else:
        fields["deployments"] = [
            {"name": name, "model": "some-model", "base_url": api.url, "weight": weight}
            for name, weight, api in zip(("east", "west"), (1, 0), apis, strict=True)
        ]
    common = {"name": "frontier", "engine": "openai", "price": PRICE, "timeout_s": timeout_s}
    OPEN.append(HostedDeployment(HostedTierConfig.model_validate(common | {"failover": failover or QUICK} | fields)))
    return OPEN[-1]


async def soon(coming: asyncio.Future[Any]) -> Any:
    done, _ = await asyncio.wait({coming}, timeout=LONG_S / 4)
    assert done, "no time-out ended it"
    return await coming


async def list_of(pieces: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in pieces]


async def asked(tier: Any, stream: bool, timeout_s: float = 20.0) -> tuple[str, tuple[Any, ...]]:
    """Text and calls; raises what the ingress would."""
    from serve_graph.cluster.tier_client import raise_error

    if not stream:
        reply = await tier.generate(dict(BODY), timeout_s)
        raise_error(reply, "frontier", reply.get("attempts", ()))
        return reply["choices"][0]["message"]["content"], reply.get("attempts", ())
    text, calls = [], ()
    async for piece in tier.stream(BODY | {"stream": True, "stream_options": {"include_usage": True}}, timeout_s):
        raise_error(piece, "frontier", piece.get("attempts", ()))
        calls = piece.get("attempts", calls)
        text += [choice["delta"].get("content") or "" for choice in piece.get("choices") or ()]
    return "".join(text), calls
