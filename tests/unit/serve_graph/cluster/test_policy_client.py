"""The handle of router and verifier as Decider and Judge, over a handle that needs no cluster."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from router_models.types import Action, Completion, Decision, Query, Verdict
from serve_graph.cascade.fakes import FakeHandle
from serve_graph.errors import PolicyUnavailableError
from tests.fixtures.made_up_time import hurry, settled

QUERY = Query.from_prompt("why?")


@pytest.fixture
def policy() -> Callable[..., Any]:
    from serve_graph.cluster.policy_client import HandlePolicy

    def make(handle: FakeHandle, now: list[float] | None = None) -> Any:
        return HandlePolicy(handle, "router", "router/1", timeout_s=60.0, rest_s=0.2, clock=lambda: (now or [0.0])[0])  # type: ignore[arg-type]

    return make


async def test_policys_reply_is_passed_on(policy: Callable[..., Any]) -> None:
    decision, verdict = Decision("cheap", "why"), Verdict(Action.ACCEPTED, "why", 0.9)
    assert await policy(FakeHandle(decision)).decide(QUERY) == decision
    assert await policy(FakeHandle(verdict)).judge(QUERY, Completion("x"), decision) == verdict


async def test_a_policy_is_asked_without_the_messages_that_only_engines_read(policy: Callable[..., Any]) -> None:
    photo = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    query = replace(QUERY, parameters={"messages": [photo], "tools": []})
    decision = Decision("cheap", "why")
    handle = FakeHandle(decision)
    await policy(handle).decide(query)
    handle.reply = Verdict(Action.ACCEPTED, "why", 0.9)
    await policy(handle).judge(query, Completion("x"), decision)
    assert [asked[0] for asked in handle.asked] == [replace(QUERY, parameters={"tools": []})] * 2


async def test_policy_that_does_not_reply_is_not_asked_again_for_a_while(policy: Callable[..., Any]) -> None:
    handle, now = FakeHandle(Decision("cheap", "why"), delay_s=3600), [100.0]
    asking = policy(handle, now=now)
    decided = asyncio.ensure_future(asking.decide(QUERY))
    await settled()
    hurry(61.0)
    with pytest.raises(PolicyUnavailableError, match="no reply in 60 s"):
        await decided
    handle.delay_s = 0.0
    with pytest.raises(PolicyUnavailableError, match="a moment ago"):
        await asking.decide(QUERY)
    assert len(handle.asked) == 1
    now[0] += 0.25
    assert (await asking.decide(QUERY)).tier == "cheap"


async def test_one_querys_own_failure_does_not_keep_others_from_the_policy(policy: Callable[..., Any]) -> None:
    handle = FakeHandle(ValueError("this prompt cannot be scored"))
    asking = policy(handle)
    with pytest.raises(PolicyUnavailableError, match="ValueError"):
        await asking.decide(QUERY)
    handle.reply = Decision("cheap", "why")
    assert (await asking.decide(QUERY)).tier == "cheap"
