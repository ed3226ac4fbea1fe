"""A run over a dataset: which rows are asked, what they cost, and what is written and told at the end."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from router_models.errors import by_number
from serve_graph.cli.batch.answering import Answering, RunningGraph, RunProgress
from serve_graph.cli.batch.dataset import (
    Dataset,
    Row,
    audit_of,
    failed_rows_of,
    json_line,
    write_results,
)
from serve_graph.cli.batch.forecast import MOST_TOKENS_KEPT, always_one_tier, mean_forecast, share_of
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.providers.run import ProviderBatches, run_prices
from serve_graph.cli.batch.quality.compared_tiers import MakeAnswering, compared_lines, tiers_asked
from serve_graph.cli.batch.quality.foretold import (
    batches_in_a_row,
    foretold_lines,
    foretold_misses,
    foretold_time,
    time_text,
)
from serve_graph.cli.batch.quality.measured_quality import labelled_so_far, quality_lines
from serve_graph.cli.batch.quality.misses import check_grader, measured_misses, misses_line
from serve_graph.cli.batch.quality.sample import write_audit
from serve_graph.cli.batch.row_records import record_lines, record_sums
from serve_graph.cli.batch.rows import check_names, keyed_results, row_key_of, rows_to_ask, sampled_answers
from serve_graph.errors import ServeGraphError


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What `batch run` was asked for."""

    url: str
    out: Path
    model: str = "auto"
    system: str | None = None
    max_tokens: int | None = None
    concurrency: int = 16
    budget_usd: float | None = None
    dry_run: int | None = None
    retry_failed: bool = False
    other_versions: bool = False
    config: Path | None = None
    seed: int = 0
    records: bool = False
    audit: int | None = None
    background: bool = False
    timeout_s: float = 600.0
    response_format: dict[str, Any] | None = None
    provider_batches: bool = False
    poll_s: float = 30.0
    compare: bool = False
    interactive: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """What is asked of all rows alike."""
        more = {"max_tokens": self.max_tokens, "response_format": self.response_format}
        return {"model": self.model, **{name: value for name, value in more.items() if value is not None}}

    @property
    def known_by(self) -> dict[str, Any]:
        """What makes an answer another one, beside the row."""
        return {**self.settings, "system": self.system}


