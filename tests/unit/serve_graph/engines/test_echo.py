import base64
import math
import struct
import time
from typing import Any

import numpy as np
import pytest

from router_models.estimators.asked_signals import ASKED_SIGNALS
from router_models.estimators.questions.terms import AskedSettings
from router_models.types import Query
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import EchoTierConfig
from serve_graph.engines.echo.engine import MOST_WORDS, EchoEngine, EchoError, echo_words, question_draw
from serve_graph.protocol.requests import engine_body
from serve_graph.protocol.responses import completion_of

PRICE = PriceConfig(input_usd_per_mtok=1, output_usd_per_mtok=2)  # type: ignore[arg-type]


def engine(name: str = "cheap", **fields: Any) -> EchoEngine:
    return EchoEngine(EchoTierConfig(name=name, engine="echo", price=PRICE, **fields))


def body(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


async def spoken(asked: dict[str, Any], on: EchoEngine | None = None) -> list[dict[str, Any]]:
    return [piece async for piece in (on or engine()).stream(asked)]


async def test_answer_says_that_it_is_an_echo() -> None:
    completion = completion_of(await engine().generate(body("two words")), 0.0)
    assert completion.text == "echo cheap: two words"
    assert completion.usage.completion_tokens == 4 == len(completion.token_logprobs)


async def test_only_the_text_of_a_message_is_repeated() -> None:
    photo = {"type": "image_url", "image_url": {"url": "data:,x"}}
    parts = [{"type": "text", "text": "what is"}, photo, {"type": "text", "text": "this?"}]
    messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": None}]
    reply = await engine().generate({"messages": messages})
    assert reply["choices"][0]["message"]["content"].split() == ["echo", "cheap:", "what", "is", "this?"]


async def test_answer_stops_at_max_tokens() -> None:
    completion = completion_of(await engine().generate(body("a b c d e", max_tokens=3)), 0.0)
    assert completion.text == "echo cheap: a"


async def test_an_answer_may_be_asked_for_at_length() -> None:
    asked = "two words [echo:words=8]"
    completion = completion_of(await engine().generate(body(asked)), 0.0)
    assert completion.text == "echo cheap: two words [echo:words=8] echo cheap: two"
    assert completion.usage.completion_tokens == 8 == len(completion.token_logprobs)
    assert sum(bool(piece["choices"]) for piece in await spoken(body(asked))) == 8 + 1
    assert (await engine().generate(body("[echo:words=2]")))["choices"][0]["message"]["content"] == "echo cheap:"
    assert len(echo_words("cheap", "a b", 10**9)) == MOST_WORDS


async def test_stream_says_the_same_as_the_whole_answer() -> None:
    pieces = await spoken(body("one two three"))
    whole = completion_of(await engine().generate(body("one two three")), 0.0)
    assert "".join(p["choices"][0]["delta"].get("content", "") for p in pieces if p["choices"]) == whole.text
    assert pieces[-1]["usage"]["completion_tokens"] == whole.usage.completion_tokens
    assert pieces[-2]["choices"][0]["finish_reason"] == "stop"


async def test_usage_comes_with_every_chunk_if_asked_for() -> None:
    pieces = await spoken(body("one two", stream_options={"continuous_usage_stats": True}))
    assert [p["usage"]["completion_tokens"] for p in pieces if p.get("usage")] == [1, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("text", "status"),
    [("[echo:fail]", 500), ("[cheap:fail]", 500), ("[cheap:refuse]", 400), ("word " * 20_000, 400)],
    ids=["any", "this", "refuse", "too-long"],
)
async def test_directive_causes_the_fault_it_names(text: str, status: int) -> None:
    for call in (engine().generate(body(text)), spoken(body(text))):
        with pytest.raises(EchoError) as caught:
            await call
        assert caught.value.status == status


async def test_too_long_a_prompt_is_refused_with_a_message_the_graph_recognises() -> None:
    with pytest.raises(EchoError, match="maximum context length is 2048 tokens"):
        await engine().generate(body("x" * 9_000))


async def test_directive_for_another_tier_is_not_meant() -> None:
    await engine().generate(body("[frontier:fail] [other:refuse]"))


async def test_stream_breaks_after_its_first_chunk() -> None:
    pieces = engine().stream(body("[echo:break] x"))
    assert (await anext(pieces))["choices"]
    with pytest.raises(EchoError):
        await anext(pieces)


async def test_slow_is_as_slow_as_it_says() -> None:
    started = time.perf_counter()
    await engine().generate(body("[echo:slow=0.1]"))
    assert time.perf_counter() - started >= 0.1


async def test_hang_falls_silent_after_the_first_chunk() -> None:
    started = time.perf_counter()
    pieces = await spoken(body("[echo:hang=0.1] x"))
    assert time.perf_counter() - started >= 0.1
    assert len(pieces) > 2


async def test_skill_is_the_share_of_confident_answers() -> None:
    some = engine(skill=0.5)
    sure = [completion_of(await some.generate(body(f"prompt {i}")), 0.0).token_logprobs[0] > -1 for i in range(200)]
    assert 70 < sum(sure) < 130
    again = [completion_of(await some.generate(body(f"prompt {i}")), 0.0).token_logprobs[0] > -1 for i in range(200)]
    assert again == sure
    unsure = completion_of(await engine().generate(body("[echo:unsure]")), 0.0)
    assert unsure.token_logprobs[0] < -1


@pytest.mark.parametrize(("asked", "count"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2, 3]], 2)])
def test_embeddings_are_one_vector_for_each_input(asked: Any, count: int) -> None:
    reply = engine().embed({"input": asked})
    assert [len(item["embedding"]) for item in reply["data"]] == [8] * count
    assert reply == engine().embed({"input": asked})
    assert reply["usage"]["prompt_tokens"] >= count


