"""A second graph beside the first: the plain proxy, PostgreSQL, a judge, and an end that leaves nothing behind."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from serve_graph.cli.local.launch import check_port

pytestmark = pytest.mark.timeout(1500)

Graph = Any
JUDGE = {
    "tier": "frontier",
    "rate": 1.0,
    "prompt": "{question}\n{answer}\nVERDICT {nonce}: right",  # an echo tier repeats it, and so ends with a verdict
}


@pytest.fixture(scope="module")
def plain(new_graph: Callable[..., Graph], postgres: Any) -> Graph:
    """Skipped where there is no PostgreSQL to run."""
    records = {"url": postgres.emptied(), "retry_s": 0.3}
    return new_graph(60.0, http={"haproxy": False}, records=records, judge=JUDGE)


def test_without_haproxy_it_answers_too(plain: Graph) -> None:
    assert not [p for p in plain.processes() if "haproxy" in p.name()]
    response = plain.chat("hello")
    assert response.json()["choices"][0]["message"]["content"] == "echo cheap: hello"
    assert response.headers["x-serve-graph-outcome"] == "accepted"


def test_without_haproxy_it_streams_too(plain: Graph, events: Callable[..., Any]) -> None:
    said = events(plain.chat("hello", model="frontier", stream=True))
    text = "".join(event["choices"][0]["delta"].get("content") or "" for event in said if event["choices"])
    assert text == "echo frontier: hello"


def test_served_answers_get_labels_of_the_judge_and_no_request_pays_for_them(
    plain: Graph, wait_until: Callable[..., float]
) -> None:
    replies = [plain.chat(f"hello {i}", stream=i % 2 == 1) for i in range(4)]
    names = [reply.headers["x-serve-graph-decision"] for reply in replies]

    def said(name: str) -> list[dict[str, Any]]:
        return list(plain.client.get(f"/v1/decisions/{name}").json().get("feedback", ()))

    wait_until(lambda: all(said(name) for name in names), 30)
    for name in names:
        [label] = said(name)
        assert (label["source"], label["value"], label["probability"]) == ("judge:frontier/echo", 1.0, 1.0)
        [record] = plain.records()[name]
        assert record.outcome in ("accepted", "escalated")
        assert len(record.calls) == 1 + (record.outcome == "escalated"), "the judge's call is on nobody's bill"
    assert 'serve_graph_judge_calls_total{tier="frontier",what="judging"}' in plain.client.get("/metrics").text


def test_without_haproxy_bad_requests_are_refused_too(plain: Graph) -> None:
    assert plain.client.post("/v1/chat/completions", content=b"{").json()["error"]["code"] == "invalid_json"
    assert plain.client.post("/v1/chat/completions", content=b"x" * 34_000_000).status_code == 413
    assert plain.client.get("/nowhere").json()["error"]["type"] == "invalid_request_error"


def test_without_haproxy_a_caller_who_hangs_up_on_a_whole_reply_is_noticed_too(
    plain: Graph, wait_until: Callable[..., float]
) -> None:
    before = plain.names_so_far()
    plain.hang_up("[cheap:slow=60] hello")
    wait_until(lambda: plain.busy() == 0, 30)  # the tier's own time-out is a minute
    wait_until(lambda: set(plain.records()) - before, 60)
    [name] = set(plain.records()) - before
    [record] = plain.records()[name]
    assert (record.status, record.error) == (499, "client_closed_request")
    assert [line.what for line in record.bill if line.tier in ("cheap", "frontier")] == ["cancelled"]


def test_postgres_going_away_delays_records_and_nothing_else(
    plain: Graph, postgres: Any, wait_until: Callable[..., float]
) -> None:
    plain.record_of(plain.chat("before"))
    before = plain.names_so_far()
    postgres.stop("immediate")
    try:
        replies = [plain.chat(f"question {i}") for i in range(20)]
        assert plain.client.get("/v1/decisions/dec-1").status_code == 503
    finally:
        postgres.start()
    assert {reply.status_code for reply in replies} == {200}
    names = {reply.headers["x-serve-graph-decision"] for reply in replies}
    wait_until(lambda: names <= plain.records().keys(), 60)
    assert set(plain.records()) - before == names


def test_ctrl_c_stops_everything_it_started_and_nothing_else(
    graph: Graph, plain: Graph, wait_until: Callable[..., float]
) -> None:
    assert graph.chat().status_code == 200
    assert plain.stop(signal.SIGINT, whole_group=True) == 0, plain.log.read_text()
    wait_until(lambda: not plain.processes(), 30)
    check_port("127.0.0.1", plain.port)
    assert graph.chat().headers["x-serve-graph-outcome"] == "accepted"


def test_records_of_the_stopped_graph_are_all_in_the_store(plain: Graph) -> None:
    assert asyncio.run(asyncio.sleep(0, plain.records()))
    assert not [p for p in (plain.state / "spool").glob("*.jsonl") if p.stat().st_size]


def test_sigterm_stops_it_as_politely(graph: Graph, wait_until: Callable[..., float]) -> None:
    """What a container's runtime sends; Ray's own handler would abort the process. Last: it ends the shared graph."""
    assert graph.chat().status_code == 200
    assert graph.stop(signal.SIGTERM) == 0, graph.log.read_text()
    wait_until(lambda: not graph.processes(), 30)
