"""An error keeps its meaning: whose fault it is, its code, its parameter and what was said."""

import asyncio
import json
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeDecider
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.engines.error_meanings import STATUS_FAULTS, ErrorFault, fault_of, meaning_of
from serve_graph.engines.hosted.engine import HostedEngine
from tests.fixtures.api_errors import PASSING, REQUESTS, SETUPS

Upstream = Any  # tests.fixtures.upstream.Upstream


def reply(status: int, body: Any) -> dict[str, Any]:
    if isinstance(body, str):
        return {"raw": body, "ct": "text/plain", "status": status}
    return {"json": body, "status": status}


ROWS = [
    pytest.param(code, status, body, name, id=f"{code}: {name}")
    for code, rows in REQUESTS.items()
    for name, status, body in rows
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("code", "status", "body", "name"), ROWS)
async def test_a_fault_of_the_request_is_a_400_with_its_code(
    upstream: Upstream, code: str, status: int, body: Any, name: str, stream: bool
) -> None:
    upstream.plays(reply(status, body))
    answer = await upstream.ask(stream=stream)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, code), error
    assert upstream.server.seen == 1
    _, _, param = name.partition(":")
    if param:
        assert error["param"] == param


@pytest.mark.parametrize("name", SETUPS)
async def test_a_fault_of_the_account_is_the_tiers_and_its_reason_is_in_the_log(
    upstream: Upstream, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    status, body = SETUPS[name]
    upstream.plays(reply(status, body) | {"headers": {"retry-after": "30"}})
    answer = await upstream.ask()
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], "retry-after" in answer.headers) == (503, "tier_misconfigured", False)
    assert "see its log" in error["message"]
    assert f"returned {status}" in caplog.text
    assert "sk-proj-abcdefgh" not in caplog.text
    assert upstream.tier.failover.counters()["deployments_refusing"] == 1


@pytest.mark.parametrize("name", PASSING)
async def test_a_limit_that_passes_is_a_429(upstream: Upstream, name: str) -> None:
    upstream.plays(reply(*PASSING[name]) | {"headers": {"retry-after": "7"}})
    answer = await upstream.ask()
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "tier_saturated")
    assert answer.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [*STATUS_FAULTS, 432, 566])
async def test_every_status_of_an_error_means_what_its_row_says(upstream: Upstream, status: int) -> None:
    upstream.plays({"json": {"error": {"message": "no"}}, "status": status})
    answer = await upstream.ask()
    expected = {"request": 400, "setup": 503, "busy": 429, "timeout": 504, "unavailable": 503}
    assert answer.status_code == expected[fault_of(status)]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_every_registered_status_has_a_row() -> None:
    assert [status for status in HTTPStatus if status >= 400 and status not in STATUS_FAULTS] == []
    assert {*STATUS_FAULTS.values()} == {*ErrorFault}
    assert {fault_of(status) for status in range(400, 500) if status not in STATUS_FAULTS} == {ErrorFault.REQUEST}
    assert {fault_of(status) for status in range(500, 600) if status not in STATUS_FAULTS} == {ErrorFault.UNAVAILABLE}


async def test_code_param_and_type_survive(upstream: Upstream) -> None:
    upstream.plays_case("10-error-code-lost.json")
    assert (await upstream.ask()).json()["error"] == {
        "message": "the hosted API returned 400: Input tokens exceed the configured limit of 1000 tokens.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_codes_that_nobody_knows_survive(upstream: Upstream, stream: bool) -> None:
    error = {"message": "no", "type": "odd_error", "param": "messages[0].content", "code": "odd_code"}
    upstream.plays({"json": {"error": error}, "status": 400})
    shown = (await upstream.ask(stream=stream)).json()["error"]
    assert {name: shown[name] for name in ("type", "param", "code")} == {
        name: error[name] for name in ("type", "param", "code")
    }


async def test_recorded_reasons_are_quoted_and_understood(upstream: Upstream) -> None:
    upstream.plays_case("11-error-reason-lost.json")
    shown = [(await upstream.ask()).json()["error"] for _ in range(3)]
    assert [(error["code"], error["param"]) for error in shown] == [
        ("context_length_exceeded", None),
        ("unsupported_parameter", "logprobs"),
        ("context_length_exceeded", None),
    ]
    assert "fewer than 4096 tokens" in shown[0]["message"]
    assert "unsupported field: logprobs" in shown[1]["message"]
    assert "context window exceeded" in shown[2]["message"]


def test_what_follows_a_long_message_is_not_read() -> None:
    assert meaning_of(400, "x" * 5_000 + "maximum context length").code is None


OK_ERRORS: dict[str, tuple[Any, int, str | None]] = {
    "context": ({"error": {"message": "too long", "code": "context_length_exceeded"}}, 400, "context_length_exceeded"),
    "filter, by words": ({"error": {"message": "blocked by content filtering policy"}}, 400, "content_filter"),
    "a request's, by type": ({"error": {"message": "no", "type": "invalid_request_error"}}, 400, None),
    "status in the code": ({"error": {"message": "no", "code": 429}}, 429, "tier_saturated"),
    "rate limit": ({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429, "tier_saturated"),
    "no quota": ({"error": {"message": "no", "code": "insufficient_quota"}}, 503, "tier_misconfigured"),
    "overloaded": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        429,
        "tier_saturated",
    ),
    "timeout": ({"error": {"message": "no", "type": "timeout_error"}}, 504, None),
    "text": ({"error": "something failed"}, 503, None),
    "detail": ({"detail": "something failed"}, 503, None),
    "message alone": ({"message": "something failed"}, 503, None),
    "minimax": ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, 503, None),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", OK_ERRORS)
async def test_an_error_with_status_200_means_the_same(upstream: Upstream, name: str, stream: bool) -> None:
    body, status, code = OK_ERRORS[name]
    upstream.plays({"events": [body]} if stream else {"json": body})
    answer = await upstream.ask(stream=stream)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("framing", ["data: {}\n\n", "event: error\ndata: {}\n\n", "{}\n"])
@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        ({"message": "flagged", "code": "content_filter", "type": "odd"}, "content_filter", "odd"),
        ({"message": "no more room", "type": "overloaded_error"}, "stream_broken", "rate_limit_error"),
    ],
)
async def test_an_error_in_the_middle_of_a_stream_ends_it_with_its_meaning(
    upstream: Upstream, framing: str, error: dict[str, Any], code: str, kind: str
) -> None:
    said = {"choices": [{"index": 0, "delta": {"content": "hi"}}]}
    upstream.plays({"events": [said, framing.replace("{}", json.dumps({"error": error}))]})
    events = await upstream.events()
    assert events[0]["choices"][0]["delta"]["content"] == "hi"
    shown = events[-1]["error"]
    assert (shown["code"], shown["type"]) == (code, kind)
    assert error["message"] in shown["message"]