def test_embeddings_in_base64_are_the_same_numbers() -> None:
    packed = engine().embed({"input": "a", "encoding_format": "base64"})["data"][0]["embedding"]
    [plain] = engine().embed({"input": "a"})["data"]
    assert list(struct.unpack("<8f", base64.b64decode(packed))) == pytest.approx(plain["embedding"])


async def test_sampled_verdicts_say_correct_as_often_as_the_question_draws() -> None:
    settings, row, shares = AskedSettings(verdicts=16), ASKED_SIGNALS["self_verification"], []
    for question in (f"Which river is it, at {i}?\nQuestion abcdefabcdef\nof two" for i in range(30)):
        query = Query.from_prompt(question)
        answer = completion_of(await engine().generate(body(question)), 0.0)
        bodies = [engine_body(call, "cheap", {}, "echo") for call in row.calls(query, answer, settings)]
        replies = [completion_of(await engine().generate(asked), 0.0) for asked in bodies]
        assert {reply.text for reply in replies} <= {"The AI answer is correct.", "The AI answer is incorrect."}
        shares.append((row.read(answer, replies, settings), 1 - question_draw(question)))
    assert np.corrcoef(np.array(shares).T)[0, 1] > 0.9


async def test_a_prompt_that_repeats_what_a_verdict_is_asked_by_is_read_once() -> None:
    """A request with a seed and a temperature may be anybody's: twenty thousand lines took minutes."""
    code = "a" * 12
    asked = body("\n" + f"Question {code}\nAI answer {code}\nEnd {code}\n" * 7_000, seed=1, temperature=0.5)
    began = time.process_time()
    with pytest.raises(EchoError, match="maximum context length"):
        await engine().generate(asked)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("name", ASKED_SIGNALS)
async def test_calls_about_an_answer_are_answered_by_the_draw_of_the_question(name: str) -> None:
    settings, row = AskedSettings(samples=16), ASKED_SIGNALS[name]
    for question in ("Which river is it?", "And which town?"):
        query, draw = Query.from_prompt(question), question_draw(question)
        answer = completion_of(await engine().generate(body(question)), 0.0)
        bodies = [engine_body(call, "cheap", {}, "echo") for call in row.calls(query, answer, settings)]
        replies = [completion_of(await engine().generate(asked), 0.0) for asked in bodies]
        found = row.read(answer, replies, settings)
        if name == "agreement":
            assert {reply.text == answer.text for reply in replies} == {True, False}
            assert found == (sum(reply.text == answer.text for reply in replies) + 0.5) / 17
        else:
            said = -(0.05 + 3 * draw) if name == "last_tier_likelihood" else min(max(1 - draw, 0.01), 0.99)
            if name == "first_token_entropy":
                said = -(1 - draw / 2) * math.log(1 - draw / 2) - draw / 2 * math.log(draw / 2)
            assert found == pytest.approx(said)


async def test_a_question_may_keep_calls_about_its_answer_from_being_answered() -> None:
    query = Query.from_prompt("[cheap:mute] Which river is it?")
    answer = completion_of(await engine().generate(body(query.text)), 0.0)
    (call,) = ASKED_SIGNALS["p_true"].calls(query, answer, AskedSettings())
    with pytest.raises(EchoError, match="mute"):
        await engine().generate(engine_body(call, "cheap", {}, "echo"))
