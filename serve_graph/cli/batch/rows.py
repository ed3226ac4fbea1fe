"""A dataset's rows beside what the journal knows of them: which are to be asked, and what is written of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from serve_graph.cli.batch.asking import RowAsk
from serve_graph.cli.batch.dataset import Dataset, Row, row_key
from serve_graph.cli.batch.journal import Journal
from serve_graph.cli.batch.row_records import RECORD_COLUMNS
from serve_graph.errors import ServeGraphError

if TYPE_CHECKING:
    from serve_graph.cli.batch.running import BatchOptions

RESULT_COLUMNS = ("status", "tier", "outcome", "version", "cost_usd", "decision", "finish_reason", "error")
TOKEN_COLUMNS = ("prompt_tokens", "completion_tokens")


def rows_to_ask(
    dataset: Dataset, options: BatchOptions, journal: Journal, version: str | None, chosen: frozenset[int] | None
) -> Iterator[RowAsk]:
    """The rows that are to be asked now, with their keys."""
    system = [] if options.system is None else [{"role": "system", "content": options.system}]
    for number, row in enumerate(dataset.rows()):
        if chosen is not None and number not in chosen:
            continue
        key = row_key_of(dataset, options, row)
        found = journal.find(key)
        is_asked = found is None and not options.retry_failed
        if found is not None:
            is_asked = options.retry_failed and not found["ok"]
            is_asked |= options.other_versions and found["ok"] and found["version"] != version
        if is_asked:
            yield key, [*system, *dataset.messages(row)]


def row_key_of(dataset: Dataset, options: BatchOptions, row: Row) -> str:
    """What a row is known by; which of its columns is asked makes another question of it."""
    return row_key(row, options.known_by | {"column": None if row.get("messages") else dataset.prompt})


def check_names(row: Row) -> None:
    """Raise ServeGraphError where a row has a column that the result has."""
    if "answer" in row or any(name.startswith("serve_graph_") for name in row):
        raise ServeGraphError("a row has a column `answer` or `serve_graph_…`, which the result has: rename it")


def keyed_results(dataset: Dataset, options: BatchOptions, journal: Journal, tells: bool) -> Iterator[tuple[str, Row]]:
    """The rows of the result with their keys; `tells`: with what their decision records say."""
    for row in dataset.rows():
        key = row_key_of(dataset, options, row)
        found = journal.find(key) or {}
        texts = {f"serve_graph_{name}": _text(found.get(name)) for name in RESULT_COLUMNS}
        counts = {f"serve_graph_{name}": int(found.get(name) or 0) for name in TOKEN_COLUMNS}
        told = {f"serve_graph_{name}": _text(found.get(name)) for name in RECORD_COLUMNS if tells}
        yield key, {**row, "answer": _text(found.get("answer")), **texts, **counts, **told}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def sampled_answers(
    dataset: Dataset, options: BatchOptions, journal: Journal, chosen: frozenset[int]
) -> Iterator[dict[str, Any]]:
    """What the journal has of the answered ones of chosen rows, by their numbers."""
    for number, row in enumerate(dataset.rows()):
        if number in chosen:
            found = journal.find(row_key_of(dataset, options, row))
            if found is not None and found["ok"]:
                yield found
