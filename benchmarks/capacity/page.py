"""The page of `benchmarks.capacity`: what was said beside what happened, and its picture."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.scaling import ANSWER_S, LATE_S, PATTERNS, START_S, TARGETS, arrivals
from router_models.planning.simulation.itineraries import Itinerary, Step
from router_models.planning.simulation.replicas.run import ReplicaRun, simulate_replicas
from router_models.planning.simulation.replicas.scaling import ReplicaScaling
from router_models.planning.simulation.replicas.tier_queue import ReplicaTier
from router_models.types import Action

KEPT = Itinerary((Step(("cheap",)),), "cheap", Action.ACCEPTED)
SENT_ON = Itinerary((Step(("cheap",)), Step(("frontier",))), "frontier", Action.ESCALATED)
SHARES = (0.5, 0.95, 0.99)


def run_of(tiers: Mapping[str, ReplicaTier], times: Sequence[float], sent_on: Sequence[bool]) -> ReplicaRun:
    """Requests at their times, each with a prompt of its own."""
    ways = [SENT_ON if one else KEPT for one in sent_on]
    return simulate_replicas(tiers, ways, [(np.array(times), np.arange(len(times)))], every_s=0.1)


def simulated(part: Mapping[str, Any], draw: int | None = None) -> ReplicaRun:
    """`replicas` with the arrivals that there were; or drawn anew at their rate, as a forecast has to."""
    asked = part["requests"]
    times = [one["sent_s"] for one in asked]
    sent_on = [one["sent_on"] for one in asked]
    if draw is not None:
        rng = np.random.default_rng(draw)
        times = np.sort(rng.uniform(0, times[-1], rng.poisson(len(asked)))).tolist()
        picked = rng.integers(0, len(asked), len(times))
        asked, sent_on = [asked[i] for i in picked], [sent_on[i] for i in picked]
    tiers = {
        name: ReplicaTier(np.array([one[f"{name}_s"] for one in asked]), part["places"], part["replicas"])
        for name in ("cheap", "frontier")
    }
    return run_of(tiers, times, sent_on)


def scaling_simulated(start_s: float) -> dict[tuple[str, str], tuple[float, float, float]]:
    """The patterns of `benchmarks.scaling`, its very arrivals: late, p95 and replica-seconds by pattern and rule."""
    rng, found = Random(11), {}
    arrivals(lambda _: 2.0, 30.0, rng)
    for pattern, rate in PATTERNS.items():
        asked = arrivals(rate, 75.0, rng)
        for rule, target in TARGETS.items():
            scaling = ReplicaScaling(1, 8, target, start_s, 1.0, 15.0, 10.1, anticipate=rule == "anticipating")
            tier = ReplicaTier(np.full(len(asked), ANSWER_S), 4, 1, scaling)
            seen = run_of({"cheap": tier, "frontier": tier}, [due for due, _ in asked], [on for _, on in asked])
            used = sum(area(one.replicas, 75.0) for one in seen.tiers.values())
            found[pattern, rule] = (seen.latencies.share_above(LATE_S), seen.latencies.quantile(0.95), used)
    return found


def area(steps: Sequence[tuple[float, int]], until_s: float) -> float:
    """Replica-seconds up to a moment."""
    ends = [*(at for at, _ in steps[1:]), math.inf]
    return sum(n * max(0.0, min(end, until_s) - at) for (at, n), end in zip(steps, ends, strict=True))


def scaling_measured(page: Path) -> dict[tuple[str, str], tuple[float, float, float]]:
    """The same figures as they were measured, from their page."""
    row = re.compile(r"\| ([\w ]+) \| (plain|anticipating) \| [\d.]+ \| \d+ \| ([\d.]+)% \| ([\d.]+) \| (\d+) \|")
    return {
        (pattern, rule): (float(late) / 100, float(p95), float(used))
        for pattern, rule, late, p95, used in row.findall(page.read_text())
    }


def drawn(found: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw how many requests took longer than each number of seconds, measured and simulated; and the tiers' loads."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = 1 + ("version" in found)
    figure, axes = plt.subplots(
        1, panels, figsize=(4 + 3 * panels, 3.6), layout="constrained", width_ratios=(2, 1)[:panels], squeeze=False
    )
    left, right = axes[0][0], axes[0][-1]
    part = found["replicas"]
    shares = np.linspace(0.005, 0.995, 199)
    live = np.quantile([one["took_s"] for one in part["requests"]], shares)
    runs = [simulated(part, draw) for draw in range(20)]
    spread = np.array([[run.latencies.quantile(share) for share in shares] for run in runs])
    same = simulated(part).latencies
    left.fill_betweenx(shares, spread.min(axis=0), spread.max(axis=0), alpha=0.2, label="simulated, 20 other draws")
    left.plot(live, shares, label="measured")
    left.plot([same.quantile(share) for share in shares], shares, "--", label="simulated, the same arrivals")
    left.set_xlabel("seconds a request took")
    left.set_ylabel("share of requests that took no longer")
    left.legend(loc="lower right", fontsize=8)
    if "version" in found:
        _draw_loads(found["version"], right)
    figure.savefig(path, dpi=110)


def _draw_loads(part: Mapping[str, Any], right: Any) -> None:
    tiers, at = list(part["live"]), np.arange(2)
    said = [part["said"][tier] for tier in tiers]
    ends = [[one["value"] - one["low"] for one in said], [one["high"] - one["value"] for one in said]]
    right.bar(at - 0.2, [one["value"] for one in said], 0.4, yerr=ends, capsize=4, label="plan --capacity")
    right.bar(at + 0.2, [part["live"][tier]["at_once"] for tier in tiers], 0.4, label="measured")
    right.set_xticks(at, tiers)
    right.set_ylabel("requests at once, on average")
    right.legend(fontsize=8)


def page_of(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The page, with the parts that there are."""
    text = [HEAD]
    if "replicas" in found:
        text.append(_replicas(found["replicas"]))
    if "version" in found:
        text.append(_version(found["version"]))
    text.insert(1, "![Latencies measured and simulated; what tiers have at once](capacity.png)\n")
    measured = Path(__file__).parents[2] / "docs/results/serving/scaling.md"
    text.append(_scaling(scaling_measured(measured)))
    return "\n".join(text)


