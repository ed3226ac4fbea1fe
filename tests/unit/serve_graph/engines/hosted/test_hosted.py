"""The hosted tier against a second server process: real sockets, scripted faults, no Ray cluster."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serve_graph.config.graph import load_config
from serve_graph.config.tiers.kinds import HostedTierConfig
from serve_graph.errors import (
    ConfigError,
    EngineError,
    EngineRequestError,
    EngineTimeoutError,
    SaturatedError,
    TierSetupError,
    status_of,
)
from tests.fixtures.made_up_time import hurry, hurry_when, settled
from tests.unit.serve_graph.engines.hosted.asked import (
    BODY,
    LONG_S,
    ONCE,
    OPEN,
    Api,
    asked,
    hosted,
    list_of,
    soon,
)


def test_parameters_reach_the_api_under_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    from serve_graph.config.tiers.parts import HostedDeploymentConfig
    from serve_graph.engines.hosted.openai_compatible import OpenAICompatibleEngine

    def sent(body: dict[str, Any], **parameters: str | None) -> dict[str, Any]:
        config = HostedDeploymentConfig(name="api", model="m", parameters=parameters)
        made = OpenAICompatibleEngine(config, 1.0)._arguments(body)
        return {name: value for name, value in made.items() if name not in ("model", "messages", "stream")}

    body = BODY | {"model": "cheap", "logprobs": True, "top_logprobs": 2, "temperature": 0.0}
    assert sent(body) == {"max_tokens": 20, "logprobs": True, "top_logprobs": 2, "temperature": 0.0}
    assert sent(body | {"top_logprobs": 0}) == {"max_tokens": 20, "logprobs": True, "temperature": 0.0}
    assert sent(body, max_tokens="max_completion_tokens", logprobs=None, temperature=None) == {
        "max_completion_tokens": 20
    }


async def test_answer_comes_through_and_the_request_goes_out_as_it_came(api: Api, stream: bool) -> None:
    tier = hosted(api, organization="org-1", headers={"x-team": "search"})
    reply = await tier.generate({**BODY, "top_k": 5, "logprobs": True}, 5.0)
    assert reply["choices"][0]["message"]["content"] == "echo east: one two three"
    last = api.state()["last"]
    assert last["headers"]["authorization"] == "Bearer sk-test"
    assert (last["headers"]["openai-organization"], last["headers"]["x-team"]) == ("org-1", "search")
    assert (last["body"]["model"], last["body"]["top_k"], last["body"]["logprobs"]) == ("some-model", 5, True)
    assert await asked(tier, stream) == ("echo east: one two three", ())


async def test_chunks_without_choices_are_legal_wherever_they_stand(api: Api, stream: bool) -> None:
    api.plays({"fault": "choiceless"})
    assert await asked(hosted(api, failover=ONCE), stream) == ("echo east: one two three", ())
    assert api.state()["seen"] == 1


FAULTS = [
    ({"fault": "status", "status": 429, "retry_after": 7}, SaturatedError, "returned 429: scripted"),
    ({"fault": "status", "status": 500}, EngineError, "returned 500: scripted"),
    ({"fault": "status", "status": 503}, EngineError, "returned 503"),
    (
        {"fault": "status", "status": 401, "message": "bad key"},
        TierSetupError,
        "401: the tier's key, account, model or configuration is refused",
    ),
    (
        {"fault": "status", "status": 404, "message": "no model"},
        TierSetupError,
        "404: the tier's key, account, model or configuration is refused",
    ),
    ({"fault": "status", "status": 400, "message": "bad field"}, EngineRequestError, "bad field"),
    ({"fault": "reset"}, EngineError, "connection"),
    ({"fault": "error_body"}, EngineError, "returned an error: scripted"),
    ({"fault": "error_body", "code": 429}, SaturatedError, "returned an error: scripted"),
    ({"fault": "no_choices"}, EngineError, "contains no answer|without an answer"),
    ({"fault": "html"}, EngineError, "could not be parsed|without an answer|interrupted"),
    ({"fault": "html", "status": 502}, EngineError, "returned 502: Bad gateway"),
    ({"fault": "hang"}, EngineTimeoutError, "did not answer within"),
]


@pytest.mark.sampled
@pytest.mark.parametrize(("fault", "kind", "words"), FAULTS, ids=lambda value: str(value)[:40])
async def test_every_fault_is_the_right_error_with_a_plain_message_and_in_time(
    api: Api, stream: bool, fault: dict[str, Any], kind: type[EngineError], words: str
) -> None:
    api.plays(fault)
    asking = asyncio.ensure_future(asked(hosted(api, failover=ONCE), stream, LONG_S))
    if fault["fault"] == "hang":
        await hurry_when(lambda: api.state()["seen"] == 1, LONG_S)
    with pytest.raises(kind, match=words) as caught:
        await soon(asking)
    assert type(caught.value) is kind
    assert status_of(caught.value)[0] >= 400
    assert api.state()["seen"] == 1
    assert "Traceback" not in str(caught.value)
    if "retry_after" in fault:
        assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"fault": "malformed"}, EngineError, "could not be parsed"),
        ({"fault": "reset", "after": 2}, EngineError, "connection"),
        ({"fault": "slow", "seconds": 0.2}, EngineTimeoutError, "did not answer within 0.5 s"),
    ],
    ids=str,
)
async def test_whole_reply_that_comes_in_pieces_fails_as_a_whole(
    api: Api, fault: dict[str, Any], kind: type[EngineError], words: str
) -> None:
    api.plays(fault)
    with pytest.raises(kind, match=words):
        await asked(hosted(api, failover=ONCE), False, 0.5 if fault["fault"] == "slow" else LONG_S)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"fault": "malformed"}, EngineError, "could not be parsed"),
        ({"fault": "reset", "after": 2}, EngineError, "connection"),
        ({"fault": "slow", "seconds": 30}, EngineTimeoutError, "did not answer within 60 s"),
    ],
    ids=str,
)
async def test_stream_that_fails_after_its_first_chunk_is_not_retried(
    api: Api, other_api: Api, fault: dict[str, Any], kind: type[EngineError], words: str
) -> None:
    from serve_graph.cluster.tier_client import raise_error

    api.plays(fault)
    chunks = hosted(api, other_api, timeout_s=LONG_S).stream({**BODY, "stream": True}, LONG_S)
    pieces = [await anext(chunks)]
    rest = asyncio.ensure_future(list_of(chunks))
    if fault["fault"] == "slow":
        await settled()
        hurry(LONG_S)
    pieces += await soon(rest)
    assert pieces[0]["choices"][0]["delta"]["content"] == "echo"
    with pytest.raises(kind, match=words):
        raise_error(pieces[-1], "frontier")
    assert (api.state()["seen"], other_api.state()["seen"]) == (1, 0)


async def test_slow_stream_is_fine_as_long_as_it_goes_on(api: Api) -> None:
    api.plays({"fault": "slow", "seconds": 0.2})
    chunks = hosted(api, timeout_s=LONG_S, failover=ONCE).stream({**BODY, "stream": True}, LONG_S)
    pieces, waited = [await anext(chunks)], 0
    for _ in range(3):
        coming = asyncio.ensure_future(anext(chunks))
        await settled()
        if not coming.done():  # on a busy machine the next piece may have come already
            hurry(0.6 * LONG_S)
            waited += 1
        pieces.append(await soon(coming))
    assert waited
    pieces += await list_of(chunks)
    said = [choice["delta"].get("content") or "" for piece in pieces for choice in piece.get("choices") or ()]
    assert "".join(said) == "echo east: one two three"


async def test_caller_who_leaves_ends_the_call(api: Api, stream: bool) -> None:
    api.plays({"fault": "hang"})
    task = asyncio.ensure_future(asked(hosted(api, timeout_s=30.0), stream, 30.0))
    while api.state()["seen"] == 0:
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for _ in range(1000):
        if api.state()["open"] == 0:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the call goes on without its caller")


async def test_stream_that_is_closed_ends_the_call(api: Api) -> None:
    api.plays({"fault": "slow", "seconds": 1})
    pieces = hosted(api).stream({**BODY, "stream": True}, 5.0)
    await anext(pieces)
    await pieces.aclose()
    for _ in range(1000):
        if api.state()["open"] == 0:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the stream goes on without its caller")


async def test_nothing_listens_there(api: Api, stream: bool) -> None:
    nowhere = SimpleNamespace(url="http://127.0.0.1:1/v1")
    with pytest.raises(EngineError, match="connection"):
        await asked(hosted(nowhere), stream)


def test_missing_key_is_named_at_start(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match=r"no API key in \$OPENAI_API_KEY"):
        hosted(api)


async def test_what_is_said_of_the_tiers_key_is_for_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.plays({"fault": "status", "status": 401, "message": "wrong key sk-te**st"})
    with pytest.raises(EngineError) as caught:
        await asked(hosted(api, failover=ONCE), False)
    assert "sk-te" not in str(caught.value)
    assert "returned 401: wrong key sk-te**st" in caplog.text


@pytest.mark.parametrize("content", [None, "", " \n"], ids=repr)
def test_key_file_without_a_key_is_named_at_start(api: Api, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=str(path)):
        hosted(api, api_key_file=path)


async def test_rotated_key_file_is_read_anew(api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "key"
    path.write_text("sk-first\n")
    tier = hosted(api, api_key_file=path)
    await asked(tier, False)
    assert api.state()["last"]["headers"]["authorization"] == "Bearer sk-first"
    path.write_text("sk-second\n")
    await asked(tier, False)
    assert api.state()["last"]["headers"]["authorization"] == "Bearer sk-second"
    path.unlink()
    with pytest.raises(EngineError, match="see its log") as caught:
        await asked(tier, False)
    assert str(path) not in str(caught.value)
    assert f"the API key file {path} cannot be read" in caplog.text


async def test_shipped_configuration_answers_through_a_second_server(api: Api, tmp_path: Path) -> None:
    from serve_graph.cluster.hosted_deployment import HostedDeployment

    shipped = (Path(__file__).parents[5] / "configs" / "hosted.yaml").read_text()
    assert "https://api.openai.com/v1" in shipped
    path = tmp_path / "hosted.yaml"
    path.write_text(shipped.replace("https://api.openai.com/v1", api.url))
    config = load_config(path).tier("frontier")
    assert isinstance(config, HostedTierConfig)
    tier = HostedDeployment(config)
    OPEN.append(tier)
    assert (await asked(tier, False))[0] == "echo east: one two three"
    assert (await asked(tier, True))[0] == "echo east: one two three"
    assert api.state()["last"]["body"]["model"] == config.model
    api.plays({"fault": "status", "status": 500})
    assert (await asked(tier, False))[0] == "echo east: one two three"
