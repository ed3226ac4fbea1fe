"""An endpoint of ours as the hosted tier of another: embeddings over a real socket."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeEmbedder
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.errors import EngineError

PRICE = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))


def tier_of(at: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from serve_graph.cluster.hosted_deployment import HostedDeployment

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    config = HostedTierConfig(
        name="frontier",
        engine="openai",
        price=PRICE,
        embeddings=True,
        model="auto",
        embedding_model="cheap",
        base_url=at.url,
        failover={"max_attempts": 1},  # type: ignore[arg-type]
    )
    return HostedDeployment(config)


async def test_embeddings_go_out_as_asked_and_come_back_as_said(
    served: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = served(embedder=FakeEmbedder())
    tier = tier_of(at, monkeypatch)
    reply = await tier.embed({"model": "x", "input": ["a", "b"], "dimensions": 2}, 5.0)
    assert [item["embedding"] for item in reply["data"]] == [[0.25, 0.5]] * 2
    [body] = at.context.embedders["cheap"].bodies
    assert body == {"input": ["a", "b"], "dimensions": 2, "encoding_format": "float"}
    await tier.engine.close()


async def test_embeddings_that_fail_there_are_an_error_object(
    served: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = tier_of(served(embedder=FakeEmbedder(EngineError("dead"))), monkeypatch)
    reply = await tier.embed({"model": "x", "input": "a"}, 5.0)
    assert reply["error"]["code"] == 503
    await tier.engine.close()
