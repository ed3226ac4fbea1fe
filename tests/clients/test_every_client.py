"""Every client library in Python, unchanged, over a real socket: against a hosted tier, and an echo tier.

The hosted tier's API is the echo server, which replies as scripted; the echo tier stands where an engine of ours does,
and knows neither tools nor schemas.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.clients import exchanges
from tests.clients.drivers import CLIENTS, driver
from tests.clients.exchanges import ANSWER, CALLS, IDS, OBJECT, PICTURE, QUESTION, RESULTS, Weather
from tests.fixtures.local_graph import ECHO, HOSTED

pytestmark = pytest.mark.filterwarnings("ignore")
ROOTS = {"langchain": "langchain_openai"}
TOOLS_NOT_STREAMED = ("instructor",)  # "stream=True is not supported when using PARALLEL_TOOLS mode"
HERE = [name for name, (module, *_) in CLIENTS.items() if importlib.util.find_spec(ROOTS.get(module, module))]
LOOPS = [(name, s) for name in HERE for s in (False, True) if not s or name not in TOOLS_NOT_STREAMED]


@pytest.fixture(params=HERE)
def client(request: pytest.FixtureRequest) -> Any:
    return driver(request.param)


@pytest.fixture
def hosted(graph: Any) -> Any:
    """Where the hosted tier is."""
    return graph.at(HOSTED)


def test_it_answers(client: Any, graph: Any, hosted: Any) -> None:
    graph.api.plays(exchanges.says(ANSWER))
    assert client.chat(hosted) == ANSWER
    assert graph.api.bodies[0]["messages"][-1] == {"role": "user", "content": QUESTION}


def test_it_streams(client: Any, graph: Any, hosted: Any) -> None:
    graph.api.plays(exchanges.says_in_pieces(ANSWER))
    assert client.stream(hosted) == ANSWER
    assert graph.api.bodies[0]["stream"] is True


@pytest.mark.parametrize(("client", "streamed"), LOOPS, indirect=["client"])
def test_it_makes_parallel_calls_and_sends_their_results(client: Any, graph: Any, hosted: Any, streamed: bool) -> None:
    last = exchanges.says_in_pieces if streamed and client.runs_tools else exchanges.says
    graph.api.plays(exchanges.calls_both_in_pieces() if streamed else exchanges.calls_both(), last(ANSWER))
    calls, said = (client.streamed_tools if streamed else client.tools)(hosted)
    assert sorted(calls, key=str) == sorted(CALLS, key=str)
    first, *later = graph.api.bodies
    [tool] = first["tools"]
    assert (tool["function"]["name"], tool["function"]["parameters"]["required"]) == ("weather", ["city"])
    assert first.get("parallel_tool_calls", True) is True
    if said is None:
        return
    assert said == ANSWER
    [second] = later
    results = {m["tool_call_id"]: m["content"] for m in second["messages"] if m["role"] == "tool"}
    assert results == dict(zip(IDS, RESULTS.values(), strict=True))
    [asked] = [m for m in second["messages"] if m["role"] == "assistant"]
    assert [call["id"] for call in asked["tool_calls"]] == list(IDS)


def test_it_reads_structured_output(client: Any, graph: Any, hosted: Any) -> None:
    graph.api.plays(exchanges.says(Weather(**OBJECT).model_dump_json()))
    assert client.structured(hosted).model_dump() == OBJECT
    asked = graph.api.bodies[0]["response_format"]
    assert asked["type"] == "json_schema"
    assert set(asked["json_schema"]["schema"]["properties"]) == {"city", "raining"}


def test_it_shows_an_image(client: Any, graph: Any, hosted: Any) -> None:
    graph.api.plays(exchanges.says(ANSWER))
    assert client.image(hosted) == ANSWER
    parts = graph.api.bodies[0]["messages"][-1]["content"]
    assert [part["text"] for part in parts if part["type"] == "text"] == [QUESTION]
    assert [part["image_url"]["url"] for part in parts if part["type"] == "image_url"] == [PICTURE]


def test_an_unknown_model_is_its_own_exception(client: Any, hosted: Any) -> None:
    with pytest.raises(client.unknown_model, match="gpt-17"):
        client.chat(replace(hosted, model="gpt-17"))


def test_a_wrong_key_is_its_own_exception(client: Any, hosted: Any) -> None:
    with pytest.raises(client.wrong_key, match="key"):
        client.chat(replace(hosted, key="sg-wrong"))


def test_a_refusal_of_the_api_is_its_own_exception(client: Any, graph: Any, hosted: Any) -> None:
    graph.api.plays(
        {"json": {"error": {"message": "content flagged", "type": "invalid_request_error"}}, "status": 400}
    )
    with pytest.raises(Exception, match="content flagged"):
        client.chat(hosted)


def test_a_rate_limit_of_the_api_is_its_own_exception(client: Any, graph: Any, hosted: Any) -> None:
    graph.api.plays({"json": {"error": {"message": "slow down", "type": "rate_limit_error"}}, "status": 429})
    with pytest.raises(Exception, match="slow down") as caught:
        client.chat(hosted)
    assert re.search("RateLimit|Overloaded", type(caught.value).__name__)


def test_a_stream_that_breaks_off_is_an_exception_and_no_short_answer(client: Any, graph: Any, hosted: Any) -> None:
    graph.api.plays({"fault": "reset", "after": 3})
    with pytest.raises(Exception, match=r"interrupted|connection"):
        client.stream(hosted)


@pytest.mark.parametrize("ask", ["chat", "stream", "image"])
def test_an_echo_tier_answers_it_too(client: Any, graph: Any, ask: str) -> None:
    said = getattr(client, ask)(graph.at(ECHO))
    assert said.startswith("echo echo: ")
    assert QUESTION in said


def test_the_router_answers_it_too(client: Any, graph: Any) -> None:
    assert QUESTION in client.chat(graph.at("auto"))
