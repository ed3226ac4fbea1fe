"""A batch on a real graph with echo engines: by the official client, and where the replica that runs it dies."""

import io
import json
import time
from collections import Counter
from typing import Any

import pytest

from tests.cluster.graphs.running_graph import RunningGraph, until

pytestmark = pytest.mark.timeout(1500)

OPEN = ("validating", "in_progress", "finalizing", "cancelling")


def lines_of(count: int, content: str = "question {n}") -> bytes:
    rows = [
        {
            "custom_id": f"row-{n}", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "auto", "messages": [{"role": "user", "content": content.format(n=n)}]},
        }
        for n in range(count)
    ]  # fmt: skip
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def begun(graph: RunningGraph, content: bytes) -> Any:
    file = graph.openai.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    return graph.openai.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def ended(graph: RunningGraph, batch: Any, seconds: float = 180.0) -> Any:
    give_up = time.monotonic() + seconds
    while batch.status in OPEN:
        assert time.monotonic() < give_up, batch
        time.sleep(0.2)
        batch = graph.openai.batches.retrieve(batch.id)
    return batch


def test_the_official_client_runs_a_batch_on_a_real_graph(graph: RunningGraph) -> None:
    batch = ended(graph, begun(graph, lines_of(40)))
    assert (batch.status, batch.request_counts.completed) == ("completed", 40)
    lines = [json.loads(one) for one in graph.openai.files.content(batch.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in lines] == [f"row-{n}" for n in range(40)]
    until(lambda: "serve_graph_records_spooled 0.0\n" in graph.client.get("/metrics").text)
    records = graph.records()
    for one in lines:
        facts = one["response"]["body"]["serve_graph"]
        [record] = records[facts["decision"]]
        assert record.evidence["request_id"] == one["response"]["request_id"]
        assert (record.tier, record.outcome) == (facts["tier"], facts["outcome"])
    assert 'serve_graph_batch_lines_total{result="answered"} 40.0' in graph.client.get("/metrics").text


def test_a_batch_outlives_the_replica_that_runs_it_and_no_line_is_lost_or_answered_twice(graph: RunningGraph) -> None:
    """The replica is killed with some lines answered and some under way: those under way are asked again."""
    before = graph.names_so_far()
    batch = begun(graph, lines_of(60, "[echo:slow=0.3] question {n}"))
    until(lambda: graph.openai.batches.retrieve(batch.id).request_counts.completed >= 12, 120)
    graph.kill("ingress")
    until(graph.answers, 120)
    batch = ended(graph, graph.openai.batches.retrieve(batch.id), 240)
    assert (batch.status, batch.request_counts.completed) == ("completed", 60)
    lines = [json.loads(one) for one in graph.openai.files.content(batch.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in lines] == [f"row-{n}" for n in range(60)]
    records = [record for name, [record] in graph.records().items() if name not in before]
    asked = Counter(str(record.evidence.get("request_id")).rpartition(":")[2] for record in records)
    twice = [line for line, times in asked.items() if times > 1]
    assert len(twice) <= 32  # as many as may be under way
    assert {record.status for record in records} <= {200, 499}


def test_interactive_requests_are_answered_as_quickly_beside_a_batch(graph: RunningGraph) -> None:
    """Echo engines take 0.2 s for a batch's line: none of a dozen requests waits for one."""
    batch = begun(graph, lines_of(400, "[echo:slow=0.2] question {n}"))
    until(lambda: graph.openai.batches.retrieve(batch.id).request_counts.completed >= 30, 120)
    took = []
    for n in range(12):
        started = time.monotonic()
        assert graph.chat(f"interactive {n}").status_code == 200
        took.append(time.monotonic() - started)
    graph.openai.batches.cancel(batch.id)
    cancelled = ended(graph, graph.openai.batches.retrieve(batch.id))
    assert cancelled.status == "cancelled"
    assert 30 <= cancelled.request_counts.completed < 400
    assert sorted(took)[6] < 1.0, took
