"""Simulate what was worked out: the busiest part of a day, with the replicas that the needs allow."""

from __future__ import annotations

from router_models.planning.simulation.load import Overhead
from router_models.planning.simulation.replicas.run import ReplicaRun, simulate_replicas
from router_models.planning.simulation.replicas.traffic import DAY_S, draw_requests
from router_models.planning.simulation.sizing.inputs import SizingFile
from router_models.planning.simulation.sizing.needs import Drawn, Needs, simulated_tiers


def simulate_busiest(given: SizingFile, drawn: Drawn, needs: Needs, requests: int, seed: int = 0) -> ReplicaRun:
    """Send so many requests, or a day's where these are fewer, around the busiest time of a day.

    Replicas are decided on every second; where requests come more rarely, as often as these, every 10 s at least.

    Parameters
    ----------
    given, drawn, needs : SizingFile, Drawn, Needs
        See `needs_of`.
    requests : int
        The most requests.
    seed : int
        Another seed draws other arrivals.

    Returns
    -------
    ReplicaRun
    """
    n = max(1, min(requests, round(needs.per_day)))
    noon_per_s = needs.mean_per_s * (1 + given.traffic.daily_swing)
    from_s = max(0.0, DAY_S / 2 - n / noon_per_s / 2) if n < needs.per_day else 0.0
    begin_per_s = noon_per_s if from_s else needs.mean_per_s * (1 - given.traffic.daily_swing)
    overhead = Overhead(given.gateway.router_cpu_ms / 1000, given.gateway.verifier_cpu_ms / 1000)
    return simulate_replicas(
        simulated_tiers(given, drawn, needs, begin_per_s),
        drawn.itineraries,
        draw_requests(given.traffic.at(needs.per_day, from_s), n, len(drawn.itineraries), seed),
        overhead,
        every_s=min(10.0, max(1.0, 1 / needs.mean_per_s)),
    )
