"""`serve-graph capacity`: what numbers of requests a day need, and what the simulator says of it."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve_graph.cli.offline.plan import machine_name
from serve_graph.cli.output import JsonOption, check_out, progress_to_stderr, say, say_json

if TYPE_CHECKING:
    from router_models.planning.simulation.replicas.run import ReplicaRun
    from router_models.planning.simulation.sizing.inputs import SizingFile
    from router_models.planning.simulation.sizing.needs import Needs


def capacity(
    file: Annotated[Path, typer.Argument(help="Traffic, tiers and measured costs (YAML); see the docs.")],
    simulate: Annotated[
        int, typer.Option(help="Also simulate so many requests of each day's busiest time; 0: none.", min=0)
    ] = 100_000,
    seed: Annotated[int, typer.Option(help="Seeds prompts and arrivals.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="The graph: its policy.share, if it has one, says who answers."),
    ] = None,
    machine: Annotated[str | None, typer.Option(help="Name of this machine in the page's header.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the page to; default: print it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Work out what numbers of requests a day need: replicas of each tier, gateway, router, decision store, dollars.

    From one file: how requests come, how fast the tiers are, and what was measured of everything beside them.

    Under policy.share of --config the last tier answers that share, the cheapest tier all others, unjudged, whatever
    `first`, `sent_on` and `judged` the file has.

    --simulate 10000000 sends ten million requests through replicas that scale, in bursts, some 400,000 a second.

    Example: serve-graph capacity sizing.yaml --simulate 1000000
    """
    import time

    from router_models.planning.simulation.sizing.inputs import read_sizing
    from router_models.planning.simulation.sizing.needs import draw_prompts, needs_of
    from router_models.planning.simulation.sizing.page import amount, sizing_page
    from router_models.planning.simulation.sizing.simulated import simulate_busiest

    check_out(out)
    progress = progress_to_stderr()
    given = _under_share(read_sizing(file), config)
    drawn = draw_prompts(given, seed)
    found: list[tuple[Needs, ReplicaRun | None]] = []
    pace, simulated = "", 0
    began = time.process_time()
    for per_day in given.requests_per_day:
        needs, run = needs_of(given, drawn, per_day), None
        if simulate:
            run = simulate_busiest(given, drawn, needs, simulate, seed)
            simulated += run.requests
            rate = simulated / (time.process_time() - began)
            pace = f" {simulated:,} requests simulated, {rate:,.0f} a processor second."
            progress(f"{amount(per_day)} a day:{pace}")
        found.append((needs, run))
    if as_json:
        say_json([_json(needs, run) for needs, run in found])
    command = shlex.join(["serve-graph", *sys.argv[1:]])
    head = f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {machine or machine_name()}.{pace}"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(sizing_page(given, found, head))
        progress(f"written to {out}")
    elif not as_json:
        say(sizing_page(given, found, head))


def _under_share(given: SizingFile, config: Path | None) -> SizingFile:
    """The same traffic as a configuration's `policy.share` divides it; raises ServeGraphError for other tiers."""
    from serve_graph.config.graph import load_config
    from serve_graph.errors import ServeGraphError

    if config is None:
        return given
    graph, named = load_config(config), tuple(tier.name for tier in given.tiers)
    if graph.tier_names != named:
        raise ServeGraphError(f"--config {config} has the tiers {', '.join(graph.tier_names)}, not {', '.join(named)}")
    if (share := graph.policy.share) is None:
        return given
    cheapest, last = named[0], named[-1]
    firsts = {cheapest: 1 - share, last: share} if cheapest != last else {last: 1.0}
    tiers = [
        tier.model_copy(update={"first": firsts.get(tier.name, 0.0), "sent_on": 0.0, "judged": False})
        for tier in given.tiers
    ]
    return given.model_copy(update={"tiers": tiers})


def _json(needs: Needs, run: ReplicaRun | None) -> dict[str, Any]:
    from router_models.data.json_values import to_json_values

    found: dict[str, Any] = to_json_values(needs)
    if run is None:
        return {**found, "simulated": None}
    latency = {f"p{share * 100:g}": run.latencies.quantile(share) for share in (0.5, 0.95, 0.99)}
    tiers = {
        name: {
            "calls": tier.calls,
            "refused": tier.refused,
            "replica_s": tier.replica_s,
            "most_replicas": tier.most_replicas,
            "wait_p95_s": tier.waits.quantile(0.95),
        }
        for name, tier in run.tiers.items()
    }
    seen = {"requests": run.requests, "served": run.served, "duration_s": run.duration_s, "latency_s": latency}
    return {**found, "simulated": to_json_values({**seen, "tiers": tiers})}
