"""A run over a dataset: which rows are asked, what they cost, and what is written and told at the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from serve_graph.cli.batch.answering import Answering, RunningGraph, RunProgress
from serve_graph.cli.batch.asking import RowAsk
from serve_graph.cli.batch.dataset import (
    Dataset,
    Row,
    audit_of,
    failed_rows_of,
    json_line,
    row_key,
    write_results,
)
from serve_graph.cli.batch.forecast import MOST_TOKENS_KEPT, always_one_tier, mean_forecast, share_of
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.misses import check_grader, measured_misses, misses_line
from serve_graph.cli.batch.providers.run import ProviderBatches, run_prices
from serve_graph.cli.batch.row_records import RECORD_COLUMNS, record_sums, write_audit
from serve_graph.errors import ServeGraphError

RESULT_COLUMNS = ("status", "tier", "outcome", "version", "cost_usd", "decision", "finish_reason", "error")
TOKEN_COLUMNS = ("prompt_tokens", "completion_tokens")


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
    dataset: Dataset, options: BatchOptions, progress: Callable[[str], None], answering: Answering | None = None
) -> dict[str, Any]:
    """Have the rows answered that are to be asked, write the result, and return the summary.

    `answering`: by whom; None: by the running graph at `options.url`.

    Raises ServeGraphError where no graph answers, a row cannot be read or asks nothing, or another run has begun.
    """
    if answering is None and options.provider_batches:
        answering = ProviderBatches(options, progress)
    if answering is None:
        answering = RunningGraph(
            options.url, options.settings, options.concurrency, options.background, options.records, options.timeout_s
        )
    version, tells = answering.version, options.records or answering.tells_all
    rows = 0
    for row in dataset.rows():  # every row is looked at before the first is paid for
        dataset.messages(row)
        _check_names(row)
        check_grader(row)
        rows += 1
    if rows == 0:
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
        done = answering.ask(_to_ask(dataset, options, journal, version, chosen), journal, budget, shown)
        seconds = time.monotonic() - began
        written = (
            0
            if options.dry_run is not None
            else write_results(options.out, _results(dataset, options, journal, tells))
        )
        audited = 0
        if options.audit is not None:
            results = _results(dataset, options, journal, tells)
            audited = write_audit(audit_of(options.out), results, dataset.prompt, options.audit, options.seed)
        summary = _summary(dataset, options, journal, rows) | {
            "asked": done.asked,
            "seconds": round(seconds, 3),
            "spent_usd": str(done.spent - before),
            "stopped": done.stopped,
            "written": written,
            "audited": audited,
            "records": record_sums(journal) if tells else None,
            "provider_batches": answering.provider_batches,
            "measured": measured_misses(_results(dataset, options, journal, tells), rows),
            "version": version,
            "promise": answering.promise,
            "certificate": answering.certificate,
        }
        return summary | _forecast(journal, options, summary)
    finally:
        journal.close()


def _to_ask(
    dataset: Dataset, options: BatchOptions, journal: Journal, version: str | None, chosen: frozenset[int] | None
) -> Iterator[RowAsk]:
    """The rows that are to be asked now, with their keys."""
    system = [] if options.system is None else [{"role": "system", "content": options.system}]
    for number, row in enumerate(dataset.rows()):
        if chosen is not None and number not in chosen:
            continue
        key = _key(dataset, options, row)
        found = journal.find(key)
        is_asked = found is None and not options.retry_failed
        if found is not None:
            is_asked = options.retry_failed and not found["ok"]
            is_asked |= options.other_versions and found["ok"] and found["version"] != version
        if is_asked:
            yield key, [*system, *dataset.messages(row)]


def _key(dataset: Dataset, options: BatchOptions, row: Row) -> str:
    """What a row is known by; which of its columns is asked makes another question of it."""
    return row_key(row, options.known_by | {"column": None if row.get("messages") else dataset.prompt})


def _check_names(row: Row) -> None:
    if "answer" in row or any(name.startswith("serve_graph_") for name in row):
        raise ServeGraphError("a row has a column `answer` or `serve_graph_…`, which the result has: rename it")


def _results(dataset: Dataset, options: BatchOptions, journal: Journal, tells: bool) -> Iterator[Row]:
    for row in dataset.rows():
        found = journal.find(_key(dataset, options, row)) or {}
        texts = {f"serve_graph_{name}": _text(found.get(name)) for name in RESULT_COLUMNS}
        counts = {f"serve_graph_{name}": int(found.get(name) or 0) for name in TOKEN_COLUMNS}
        told = {f"serve_graph_{name}": _text(found.get(name)) for name in RECORD_COLUMNS if tells}
        yield {**row, "answer": _text(found.get("answer")), **texts, **counts, **told}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _summary(dataset: Dataset, options: BatchOptions, journal: Journal, rows: int) -> dict[str, Any]:
    """What is known of this dataset's rows; the journal may hold others' of former runs."""
    answered = failed = 0
    failures = failed_rows_of(options.out)
    with failures.open("w", encoding="utf-8") as file:
        for row in dataset.rows():
            found = journal.find(_key(dataset, options, row))
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
        "total_usd": str(totals.usd),
        "tokens": totals.tokens,
        "unmetered": totals.unmetered,
    }


def _forecast(journal: Journal, options: BatchOptions, summary: dict[str, Any]) -> dict[str, Any]:
    """Shares of tiers, outcomes and versions; the cost of what is left, and of all at one tier alone."""
    totals = journal.totals()
    parts = {name: dict(journal.shares(name)) for name in ("tier", "outcome", "version")}
    told: dict[str, Any] = {
        f"{name}s": {value: share_of(count, totals.answered) for value, count in found.items()}
        for name, found in parts.items()
    }
    told["forecast_left"] = mean_forecast(journal.costs(), summary["left"])
    if options.dry_run is not None and summary["asked"]:
        told["seconds_left"] = summary["seconds"] / summary["asked"] * summary["left"]
    if options.config is not None:
        prices = run_prices(options)
        usages = journal.usages(MOST_TOKENS_KEPT)
        told["this_run"] = mean_forecast(journal.costs(), summary["rows"])
        told["always"] = always_one_tier(usages, prices, summary["rows"])
    return told


def batch_summary_lines(summary: dict[str, Any]) -> Iterator[str]:
    """The summary as lines of text."""
    yield (
        f"{summary['rows']:,} rows: {summary['answered']:,} answered, {summary['failed']:,} failed, "
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
    if "seconds_left" in summary and summary["left"]:
        yield f"and {summary['seconds_left']:.0f} s at this pace"
    if "always" in summary:
        yield f"all rows as routed: {_dollars(summary['this_run'])}"
        for tier, found in summary["always"].items():
            yield f"all rows at {tier}, with answers as long as these: {_dollars(found)}"
    for tier, sent in (summary["provider_batches"] or {}).items():
        yield f"{tier}: {sent['batches']:,} batches of its provider, at {sent['price_factor']} of its prices"
    if summary["unmetered"]:
        yield f"{summary['unmetered']:,} answers came without a cost"
    yield f"promise: {summary['promise'] or 'the graph does not tell this key'}; {summary['certificate']}"
    if (read := summary["records"]) is not None:
        parts = {name: share_of(read[name], read["read"]) for name in ("covered", "promised")}
        shown = ", ".join(f"{100 * found['share']:.1f} % {name}" for name, found in parts.items())
        saved = Decimal(read["saved_usd"])
        yield f"of {read['read']:,} answers {shown}; ${saved:.6f} saved beside the last tier alone"
    if summary["measured"] is not None:
        yield misses_line(summary["measured"])
    if summary["audited"]:
        yield f"{summary['audited']:,} answers to look at: give each a value, and post it to /v1/feedback"
    if summary["failures"]:
        yield f"failed rows: {summary['failures']}; --retry-failed asks them again"
    if summary["written"]:
        yield f"{summary['written']:,} rows written"


def _dollars(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not known from so few rows"
    return f"${found['usd']:.6f} ({found['low']:.6f} to {found['high']:.6f}, 95 %, from {found['of']:,} rows)"
