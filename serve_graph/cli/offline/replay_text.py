"""Format a replay's figures for a terminal: mean and range over the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from router_models.errors import by_number
from router_models.planning.simulation.queues import Simulated
from serve_graph.cli.output import columns


def replay_text(setup: Mapping[str, Any], runs: Mapping[str, Sequence[Simulated]]) -> str:
    """Return the setup and two tables: one row per policy, and one per policy and tier."""
    seeds = setup["seeds"]
    slots = ", ".join(f"{tier} {n}" for tier, n in setup["slots"].items())
    burst = f", bursts {setup['burst']}" if setup["burst"] else ""
    head = (
        f"{setup['requests']} {by_number(setup['requests'], 'request')} at {setup['rate_per_s']:g}/s{burst}, "
        f"drawn from {setup['prompts']} recorded "
        f"prompts\nslots: {slots}; router {setup['router_ms']:g} ms, verifier {setup['verifier_ms']:g} ms; seeds "
        f"{seeds[0]} to {seeds[-1]}: mean (lowest to highest)"
    )
    policies = [["policy", "$ per 1000", "right %", "p50 s", "p95 s", "p99 s", "abstained", "refused"]]
    tiers = [["policy", "tier", "answers %", "busy %", "mean queue", "longest queue", "p95 wait s"]]
    for name, found in runs.items():
        policies.append(
            [
                name,
                _spread([float(r.cost_usd) / r.requests * 1000 for r in found], 4),
                _spread([100 * r.right for r in found], 1),
                *(_spread([r.latency_s(q) for r in found], 2) for q in (0.5, 0.95, 0.99)),
                _spread([r.abstained for r in found], 0),
                _spread([r.refused for r in found], 0),
            ]
        )
        for tier in found[0].tiers:
            loads = [run.tiers[tier] for run in found]
            answers = [100 * load.answered / max(run.answered, 1) for load, run in zip(loads, found, strict=True)]
            tiers.append(
                [
                    name,
                    tier,
                    f"{np.mean(answers):.1f}",
                    f"{100 * np.mean([load.utilisation for load in loads]):.1f}",
                    f"{np.mean([load.queue_mean for load in loads]):.2f}",
                    f"{max(load.queue_max for load in loads)}",
                    f"{np.mean([load.wait_p95_s for load in loads]):.2f}",
                ]
            )
    return f"{head}\n\n{columns(policies)}\n\n{columns(tiers)}"


def _spread(values: Sequence[float], digits: int) -> str:
    low, high = min(values), max(values)
    mean = f"{np.mean(values):.{digits}f}"
    return mean if low == high else f"{mean} ({low:.{digits}f} to {high:.{digits}f})"
