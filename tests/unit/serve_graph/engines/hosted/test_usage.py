"""Bills follow the provider's own arithmetic, under whatever names it counts; what makes no sense is unmetered."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.types import Completion, Usage
from serve_graph.protocol.responses import UsageCounts, usage_json, usage_of, usage_shown
from serve_graph.protocol.usage_names import USAGE_NAMES

Upstream = Any  # tests.fixtures.upstream.Upstream
D = Decimal
TOTALS = ("prompt_tokens", "completion_tokens", "total_tokens")

# name → (what the API sends, prompt, output, cached, written)
SENSIBLE: dict[str, tuple[dict[str, Any], Usage]] = {
    "openai": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 10,
            "total_tokens": 1010,
            "prompt_tokens_details": {"cached_tokens": 900},
            "completion_tokens_details": {"reasoning_tokens": 8},
        },
        Usage(1000, 10, 900),
    ),
    "xai: reasoning beside the completion": (
        {
            "prompt_tokens": 11,
            "completion_tokens": 143,
            "total_tokens": 914,
            "completion_tokens_details": {"reasoning_tokens": 760},
        },
        Usage(11, 903),
    ),
    "gemini compatible: thoughts only in the total": (
        {"prompt_tokens": 11, "completion_tokens": 143, "total_tokens": 914},
        Usage(11, 903),
    ),
    "reasoning beside the completion, no total": (
        {"prompt_tokens": 11, "completion_tokens": 143, "completion_tokens_details": {"reasoning_tokens": 760}},
        Usage(11, 903),
    ),
    "deepseek": (
        {
            "prompt_tokens": 1000,
            "completion_tokens": 10,
            "total_tokens": 1010,
            "prompt_cache_hit_tokens": 900,
            "prompt_cache_miss_tokens": 100,
        },
        Usage(1000, 10, 900),
    ),
    "hits and misses alone": (
        {"completion_tokens": 10, "prompt_cache_hit_tokens": 900, "prompt_cache_miss_tokens": 100},
        Usage(1000, 10, 900),
    ),
    "moonshot": ({"prompt_tokens": 1000, "completion_tokens": 10, "cached_tokens": 900}, Usage(1000, 10, 900)),
    "responses": (
        {"input_tokens": 1000, "output_tokens": 10, "input_tokens_details": {"cached_tokens": 900}},
        Usage(1000, 10, 900),
    ),
    "anthropic: beside the input": (
        {
            "input_tokens": 100,
            "output_tokens": 10,
            "cache_read_input_tokens": 900,
            "cache_creation_input_tokens": 50,
        },
        Usage(1050, 10, 900, 50),
    ),
    "anthropic through a gateway that adds up": (
        {"prompt_tokens": 1050, "completion_tokens": 10, "total_tokens": 1060, "cache_read_input_tokens": 900},
        Usage(1050, 10, 900),
    ),
    "anthropic through a gateway that does not": (
        {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "cache_read_input_tokens": 900},
        Usage(1000, 10, 900),
    ),
    "anthropic through a gateway whose total tells": (
        {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 160, "cache_read_input_tokens": 50},
        Usage(150, 10, 50),
    ),
    "bedrock": (
        {"inputTokens": 100, "outputTokens": 10, "totalTokens": 1010, "cacheReadInputTokens": 900},
        Usage(1000, 10, 900),
    ),
    "gemini": (
        {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 10,
            "thoughtsTokenCount": 30,
            "cachedContentTokenCount": 900,
            "totalTokenCount": 1040,
        },
        Usage(1000, 40, 900),
    ),
    "both vocabularies, one empty": (
        {"prompt_tokens": 100, "completion_tokens": 10, "input_tokens": 0, "output_tokens": 0},
        Usage(100, 10),
    ),
    "no completion count": ({"prompt_tokens": 100, "total_tokens": 110}, Usage(100, 10)),
    "embeddings": ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8)),
    "a total of nothing": ({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 0}, Usage(100, 10)),
    "whole floats": ({"prompt_tokens": 100.0, "completion_tokens": 10.0}, Usage(100, 10)),
    "digits": ({"prompt_tokens": "100", "completion_tokens": "10"}, Usage(100, 10)),
    "nulls beside counts": (
        {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": None, "prompt_tokens_details": None},
        Usage(100, 10),
    ),
}
SENSELESS: dict[str, Any] = {
    "negative": {"prompt_tokens": -100, "completion_tokens": 10},
    "negative output": {"prompt_tokens": 100, "completion_tokens": -1, "total_tokens": 99},
    "fraction": {"prompt_tokens": 100, "completion_tokens": 10.5},
    "not a number": {"prompt_tokens": 100, "completion_tokens": float("nan")},
    "infinite": {"prompt_tokens": 100, "completion_tokens": float("inf")},
    "words": {"prompt_tokens": "many", "completion_tokens": 10},
    "truth": {"prompt_tokens": True, "completion_tokens": 10},
    "list": {"prompt_tokens": [100], "completion_tokens": 10},
    "absurd": {"prompt_tokens": 10**12, "completion_tokens": 10},
    "absurd digits": {"prompt_tokens": 100, "completion_tokens": "9" * 400},
    "absurd total": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 2**63},
    "more cached than prompt": {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 900},
    },
    "negative cached": {"prompt_tokens": 100, "completion_tokens": 10, "prompt_cache_hit_tokens": -1},
    "more reasoning than the total allows": {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "total_tokens": 110,
        "completion_tokens_details": {"reasoning_tokens": 50},
    },
    "total alone": {"total_tokens": 110},
    "zeros": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    "nothing": {},
    "null": None,
    "no object": "110 tokens",
}


def sent(usage: Any, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "hi"}
    return {"json": {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage, **fields}}


def chunks(*usages: Any) -> dict[str, Any]:
    said = {"choices": [{"index": 0, "delta": {"content": "hi"}}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    counted = [{"choices": [], "usage": usage} for usage in usages]
    return {"events": [said, end, *counted, "data: [DONE]\n\n"]}


@pytest.mark.parametrize("name", SENSIBLE)
def test_counts_are_read_under_the_names_of_each_provider(name: str) -> None:
    usage, expected = SENSIBLE[name]
    assert usage_of(usage) == expected


@pytest.mark.parametrize("name", SENSIBLE)
def test_usage_that_is_shown_reads_the_same_again(name: str) -> None:
    counts = UsageCounts()
    counts.add(SENSIBLE[name][0])
    assert usage_of(counts.json()) == counts.usage()


@pytest.mark.parametrize("name", SENSELESS)
def test_counts_that_make_no_sense_are_no_usage(name: str) -> None:
    assert usage_of(SENSELESS[name]) == Usage()


COUNTS = st.integers(-5, 2_000) | st.none() | st.floats() | st.text(max_size=3) | st.booleans()
FLAT = st.sampled_from(sorted(name for names in USAGE_NAMES.values() for name in names if "." not in name))
DETAILS = st.dictionaries(st.sampled_from(["cached_tokens", "reasoning_tokens", "audio_tokens"]), COUNTS)
USAGES = st.dictionaries(FLAT, COUNTS, max_size=5) | st.fixed_dictionaries(
    {"prompt_tokens": COUNTS, "completion_tokens": COUNTS},
    optional={"total_tokens": COUNTS, "prompt_tokens_details": DETAILS, "completion_tokens_details": DETAILS},
)


@given(USAGES)
def test_whatever_an_api_counts_the_parts_fit_the_whole(usage: dict[str, Any]) -> None:
    found = usage_of(usage)
    assert min(found.prompt_tokens, found.completion_tokens, found.cached_tokens, found.cache_write_tokens) >= 0
    assert found.cached_tokens + found.cache_write_tokens <= found.prompt_tokens


COUNTED = st.fixed_dictionaries({"prompt_tokens": st.integers(1, 99), "completion_tokens": st.integers(0, 99)})


PLAIN = st.fixed_dictionaries(
    {name: st.integers(0, 3) | st.sampled_from([True, -1, 1.0, "1", None, 10**7, 10**7 + 1]) for name in TOTALS},
    optional={"cached_tokens": st.integers(0, 2), "prompt_tokens_details": st.none(), "else": st.just(1)},
)


@given(PLAIN)
def test_the_plainest_usage_is_read_as_every_other(usage: dict[str, Any]) -> None:
    """Of three counts alone there is a shorter way."""
    counts = UsageCounts()
    counts.add(usage)
    assert usage_of(usage) == counts.usage()
    shown = usage_shown(Completion("", usage=usage_of(usage), payload={"usage": usage}))
    assert shown == (counts.json() if counts.usage() == usage_of(usage) else usage_json(usage_of(usage)))


@given(st.lists(COUNTED, min_size=1))
def test_counts_never_fall_within_a_stream(usages: list[dict[str, Any]]) -> None:
    counts, before = UsageCounts(), Usage()
    for usage in usages:
        counts.add(usage)
        now = counts.usage()
        assert now.prompt_tokens >= before.prompt_tokens
        assert now.completion_tokens >= before.completion_tokens
        before = now
    assert before.completion_tokens == max(usage["completion_tokens"] for usage in usages)


def bill(usage: Usage) -> Decimal:
    return (10 * D(usage.prompt_tokens) + 20 * D(usage.completion_tokens)) / 1_000_000


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
@pytest.mark.parametrize("name", ["openai", "xai: reasoning beside the completion", "anthropic: beside the input"])
async def test_bill_and_reply_say_what_the_provider_charges(
    upstream: Upstream, name: str, path: str, stream: bool
) -> None:
    usage, expected = SENSIBLE[name]
    upstream.plays(chunks(usage) if stream else sent(usage))
    if not stream:
        shown = (await upstream.ask(path)).json()
    elif path == "/v1/responses":
        shown = (await upstream.events(path))[-1]["response"]
    else:
        shown = (await upstream.events(path, stream_options={"include_usage": True}))[-1]
    [call] = upstream.endpoint.record.calls
    assert (call.usage, call.metered, call.cost_usd) == (expected, True, bill(expected))
    assert float(shown["serve_graph"]["cost_usd"]) == pytest.approx(float(bill(expected)))
    words = ("input", "output") if path == "/v1/responses" else ("prompt", "completion")
    assert [shown["usage"][f"{word}_tokens"] for word in words] == [expected.prompt_tokens, expected.completion_tokens]
    assert shown["usage"]["total_tokens"] == expected.prompt_tokens + expected.completion_tokens
    assert shown["usage"][f"{words[0]}_tokens_details"]["cached_tokens"] == expected.cached_tokens
    thought = usage.get("completion_tokens_details", {}).get("reasoning_tokens")
    if thought is not None:
        assert shown["usage"][f"{words[1]}_tokens_details"]["reasoning_tokens"] == thought


async def test_every_detail_reaches_the_caller(upstream: Upstream) -> None:
    details = {"reasoning_tokens": 3, "audio_tokens": 0, "accepted_prediction_tokens": 2}
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 1},
        "completion_tokens_details": details,
    }
    upstream.plays(sent(usage))
    shown = (await upstream.ask()).json()["usage"]
    assert shown["completion_tokens_details"] == details
    assert shown["prompt_tokens_details"] == {"cached_tokens": 4, "audio_tokens": 1}


@pytest.mark.parametrize(
    "usages",
    [
        [{"prompt_tokens": 100, "completion_tokens": 10}, {"prompt_tokens": 0, "completion_tokens": 0}],
        [{"prompt_tokens": 100, "completion_tokens": 4}, {"prompt_tokens": 100, "completion_tokens": 10}],
        [{"prompt_tokens": 100, "completion_tokens": 1}, {"completion_tokens": 10}],
        [{"prompt_tokens": 100, "completion_tokens": -1}, {"prompt_tokens": 100, "completion_tokens": 10}],
        [{"prompt_tokens": 100, "completion_tokens": 10}, None, {}, []],
    ],
    ids=["zeros at the end", "cumulative", "in parts", "unknown at first", "empty at the end"],
)
async def test_several_usage_chunks_are_one_count(upstream: Upstream, usages: list[Any]) -> None:
    upstream.plays(chunks(*usages))
    await upstream.events()
    [call] = upstream.endpoint.record.calls
    assert (call.usage, call.metered) == (Usage(100, 10), True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["negative", "fraction", "words", "absurd", "zeros", "nothing", "null", "no object"])
async def test_senseless_usage_is_unmetered_and_said_so(upstream: Upstream, name: str, stream: bool) -> None:
    upstream.plays(chunks(SENSELESS[name]) if stream else sent(SENSELESS[name]))
    if stream:
        facts = (await upstream.events())[-1]["serve_graph"]
    else:
        reply = await upstream.ask()
        facts = reply.json()["serve_graph"]
        assert reply.headers["x-serve-graph-cost-usd"] == "unmetered"
    assert (facts["cost_usd"], facts["unmetered"]) == (None, True)
    assert [call.metered for call in upstream.endpoint.record.calls] == [False]
    assert upstream.endpoint.service.metrics.unmetered[("frontier", "answer")] == 1


async def test_an_answer_of_no_tokens_is_unmetered(upstream: Upstream) -> None:
    upstream.plays(sent({"prompt_tokens": 100, "completion_tokens": 0, "total_tokens": 100}))
    assert (await upstream.ask()).json()["serve_graph"]["cost_usd"] is None
    [call] = upstream.endpoint.record.calls
    assert (call.metered, call.cost_usd) == (False, D("0.001"))


async def test_metered_answers_do_not_say_unmetered(upstream: Upstream) -> None:
    upstream.plays(sent({"prompt_tokens": 1, "completion_tokens": 1}))
    assert "unmetered" not in (await upstream.ask()).json()["serve_graph"]


@pytest.mark.parametrize(
    ("case", "expected"),
    [("03-usage-reasoning-outside.json", Usage(11, 903)), ("04-usage-cache-hit-names.json", Usage(1000, 10, 900))],
)
async def test_recorded_usage_is_billed_in_full(upstream: Upstream, case: str, expected: Usage) -> None:
    upstream.plays_case(case)
    await upstream.ask()
    assert [call.usage for call in upstream.endpoint.record.calls] == [expected]


COUNTED_ELSEWHERE: dict[str, dict[str, Any]] = {
    "groq": {"x_groq": {"id": "req_1", "usage": {"prompt_tokens": 100, "completion_tokens": 10}}},
    "gemini": {"usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 10, "totalTokenCount": 110}},
    "vertex": {"usage_metadata": {"prompt_token_count": 100, "candidates_token_count": 10}},
    "cohere": {"meta": {"billed_units": {"input_tokens": 100, "output_tokens": 10}}},
    "null beside it": {"usage": None, "x_groq": {"usage": {"prompt_tokens": 100, "completion_tokens": 10}}},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [*COUNTED_ELSEWHERE, "moonshot"])
async def test_usage_is_found_where_the_provider_puts_it(upstream: Upstream, name: str, stream: bool) -> None:
    counts = {"usage": {"prompt_tokens": 100, "completion_tokens": 10}}
    beside, inside = (COUNTED_ELSEWHERE[name], {}) if name in COUNTED_ELSEWHERE else ({}, counts)
    message = {"role": "assistant", "content": "hi"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **inside}], **beside}
    said = {"choices": [{"index": 0, "delta": {"content": "hi"}}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", **inside}], **beside}
    upstream.plays({"events": [said, end, "data: [DONE]\n\n"]} if stream else {"json": whole})
    await upstream.ask(stream=stream)
    [call] = upstream.endpoint.record.calls
    assert (call.usage, call.metered) == (Usage(100, 10), True)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_usage_of_one_choice_of_several_is_not_the_bill(upstream: Upstream, stream: bool) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    messages = [{"index": i, "message": {"content": "hi"}, "finish_reason": "stop", "usage": usage} for i in (0, 1)]
    said = [{"choices": [{"index": i, "delta": {"content": "hi"}}]} for i in (0, 1)]
    ends = [{"choices": [{"index": i, "delta": {}, "finish_reason": "stop", "usage": usage}]} for i in (0, 1)]
    upstream.plays({"events": [*said, *ends, "data: [DONE]\n\n"]} if stream else {"json": {"choices": messages}})
    await upstream.ask(stream=stream, n=2)
    assert [call.metered for call in upstream.endpoint.record.calls] == [False]


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "message", [{"content": None, "tool_calls": [CALL]}, {"content": None, "refusal": "no"}, {"reasoning": "hm"}]
)
async def test_an_answer_without_text_has_tokens_too(upstream: Upstream, message: dict[str, Any]) -> None:
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    upstream.plays({"json": {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 0}}})
    await upstream.ask()
    assert [call.metered for call in upstream.endpoint.record.calls] == [False]


async def test_an_answer_to_no_prompt_is_unmetered(upstream: Upstream) -> None:
    upstream.plays(sent({"prompt_tokens": 0, "completion_tokens": 10, "total_tokens": 10}))
    assert (await upstream.ask()).json()["serve_graph"]["cost_usd"] is None
    [call] = upstream.endpoint.record.calls
    assert (call.metered, call.cost_usd) == (False, D("0.0002"))
