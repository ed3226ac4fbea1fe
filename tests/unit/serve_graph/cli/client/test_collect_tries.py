"""What `collect` tries again, for how long, and what it gives up at once."""

import asyncio
import time
from typing import Any

import pytest

from router_models.data.outcomes import prompt_id
from serve_graph.cli.client.ask import RETRIES, api_client, ask
from serve_graph.errors import EngineError
from tests.fixtures.made_up_time import hurry, hurry_when
from tests.unit.serve_graph.cli.client.collecting import (
    TASKS,
)

ANSWERED = {"fault": "none"}
PAUSED_S = 0.05


async def tried(api: Any, times: int) -> None:
    """Wait for so many tries; the pauses before them pass at once, and so does the time-out of one that hangs."""
    for before in range(1, times):
        await hurry_when(lambda before=before: api.state()["seen"] == before, 0.0)  # type: ignore[misc]
        await asyncio.sleep(PAUSED_S)
        assert api.state()["seen"] == before, "a pause comes first"
        while api.state()["seen"] == before:
            hurry(30.0)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("faults", "seen"),
    [
        ([{"fault": "status", "status": 429, "times": 3}], 4),
        ([{"fault": "status", "status": 500}, {"fault": "reset"}], 3),
        ([{"fault": "hang"}], 2),
    ],
    ids=["busy", "an error and a broken connection", "silence"],
)
async def test_what_may_pass_is_tried_again(api: Any, faults: list[dict[str, Any]], seen: int) -> None:
    api.plays(*faults, ANSWERED)
    started = time.monotonic()
    async with api_client(api.url.removesuffix("/v1"), timeout_s=600.0) as client:
        asking = asyncio.ensure_future(ask(client, "cheap", TASKS[0]))
        await tried(api, seen)
        outcome = await asking
    assert (outcome.prompt_id, api.state()["seen"]) == (prompt_id(TASKS[0].prompt), seen)
    # The latency is of the try that answered, without those before and the pauses between.
    assert time.monotonic() - started - outcome.latency_s > PAUSED_S * (seen - 1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"fault": "status", "status": 400, "message": "too long"}, "cheap answered 400 to task t0: .*too long"),
        ({"fault": "status", "status": 429, "retry_after": 43200, "message": "spent"}, "answered 429 .*spent"),
        ({"fault": "malformed"}, "cheap gave task t0 no answer: JSONDecodeError"),
        ({"fault": "no_choices"}, "cheap gave task t0 no answer: ValueError"),
    ],
    ids=["a refusal", "a spent budget", "half a reply", "no choice"],
)
async def test_what_will_not_pass_is_an_error_at_once(api: Any, fault: dict[str, Any], message: str) -> None:
    api.plays(fault)
    async with api_client(api.url.removesuffix("/v1")) as client, asyncio.timeout(60):
        with pytest.raises(EngineError, match=message):
            await ask(client, "cheap", TASKS[0])
    assert api.state()["seen"] == 1


async def test_a_pause_that_the_reply_asks_for_is_made(api: Any) -> None:
    api.plays({"fault": "status", "status": 429, "retry_after": 60}, ANSWERED)
    async with api_client(api.url.removesuffix("/v1")) as client:
        asking = asyncio.ensure_future(ask(client, "cheap", TASKS[0]))
        await hurry_when(lambda: api.state()["seen"] == 1, 0.0)
        await asyncio.sleep(PAUSED_S)
        hurry(50.0)
        await asyncio.sleep(PAUSED_S)
        assert api.state()["seen"] == 1
        hurry(10.0)
        await asking
    assert api.state()["seen"] == 2


async def test_a_tier_that_keeps_failing_is_given_up(api: Any) -> None:
    api.plays({"fault": "status", "status": 503, "times": 9})
    async with api_client(api.url.removesuffix("/v1")) as client:
        asking = asyncio.ensure_future(ask(client, "cheap", TASKS[0]))
        await tried(api, 1 + RETRIES)
        with pytest.raises(EngineError, match="answered 503"):
            await asking
    assert api.state()["seen"] == 1 + RETRIES


def test_the_key_is_the_graphs_own_and_not_a_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider")
    monkeypatch.delenv("SERVE_GRAPH_KEY", raising=False)
    assert api_client("http://test").api_key == "none"
    monkeypatch.setenv("SERVE_GRAPH_KEY", "sg-own")
    assert api_client("http://test").api_key == "sg-own"
