"""A hosted tier over Anthropic's API, scripted in this process."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.echo.scripted import check_script
from serve_graph.engines.echo.server import FAULTS, EchoServer
from serve_graph.engines.hosted.engine import HostedEngine
from tests.fixtures.upstream import DirectHandle
from tests.unit.serve_graph.engines.hosted.anthropic.test_reply import events_of, message_of

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 64}
ANSWER = message_of({"type": "text", "text": "Hello, you.\u2028☃"})
LONG_S = 60.0
"""No machine is so busy that what is waited for so long takes longer."""
PRICE = {"input_usd_per_mtok": 10, "output_usd_per_mtok": 20}


class Tier:
    """A tier of deployments that are all one scripted API, and the endpoint in front of it."""

    def __init__(self, endpoint: Callable[..., Any], **fields: Any) -> None:
        self.server = EchoServer("frontier")
        api = {"model": "claude", "api": "anthropic", "base_url": "http://upstream"}
        if "deployments" in fields:
            fields["deployments"] = [api | own for own in fields["deployments"]]
            api = {}
        base = {
            "name": "frontier",
            "engine": "openai",
            "price": PRICE,
            "failover": {"max_attempts": 1},
            "timeout_s": LONG_S,
        }
        self.config = HostedTierConfig.model_validate(base | api | fields)
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app=self.server))
        self.engine = HostedEngine(self.config, client)
        handle: Any = DirectHandle(self.engine)
        self.endpoint = endpoint(frontier=HandleEngine(handle, self.config), max_body_bytes=100_000)

    def plays(self, *entries: dict[str, Any]) -> None:
        self.server.script.clear()
        self.server.script.extend(check_script(list(entries), FAULTS))

    @property
    def sent(self) -> dict[str, Any]:
        """The body of the last request to the API."""
        body: dict[str, Any] = self.server.last["body"]
        return body

    async def ask(self, path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
        async with self.endpoint.client() as client:
            return await client.post(path, json=HELLO | {"model": "frontier"} | fields)


@pytest.fixture
async def tier(endpoint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Tier]]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    made: list[Tier] = []

    def make(**fields: Any) -> Tier:
        made.append(Tier(endpoint, **fields))
        return made[-1]

    yield make
    for each in made:
        await each.engine.close()


def streamed(message: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A script's entry that streams a message, in packets of 7 bytes."""
    events = [
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events_of(message)
    ]
    return {"events": events, "split": 7, **fields}


def chunks_in(reply: httpx.Response) -> list[dict[str, Any]]:
    lines = [line[6:] for line in reply.text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
