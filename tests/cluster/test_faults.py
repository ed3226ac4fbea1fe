"""What a caller sees while parts of the graph fail or die: a reply, always, and a record of it."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.timeout(1500)

LONG = "a long question " * 60  # the builtin version sends prompts over 800 characters to the last tier
Graph = Any
Until = Callable[..., float]
Events = Callable[[httpx.Response], list[dict[str, Any]]]


def outcome(response: httpx.Response) -> str:
    """From the header; from the closing chunk where a stream began with comments, before anybody had answered."""
    assert response.status_code == 200, response.text
    if "x-serve-graph-outcome" in response.headers:
        return response.headers["x-serve-graph-outcome"]
    chunks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
    return str(chunks[-1]["serve_graph"]["outcome"])


def test_failing_cheap_tier_is_answered_by_the_safe_tier(graph: Graph) -> None:
    response = graph.chat("[cheap:fail] hello")
    assert outcome(response) == "fallback"
    assert response.headers["x-serve-graph-tier"] == "frontier"
    assert "cheap failed" in graph.record_of(response).route_reason


def test_prompt_that_cheap_refuses_is_answered_by_the_safe_tier(graph: Graph) -> None:
    assert outcome(graph.chat("[cheap:refuse] hello")) == "fallback"


def test_prompt_that_a_forced_tier_refuses_is_the_callers_to_change(graph: Graph) -> None:
    response = graph.chat("[cheap:refuse] hello", model="cheap")
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
def test_every_tier_failing_is_an_error_in_openais_shape(graph: Graph, stream: bool) -> None:
    response = graph.chat("[echo:fail] hello", stream=stream)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_stream_that_breaks_ends_in_an_error_event(graph: Graph, events: Events, wait_until: Until) -> None:
    before = graph.names_so_far()
    response = graph.chat("[frontier:break] hello", model="frontier", stream=True)
    assert response.status_code == 200
    assert "[DONE]" not in response.text
    assert events(response)[-1]["error"]["code"] == "stream_broken"
    wait_until(lambda: set(graph.records()) - before, 60)
    [name] = set(graph.records()) - before
    [record] = graph.records()[name]
    assert (record.status, record.stream, record.error) == (503, True, "service_unavailable_error")
    assert record.cost_usd > 0  # the word that was said is paid for


def test_slow_tier_is_given_up_in_time(graph: Graph) -> None:
    started = time.monotonic()
    response = graph.chat("[cheap:slow=60] hello", model="cheap")
    assert response.status_code == 504
    assert response.json()["error"]["type"] == "timeout_error"
    assert 2.5 < time.monotonic() - started < 15


def test_slow_cheap_tier_is_answered_by_the_safe_tier(graph: Graph) -> None:
    assert outcome(graph.chat("[cheap:slow=60] hello")) == "fallback"


def test_engine_calls_nobody_waits_for_give_their_places_back(graph: Graph) -> None:
    """The tier takes 64 at once: calls that were given up but went on would keep it full for a minute."""
    with ThreadPoolExecutor(70) as pool:
        replies = list(pool.map(lambda _: graph.chat("[cheap:slow=60] hello", model="cheap"), range(70)))
    assert {reply.status_code for reply in replies} == {504}
    assert outcome(graph.chat("hello", model="cheap")) == "forced"


def test_caller_who_hangs_up_on_a_stream_is_recorded(graph: Graph, wait_until: Until) -> None:
    body = {"model": "frontier", "stream": True, "messages": [{"role": "user", "content": "[echo:hang=60] hello"}]}
    with graph.client.stream("POST", "/v1/chat/completions", json=body) as response:
        name = response.headers["x-serve-graph-decision"]
        assert next(response.iter_lines()).startswith("data: ")
    wait_until(lambda: name in graph.records(), 30)
    [record] = graph.records()[name]
    assert (record.status, record.error) == (499, "client_closed_request")
    assert record.cost_usd > 0


def test_caller_who_hangs_up_on_a_whole_reply_is_noticed_every_time(graph: Graph, wait_until: Until) -> None:
    before = graph.names_so_far()
    for i in range(4):
        graph.hang_up(f"[cheap:slow=60] question {i}")
    wait_until(lambda: len(set(graph.records()) - before) == 4, 60)
    records = [graph.records()[name][0] for name in set(graph.records()) - before]
    assert {(record.status, record.error) for record in records} == {(499, "client_closed_request")}
    for record in records:  # cancelled, and nobody else asked: the tier's own time-out, 3 s, was not reached
        assert [(line.tier, line.what) for line in record.bill if line.tier in ("cheap", "frontier")] == [
            ("cheap", "cancelled")
        ]


def test_killed_router_means_the_safe_tier_until_ray_has_replaced_it(
    graph: Graph, events: Events, wait_until: Until
) -> None:
    victims = graph.kill("router")
    response = graph.chat("hello")
    assert outcome(response) == "fallback"
    assert response.headers["x-serve-graph-tier"] == "frontier"
    streamed = graph.chat("hello", stream=True)
    facts = events(streamed)[-1]["serve_graph"]
    assert (facts["outcome"], facts["tier"]) in {("fallback", "frontier"), ("accepted", "cheap")}, "it may be back"
    record = graph.record_of(response)
    assert "router unavailable" in record.route_reason
    assert [call.tier for call in record.calls] == ["frontier"]
    seen: list[str] = []

    def routes_again() -> bool:
        seen.append(outcome(graph.chat("hello")))
        return seen[-1] == "accepted"

    wait_until(routes_again, 120)
    assert set(seen) <= {"fallback", "accepted"}
    assert victims.isdisjoint(p.pid for p in graph.replicas("router"))


def test_killed_verifier_means_the_safe_tier_until_ray_has_replaced_it(
    graph: Graph, events: Events, wait_until: Until
) -> None:
    victims = graph.kill("verifier")
    response = graph.chat("hello")
    assert outcome(response) == "fallback"
    streamed = graph.chat("hello", stream=True)
    facts = events(streamed)[-1]["serve_graph"]
    assert (facts["outcome"], facts["tier"]) in {("fallback", "frontier"), ("accepted", "cheap")}, "it may be back"
    record = graph.record_of(response)
    assert "verifier unavailable" in record.route_reason
    assert [call.tier for call in record.calls] == ["cheap", "frontier"]
    wait_until(lambda: outcome(graph.chat("hello")) == "accepted", 120)
    assert victims.isdisjoint(p.pid for p in graph.replicas("verifier"))


def test_cheap_tier_killed_under_load_leaves_no_request_unanswered(graph: Graph, wait_until: Until) -> None:
    with ThreadPoolExecutor(32) as pool:
        pending = [pool.submit(graph.chat, f"[cheap:slow=2] question {i}") for i in range(32)]
        wait_until(lambda: graph.busy() > 0, every=0.02)
        graph.kill("cheap")
        replies = [reply.result() for reply in pending]
    outcomes = [outcome(reply) for reply in replies]
    assert set(outcomes) <= {"accepted", "fallback"}
    assert "fallback" in outcomes


def test_frontier_tier_killed_under_load_leaves_no_request_unanswered(graph: Graph, wait_until: Until) -> None:
    with ThreadPoolExecutor(16) as pool:
        pending = [pool.submit(graph.chat, f"[frontier:slow=2] {i} {LONG}") for i in range(16)]
        wait_until(lambda: graph.busy() > 0, every=0.02)
        graph.kill("frontier")
        replies = [reply.result() for reply in pending]
    for reply in replies:
        assert reply.status_code in (200, 503, 504)
        assert reply.status_code == 200 or set(reply.json()) == {"error"}
    wait_until(lambda: graph.chat(LONG).status_code == 200, 120)


def test_store_that_is_locked_delays_records_and_nothing_else(graph: Graph, wait_until: Until) -> None:
    before = graph.names_so_far()
    lock = graph.locked_store()
    try:
        started = time.monotonic()
        replies = [graph.chat(f"question {i}") for i in range(20)]
        assert time.monotonic() - started < 20
        names = {reply.headers["x-serve-graph-decision"] for reply in replies}
        assert {outcome(reply) for reply in replies} == {"accepted"}
        assert "serve_graph_records_spooled 20.0" in graph.client.get("/metrics").text
        assert set(graph.records()) == before
    finally:
        lock.close()
    wait_until(lambda: names <= graph.records().keys(), 60)
    assert {len(graph.records()[name]) for name in names} == {1}


def test_killed_ingress_loses_no_record_of_what_it_answered(graph: Graph, wait_until: Until) -> None:
    lock = graph.locked_store()
    try:
        replies = [graph.chat(f"question {i}") for i in range(10)]
        graph.kill("ingress")
    finally:
        lock.close()
    names = {reply.headers["x-serve-graph-decision"] for reply in replies}
    wait_until(graph.answers, 120)
    wait_until(lambda: names <= graph.records().keys(), 60)
    assert {len(graph.records()[name]) for name in names} == {1}
