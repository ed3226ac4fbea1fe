"""The `anthropic` client over a real socket, unchanged, and the requests of an agent built on it."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge
from serve_graph.errors import EngineError, SaturatedError

anthropic = pytest.importorskip("anthropic", reason="anthropic is not installed (the clients extra has it)")
from pydantic import BaseModel, TypeAdapter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

Served = Callable[..., Any]
LONG = "A long answer, with ☃ and\nnew lines: " + "wörd " * 40
CALLS = [
    {"id": f"call_{i}", "type": "function", "function": {"name": "weather", "arguments": json.dumps({"city": city})}}
    for i, city in enumerate(["Oslo", "Rome"])
]
TOOL = {
    "name": "weather",
    "description": "today's",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "cache_control": {"type": "ephemeral"},
}
PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}
HELLO: dict[str, Any] = {"model": "auto", "max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]}
THINKING = {"type": "enabled", "budget_tokens": 2048}


def client_of(at: Any, prefix: str = "") -> Any:
    url = at.url.removesuffix("/v1") + prefix
    return anthropic.Anthropic(api_key="none", base_url=url, max_retries=0, timeout=60)


@pytest.mark.parametrize("prefix", ["", "/anthropic"])
def test_it_answers(served: Served, prefix: str) -> None:
    at = served()
    with client_of(at, prefix) as client:
        message = client.messages.create(**HELLO, system="Be brief.", stop_sequences=["END"])
    anthropic.types.Message.model_validate_json(message.model_dump_json(warnings="none"))
    assert (message.content[0].text, message.stop_reason, message.model) == ("cheap says", "end_turn", "cheap")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 5)
    assert message._request_id == at.record.evidence["request_id"]


@pytest.mark.parametrize("tier", ["cheap", "frontier"])
def test_it_streams(served: Served, tier: str) -> None:
    at = served(**{tier: FakeEngine(LONG)}, decider=FakeDecider(tier))
    with client_of(at) as client, client.messages.stream(**HELLO) as stream:
        assert "".join(stream.text_stream) == LONG
        final = stream.get_final_message()
    assert (final.content[0].text, final.stop_reason) == (LONG, "end_turn")
    assert (final.usage.input_tokens, final.usage.output_tokens) == (10, 5)


def test_every_event_of_a_stream_is_one_of_its_own(served: Served) -> None:
    at = served(frontier=FakeEngine("hm", tool_calls=CALLS), decider=FakeDecider("frontier"))
    known = TypeAdapter(anthropic.types.RawMessageStreamEvent)
    with client_of(at) as client:
        events = list(client.messages.create(**HELLO, tools=[TOOL], stream=True))
    for event in events:
        known.validate_json(event.model_dump_json(warnings="none"))
    assert events[-2].serve_graph["tier"] == "frontier"


@pytest.mark.parametrize("stream", [False, True])
def test_a_loop_of_parallel_tools_goes_round(served: Served, stream: bool) -> None:
    at = served(frontier=FakeEngine("Let me see.", tool_calls=CALLS), decider=FakeDecider("frontier"))

    def ask(messages: list[Any]) -> Any:
        asked = HELLO | {"messages": messages, "tools": [TOOL], "tool_choice": {"type": "auto"}}
        if not stream:
            return client.messages.create(**asked)
        with client.messages.stream(**asked) as events:
            return events.get_final_message()

    with client_of(at) as client:
        turns: list[Any] = [{"role": "user", "content": "weather?"}]
        said = ask(turns)
        text, *calls = said.content
        assert (text.text, said.stop_reason) == ("Let me see.", "tool_use")
        assert [call.input for call in calls] == [{"city": "Oslo"}, {"city": "Rome"}]
        at.context.decider.tier = "cheap"
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls]
        turns += [{"role": "assistant", "content": said.content}, {"role": "user", "content": results}]
        ask(turns)
    assert at.sink.records[-1].tier == "frontier", "the loop stays where it began"
    [_, spoken, *told] = at.context.engines["frontier"].queries[-1].parameters["messages"]
    assert [call["id"] for call in spoken["tool_calls"]] == ["call_0", "call_1"]
    assert [result["tool_call_id"] for result in told] == ["call_0", "call_1"]


def test_its_images_and_documents_arrive(served: Served) -> None:
    at = served()
    content = [
        {"type": "image", "source": PNG},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "No smoking."}},
        {"type": "text", "text": "What is this?"},
    ]
    with client_of(at) as client:
        client.messages.create(**HELLO | {"messages": [{"role": "user", "content": content}]})
    [message] = at.context.engines["cheap"].queries[0].parameters["messages"]
    assert [part["type"] for part in message["content"]] == ["image_url", "text", "text"]


def test_thinking_is_shown_where_it_was_asked_for(served: Served) -> None:
    class Thinks(FakeEngine):
        def _chunks(self) -> Any:
            first, *rest = super()._chunks()
            choice = {"index": 0, "delta": {"reasoning_content": "Hm."}, "finish_reason": None}
            yield from (first, first | {"choices": [choice]}, *rest)

    at = served(frontier=Thinks("4"), decider=FakeDecider("frontier"))
    with client_of(at) as client:
        with client.messages.stream(**HELLO | {"max_tokens": 4096, "thinking": THINKING}) as stream:
            final = stream.get_final_message()
        with client.messages.stream(**HELLO) as stream:
            plain = stream.get_final_message()
        turns = [*HELLO["messages"], {"role": "assistant", "content": final.content}, *HELLO["messages"]]
        client.messages.create(**HELLO | {"messages": turns})
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[0].thinking == "Hm."
    assert [block.type for block in plain.content] == ["text"]
    assert at.context.engines["frontier"].queries[0].parameters["reasoning_effort"] == "low"


def test_it_reads_structured_output(served: Served) -> None:
    class Answer(BaseModel):
        city: str

    at = served(cheap=FakeEngine('{"city": "Oslo"}'))
    with client_of(at) as client:
        parsed = client.messages.parse(**HELLO, output_format=Answer)
    assert parsed.parsed_output == Answer(city="Oslo")
    asked = at.context.engines["cheap"].queries[0].parameters["response_format"]
    assert asked["json_schema"]["schema"]["properties"]["city"]["type"] == "string"


def test_errors_are_its_own_exceptions(served: Served) -> None:
    with client_of(served(frontier=FakeEngine(error=SaturatedError("full", retry_after_s=1)))) as client:
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(**HELLO | {"model": "claude-17"})
        with pytest.raises(anthropic.BadRequestError, match="web_search_20250305"):
            client.messages.create(**HELLO, tools=[{"type": "web_search_20250305", "name": "web_search"}])
        with pytest.raises(anthropic.APIStatusError, match="full") as caught:
            client.messages.create(**HELLO | {"model": "frontier"})
        assert (caught.value.status_code, caught.value.body["error"]["type"]) == (529, "overloaded_error")


def test_a_stream_that_breaks_off_is_an_exception(served: Served) -> None:
    frontier = FakeEngine(LONG, break_after=5, breaks_with=EngineError("the replica died"))
    with (
        client_of(served(frontier=frontier)) as client,
        pytest.raises(anthropic.APIError, match="the replica died"),
        client.messages.stream(**HELLO | {"model": "frontier"}) as stream,
    ):
        stream.get_final_message()


def test_silence_before_the_commit_is_borne(served: Served) -> None:
    from router_models.types import Action

    at = served(cheap=FakeEngine("cheap says", slow_s=0.3), judge=FakeJudge(Action.ESCALATED), keep_alive_s=0.05)
    with client_of(at) as client, client.messages.stream(**HELLO) as stream:
        assert stream.get_final_text() == "frontier says"


def test_it_counts_tokens_and_lists_models(served: Served) -> None:
    with client_of(served()) as client:
        counted = client.messages.count_tokens(model="auto", messages=HELLO["messages"], tools=[TOOL])
        assert counted.input_tokens > 20
        assert [model.id for model in client.models.list()] == ["auto", "cheap", "frontier"]
        assert client.models.retrieve("cheap").display_name == "cheap"


def test_an_agents_request_is_taken_as_it_is(served: Served) -> None:
    at = served(max_body_bytes=100_000)
    reminder = {"type": "text", "text": "<system-reminder>Be careful.</system-reminder>"}
    with client_of(at) as client, client.beta.messages.stream(
        model="auto", max_tokens=32000, extra_body={"temperature": 1},
        betas=["claude-code-20250219", "interleaved-thinking-2025-05-14", "context-management-2025-06-27"],
        system=[{"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}}],
        messages=[{"role": "user", "content": [reminder, {"type": "text", "text": "hello"}]}],
        tools=[TOOL | {"input_schema": TOOL["input_schema"] | {"$schema": "https://json-schema.org/draft/2020-12/schema"}}],
        metadata={"user_id": "user_a_account_b_session_c"}, thinking={"type": "enabled", "budget_tokens": 31999},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    ) as stream:  # fmt: skip
        assert stream.get_final_message().content[0].text == "cheap says"
    assert at.record.session is not None
