"""Every process of a real graph logs JSON, failures with their decision, and never what anybody asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cluster.graphs.running_graph import RunningGraph, until

MARKER = "zebra-crossing-4711"
DEPLOYMENTS = ("ingress", "cheap", "frontier")


def session_of(graph: RunningGraph) -> Path:
    """The folder of logs of the graph's own Ray."""
    paths = [Path(file.path) for replica in graph.replicas("ingress") for file in replica.open_files()]
    [logs] = {
        path.parent if path.parent.name == "logs" else path.parent.parent for path in paths if "/logs/" in str(path)
    }
    return logs


def lines_of(logs: Path) -> list[dict[str, Any]]:
    """Every line that a replica has written to its log, as the object that it must be."""
    found = []
    for path in [*logs.glob("worker-*.err"), *(logs / "serve").glob("replica_*.log")]:
        for line in path.read_text().splitlines():
            if line.startswith("{"):
                found.append(json.loads(line) | {"file": path.name})
            else:
                found.append({"file": path.name, "text": line})
    return found


def test_failures_carry_their_decision_and_no_log_holds_a_prompt(graph: RunningGraph) -> None:
    for said in (MARKER, f"{MARKER} [echo:unsure]", f"{MARKER} [cheap:fail]", f"{MARKER} [echo:refuse]"):
        graph.chat(said)
        graph.chat(said, stream=True)
    graph.chat(f"{MARKER} [echo:break]", model="cheap", stream=True)
    graph.client.post("/v1/chat/completions", json={"model": MARKER, "messages": MARKER})
    graph.client.post("/v1/embeddings", json={"model": "cheap", "input": MARKER})
    graph.hang_up(f"{MARKER} [echo:slow=30]")
    failed = [graph.chat(f"{MARKER} [echo:fail]") for _ in range(3)]
    assert {reply.status_code for reply in failed} == {503}
    logs = session_of(graph)

    def recorded() -> set[str]:
        return {record.id for records in graph.records().values() for record in records if record.status >= 500}

    until(lambda: len(recorded()) >= 3, 30)  # a record is written after its reply
    ids = recorded()

    def told() -> set[str]:
        ended = [line for line in lines_of(logs) if " ended with 5" in line.get("message", "")]
        assert all(line["message"].startswith(line["decision"]) for line in ended)
        return {line["decision"] for line in ended}

    until(lambda: ids <= told(), 30)
    written = [path for path in logs.rglob("*") if path.is_file() and MARKER.encode() in path.read_bytes()]
    assert written == []
    assert MARKER not in graph.log.read_text()


def test_every_line_of_a_replica_is_one_object_that_says_where_it_was_written(graph: RunningGraph) -> None:
    graph.chat("hello")
    logs = session_of(graph)
    until(lambda: set(DEPLOYMENTS) <= {line.get("deployment") for line in lines_of(logs)}, 30)
    ours = [line for line in lines_of(logs) if "deployment" in line]
    assert all({"time", "level", "logger", "message", "replica"} <= set(line) for line in ours)
    pids = {str(replica.pid) for name in DEPLOYMENTS for replica in graph.replicas(name)}
    stray = [
        line
        for line in lines_of(logs)
        if "text" in line and line["file"].endswith(".err") and Path(line["file"]).stem.split("-")[-1] in pids
        and not line["text"].startswith((":job_id:", ":actor_name:"))
    ]  # fmt: skip
    assert [line for line in stray if line["text"].strip()] == []
