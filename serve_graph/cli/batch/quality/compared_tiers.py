"""A sample of rows asked of every tier alone: what always-cheap and always-frontier would cost, take and miss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from router_models.errors import by_number
from serve_graph.cli.batch.answering import Answering, RunProgress
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.forecast import mean_forecast
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.quality.foretold import batches_in_a_row, foretold_time, time_text
from serve_graph.cli.batch.quality.misses import measured_misses, misses_line
from serve_graph.cli.batch.rows import keyed_results, rows_to_ask, sampled_answers

if TYPE_CHECKING:
    from serve_graph.cli.batch.running import BatchOptions

MakeAnswering = Callable[["BatchOptions"], Answering]
"""Makes what answers rows under options."""


def tiers_asked(
    dataset: Dataset,
    options: BatchOptions,
    chosen: frozenset[int],
    rows: int,
    tiers: tuple[str, ...],
    make: MakeAnswering,
    progress: Callable[[str], None],
    left_usd: Decimal | None,
) -> dict[str, dict[str, Any]]:
    """Ask the chosen rows of each tier by its name, each once (`OUT.TIER.journal`), and say what all `rows` would be.

    `left_usd`: what of a budget is left for that.
    """
    told: dict[str, dict[str, Any]] = {}
    for tier in tiers:
        alone = replace(options, model=tier, out=options.out.with_name(f"{options.out.name}.{tier}"), records=False,
                        retry_failed=False, other_versions=False)  # fmt: skip
        progress(f"the sample at {tier} alone")
        answering, journal = make(alone), Journal(alone.out.with_name(f"{alone.out.name}.journal"))
        try:
            began, before = time.monotonic(), answering.spent(journal)
            asked = rows_to_ask(dataset, alone, journal, None, chosen)
            shown = RunProgress(journal.totals(), len(chosen), progress)
            done = answering.ask(asked, journal, None if left_usd is None else left_usd + before, shown)
            seconds, spent = time.monotonic() - began, done.spent - before
            sample = list(sampled_answers(dataset, alone, journal, chosen))
            results = (row for _, row in keyed_results(dataset, alone, journal, False))
            sent = answering.provider_batches if answering.pace == "mixed" else {"": {}}
            waits = batches_in_a_row(sent, rows, options.concurrency)
            took = [float(one["seconds"]) for one in sample if one.get("seconds") is not None]
            costs = [float(one["cost_usd"]) for one in sample if one.get("cost_usd") is not None]
            told[tier] = {
                **(mean_forecast(costs, rows) or {"usd": None, "low": None, "high": None, "of": len(costs)}),
                "measured": measured_misses(results, rows),
                "time": foretold_time(answering.pace, done, seconds, rows, took, waits),
                "spent_usd": str(spent),
                "stopped": done.stopped,
            }
        finally:
            journal.close()
        left_usd = None if left_usd is None else left_usd - spent
    return told


def compared_lines(told: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The same as lines of text."""
    for tier, found in told.items():
        if found["usd"] is None:
            why = found["stopped"] or "rows failed"
            yield f"all rows at {tier} alone: not known from {found['of']} {by_number(found['of'], 'answer')} ({why})"
            continue
        usd = f"${found['usd']:.6f} ({found['low']:.6f} to {found['high']:.6f}, 95 %, from {found['of']:,} "
        usd += f"{by_number(found['of'], 'row')} asked)"
        yield f"all rows at {tier} alone: {usd}"
        if found["measured"] is not None:
            yield f"  {misses_line(found['measured'])}"
        if found["time"] is not None:
            yield f"  {time_text(found['time'])}"
