"""Texts that came together are one chunk, and say what they said apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_graph.engines.joined_chunks import joined_as_read, joined_chunks
from serve_graph.protocol.chunks import CompletionAccumulator
from serve_graph.protocol.responses import MALFORMED


def chunk(delta: dict[str, Any], *, index: int = 0, logprobs: Any = None, **beside: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": beside.pop("finish_reason", None)}
    return {"id": "a", "object": "chat.completion.chunk", "choices": [choice], **beside}


def named(*tokens: str) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": -0.5, "top_logprobs": []} for token in tokens]}


def test_texts_that_came_together_are_one_chunk_with_the_last_usage() -> None:
    chunks = [
        chunk({"role": "assistant", "content": ""}, usage={"prompt_tokens": 3, "completion_tokens": 0}),
        chunk({"content": "one"}, logprobs=named("one"), usage={"prompt_tokens": 3, "completion_tokens": 1}),
        chunk({"content": " two"}, logprobs=named(" two"), usage={"prompt_tokens": 3, "completion_tokens": 2}),
        chunk({}, finish_reason="stop", usage={"prompt_tokens": 3, "completion_tokens": 2}),
    ]
    role, text, end = joined_chunks(chunks)
    assert (role, end) == (chunks[0], chunks[3])
    assert text == chunk(
        {"content": "one two"}, logprobs=named("one", " two"), usage={"prompt_tokens": 3, "completion_tokens": 2}
    )


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(chunk({"content": "b"}, index=1), id="another choice"),
        pytest.param(chunk({"reasoning_content": "b"}), id="another kind of text"),
        pytest.param(chunk({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}), id="a tool call"),
        pytest.param(chunk({"content": "b"}, finish_reason="stop"), id="its end"),
        pytest.param(chunk({"content": "b"}, logprobs=named("b")), id="logprobs where the others have none"),
        pytest.param(chunk({"content": "b"}, attempts=[{}]), id="a field of its own"),
        pytest.param(chunk({"content": "b"}, service_tier="flex"), id="another tariff"),
        pytest.param({"error": {"message": "broken", "code": 500}}, id="a fault"),
        pytest.param({"choices": []}, id="no choice"),
        pytest.param("no chunk", id="no object"),
        pytest.param(chunk({"content": "b"}, logprobs={"content": [{"token": "b"}]}), id="a malformed logprob"),
        pytest.param(chunk({"content": ["b"]}), id="content that is no text"),
    ],
)
def test_a_chunk_that_says_anything_else_stays_one(between: Any) -> None:
    chunks = [chunk({"content": "a"}), between, chunk({"content": "c"})]
    assert list(joined_chunks(chunks)) == chunks


@pytest.mark.parametrize(
    "usages",
    [
        pytest.param([{"prompt_tokens": 900}, {"completion_tokens": 2}], id="each has a part"),
        pytest.param([{"prompt_tokens": 900, "completion_tokens": 2}, {"prompt_tokens": 0}], id="the last has zeros"),
        pytest.param(
            [
                {"prompt_tokens": 900, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 800}},
                {"prompt_tokens": 900, "completion_tokens": 2},
            ],
            id="one has details",
        ),
    ],
)
def test_no_usage_is_lost_that_only_an_earlier_chunk_has(usages: list[dict[str, Any]]) -> None:
    """Tokens that nobody counts are on no bill, and in no key's budget."""
    chunks = [chunk({"content": "a"}, usage=usage) for usage in usages]
    apart, together = CompletionAccumulator(), CompletionAccumulator()
    for accumulator, given_chunks in ((apart, chunks), (together, joined_chunks(chunks))):
        for each in given_chunks:
            accumulator.add(each)
    assert together.usage == apart.usage
    assert apart.usage.prompt_tokens == 900


def test_a_fault_comes_after_what_was_read_before_it() -> None:
    def read() -> Iterator[dict[str, Any]]:
        yield chunk({"content": "a"})
        yield chunk({"content": "b"})
        raise ValueError("broken")

    found = joined_as_read(read())
    assert next(found) == chunk({"content": "ab"})
    with pytest.raises(ValueError, match="broken"):
        next(found)


TEXTS = st.builds(
    lambda name, text, index, tokens, beside: chunk({name: text}, index=index, logprobs=tokens, **beside),
    st.sampled_from(["content", "content", "reasoning_content", "refusal"]),
    st.text(max_size=3),
    st.sampled_from([0, 0, 0, 1]),
    st.none() | st.lists(st.text(max_size=2), max_size=2).map(lambda tokens: named(*tokens)) | st.just({"content": 1}),
    st.sampled_from([{}, {}, {}, {"service_tier": "flex"}]),
)
OTHERS = st.sampled_from(
    [
        chunk({"role": "assistant", "content": ""}),
        chunk({}, finish_reason="stop"),
        chunk({"tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}]}),
        {"choices": []},
        {"choices": [{"index": 0, "delta": {"content": 5}}]},
    ]
)


@given(st.lists(st.tuples(TEXTS | OTHERS, st.none() | st.integers(0, 3)), max_size=8))
def test_what_was_said_is_the_same_joined_and_apart(sent: list[tuple[dict[str, Any], int | None]]) -> None:
    """Up to the first chunk that is malformed, which ends a stream. Usage is cumulative, where it is said."""
    chunks, tokens = [], 0
    for each, more in sent:
        tokens += more or 0
        usage = {"usage": {"prompt_tokens": 4, "completion_tokens": tokens}}
        chunks.append(each if more is None else each | usage)
    joined = list(joined_chunks(chunks))
    assert len(joined) <= len(chunks)
    apart, together = CompletionAccumulator(), CompletionAccumulator()
    for accumulator, given_chunks in ((apart, chunks), (together, joined)):
        with suppress(*MALFORMED):
            for each in given_chunks:
                accumulator.add(each)
    assert together.completion(0.0, "stop") == apart.completion(0.0, "stop")
    assert together.named == apart.named
    assert together.finished == apart.finished