HEAD = """# Said before, and what then happened

`python -m benchmarks.capacity --folder DIR --out docs/results/serving/capacity.md`. Echo engines that take a second or
two an answer; callers and graph share the processors.
"""


def _replicas(part: Mapping[str, Any]) -> str:
    live = np.array([one["took_s"] for one in part["requests"]])
    same = simulated(part).latencies
    others = [simulated(part, draw).latencies for draw in range(20)]
    rows = []
    for share in SHARES:
        figure, told = float(np.quantile(live, share)), same.quantile(share)
        drawn_s = sorted(other.quantile(share) for other in others)
        rows.append(
            f"| p{share * 100:g} | {figure:.2f} | {told:.2f} | {told / figure - 1:+.1%} "
            f"| {np.mean(drawn_s):.2f} ({drawn_s[0]:.2f}-{drawn_s[-1]:.2f}) |"
        )
    rows.append(f"| mean | {live.mean():.2f} | {same.mean_s:.2f} | {same.mean_s / live.mean() - 1:+.1%} | |")
    span = part["requests"][-1]["sent_s"]
    loads = []
    for tier in ("cheap", "frontier"):
        calls = [one[f"{tier}_s"] for one in part["requests"] if tier == "cheap" or one["sent_on"]]
        loads.append(f"{tier} {sum(calls) / span / part['replicas'] / part['places']:.0%}")
    return (
        f"""## The simulator: latency
{part["day"]}, {part["machine"]}. {len(live)} requests in {span:.0f} s to {part["replicas"]} replicas of
{part["places"]} places a tier, two in five escalated, answers of 1 and 2 s on average, log-normal; places taken:
{", ".join(loads)}. *Same*: the simulator with the same arrivals and service times, and nothing for what a request
costs beside its engines. *Drawn*: the rate alone is known, mean and range of 20 draws: what a forecast can say of two
minutes.

| seconds | measured | same | difference | drawn |
|---|---|---|---|---|
"""
        + "\n".join(rows)
        + "\n"
    )


def _version(part: Mapping[str, Any]) -> str:
    rows = []
    for tier, live in part["live"].items():
        said = part["said"][tier]
        rows.append(
            f"| {tier} | {said['calls']:.3f} | {live['calls']:.3f} "
            f"| {said['value']:.2f} ({said['low']:.2f}-{said['high']:.2f}) "
            f"| {live['at_once']:.2f} | {said['value'] / live['at_once'] - 1:+.1%} |"
        )
    rate = part["requests"] / part["span_s"]
    return (
        f"""## `plan --capacity --version`: what each tier has at once
{part["day"]}, {part["machine"]}. A certified version (linear router, combined verifier); the plan was made from
{part["held"]:,} recorded prompts that the version was not made of, before the graph was asked
{part["requests"]:,} others at {rate:.2f} requests a second. Measured: seconds of all calls by their records, by the
time that they span.

| tier | calls a request, said | measured | at once, said (95 %) | measured | difference |
|---|---|---|---|---|---|
"""
        + "\n".join(rows)
        + "\n"
    )


def _scaling(measured: Mapping[tuple[str, str], tuple[float, float, float]]) -> str:
    runs = {start: scaling_simulated(start) for start in (START_S, 2 * START_S)}
    rows = []
    for (pattern, rule), live in measured.items():
        cells = [live, *(run[pattern, rule] for run in runs.values())]
        rows.append(
            f"| {pattern} | {rule} | "
            + " | ".join(f"{late:.0%}, {p95:.1f}, {used:.0f}" for late, p95, used in cells)
            + " |"
        )
    return (
        f"""## The simulator: replicas that scale
The arrivals of [scaling](scaling.md) once more, simulated: late, p95 in seconds, replica-seconds of both tiers. A
replica was set to start in {START_S:g} s; on two busy cores it took some eight more, so that both are simulated.

| pattern | rule | measured | start {START_S:g} s | start {2 * START_S:g} s |
|---|---|---|---|---|
"""
        + "\n".join(rows)
        + "\n"
    )
