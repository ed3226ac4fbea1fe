"""A replay's figures as text for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from router_models.simulation import Simulated


def replay_text(setup: Mapping[str, Any], runs: Mapping[str, Sequence[Simulated]]) -> str:
    """A table a terminal can show: mean over the replays, and their range."""
    seeds = setup["seeds"]
    lines = [
        f"{setup['requests']} requests at {setup['rate_per_s']:g}/s over {setup['prompts']} recorded prompts, "
        f"slots {setup['slots']}, router {setup['router_ms']:g} ms, verifier {setup['verifier_ms']:g} ms, "
        f"seeds {seeds[0]} to {seeds[-1]}; mean (lowest to highest)",
        "",
    ]
    measures: dict[str, tuple[str, Callable[[Simulated], float]]] = {
        "$ per 1000": ("{:.4f}", lambda r: float(r.cost_usd) / r.requests * 1000),
        "right %": ("{:.1f}", lambda r: 100 * r.right),
        "p50 s": ("{:.2f}", lambda r: r.latency_s(0.5)),
        "p95 s": ("{:.2f}", lambda r: r.latency_s(0.95)),
        "p99 s": ("{:.2f}", lambda r: r.latency_s(0.99)),
        "abstained": ("{:.0f}", lambda r: r.abstained),
        "refused": ("{:.0f}", lambda r: r.refused),
    }
    width = max(map(len, runs)) + 2
    for label, (form, measure) in measures.items():
        lines.append(label)
        for name, found in runs.items():
            values = [measure(run) for run in found]
            spread = f" ({form.format(min(values))} to {form.format(max(values))})" if len(values) > 1 else ""
            lines.append(f"  {name:<{width}}{form.format(float(np.mean(values)))}{spread}")
    lines.append("tiers (mean over replays): share of answers, utilisation, longest queue, p95 wait s")
    for name, found in runs.items():
        for tier in found[0].tiers:
            loads = [run.tiers[tier] for run in found]
            share = np.mean([load.answered / max(run.answered, 1) for load, run in zip(loads, found, strict=True)])
            used = np.mean([load.utilisation for load in loads])
            longest, wait = max(load.queue_max for load in loads), np.mean([load.wait_p95_s for load in loads])
            row = f"{100 * share:5.1f} %  {100 * used:5.1f} %  {longest:5d}  {wait:7.2f}"
            lines.append(f"  {name:<{width}}{tier:<16} {row}")
    return "\n".join(lines)
