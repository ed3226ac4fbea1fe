"""A hosted tier in passes whose API fails for a moment: asked again, with what it asks to wait; refusals are not."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serve_graph.cluster.batches.passes.tries import ROW_TRIES, RowTries
from serve_graph.cluster.batches.passes.workers import TierWorker
from serve_graph.config.judge import HostedVerifierConfig
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.error_meanings import ErrorFault
from serve_graph.engines.scores import NO_SCORE
from tests.fixtures.local_graph import listening

ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}  # fmt: skip


class FailingApi:
    """Fails as each prompt says (`429 503 ok`), once for each word, and the last one for ever."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.app = Starlette(routes=[Route("/v1/chat/completions", self.answer, methods=["POST"])])

    async def answer(self, request: Request) -> Response:
        prompt = (await request.json())["messages"][-1]["content"]
        words = prompt.split()
        word = words[min(self.asked[prompt], len(words) - 1)]
        self.asked[prompt] += 1
        if word == "ok":
            return JSONResponse(ANSWER)
        headers = {"retry-after": "7"} if word == "429" else {}
        return JSONResponse({"error": {"message": f"no: {word}"}}, int(word), headers=headers)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FailingApi, TierWorker, list[float]]]:
    monkeypatch.setenv("API_KEY", "none")
    made = FailingApi()
    with listening(made.app) as url:
        tier = HostedTierConfig.model_validate(
            {"name": "big", "engine": "openai", "model": "m", "base_url": f"{url}/v1", "api_key_env": "API_KEY",
             "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}, "failover": {"max_attempts": 1}}
        )  # fmt: skip
        worker, waits = TierWorker(tier), list[float]()

        async def sleep(seconds: float) -> None:
            waits.append(seconds)

        worker.tries = replace(worker.tries, sleep=sleep)
        yield made, worker, waits


async def replies(worker: TierWorker, *prompts: str) -> list[dict[str, Any]]:
    bodies = [json.dumps({"model": "auto", "messages": [{"role": "user", "content": text}]}) for text in prompts]
    none = [""] * len(prompts)
    rows = {"key": list(prompts), "body": bodies, "story": none, "call": none}
    found = await worker(rows)
    assert worker.hosted is not None
    await worker.hosted.close()
    return [json.loads(text) for text in found["reply"]]


async def test_what_may_pass_is_asked_again_after_what_the_api_asks_to_wait(
    api: tuple[FailingApi, TierWorker, list[float]],
) -> None:
    made, worker, waits = api
    [reply] = await replies(worker, "429 503 529 ok")
    assert reply["choices"][0]["message"]["content"] == "yes"
    assert made.asked["429 503 529 ok"] == 4
    assert [attempt["status"] for attempt in reply["attempts"]] == [429, 503, 529, 200]
    assert waits == [7.0, 2.0, 4.0]


async def test_what_never_passes_is_asked_five_times_and_a_poisoned_row_once(
    api: tuple[FailingApi, TierWorker, list[float]],
) -> None:
    made, worker, _ = api
    away, poisoned, wrong_key, fine = await replies(worker, "500", "400", "401", "ok")
    assert (made.asked["500"], made.asked["400"], made.asked["401"], made.asked["ok"]) == (ROW_TRIES, 1, 1, 1)
    assert (away["error"]["code"], poisoned["error"]["code"]) == (500, 400)
    assert len(away["attempts"]) == ROW_TRIES
    assert "error" not in fine
    assert "error" in wrong_key


async def test_a_row_that_waits_leaves_its_place_to_others(api: tuple[FailingApi, TierWorker, list[float]]) -> None:
    made, worker, _ = api
    worker.places = asyncio.Semaphore(1)
    order: list[str] = []

    async def sleep(_: float) -> None:
        while not made.asked["ok"]:
            await asyncio.sleep(0.01)
        order.append("woken")

    worker.tries = replace(worker.tries, sleep=sleep)
    first, second = await replies(worker, "503 ok", "ok")
    assert order == ["woken"]
    assert "error" not in first
    assert "error" not in second


async def test_an_answer_that_does_not_come_in_time_is_asked_for_again(
    api: tuple[FailingApi, TierWorker, list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, worker, _ = api
    assert worker.hosted is not None
    whole, calls = worker.hosted.generate, Counter[str]()

    async def generate(body: dict[str, Any], timeout_s: float, is_beside: bool = False) -> dict[str, Any]:
        calls["all"] += 1
        if calls["all"] == 1:
            raise TimeoutError
        return await whole(body, timeout_s, is_beside)

    monkeypatch.setattr(worker.hosted, "generate", generate)
    [reply] = await replies(worker, "ok")
    assert [attempt["status"] for attempt in reply["attempts"]] == [504, 200]
    assert made.asked["ok"] == 1


async def test_where_nothing_listens_it_is_asked_five_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "none")
    tier = HostedTierConfig.model_validate(
        {"name": "big", "engine": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1",
         "api_key_env": "API_KEY", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
         "failover": {"max_attempts": 1}}
    )  # fmt: skip
    worker = TierWorker(tier)
    worker.tries = replace(worker.tries, pause_s=0.0)
    [reply] = await replies(worker, "ok")
    assert [attempt["status"] for attempt in reply["attempts"]] == [503] * ROW_TRIES


@pytest.mark.parametrize("logits", [[1.0, 2.0, 3.0], ["high"]])
async def test_a_reply_that_can_never_hold_a_score_is_asked_for_once(
    monkeypatch: pytest.MonkeyPatch, logits: list[Any]
) -> None:
    """A verifier model of several labels of which none is named, or whose scores are no numbers."""
    monkeypatch.setenv("API_KEY", "none")
    asked = Counter[str]()

    async def classify(_: Request) -> Response:
        asked["critic"] += 1
        return JSONResponse({"data": [{"probs": logits}], "usage": {"prompt_tokens": 9, "total_tokens": 9}})

    app = Starlette(routes=[Route("/classify", classify, methods=["POST"])])
    with listening(app) as url:
        critic = HostedVerifierConfig.model_validate(
            {"name": "critic", "engine": "openai", "model": "m", "base_url": url, "api_key_env": "API_KEY",
             "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 0}}
        )  # fmt: skip
        worker = TierWorker(critic)
        worker.tries = replace(worker.tries, pause_s=0.0)
        call = json.dumps([0, {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}])
        found = await worker({"key": ["row"], "body": [""], "story": [""], "call": [call]})
        await worker.close()
    reply = json.loads(found["reply"][0])
    assert "gave a reply without a score" in reply["error"]["message"]
    assert asked["critic"] == 1
    assert [attempt["usage"]["prompt_tokens"] for attempt in reply["attempts"]] == [9], "it was charged"


async def test_a_verifier_model_in_ray_serve_that_can_give_no_score_is_asked_once() -> None:
    said = {"error": {"message": "gave a reply without a score", "code": 502, "type": NO_SCORE}}
    asked, tries = Counter[str](), RowTries("critic", pause_s=0.0)

    async def ask(fault: dict[str, Any]) -> tuple[dict[str, Any], float]:
        asked[str(fault["error"]["type"])] += 1
        return {"error": {**fault["error"], "fault": ErrorFault.UNAVAILABLE}}, 0.1

    await tries.run(partial(ask, said))
    await tries.run(partial(ask, {"error": {"message": "its engine died", "code": 500, "type": None}}))
    assert asked == {NO_SCORE: 1, "None": ROW_TRIES}
