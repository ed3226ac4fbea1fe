"""Tiers that scale by what is to come, and to nothing where nobody asks them."""

import json
import select
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(900)

Graph = Any
Until = Callable[..., float]
OBJECT = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
"""An answer of this shape no echo has: the cheap one is escalated."""


def tier(name: str, **scaling: Any) -> dict[str, Any]:
    price = {"input_usd_per_mtok": 0.01, "output_usd_per_mtok": 0.02}
    quick = {"target_ongoing_requests": 4, "upscale_delay_s": 0, "look_back_s": 10.1}
    return {"name": name, "engine": "echo", "price": price, "scaling": quick | scaling}


@pytest.fixture(scope="module")
def scaling_graph(new_graph: Callable[..., Graph]) -> Iterator[Graph]:
    """A cheap tier that sleeps where nobody asks it, and a last tier of one to three replicas."""
    cheap = tier("cheap", min_replicas=0, max_replicas=1, downscale_delay_s=3)
    frontier = tier("frontier", min_replicas=1, max_replicas=3, downscale_delay_s=600)
    graph = new_graph(150.0, tiers=[cheap, frontier])
    yield graph
    graph.end()


def awake(graph: Graph) -> bool:
    return bool(graph.chat("hello").headers["x-serve-graph-outcome"] == "accepted")


def test_a_sleeping_tier_keeps_nobody_waiting_and_is_woken_by_the_first_request(
    scaling_graph: Graph, wait_until: Until
) -> None:
    graph = scaling_graph
    wait_until(lambda: graph.chat("hello").headers["x-serve-graph-tier"] == "frontier", 30)
    record = graph.record_of(graph.chat("hello"))
    if record.tier == "frontier":  # else it has been woken already
        assert record.outcome == "routed"
        assert "cheap had no replica and is being started" in record.route_reason
        assert [call.tier for call in record.calls] == ["frontier"]
    wait_until(lambda: awake(graph), 90)

    def asleep() -> bool:
        assert graph.client.get("/metrics").status_code == 200, "whoever reads the metrics keeps no tier awake"
        return not graph.replicas("cheap")

    wait_until(asleep, 120)
    reply = graph.chat("hello", model="cheap")
    assert reply.status_code == 200, "whoever asks for a tier by name waits for it"
    assert reply.headers["x-serve-graph-tier"] == "cheap"


def test_escalations_are_made_room_for_before_they_arrive(scaling_graph: Graph, wait_until: Until) -> None:
    graph = scaling_graph
    wait_until(lambda: awake(graph), 90)
    with ThreadPoolExecutor(4) as pool:  # a call takes as long at either tier, however busy the machine is
        chats = pool.map(lambda i: graph.chat(f"[echo:slow=0.5] question {i}", response_format=OBJECT), range(40))
        replies = list(chats)
    assert [reply.headers["x-serve-graph-outcome"] for reply in replies] == ["escalated"] * 40
    assert len(graph.replicas("frontier")) == 1

    with ExitStack() as open_:
        asked = [open_.enter_context(sent(graph, "[cheap:slow=120]")) for _ in range(16)]
        wait_until(lambda: len(graph.replicas("frontier")) == 3, 100)
        assert select.select(asked, [], [], 0)[0] == [], "all of them are still at the cheap tier"


def sent(graph: Graph, content: str) -> socket.socket:
    """A request whose reply is not waited for."""
    body = {"model": "auto", "messages": [{"role": "user", "content": content}], "response_format": OBJECT}
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nContent-Length: {len(data)}\r\n\r\n"
    caller = socket.create_connection(("127.0.0.1", graph.port))
    caller.sendall(head.encode() + data)
    return caller
