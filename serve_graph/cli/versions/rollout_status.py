"""`versions rollout`: where a rollout is, and its evidence against the limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from router_models.errors import by_number
from serve_graph.cli.decisions import STORE
from serve_graph.cli.extras import needs
from serve_graph.cli.output import DEFAULT_CONFIG, ConfigOption, JsonOption, columns, say, say_json
from serve_graph.cli.versions.rollouts import of_rollouts, rollout_line
from serve_graph.cli.versions.served import sqlite_file

if TYPE_CHECKING:
    from serve_graph.config.graph import GraphConfig
    from serve_graph.policy.rollout import Rollout

EFFECTS = {"promote": "for it", "roll_back": "against it", "block": "blocks promotion"}


@needs("versions rollout", *STORE)
def show_rollout(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show the rollout under way, or the last one: state, share, step, and every test against its limit.

    Exit 1 where there has been none. Example: serve-graph versions rollout
    """
    from serve_graph.config.graph import load_config

    graph = load_config(config)
    found = latest_rollout(graph)
    if as_json:
        say_json(None if found is None else found.shown() | {"settles": settling(found, graph)})
    elif found is not None:
        say("\n".join(_lines(found, settling(found, graph))))
    else:
        say(f"no version of {graph.policy.model_name} was tried yet; `serve-graph versions canary` tries one")
    if found is None:
        raise typer.Exit(1)


def latest_rollout(graph: GraphConfig, within_s: float | None = None) -> Rollout | None:
    """The rollout of a graph's model that goes on, else the last one; None where there was none. It makes no store."""
    if (file := sqlite_file(graph.records_url)) is not None and not file.exists():
        return None
    found = of_rollouts(graph, lambda table: table.latest(graph.policy.model_name, 1), within_s)
    return found[0] if found else None


def settling(rollout: Rollout, graph: GraphConfig) -> dict[str, float]:
    """When what came counts, in seconds after its arrival, and how many compared requests of a rollout wait for that.

    `pairs`: those that both versions decide; `outcomes`: errors, latency and the split; `waiting`: 0 after its end.
    """
    from serve_graph.policy.rollout.outcomes import pairs_settle_after_s, settles_after_s

    evidence = rollout.evidence
    compared = int((evidence.get("comparing") or {}).get("compared", 0))
    counted = int(evidence.get("pairs", 0)) + int(evidence.get("repeats", 0))
    waiting = max(0, compared - counted) if rollout.is_active else 0
    return {"pairs": pairs_settle_after_s(graph), "outcomes": settles_after_s(graph), "waiting": waiting}


def _lines(rollout: Rollout, settles: dict[str, float]) -> list[str]:
    from serve_graph.learning.comparing.tally import tally_sentences

    lines = [rollout_line(rollout), f"begun {rollout.begun_at}, changed {rollout.updated_at} by {rollout.by}"]
    if rollout.steps:
        steps = ", ".join(f"{step:g}" for step in rollout.steps)
        least = (
            f"at least {rollout.pause_s:g} s and {rollout.minimum} {by_number(rollout.minimum, 'request')} "
            "decided by both versions each"
        )
        lines.append(f"steps: {steps} %, {least}; this one since {rollout.step_at}")
    lines.append(f"decided by both versions: {100 * rollout.rate:g} % of requests")
    evidence = rollout.evidence
    if "step_pairs" in evidence and rollout.steps:
        lines[-1] += f"; in this step so far: {evidence['step_pairs']} of {rollout.minimum}"
    if comparing := evidence.get("comparing"):
        lines += tally_sentences(comparing)
    if settles["waiting"]:
        lines.append(
            f"still settling: {settles['waiting']:g} of those compared; a pair counts {settles['pairs']:g} s after "
            f"its request came, errors, latency and the split {settles['outcomes']:g} s after (rollouts.settles_s)"
        )
    if held := evidence.get("held"):
        lines.append(f"held: {held}")
    if not evidence.get("findings"):
        return [*lines, "no evidence yet"]
    pairs, units = evidence["pairs"], evidence["outcomes"]
    lines.append(
        f"evidence: {evidence['verdict']}; {pairs} {by_number(pairs, 'request')} decided by both, of "
        f"{evidence['undetermined']} the "
        f"difference in quality is not known; {units} sessions, keys or prompts answered by one"
    )
    rows = [["test", "of", "value", "limit", "", "n", "difference", "says"]]
    rows += [_row(finding) for finding in evidence["findings"]]
    return [*lines, columns(rows)]


def _row(finding: dict[str, Any]) -> list[str]:
    estimate = finding.get("estimate")
    return [
        finding["name"],
        finding["scope"],
        f"{finding['value']:.3g}",
        f"{finding['limit']:.3g}",
        "reached" if finding["reached"] else "",
        str(finding["n"]),
        "-" if estimate is None else f"{estimate:+.3g}",
        EFFECTS.get(finding["effect"], finding["effect"]),
    ]
