"""Tasks to collect answers of, and an API that answers."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx

from router_models.data.starter import Task
from serve_graph.cli.client.collect import collect_outcomes

BINDS = {"cheap.engine": "a" * 64, "frontier.engine": "b" * 64}
TIERS = ("cheap", "frontier")
ROOT = Path(__file__).parents[5]
TOKENS = [
    {"token": text, "logprob": -0.1, "bytes": None, "top_logprobs": []} for text in ("It", " is", " brown.", "<end>")
]


def task(i: int) -> Task:
    return Task(f"t{i}", f"What is the colour of the cat number {i}?", "notes", 1, "en", "mentions",
                {"accepted": ["brown"]}, "brown", 8)  # fmt: skip


TASKS = [task(i) for i in range(4)]


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


class Api:
    """An OpenAI-compatible API that says `brown`, keeps what it was asked and fails as told."""

    def __init__(self, fail: Callable[[str, str, int], int] = lambda tier, prompt, n: 200) -> None:
        self.fail = fail
        self.asked: list[tuple[str, str]] = []
        self.binds: str | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        tier, prompt = body["model"], body["messages"][0]["content"]
        self.asked.append((tier, prompt))
        status = self.fail(tier, prompt, self.asked.count((tier, prompt)))
        if status != 200:
            return httpx.Response(status, text="no", headers={"retry-after-ms": "1"})
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "It is brown."},
            "logprobs": {"content": TOKENS},
        }
        usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": tier, "choices": [choice]}
        whole = json.dumps(reply | {"usage": usage, "serve_graph": {"tier": tier}}).encode()
        return httpx.Response(200, content=pieces(whole))  # read by the client, which times that


def client_of(api: Callable[[httpx.Request], httpx.Response]) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(api))


async def run(api: Api, out: Path, binds: dict[str, str] | None = BINDS) -> Any:
    return await collect_outcomes("http://test", TIERS, TASKS, out, binds=binds, http_client=client_of(api))
