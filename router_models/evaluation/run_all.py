"""Run `serve-graph evaluate --all`: one table of router families for every file of outcomes in a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from router_models.data.json_values import to_json_values
from router_models.data.outcomes import OutcomeTable, read_outcomes
from router_models.errors import DataError
from router_models.evaluation.cross_validation import Protocol, costs_of, cross_validate_routers
from router_models.evaluation.figures import Evaluation, MethodFigures
from router_models.evaluation.held_out import folds_of, held_out_scores, routing_targets
from router_models.evaluation.run import Destination, with_sentences
from router_models.evaluation.slow import Slow, evaluate_slow
from router_models.metrics import Interval, RoutingSums, bootstrap
from router_models.reports.markdown import spread
from router_models.reports.markdown import table as markdown_table
from router_models.training.labelling.label_budget import note_choice, prompt_labels
from router_models.training.whose_labels import without_chosen
from router_models.types import Progress

FEW = 1500
SetPairs = Mapping[str, tuple[str, str]]
"""(weak, strong) by file stem."""
TABLES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson")


def run_all(
    folder: Path,
    pairs: SetPairs,
    protocol: Protocol,
    cache: Path,
    to: Destination,
    slow: Slow | None = None,
) -> tuple[str, Any]:
    """Evaluate router families on every file of outcomes in a folder.

    In-domain figures use all labels, the column for few labels `protocol.labels`, or `FEW` where that is None.

    Parameters
    ----------
    folder : Path
        Holds .parquet, .csv or .jsonl files.
    pairs : mapping of str to tuple of str
        (weak, strong) by file stem; by default the worst and the best tier.
    protocol : Protocol
        How scores are made.
    cache : Path
        A folder for embeddings.
    to : Destination
        Where the page goes: of a folder's sets one .md file.
    slow : Slow, optional
        Adds a second table per set: the families that the first leaves out, on a sample.

    Returns
    -------
    tuple of str and dict
        The page as Markdown, and the figures by set as JSON values.

    Raises
    ------
    DataError
        Where the folder does not exist, holds no such file, or none that can be used.
    """
    files = outcome_files(folder)
    parts: list[str] = ["# Router families on every set", to.made]
    figures: dict[str, Any] = {}
    few, protocol = protocol.labels or FEW, replace(protocol, certify=False, labels=None)
    read = protocol if slow is None else replace(protocol, families=(*protocol.families, "default"))
    refused = []
    for file in files:
        try:
            section, figures[file.stem] = _one_set(file, pairs, protocol, read, few, cache, to.progress, slow)
        except DataError as error:  # the others are evaluated all the same, and the page says why this one was not
            refused.append(error)
            section, figures[file.stem] = f"## {file.stem}: left out\n\n{error}", {"left_out": str(error)}
            to.progress(f"{file.stem}: left out: {error}")
        parts.append(section)
        if to.folder is not None:  # after every set, so that a run cut short leaves what it found
            to.folder.parent.mkdir(parents=True, exist_ok=True)
            to.folder.write_text("\n\n".join(parts) + "\n")
    if len(refused) == len(files):
        raise refused[0]
    return "\n\n".join(parts) + "\n", figures


def _one_set(
    file: Path,
    pairs: SetPairs,
    protocol: Protocol,
    read: Protocol,
    few: int,
    cache: Path,
    progress: Progress,
    slow: Slow | None,
) -> tuple[str, dict[str, Any]]:
    """Evaluate one set: its sections of the page, and its figures."""
    table, weak, strong, notes = read_set(file, pairs)
    table = without_chosen(with_sentences(file.stem, table, read, cache, progress).only(weak, strong))
    terms = costs_of(table, weak, strong, None, epsilon=0.1, delta=0.1)
    found, _ = cross_validate_routers(
        table, weak, strong, protocol, terms, datetime.now(UTC), name=file.stem, notes=notes, progress=progress
    )
    scarce = _with_few(table, weak, strong, protocol, [row.method for row in found.rows[3:]], few, progress)
    note_choice(cache.parent, prompt_labels(table), "evaluate", protocol.families)
    figures = {**to_json_values(found), "few_labels": few, "few": to_json_values(scarce)}
    section = _set_section(found, few, scarce)
    if slow is not None:
        rest = evaluate_slow(table, weak, strong, protocol, slow, datetime.now(UTC), name=file.stem, progress=progress)
        figures["slow"] = to_json_values(rest)
        section += f"\n\n{_slow_section(rest, found.n)}"
    return section, figures


def _with_few(
    table: OutcomeTable,
    weak: str,
    strong: str,
    protocol: Protocol,
    families: Sequence[str],
    few: int,
    progress: Progress,
) -> dict[str, Interval]:
    """Return APGR by family with that few labels a fold; empty where a fold has no more than that."""
    if len(table) * (protocol.folds - 1) // protocol.folds <= few:
        return {}
    y = routing_targets(table, weak, strong, protocol.target_for(weak, strong))
    splits = folds_of(table, protocol.folds, protocol.seed)
    w, s = table.grade(weak), table.grade(strong)
    found = {}
    for family in families:
        scores = held_out_scores(table, family, y, splits, labels=few, seed=protocol.seed, progress=progress)
        found[family] = bootstrap(RoutingSums(scores, w, s).apgr, len(w), seed=protocol.seed, groups=table.groups)
    return found


def _set_section(found: Evaluation, few: int, scarce: Mapping[str, Interval]) -> str:
    more = [f"APGR, {few:,} labels", f"APGR, unseen {found.domain or 'domains'}"]

    def cells(row: MethodFigures) -> list[str]:
        return [
            spread(scarce[row.method], 1, 3) if row.method in scarce else "",
            "" if row.away is None else spread(row.away, 1, 3),
        ]

    rows = [[*line, *(cells(row) if row is not None else more)] for row, line in _ranked(found)]
    head = (
        f"## {found.name}: {found.weak} → {found.strong}\n\n{found.n:,} prompts, right {found.weak_quality:.1%} and "
        f"{found.strong_quality:.1%}."
    )
    return f"{head}{_notes(found)}\n\n{markdown_table(rows)}"


def _slow_section(found: Evaluation, of: int) -> str:
    drawn = f"{found.n:,} of them, drawn by chance" if found.n < of else "All of them again"
    head = f"### {found.name}: families that take minutes, or a language model\n\n{drawn}."
    return f"{head}{_notes(found)}\n\n{markdown_table([line for _, line in _ranked(found)])}"


def _ranked(found: Evaluation) -> list[tuple[MethodFigures | None, list[str]]]:
    """Return the heading, the baselines, then the routers, best first; each beside the row that it shows."""
    heading = ["router", "APGR", "over length", "CPT(50), %", "CPT(80), %"]
    lines: list[tuple[MethodFigures | None, list[str]]] = [(None, heading)]
    for row in [*found.rows[:3], *sorted(found.rows[3:], key=lambda row: -row.apgr.value)]:
        over = "" if row.method == "length" else spread(row.over_length, 1, 3)
        shares = [spread(row.cpt_50, 100, 1), spread(row.cpt_80, 100, 1)]
        lines.append((row, [row.method, spread(row.apgr, 1, 3), over, *shares]))
    return lines


def _notes(found: Evaluation) -> str:
    return "".join(f"\n- {note}" for note in found.notes)


def outcome_files(folder: Path) -> list[Path]:
    """Return a folder's files of outcomes by name; DataError where there is none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    files = sorted(p for p in folder.iterdir() if p.name.endswith(TABLES))
    if not files:
        raise DataError(f"{folder}: no .parquet, .csv or .jsonl file")
    return files


