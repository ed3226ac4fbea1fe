"""Every client library in Python against a graph that runs already, such as `make up`'s with its two vLLM tiers.

    SERVE_GRAPH_URL=http://127.0.0.1:8000 make clients-running

What a model says is its own affair: these tests hold that the client takes it for what was asked. Without the
variable, everything is skipped.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.clients.drivers import CLIENTS, driver
from tests.clients.exchanges import Weather, Where

URL = os.environ.get("SERVE_GRAPH_URL", "")
ROOTS = {"langchain": "langchain_openai"}
HERE = [name for name, (module, *_) in CLIENTS.items() if importlib.util.find_spec(ROOTS.get(module, module))]
pytestmark = [
    pytest.mark.full,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not URL, reason="SERVE_GRAPH_URL names no running graph"),
]


def tiers() -> list[str]:
    """What the running graph serves, `auto` first."""
    return [model["id"] for model in httpx.get(f"{URL}/v1/models").json()["data"]] if URL else []


@pytest.fixture(params=HERE)
def client(request: pytest.FixtureRequest) -> Any:
    return driver(request.param)


@pytest.fixture
def at() -> Where:
    """Where the last tier is."""
    return Where(f"{URL}/v1", os.environ.get("SERVE_GRAPH_API_KEY", "none"), tiers()[-1])


@pytest.mark.parametrize("place", range(3), ids=["auto", "cheap", "frontier"])
@pytest.mark.parametrize("ask", ["chat", "stream"])
def test_it_is_answered_by_every_model(client: Any, at: Where, ask: str, place: int) -> None:
    assert getattr(client, ask)(replace(at, model=tiers()[place])).strip()


def test_it_reads_structured_output(client: Any, at: Where) -> None:
    assert isinstance(client.structured(at), Weather)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_it_is_given_calls_of_its_tool_or_an_answer(client: Any, at: Where, streamed: bool) -> None:
    if streamed and not hasattr(client, "streamed_tools"):
        pytest.skip("it streams no calls")
    try:
        calls, said = (client.streamed_tools if streamed else client.tools)(at)
    except KeyError:  # the model asked for a city that the tool does not know: a call arrived
        return
    assert calls or said
    assert {name for name, _ in calls} <= {"weather"}


def test_an_unknown_model_is_its_own_exception(client: Any, at: Where) -> None:
    with pytest.raises(client.unknown_model, match="gpt-17"):
        client.chat(replace(at, model="gpt-17"))
