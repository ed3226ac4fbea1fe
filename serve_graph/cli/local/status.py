"""What `serve-graph status` says of a running graph, once or again and again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from router_models.data.json_values import to_json_values
from router_models.errors import by_number
from serve_graph.cli.client.readiness import KEEPS_TO_ITSELF, read_readiness
from serve_graph.cli.output import say
from serve_graph.cli.versions.found import withdrawn
from serve_graph.config.graph import GraphConfig
from serve_graph.errors import ServeGraphError


@dataclass(frozen=True, slots=True)
class GraphStatus:
    """A graph's state as it tells it, and in sentences."""

    state: dict[str, Any]
    lines: tuple[str, ...]

    @property
    def lasting(self) -> dict[str, Any]:
        """The state without what every request changes: how many were covered."""
        return {name: value for name, value in self.state.items() if name != "coverage"}


def read_status(graph: GraphConfig) -> GraphStatus:
    """Ask the graph that runs at the configured address; raises ServeGraphError where none answers."""
    url = f"http://{graph.http.host}:{graph.http.port}"
    state = read_readiness(url)
    if "version" not in state:
        return GraphStatus(state, (f"{url}: {'ready' if state['ready'] else 'not ready'}; {KEEPS_TO_ITSELF}",))
    review = withdrawn(graph, state["version"])
    return GraphStatus(state | {"review_withdrawn": review}, tuple(_lines(url, state, review)))


def _lines(url: str, state: dict[str, Any], review: str | None) -> list[str]:
    down = [tier for tier, ready in state["tiers_ready"].items() if ready is False]
    faults = f"; not answering: {', '.join(down)}" if down else ""
    said = [f"{url}: {'ready' if state['ready'] else 'not ready'}; tiers {', '.join(state['tiers'])}{faults}"]
    said += [f"version {state['version']}: {line}" for line in state.get("headline") or [state["promise"]]]
    if review is not None:
        said.append(f"version {state['version']}: {review}")
    said += [f"tier {tier}: {fault}" for tier, fault in state.get("tier_faults", {}).items()]
    said += [f"alarm since {a['raised_at']}: {a.get('reason', a['kind'])}" for a in state.get("alarms", [])]
    said += [f"prefix verdict for {tier}: {promise}" for tier, promise in state.get("prefixes", {}).items()]
    if (seen := state.get("coverage")) and seen["requests"]:
        why = ", ".join(f"{reason} {count}" for reason, count in seen["reasons"].items())
        told = (
            f"{seen['uncovered']} of the last {seen['requests']} "
            f"{by_number(seen['requests'], 'request')}{f' ({why})' if why else ''}"
        )
        said.append(f"not covered by the certificate: {told}")
    return said


def watch_status(
    graph: GraphConfig,
    every_s: float,
    *,
    as_json: bool = False,
    looks: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Say how a graph is, and again whenever that has changed, until Ctrl-C; with `as_json` one object a line.

    A graph that does not answer is a state like others: it may come back. How many requests were covered is said with
    what has changed, and is no change by itself. `looks`: the number of looks; None: no end.
    """
    before: object = None
    try:
        while looks is None or looks > 0:
            try:
                found = read_status(graph)
            except ServeGraphError as error:
                found = GraphStatus({"ready": False, "error": str(error)}, (str(error),))
            if found.lasting != before:
                _say(found.state if as_json else found.lines)
            before = found.lasting
            looks = None if looks is None else looks - 1
            if looks != 0:
                sleep(every_s)
    except KeyboardInterrupt:
        return


def _say(now: Any) -> None:
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    if isinstance(now, dict):
        return say(json.dumps(to_json_values({"time": moment} | now), default=repr, allow_nan=False))
    return say("\n".join([moment, *(f"  {line}" for line in now)]))