def read_set(file: Path, pairs: SetPairs) -> tuple[OutcomeTable, str, str, list[str]]:
    """Read one set of a folder.

    Parameters
    ----------
    file : Path
        Its outcomes.
    pairs : mapping of str to tuple of str
        (weak, strong) by file stem; by default the worst and the best tier.

    Returns
    -------
    tuple of OutcomeTable, str, str and list of str
        The table, both tiers, and notes: where grades were read as scores of 1 to 10, where the pair was not given.

    Raises
    ------
    DataError
        For a file that cannot be read, or one tier alone.
    """
    given, notes = pairs.get(file.stem), []
    try:
        table = read_outcomes(file, given)
    except DataError as error:
        if "not in [0, 1]" not in str(error):
            raise
        table = read_outcomes(file, given, scale=(1, 10))
        notes.append("grades are scores of 1 to 10, mapped to 0 to 1")
    if given is None:
        notes.append("pair: the worst and the best tier")
    return table, *(given or _worst_and_best(table)), notes


def _worst_and_best(table: OutcomeTable) -> tuple[str, str]:
    import numpy as np

    means = {tier: float(np.nanmean(table.grades[tier])) for tier in table.tiers}
    if len(means) < 2:
        raise DataError("a set needs two tiers at least")
    return min(means, key=lambda t: means[t]), max(means, key=lambda t: means[t])