def run_batch(
    dataset: Dataset,
    options: BatchOptions,
    progress: Callable[[str], None],
    answering: Answering | None = None,
    make: MakeAnswering | None = None,
) -> dict[str, Any]:
    """Have the rows answered that are to be asked, write the result, and return the summary.

    `answering`: by whom; None: by what `make` makes, by default of the running graph at `options.url`.

    Raises ServeGraphError where no graph answers, a row cannot be read or asks nothing, or another run has begun.
    """
    make = make or (lambda chosen: _answering(chosen, progress))
    answering = answering or make(options)
    version, tells = answering.version, options.records or answering.tells_all

    def look(row: Row) -> None:
        dataset.messages(row)
        check_names(row)
        check_grader(row)

    dataset = dataset.looked_at(look)  # every row, before the first is paid for
    if (rows := sum(dataset.counts or ())) == 0:
        raise ServeGraphError(f"{', '.join(dataset.files)}: there are no rows")
    if options.other_versions and version is None:
        raise ServeGraphError("--again needs to know the version that serves: show a key to the graph")
    journal = Journal(options.out.with_name(f"{options.out.name}.journal"))
    try:
        chosen = None
        if options.dry_run is not None:
            chosen = frozenset(random.Random(options.seed).sample(range(rows), min(options.dry_run, rows)))
        began, before = time.monotonic(), answering.spent(journal)
        budget = None if options.budget_usd is None else Decimal(str(options.budget_usd))
        shown = RunProgress(journal.totals(), rows, progress)
        done = answering.ask(rows_to_ask(dataset, options, journal, version, chosen), journal, budget, shown)
        seconds = time.monotonic() - began
        written = (
            0
            if options.dry_run is not None
            else write_results(options.out, (row for _, row in keyed_results(dataset, options, journal, tells)))
        )
        audited = 0
        if options.audit is not None:
            drawn_from = keyed_results(dataset, options, journal, tells)
            audited = write_audit(
                audit_of(options.out), drawn_from, dataset.prompt, options.audit, options.seed, options.known_by
            )
        summary = _summary(dataset, options, journal, rows) | {
            "asked": done.asked,
            "seconds": round(seconds, 3),
            "spent_usd": str(done.spent - before),
            "total_usd": str(answering.spent(journal)),
            "stopped": done.stopped,
            "written": written,
            "audited": audited,
            "audit_file": str(audit_of(options.out)) if audited else None,
            "records": record_sums(journal) if tells else None,
            "provider_batches": answering.provider_batches,
            "measured": measured_misses((row for _, row in keyed_results(dataset, options, journal, tells)), rows),
            "version": version,
            "promise": answering.promise,
            "certificate": answering.certificate,
        }
        sample = None if chosen is None else list(sampled_answers(dataset, options, journal, chosen))
        summary |= _forecast(journal, options, summary, sample)
        try:
            summary["audit"] = labelled_so_far(audit_of(options.out), journal)
        except ServeGraphError as error:
            summary["audit"] = None
            progress(f"labels are left out: {error}")
        if sample is not None and chosen is not None:
            took = [float(one["seconds"]) for one in sample if one.get("seconds") is not None]
            tiers = batches_in_a_row(answering.provider_batches, summary["left"], options.concurrency)
            summary["foretold"] = foretold_misses(sample, rows, answering.proof())
            summary["time_left"] = foretold_time(answering.pace, done, seconds, summary["left"], took, tiers)
        if options.compare and chosen is not None and options.config is not None:
            left = None if budget is None else budget - done.spent
            summary["alone"] = tiers_asked(
                dataset, options, chosen, rows, tuple(run_prices(options)), make, progress, left
            )
        return summary
    except OSError as error:
        raise ServeGraphError(
            f"a file cannot be read or written: {error}; what is answered is kept in {journal.path}: run it again"
        ) from error
    except KeyboardInterrupt:
        progress(f"interrupted; what is answered is kept in {journal.path}: run it again")
        raise
    finally:
        journal.close()


def _answering(options: BatchOptions, progress: Callable[[str], None]) -> Answering:
    if options.provider_batches:
        return ProviderBatches(options, progress)
    return RunningGraph(
        options.url, options.settings, options.concurrency, options.background, options.records,
        options.timeout_s, options.config,
    )  # fmt: skip


def _summary(dataset: Dataset, options: BatchOptions, journal: Journal, rows: int) -> dict[str, Any]:
    """What is known of this dataset's rows; the journal may hold others' of former runs."""
    answered = failed = 0
    failures = failed_rows_of(options.out)
    with failures.open("w", encoding="utf-8") as file:
        for row in dataset.rows():
            found = journal.find(row_key_of(dataset, options, row))
            if found is None:
                continue
            answered, failed = answered + found["ok"], failed + (not found["ok"])
            if not found["ok"]:
                told = {"row": row, "status": found.get("status"), "error": found.get("error")}
                file.write(json_line(told))
    if not failed:
        failures.unlink()
    totals = journal.totals()
    return {
        "rows": rows,
        "answered": answered,
        "failed": failed,
        "left": rows - answered - failed,
        "failures": str(failures) if failed else None,
        "tokens": totals.tokens,
        "unmetered": totals.unmetered,
    }