async def test_a_misconfigured_tier_stays_that_while_it_rests(upstream: Upstream) -> None:
    upstream.plays({"json": {"error": {"code": "insufficient_quota", "message": "no"}}, "status": 429, "times": 3})
    codes = [(await upstream.ask()).json()["error"]["code"] for _ in range(5)]
    assert codes == ["tier_misconfigured"] * 5
    assert upstream.server.seen == 3, "after three failures in a row it rests"


async def test_another_tier_answers_for_one_without_quota(upstream: Upstream) -> None:
    service = upstream.endpoint.service
    service.context = replace(service.context, safe_tier="cheap", decider=FakeDecider("frontier"))
    upstream.plays({"json": {"error": {"code": "insufficient_quota", "message": "no"}}, "status": 429})
    facts = (await upstream.ask(model="auto")).json()["serve_graph"]
    assert (facts["tier"], facts["outcome"]) == ("cheap", "fallback")
    assert "key, account or model is refused" in upstream.endpoint.record.route_reason


async def test_a_tier_that_answers_again_is_well(upstream: Upstream) -> None:
    upstream.plays({"json": {"error": {"code": "insufficient_quota"}}, "status": 429})
    await upstream.ask()
    assert upstream.tier.failover.counters()["deployments_refusing"] == 1
    assert (await upstream.ask()).status_code == 200
    assert upstream.tier.failover.counters()["deployments_refusing"] == 0


async def test_embeddings_errors_keep_their_meaning_too(upstream: Upstream) -> None:
    upstream.plays({"json": {"detail": "the input must have fewer than 512 tokens"}, "status": 422})
    error = (await upstream.tier.embed({"input": "x"}, 5.0))["error"]
    assert (error["fault"], error["reason"]) == ("request", "context_length_exceeded")


@pytest.mark.parametrize("api", ["openai", "anthropic"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_takes_neither_prompt_nor_key_anywhere(
    api: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "sk-test")
    asked: list[str] = []

    def answering(name: str, reply: str) -> Any:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.append(name)
            writer.write(reply.encode())
            await writer.drain()
            writer.close()

        return answer

    elsewhere = await asyncio.start_server(
        answering("elsewhere", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), "127.0.0.1", 0
    )
    there = elsewhere.sockets[0].getsockname()[1]
    moved = f"HTTP/1.1 {status} Moved\r\nlocation: http://127.0.0.1:{there}/v1\r\ncontent-length: 0\r\n\r\n"
    here = await asyncio.start_server(answering("here", moved), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{here.sockets[0].getsockname()[1]}/v1"
    config = HostedTierConfig.model_validate(
        {
            "name": "frontier", "engine": "openai", "api": api, "model": "m", "base_url": url, "api_key_env": "A_KEY",
            "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}, "failover": {"max_attempts": 1},
        }
    )  # fmt: skip
    async with elsewhere, here:
        tier = HostedEngine(config)
        found = await tier.generate({"messages": [{"role": "user", "content": "secret"}], "max_tokens": 5}, 10.0)
        await tier.close()
    assert f"returned {status}" in found["error"]["message"]
    assert asked == ["here"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_callers_in_a_hurry_and_callers_who_leave_close_no_api_to_others(
    upstream: Upstream, stream: bool
) -> None:
    upstream.plays({"fault": "hang", "times": 8})
    hurried = [upstream.ask(stream=stream, serve_graph={"deadline_s": 0.05}) for _ in range(4)]
    assert {reply.status_code for reply in await asyncio.gather(*hurried)} == {504}
    leaving = [asyncio.ensure_future(upstream.ask(stream=stream)) for _ in range(4)]
    await asyncio.sleep(0.05)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    upstream.server.script.clear()
    assert (await upstream.ask(stream=stream)).status_code == 200
