"""The commit contract, whatever happens when: nothing shown twice, lost or reordered; one tier from the first text."""

import asyncio
import json
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.types import Action, Query
from serve_graph.api.transport.sse import DONE, chat_events, unbroken
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.cascade.steps import StreamTerms
from serve_graph.cascade.streaming import ABSTENTION
from serve_graph.errors import EngineError, EngineRequestError, EngineTimeoutError, PolicyUnavailableError
from serve_graph.gateway.handler import Service
from serve_graph.protocol.requests import RequestOptions
from tests.fixtures.made_up_time import run
from tests.fixtures.sampling import examples

FAULTS = st.sampled_from([EngineError("died"), EngineTimeoutError("slow"), EngineRequestError("no"), KeyError("bug")])


def rarely(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """None, but for one case in eight."""
    return st.integers(0, 7).flatmap(lambda draw: strategy if draw == 7 else st.none())


@st.composite
def engines(draw: st.DrawFn, text: str) -> FakeEngine:
    """An engine that may fail at once, break off anywhere, fall silent, or end without a finish reason."""
    return FakeEngine(
        text * draw(st.sampled_from([0, 1, 2, 3])),
        error=draw(rarely(FAULTS)),
        break_after=draw(st.none() | st.integers(0, 12)),
        breaks_with=draw(FAULTS),
        finishes=draw(st.sampled_from([True, True, True, False])),
        piece_chars=draw(st.integers(1, 9)),
        hang_after=draw(rarely(st.integers(0, 12))),
    )


@settings(max_examples=examples(150, whole=400), deadline=None)
@given(
    cheap=engines("chéap ☃ says "),
    frontier=engines("FRONTIER 前沿 SAYS "),
    decided=st.sampled_from(["cheap", "frontier"]),
    router_fails=rarely(st.just(True)),
    verdict=st.sampled_from([Action.ACCEPTED, Action.ESCALATED, Action.ABSTAINED]),
    prefix_verdict=st.sampled_from([Action.ACCEPTED, Action.ESCALATED]),
    verifier_fails=rarely(st.just(True)),
    prefix_tokens=st.none() | st.integers(1, 12),
    safe_tier=st.sampled_from(["cheap", "frontier"]),
    mode=st.sampled_from(["verify", "prefix", "route"]),
    budget=rarely(st.just(0.001)),
    at_budget=st.sampled_from(["commit", "escalate"]),
    model=st.sampled_from(["auto"] * 6 + ["cheap", "frontier"]),
    leaves_after=rarely(st.integers(0, 8)),
)
def test_text_is_one_tiers_own_in_order_whatever_happens(
    cheap: FakeEngine,
    frontier: FakeEngine,
    decided: str,
    router_fails: bool | None,
    verdict: Action,
    prefix_verdict: Action,
    verifier_fails: bool | None,
    prefix_tokens: int | None,
    safe_tier: str,
    mode: Literal["verify", "prefix", "route"],
    budget: float | None,
    at_budget: Literal["commit", "escalate"],
    model: str,
    leaves_after: int | None,
) -> None:
    down = PolicyUnavailableError("down")
    judge = FakeJudge(verdict, prefix_verdict, error=down if verifier_fails else None)
    decider = FakeDecider(decided, error=down if router_fails else None)
    context = fake_context(cheap, frontier, decider, judge, safe_tier=safe_tier, prefix_tokens=prefix_tokens)
    sink = ListSink()
    service = Service(context, sink, StreamTerms(first_token_s=budget, at_first_token=at_budget))
    request = service.open(Query.from_prompt("why?"), model, True, RequestOptions(stream=mode))
    sent: list[bytes] = []

    async def read() -> None:
        events = chat_events(unbroken(service.stream(request)), include_usage=True)
        try:
            async with asyncio.timeout(60.0):  # an engine that hangs: the caller loses patience
                async for item in events:
                    sent.append(item)
                    if leaves_after is not None and len(sent) > leaves_after:
                        break
        except TimeoutError:
            pass
        finally:
            await events.aclose()

    run(read())
    done = bool(sent) and sent[-1] == DONE
    chunks: list[dict[str, Any]] = [json.loads(item.removeprefix(b"data: ")) for item in sent if item != DONE]
    tiers = {c["model"] for c in chunks if "error" not in c}
    [record] = sink.records

    choices = [c["choices"][0] for c in chunks if c.get("choices")]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert len(tiers) <= 1
    assert [i for i, choice in enumerate(choices) if "role" in choice["delta"]] == [0][: len(choices)]
    assert all(choice["finish_reason"] is None for choice in choices[:-1])
    if tiers and text != ABSTENTION[: len(text)]:
        [tier] = tiers
        assert context.engines[tier].text.startswith(text)  # type: ignore[attr-defined]
    if done:
        assert "error" not in chunks[-1]
        assert chunks[-1]["usage"]["completion_tokens"] == 5
        whole = context.engines[record.tier].text  # type: ignore[attr-defined]
        assert text == (ABSTENTION if record.outcome == "abstained" else whole)
        assert (record.status, record.tier) == (200, tiers.pop())
    if any("error" in chunk for chunk in chunks):
        assert "error" in chunks[-1]
        assert not done
        assert record.status in (400, 500, 503, 504)
    assert all(engine.closed <= len(engine.queries) for engine in (cheap, frontier))
