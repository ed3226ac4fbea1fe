"""Scores of answers: what vLLM's routes are sent and say, by an echo verifier, and by another server as it fails."""

import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest

from router_models.pricing.prices import Price, PriceList
from router_models.types import Query
from serve_graph.cascade.billing import answered
from serve_graph.cluster.tier_client import HandleEngine
from serve_graph.config.judge import EchoVerifierConfig, HostedVerifierConfig
from serve_graph.engines.echo.engine import EchoError, question_draw
from serve_graph.engines.echo.verifier import EchoVerifier
from serve_graph.engines.hosted.engine import HostedEngine
from serve_graph.engines.scores import NO_SCORE, Scoring, score_completion
from serve_graph.errors import EngineError, EngineRequestError, EngineTimeoutError, SaturatedError
from serve_graph.protocol.responses import completion_of
from tests.fixtures.upstream import DirectHandle

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 0}
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Which town?"}, {"type": "image_url", "image_url": {}}]},
    {"role": "assistant", "content": "Paris."},
]


def echo(**fields: Any) -> EchoVerifier:
    given = {"name": "critic", "engine": "echo", "price": PRICE, **fields}
    return EchoVerifier(EchoVerifierConfig.model_validate(given))


def test_a_conversation_is_sent_as_it_is_and_a_pair_as_two_texts() -> None:
    assert Scoring("classify").body(CHAT, "m") == {"model": "m", "use_activation": False, "messages": CHAT}
    pair = Scoring("score").body(CHAT, "m")
    assert pair == {"model": "m", "text_1": "Be brief.\nWhich town?", "text_2": "Paris."}
    ranked = Scoring("rerank").body(CHAT, "m")
    assert (ranked["query"], ranked["documents"]) == (pair["text_1"], ["Paris."])


@pytest.mark.parametrize(
    ("scoring", "reply", "score"),
    [
        (Scoring("classify"), {"data": [{"probs": [-3.25]}]}, -3.25),
        (Scoring("classify", 1), {"data": [{"probs": [0.0, 2.0]}]}, 2.0),
        (Scoring("classify", 0), {"data": [{"probs": [1.0, 0.0, 0.0]}]}, 1.0 - math.log(2)),
        (Scoring("score"), {"data": [{"score": 0.75}]}, 0.75),
        (Scoring("rerank"), {"results": [{"index": 0, "relevance_score": -1}]}, -1.0),
    ],
)
def test_the_score_is_a_logit_or_the_log_odds_of_the_label_that_counts(
    scoring: Scoring, reply: dict[str, Any], score: float
) -> None:
    found = score_completion(scoring, reply | {"usage": {"prompt_tokens": 7, "total_tokens": 7}}, "critic")
    assert found["score"] == pytest.approx(score)
    completion = completion_of(found, 0.1)
    assert (completion.text, completion.usage.prompt_tokens) == ("", 7)
    assert answered({"critic": PriceList(Price(Decimal(1), Decimal(0)))}, "critic", completion, 0.1).metered


@pytest.mark.parametrize(
    ("scoring", "reply", "said"),
    [
        (Scoring("classify"), {"data": [{"probs": [0.1, 0.9]}]}, "the model has 2 labels: `label` must say"),
        (Scoring("classify", 1), {"data": [{"probs": [0.1]}]}, "label 1 of a model with 1"),
        (Scoring("classify", 7), {"data": [{"probs": [0.1, 0.2]}]}, "label 7 of a model with 2"),
        (Scoring("score"), {"data": [{"score": math.nan}]}, "no number"),
        (Scoring("score"), {"data": []}, "IndexError"),
        (Scoring("rerank"), {}, "KeyError"),
        (Scoring("classify"), {"data": [{"probs": ["high"]}]}, "could not convert"),
    ],
)
def test_a_reply_without_a_score_is_an_error_that_says_so(scoring: Scoring, reply: dict[str, Any], said: str) -> None:
    error = score_completion(scoring, reply, "critic")["error"]
    assert (error["code"], error["type"]) == (502, NO_SCORE)
    assert "verifier 'critic' gave a reply without a score" in error["message"]
    assert said in error["message"]


async def test_an_echo_verifier_scores_the_question_by_its_draw() -> None:
    found = await echo().generate({"messages": CHAT})
    assert found["score"] == pytest.approx(3 - 6 * question_draw("Be brief.\nWhich town?"))
    assert found["usage"]["prompt_tokens"] > 0
    other = [*CHAT[:-1], {"role": "assistant", "content": "Rome."}]
    assert (await echo().generate({"messages": other}))["score"] == found["score"]


async def test_an_echo_verifier_prefers_the_answer_of_the_tier_that_it_is_told_to() -> None:
    asked = {"role": "user", "content": "[critic:frontier=2] [other:cheap=9] Which town?"}
    answers = [{"role": "assistant", "content": f"echo {tier}: {asked['content']}"} for tier in ("cheap", "frontier")]
    cheap, last = [(await echo().generate({"messages": [asked, answer]}))["score"] for answer in answers]
    assert cheap == pytest.approx(3 - 6 * question_draw(asked["content"]))
    assert last - cheap == pytest.approx(2)


