import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.estimators.asked_signals import ASKED_SIGNALS
from router_models.estimators.questions.terms import AskedSettings
from router_models.pricing.prices import Price
from router_models.types import PREFIX_FINISH, Completion, Query, Usage
from serve_graph.cascade.billing import answered
from serve_graph.protocol.chunks import CompletionAccumulator, each_choice, says_something, to_chunks
from serve_graph.protocol.requests import engine_body
from serve_graph.protocol.responses import MALFORMED, completion_of

CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text(min_size=1, max_size=8),
            "type": st.just("function"),
            "function": st.fixed_dictionaries(
                {"name": st.text(min_size=1, max_size=8), "arguments": st.text(max_size=20)}
            ),
        }
    ),
    max_size=3,
    unique_by=lambda call: call["id"],
)
MESSAGES = st.fixed_dictionaries({"content": st.text(max_size=60), "tool_calls": CALLS})


@pytest.mark.parametrize("name", ASKED_SIGNALS)
def test_an_answer_with_half_a_character_can_be_asked_about_and_is_shown_as_it_came(name: str) -> None:
    reply = {"choices": [{"index": 0, "message": {"content": "cut \ud83d"}}]}
    answer = completion_of(reply, 0.0)
    accumulator = CompletionAccumulator()
    accumulator.add({"choices": [{"index": 0, "delta": {"content": "cut \ud83d"}, "finish_reason": "stop"}]})
    assert answer.text == accumulator.completion(0.0).text == "cut \ufffd"
    assert answer.payload["choices"][0]["message"]["content"] == "cut \ud83d"
    for call in ASKED_SIGNALS[name].calls(Query.from_prompt("hello"), answer, AskedSettings(verdicts=2)):
        sent = engine_body(call, "cheap", {}, "openai")
        json.dumps(sent, ensure_ascii=False).encode()


@given(st.lists(MESSAGES, min_size=1, max_size=3))
def test_chunks_accumulate_to_the_same_completion(messages: list[dict[str, Any]]) -> None:
    choices = [{"index": i, "message": said, "finish_reason": "stop"} for i, said in enumerate(messages)]
    accumulator = CompletionAccumulator()
    for piece in to_chunks(completion_of({"choices": choices}, 0.0)):
        accumulator.add({"choices": piece})
    whole = [choice["message"] for choice in accumulator.completion(0.0).payload["choices"]]
    assert accumulator.finished
    assert [message["content"] or "" for message in whole] == [message["content"] for message in messages]
    assert [message.get("tool_calls") or [] for message in whole] == [message["tool_calls"] for message in messages]


BESIDE = st.dictionaries(
    st.sampled_from(["audio", "images", "annotations", "reasoning_details", "provider_specific_fields", "tone"]),
    st.dictionaries(st.sampled_from(["id", "data", "transcript", "x"]), st.text(max_size=5), min_size=1)
    | st.lists(st.integers() | st.text(max_size=3), min_size=1, max_size=3, unique_by=repr)
    | st.text(min_size=1, max_size=5),
)


@given(BESIDE)
def test_whatever_else_a_message_holds_is_in_its_chunks(beside: dict[str, Any]) -> None:
    message = {"content": "hi", **beside}
    accumulator = CompletionAccumulator()
    for piece in to_chunks(completion_of({"choices": [{"index": 0, "message": message}]}, 0.0)):
        accumulator.add({"choices": piece})
    [choice] = accumulator.completion(0.0).payload["choices"]
    assert choice["message"] == {"role": "assistant", **message}


def test_audio_lists_and_objects_in_pieces_are_put_together() -> None:
    accumulator = CompletionAccumulator()
    for delta in (
        {
            "audio": {"id": "a1", "transcript": "he"},
            "annotations": [{"url": "x"}],
            "reasoning_details": [{"text": "a"}],
        },
        {
            "audio": {"data": "AA", "transcript": "l"},
            "annotations": [{"url": "y"}],
            "reasoning_details": [{"text": "a"}],
        },
        {"audio": {"data": "BB", "transcript": "lo", "expires_at": 7}, "annotations": [{"url": "x"}, {"url": "y"}]},
    ):
        accumulator.add({"choices": [{"index": 0, "delta": delta}]})
    message = accumulator.completion(0.0, "stop").payload["choices"][0]["message"]
    assert message["audio"] == {"id": "a1", "data": "AABB", "transcript": "hello", "expires_at": 7}
    assert message["annotations"] == [{"url": "x"}, {"url": "y"}], "what is sent again is not repeated"
    assert message["reasoning_details"] == [{"text": "a"}, {"text": "a"}], "equal pieces of text are two pieces"


