"""Turns of a dataset, interactive and in passes, as a page and as rates of `serve-graph batch plan`."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from benchmarks.batches.timed_passes import TimedPass


@dataclass(frozen=True)
class Asked:
    """The rows asked of a running graph: the run's summary, and processor seconds of engines and of all processes."""

    summary: dict[str, Any]
    engines_cpu_s: float
    all_cpu_s: float


@dataclass
class Turn:
    """One turn: the graph's start in seconds, its runs by callers, and the run in passes."""

    up_s: float
    by_callers: dict[int, Asked]
    summary: dict[str, Any] = field(default_factory=dict)
    passes: list[TimedPass] = field(default_factory=list)
    used: list[tuple[float, float]] = field(default_factory=list)
    """Processor seconds of engines and of all, for each pass at a tier."""

    @property
    def best(self) -> int:
        return max(self.by_callers, key=lambda callers: rate(self.by_callers[callers].summary))

    @property
    def steady(self) -> float:
        """Rows a second in passes without the engines' starts and routing, which has workers of its own to start."""
        working = sum(one.working_s for one in self.passes if one.name != "routing")
        return float(self.summary["asked"] / working)


def rate(summary: dict[str, Any]) -> float:
    return float(summary["asked"] / summary["seconds"])


def per_thousand(summary: dict[str, Any]) -> Decimal:
    return Decimal(summary["total_usd"]) / max(1, summary["answered"]) * 1000


def turns_page(args: Any, turns: list[Turn]) -> str:
    """The figures as Markdown."""
    best = turns[0].best
    seqs = "" if args.max_num_seqs is None else f" --max-num-seqs {args.max_num_seqs}"
    lines = [
        f"`python -m benchmarks.batches --config {args.config} --rows {args.rows} --max-tokens {args.max_tokens} "
        f"--callers {','.join(map(str, args.callers))} --turns {args.turns}{seqs}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()}-core {platform.machine()}.",
        "",
        "| turn | way | rows/s | with starts | failed | US dollars per 1,000 rows | processor s of engines | of all |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for n, turn in enumerate(turns, 1):
        lines += [
            f"| {n} | interactive, {callers} callers | {rate(one.summary):.3f} "
            f"| {one.summary['asked'] / (one.summary['seconds'] + turn.up_s):.3f} | {one.summary['failed']} "
            f"| {per_thousand(one.summary):.6f} | {one.engines_cpu_s:.0f} | {one.all_cpu_s:.0f} |"
            for callers, one in turn.by_callers.items()
        ]
        engines, every = (sum(one[i] for one in turn.used) for i in (0, 1))
        lines.append(
            f"| {n} | in passes | {turn.steady:.3f} | {rate(turn.summary):.3f} | {turn.summary['failed']} "
            f"| {per_thousand(turn.summary):.6f} | {engines:.0f} | {every:.0f} |"
        )
    asked = [turn.by_callers[best] for turn in turns]
    ratios = [turn.steady / rate(one.summary) for turn, one in zip(turns, asked, strict=True)]
    whole = [
        rate(turn.summary) * (one.summary["seconds"] + turn.up_s) / one.summary["asked"]
        for turn, one in zip(turns, asked, strict=True)
    ]
    cheaper = [
        one.all_cpu_s / max(1e-9, sum(used for _, used in turn.used)) for turn, one in zip(turns, asked, strict=True)
    ]
    said = (", ".join(f"{one:.2f}" for one in each) for each in (ratios, whole, cheaper))
    lines += [
        "",
        "In passes beside {} callers, turn by turn, times the rows a second: {} without the engines' starts, {} with "
        "those of either way; times the rows a processor second: {}.".format(best, *said),
        "",
    ]
    for n, turn in enumerate(turns, 1):
        lines += [
            f"- turn {n}, {one.name}: {one.rows} rows, {one.start_s:.1f} s until the engine was ready, then "
            f"{one.working_s:.1f} s"
            for one in turn.passes
        ]
        lines.append(f"- turn {n}, the graph: {turn.up_s:.1f} s until it answered")
    return "\n".join(lines) + "\n"


def write_rates(path: Path, folder: Path, timed: list[TimedPass], summary: dict[str, Any], tiers: Any) -> None:
    """What `batch plan` reads: each tier's tokens a second by its answers here, reading and writing not told apart."""
    rows = [json.loads(line) for line in (folder / "passes.jsonl").read_text().splitlines()]
    outcomes = {name: one["count"] for name, one in summary["outcomes"].items()}
    tried = outcomes.get("accepted", 0) + outcomes.get("escalated", 0) + outcomes.get("abstained", 0)
    data: dict[str, Any] = {
        "source": f"measured by benchmarks.batches, {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, no GPU",
        "tried": tried / max(1, len(rows)),
        "accepted": (tried - outcomes.get("escalated", 0)) / max(1, tried),
    }
    for name, tier in zip(("cheap", "last"), (tiers[0], tiers[-1]), strict=True):
        one = next((found for found in timed if found.name == tier), None)
        own = [row for row in rows if row["serve_graph_tier"] == tier]
        if one is None or not own:
            continue
        prompt = sum(row["serve_graph_prompt_tokens"] for row in own) / len(own)
        made = sum(row["serve_graph_completion_tokens"] for row in own) / len(own)
        data[name] = {
            "prompt_tokens": prompt, "completion_tokens": made, "load_s": one.start_s,
            "prompt_tokens_per_s": 2 * one.steady * prompt, "completion_tokens_per_s": 2 * one.steady * made,
        }  # fmt: skip
    routed = next((found for found in timed if found.name == "routing"), None)
    data["decided_per_s"] = routed.steady if routed is not None else 100.0
    path.write_text(yaml.safe_dump(data, sort_keys=False))