@pytest.mark.parametrize(("words", "status"), [("[critic:fail]", 500), ("[critic:fail=429]", 429), ("x" * 9000, 400)])
async def test_an_echo_verifier_fails_where_it_is_told_to(words: str, status: int) -> None:
    with pytest.raises(EchoError) as refused:
        await echo().generate({"messages": [{"role": "user", "content": words}, CHAT[-1]]})
    assert refused.value.status == status
    assert "score" in await echo(name="other").generate({"messages": [{"role": "user", "content": "[critic:fail]"}]})


Answer = Callable[[httpx.Request], httpx.Response]
TURNS = [{"role": "user", "content": "Which town?"}, {"role": "assistant", "content": "Paris."}]
QUERY = Query((), {}, {"messages": TURNS})
SCORED = {"data": [{"index": 0, "probs": [1.5]}], "usage": {"prompt_tokens": 9, "total_tokens": 9}}


class Server:
    """What a test's server was sent, and a tier client of it."""

    def __init__(self, answer: Answer, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
        monkeypatch.setenv("REWARD_KEY", "secret-of-the-test")
        given = {"name": "critic", "engine": "openai", "model": "m", "base_url": "http://reward:8000",
                 "api_key_env": "REWARD_KEY", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 0},
                 "failover": {"max_attempts": 1}}  # fmt: skip
        said = {name: value for name, value in (given | fields).items() if value is not None}
        config = HostedVerifierConfig.model_validate(said)
        self.seen: list[tuple[str, dict[str, Any]]] = []

        def handle(request: httpx.Request) -> httpx.Response:
            self.seen.append((str(request.url), json.loads(request.content)))
            assert request.headers["authorization"] == "Bearer secret-of-the-test"
            return answer(request)

        self.client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
        self.engine = HandleEngine(DirectHandle(HostedEngine(config, self.client)), config)  # type: ignore[arg-type]


def says(status: int = 200, **reply: Any) -> Answer:
    return lambda _: httpx.Response(status, json=reply)


@pytest.mark.parametrize(
    ("fields", "url", "reply", "score"),
    [
        ({}, "http://reward:8000/classify", SCORED, 1.5),
        ({"reads": "pair", "base_url": "http://reward:8000/v1"}, "http://reward:8000/v1/score",
         {"data": [{"score": 0.25}]}, 0.25),
        ({"reads": "pair", "route": "rerank"}, "http://reward:8000/rerank",
         {"results": [{"index": 0, "relevance_score": 0.5}]}, 0.5),
    ],
)  # fmt: skip
async def test_its_score_is_a_completion_with_the_tokens_that_were_read(
    fields: dict[str, Any], url: str, reply: dict[str, Any], score: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(says(**reply), monkeypatch, **fields)
    completion = await server.engine.generate(QUERY)
    assert completion.payload["score"] == score
    assert completion.usage.prompt_tokens == (9 if reply is SCORED else 0)
    [(asked, body)] = server.seen
    assert (asked, body["model"], body.get("use_activation")) == (url, "m", None if "reads" in fields else False)
    assert "logprobs" not in body, "nothing is generated"
    assert "max_tokens" not in body


async def test_what_a_server_does_not_take_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(says(**SCORED), monkeypatch, parameters={"use_activation": None})
    await server.engine.generate(QUERY)
    assert server.seen[0][1] == {"model": "m", "messages": TURNS}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (says(429, error={"message": "slow down"}), SaturatedError),
        (says(400, error={"message": "maximum context length is 512 tokens"}), EngineRequestError),
        (says(404, detail="Not Found"), EngineError),
        (says(500), EngineError),
        (says(200, data=[]), EngineError),
        (says(200, data=[{"probs": [1, 2]}]), EngineError),
        (lambda _: httpx.Response(200, text="<html>"), EngineError),
    ],
    ids=["busy", "too long", "no such route", "broken", "empty", "two labels", "no JSON"],
)
async def test_a_failure_is_one_of_an_engine(
    answer: Answer, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error):
        await Server(answer, monkeypatch).engine.generate(QUERY)


async def test_a_server_that_is_away_or_silent_is_an_engines_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(EngineError):
        await Server(away, monkeypatch).engine.generate(QUERY)

    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("silent")

    with pytest.raises(EngineTimeoutError):
        await Server(silent, monkeypatch).engine.generate(QUERY)


@pytest.mark.parametrize("usage", [{"total_tokens": 3}, "3 tokens", [3], [[1, 2]], 7], ids=repr)
async def test_another_deployment_is_asked_whatever_usage_comes_with_no_score(
    usage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": [], "usage": usage} if request.url.host == "a" else SCORED)

    hosts = [{"name": name, "model": "m", "base_url": f"http://{name}", "api_key_env": "REWARD_KEY", "weight": weight}
             for name, weight in (("a", 1), ("b", 0))]  # fmt: skip
    of_all = dict.fromkeys(("base_url", "model", "api_key_env"))
    failover = {"max_attempts": 3, "backoff_s": 0.01}
    server = Server(answer, monkeypatch, **of_all, deployments=hosts, failover=failover)
    completion = await server.engine.generate(QUERY)
    assert completion.payload["score"] == 1.5
    assert [(one.deployment, one.status) for one in completion.attempts] == [("a", 502), ("b", 200)]