def test_usage_and_logprobs_are_heard() -> None:
    accumulator = CompletionAccumulator()
    for word in ("a", "b"):
        logprobs = {"content": [{"token": word, "logprob": -0.5}]}
        accumulator.add({"choices": [{"index": 0, "delta": {"content": word}, "logprobs": logprobs}]})
    accumulator.add({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    assert not accumulator.finished
    said = accumulator.completion(1.0, "stop")
    assert (said.text, said.token_logprobs, said.usage, said.finish_reason) == (
        "ab",
        (-0.5, -0.5),
        Usage(3, 2),
        "stop",
    )
    begun = accumulator.prefix(1)
    assert begun is not None
    assert (begun.text, begun.finish_reason, begun.token_logprobs) == ("a", PREFIX_FINISH, (-0.5,))
    assert accumulator.prefix(2) is None, "it is not known yet that the answer goes on"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["content", "index"]), inner),
    max_leaves=4,
)
PIECES = st.fixed_dictionaries(
    {},
    optional={
        "index": JSON,
        "delta": JSON | st.dictionaries(st.sampled_from(["content", "role", "refusal", "tool_calls"]), JSON),
        "logprobs": JSON | st.fixed_dictionaries({"content": JSON | st.just([{"token": "a", "logprob": -1}])}),
        "finish_reason": st.none() | st.just("stop"),
    },
)


@given(st.lists(st.fixed_dictionaries({"choices": st.lists(PIECES, max_size=2) | JSON}, optional={"usage": JSON})))
def test_whatever_an_engine_streams_is_heard_or_refused(chunks: list[dict[str, Any]]) -> None:
    """A chunk that is none leaves what was said before it, which is still a completion: it is billed."""
    accumulator = CompletionAccumulator()
    for chunk in chunks:
        with suppress(*MALFORMED):
            accumulator.add(chunk)
    assert isinstance(accumulator.completion(0.0, "stop"), Completion)


def test_an_answer_without_logprobs_has_no_beginning_to_judge() -> None:
    accumulator = CompletionAccumulator()
    for delta in ({"role": "assistant", "content": ""}, {"content": "one two"}, {"content": " three"}):
        accumulator.add({"choices": [{"index": 0, "delta": delta}]})
    assert accumulator.prefix(1) is None


def test_the_role_alone_says_nothing() -> None:
    assert not says_something({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
    assert says_something({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    assert says_something({"choices": [{"delta": {"tool_calls": [{}]}}]})


def test_choices_are_separated_and_usage_is_counted_once() -> None:
    choices = [{"index": i, "message": {"content": text}, "finish_reason": "stop"} for i, text in enumerate("ab")]
    parts = each_choice(completion_of({"choices": choices, "usage": {"prompt_tokens": 5}}, 0.0))
    assert [part.text for part in parts] == ["a", "b"]
    assert [part.usage.prompt_tokens for part in parts] == [5, 0]
    one = Completion("x")
    assert each_choice(one) == (one,)


def test_a_tool_call_index_out_of_reason_is_not_built_up_to() -> None:
    accumulator = CompletionAccumulator()
    accumulator.add({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 10**9, "id": "x"}]}}]})


def test_what_a_stream_is_billed_by_is_heard() -> None:
    accumulator = CompletionAccumulator()
    accumulator.add({"choices": [{"index": 0, "delta": {"content": "a"}}], "service_tier": "flex"})
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cache_write_tokens": 4}}
    accumulator.add({"choices": [], "usage": usage})
    completion = accumulator.completion(0.0, "stop")
    assert completion.usage == Usage(9, 1, 0, 4)
    prices = {"cheap": Price(Decimal(1), Decimal(2), None, Decimal(4), batch_factor=Decimal("0.5"))}
    line = answered(prices, "cheap", completion, 0.0)
    assert line.cost_usd == Decimal(9 - 4 + 4 * 4 + 2) / 2 / 1_000_000


def test_openais_former_function_call_is_put_together_and_taken_apart_again() -> None:
    accumulator = CompletionAccumulator()
    for part in ({"name": "now", "arguments": ""}, {"arguments": '{"zone":'}, {"arguments": ' "UTC"}'}):
        accumulator.add({"choices": [{"index": 0, "delta": {"function_call": part}}]})
    whole = accumulator.completion(0.0, "function_call")
    called = {"name": "now", "arguments": '{"zone": "UTC"}'}
    assert whole.payload["choices"][0]["message"]["function_call"] == called
    assert whole.tool_calls == ({"type": "function", "function": called},)
    assert [c["delta"]["function_call"] for [c] in to_chunks(whole) if "function_call" in c["delta"]] == [called]


@pytest.mark.parametrize("odd", ["now", 3, ["now"], {"name": 5}, {"name": "now", "arguments": {}}])
def test_a_former_function_call_of_another_shape_is_malformed(odd: object) -> None:
    with pytest.raises(MALFORMED):
        CompletionAccumulator().add({"choices": [{"index": 0, "delta": {"function_call": odd}}]})
