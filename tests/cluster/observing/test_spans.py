"""Spans of a real graph, its router, verifier and tiers in processes of their own, as a collector receives them."""

from __future__ import annotations

import pytest

from tests.cluster.graphs.running_graph import RunningGraph, until
from tests.unit.serve_graph.engines.telemetry.collector import Collector

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_one_tree_below_the_callers_span(stream: bool, graph: RunningGraph, collector: Collector) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "what now [echo:unsure]"}], "stream": stream}
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    reply = graph.client.post("/v1/chat/completions", json=body, headers=headers)
    record = graph.record_of(reply)
    root = collector.tree_of(record.id)
    assert (root.trace, root.parent, root.attributes["serve_graph.outcome"]) == (TRACE, SPAN, record.outcome)
    tried = [call.tier for call in record.calls]
    assert root.shape()[0] == "route"
    assert [name for name in root.shape() if name.startswith("chat")] == [f"chat {tier}" for tier in tried]
    assert record.evidence["trace"] == TRACE
    assert root.resource["service.instance.id"]


def test_who_hangs_up_has_a_tree_too(graph: RunningGraph, collector: Collector) -> None:
    before = graph.names_so_far()
    graph.hang_up("never mind [echo:slow=30]", stream=True)
    [name] = _new(graph, before)
    root = collector.tree_of(name)
    assert root.attributes["http.response.status_code"] == 499
    assert root.children[-1].attributes["error.type"] == "cancelled"


def _new(graph: RunningGraph, before: set[str]) -> set[str]:
    until(lambda: graph.names_so_far() - before)
    return graph.names_so_far() - before