def _forecast(
    journal: Journal, options: BatchOptions, summary: dict[str, Any], sample: list[dict[str, Any]] | None
) -> dict[str, Any]:
    """Shares of tiers, outcomes and versions; the cost of what is left, and of all at one tier alone.

    By a `sample` that was drawn for it where there is one, else by all answers of the journal.
    """
    names, answered = ("tier", "outcome", "version"), journal.totals().answered
    if sample is None:
        parts = {name: dict(journal.shares(name)) for name in names}
    else:
        answered = len(sample)
        parts = {name: dict(Counter(str(one.get(name)) for one in sample).most_common()) for name in names}
    told: dict[str, Any] = {
        f"{name}s": {value: share_of(count, answered) for value, count in found.items()}
        for name, found in parts.items()
    }

    def costs() -> Iterator[float]:
        return journal.costs() if sample is None else _costs_of(sample)

    told["forecast_left"] = mean_forecast(costs(), summary["left"])
    if options.dry_run is not None and summary["asked"]:
        told["seconds_left"] = summary["seconds"] / summary["asked"] * summary["left"]
    if options.config is not None:
        prices = run_prices(options)
        usages = journal.usages(MOST_TOKENS_KEPT) if sample is None else [_usage_of(one) for one in sample]
        told["this_run"] = mean_forecast(costs(), summary["rows"])
        told["always"] = always_one_tier(usages, prices, summary["rows"])
    return told


def _costs_of(sample: list[dict[str, Any]]) -> Iterator[float]:
    return (float(one["cost_usd"]) for one in sample if one.get("cost_usd") is not None)


def _usage_of(one: dict[str, Any]) -> tuple[int, int]:
    return int(one["prompt_tokens"]), int(one["completion_tokens"])


def batch_summary_lines(summary: dict[str, Any]) -> Iterator[str]:
    """The summary as lines of text."""
    rows = by_number(summary["rows"], "row")
    yield (
        f"{summary['rows']:,} {rows}: {summary['answered']:,} answered, {summary['failed']:,} failed, "
        f"{summary['left']:,} left; {summary['asked']:,} asked now in {summary['seconds']:.1f} s "
        f"for ${Decimal(summary['spent_usd']):.6f}"
    )
    if summary["stopped"]:
        yield f"stopped: {summary['stopped']}"
    for name in ("tiers", "outcomes", "versions"):
        shares = ", ".join(
            f"{value} {100 * s['share']:.1f} % ({100 * s['low']:.1f} to {100 * s['high']:.1f})"
            for value, s in summary[name].items()
        )
        yield f"{name}: {shares or 'none yet'}"
    if summary["left"] and summary["forecast_left"] is not None:
        yield f"the rows that are left: {_dollars(summary['forecast_left'])}"
    if summary.get("time_left") is not None and summary["left"]:
        yield time_text(summary["time_left"])
    if "always" in summary:
        yield f"all rows as routed: {_dollars(summary['this_run'])}"
        for tier, found in summary["always"].items():
            yield f"all rows at {tier}, with answers as long as these: {_dollars(found)}"
    if "alone" in summary:
        yield from compared_lines(summary["alone"])
    if summary.get("foretold") is not None:
        yield from foretold_lines(summary["foretold"])
    for tier, sent in (summary["provider_batches"] or {}).items():
        batches = f"{sent['batches']:,} {by_number(sent['batches'], 'batch', 'batches')} of its provider"
        yield f"{tier}: {batches}, at {sent['price_factor']} of its prices"
    if summary["unmetered"]:
        yield f"{summary['unmetered']:,} {by_number(summary['unmetered'], 'answer')} came without a cost"
    yield f"promise: {summary['promise'] or 'the graph does not tell this key'}; {summary['certificate']}"
    if (read := summary["records"]) is not None:
        yield from record_lines(read)
    if summary["measured"] is not None:
        yield misses_line(summary["measured"])
    if summary["audit"] is not None:
        yield from quality_lines(summary["audit"])
    if n := summary["audited"]:
        yield f"{n:,} {by_number(n, 'answer')} to look at: serve-graph label {summary['audit_file']}"
    if summary["failures"]:
        yield f"failed rows: {summary['failures']}; --retry-failed asks them again"
    if summary["written"]:
        yield f"{summary['written']:,} {by_number(summary['written'], 'row')} written"


def _dollars(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not known from so few rows"
    of = f"{found['of']:,} {by_number(found['of'], 'row')}"
    return f"${found['usd']:.6f} ({found['low']:.6f} to {found['high']:.6f}, 95 %, from {of})"
