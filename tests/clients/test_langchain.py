"""LangChain's ChatOpenAI, unchanged."""

from collections.abc import Callable
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeDecider, FakeEmbedder, FakeEngine

langchain = pytest.importorskip(
    "langchain_openai", reason="langchain-openai is not installed (the clients extra has it)"
)
from langchain_core.messages import HumanMessage, ToolMessage  # noqa: E402
from pydantic import BaseModel, SecretStr  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

Served = Callable[..., Any]
LONG = "A long answer, with ☃ and\nnew lines: " + "wörd " * 40
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def chat(at: Any, **fields: Any) -> Any:
    return langchain.ChatOpenAI(model="auto", base_url=at.url, api_key=SecretStr("none"), max_retries=0, **fields)


@pytest.mark.parametrize("responses", [False, True])
def test_it_answers(served: Served, responses: bool) -> None:
    message = chat(served(), use_responses_api=responses).invoke("hello")
    assert message.text == "cheap says"
    assert message.usage_metadata["total_tokens"] == 15


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("tier", ["cheap", "frontier"])
def test_it_streams(served: Served, tier: str, responses: bool) -> None:
    at = served(**{tier: FakeEngine(LONG)}, decider=FakeDecider(tier))
    pieces = list(chat(at, stream_usage=True, use_responses_api=responses).stream("hello"))
    assert "".join(piece.text for piece in pieces) == LONG


@pytest.mark.parametrize("responses", [False, True])
def test_a_tool_loop_goes_round(served: Served, responses: bool) -> None:
    at = served(frontier=FakeEngine("", tool_calls=[CALL]), decider=FakeDecider("frontier"))
    model = chat(at, use_responses_api=responses).bind_tools([TOOL])
    asked = HumanMessage("weather?")
    said = model.invoke([asked])
    [call] = said.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    at.context.decider.tier = "cheap"
    model.invoke([asked, said, ToolMessage("rain", tool_call_id=call["id"])])
    assert at.sink.records[-1].tier == "frontier"


def test_it_reads_structured_output(served: Served) -> None:
    class Answer(BaseModel):
        city: str

    at = served(cheap=FakeEngine('{"city": "Oslo"}'))
    assert chat(at).with_structured_output(Answer, method="json_schema").invoke("where?") == Answer(city="Oslo")


def test_it_embeds(served: Served) -> None:
    at = served(embedder=FakeEmbedder())
    embeddings = langchain.OpenAIEmbeddings(
        model="auto", base_url=at.url, api_key=SecretStr("none"), check_embedding_ctx_length=False,
        model_kwargs={"encoding_format": "float"},
    )  # fmt: skip
    assert embeddings.embed_query("a") == [0.25, 0.5]
