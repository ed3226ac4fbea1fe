"""RouterArena as a benchmark: the rows of its published routers, and our families' on any two of its models.

Ours are cross-validated: a query is scored by a router that was fitted on other folds, and so is its perturbed form. A
threshold is set by the share of queries that go to the stronger model, never by the score that it brings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from router_models.data.embeddings.encoder import Encoder
from router_models.data.json_values import to_json_values
from router_models.data.outcomes import OutcomeTable
from router_models.estimators.routers import ROUTERS
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.evaluation.benchmarks.routerarena_files import ArenaData, ArenaEntry, read_arena, table_of_pair
from router_models.evaluation.benchmarks.routerarena_scores import ArenaFigures, optimality_of, same_choice, scored
from router_models.evaluation.cross_validation import Protocol
from router_models.evaluation.held_out import folds_of, routing_targets, usable_families, want_embeddings
from router_models.evaluation.run import Destination
from router_models.metrics import Interval
from router_models.metrics.intervals import exact_share
from router_models.reports.markdown import percent, spread
from router_models.reports.markdown import table as markdown_table
from router_models.training.evidence import route_at_for_share
from router_models.types import BoolArray, FloatArray, Progress, Prompts

STRONG_SHARES = (0.1, 0.25, 0.5, 0.75)
"""Of queries that go to the stronger model."""
OwnAndMoved = tuple[FloatArray, FloatArray]
"""Of every query, (n,), and of its perturbed form, (n,), NaN where it has none."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two models' graded answers as outcomes, with the perturbed forms of some queries."""

    weak: str
    strong: str
    table: OutcomeTable
    perturbed: Prompts
    rows: tuple[int, ...]


def run_arena(
    folder: Path, weak: str | None, strong: str | None, protocol: Protocol, cache: Path, to: Destination
) -> tuple[str, Any]:
    """Evaluate the routers of a RouterArena checkout, and, where two models are named, ours on them.

    Parameters
    ----------
    folder : Path
        The checkout.
    weak, strong : str, optional
        Two models of its prediction files; None: published routers alone.
    protocol : Protocol
        How our scores are made: families, folds, target, labels, seed.
    cache : Path
        A folder for embeddings.
    to : Destination
        Where the page, its figures and our predictions go.

    Returns
    -------
    tuple of str and dict
        The page as Markdown, and its figures as JSON values.

    Raises
    ------
    DataError
        Where the checkout cannot be read, or has no graded answers of the two models.
    """
    data = read_arena(folder)
    published = published_rows(data, protocol.seed)
    ours: list[ArenaFigures] = []
    choices: dict[str, list[ArenaEntry]] = {}
    if weak is not None and strong is not None:
        ours, choices = _our_rows(data, weak, strong, protocol, cache, to.progress)
    published.sort(key=lambda row: -row.arena.value)
    text = _page(data, published, ours, (weak, strong), to.made)
    figures = to_json_values({"published": published, "ours": ours})
    if to.folder is not None:
        to.folder.mkdir(parents=True, exist_ok=True)
        (to.folder / "routerarena.md").write_text(text)
        (to.folder / "routerarena.json").write_text(json.dumps(figures, indent=1))
        for name, entries in choices.items():
            (to.folder / f"{name}.json").write_text(json.dumps([_written(data, one) for one in entries], indent=1))
    return text, figures


def published_rows(data: ArenaData, seed: int = 0) -> list[ArenaFigures]:
    """Return the row of every router with a prediction file that has graded entries."""
    rows = []
    for name, entries in data.predictions.items():
        chosen = [one for one in entries if not one.for_optimality]
        if any(one.accuracy is not None for one in chosen) and any(one.cost_usd for one in chosen):
            others = [one for one in entries if one.for_optimality]
            rows.append(_row(name, chosen, others, data, seed, same_choice(chosen, data.robust.get(name, ()))))
    return rows


def _row(
    name: str,
    chosen: Sequence[ArenaEntry],
    others: Sequence[ArenaEntry],
    data: ArenaData,
    seed: int,
    robustness: Interval | None,
) -> ArenaFigures:
    accuracy = np.array([np.nan if one.accuracy is None else one.accuracy for one in chosen])
    cost = np.array([np.nan if one.cost_usd is None else one.cost_usd for one in chosen])
    row = replace(scored(name, accuracy, cost, seed=seed), robustness=robustness)
    return replace(row, optimality=optimality_of(chosen, others, data.tenth)) if others and data.tenth else row


def _our_rows(
    data: ArenaData, weak: str, strong: str, protocol: Protocol, cache: Path, progress: Progress
) -> tuple[list[ArenaFigures], dict[str, list[ArenaEntry]]]:
    table = table_of_pair(data, weak, strong)
    index = table.prompts.metadata["index"]
    rows = tuple(row for row, one in enumerate(index) if one in data.perturbed)
    perturbed = Prompts(tuple(data.perturbed[index[row]] for row in rows))
    if want_embeddings(protocol.families):
        encoder = Encoder()
        table = table.with_embeddings(encoder, cache, progress)
        perturbed = replace(perturbed, embeddings=encoder.encode(perturbed.texts))
    pair = _Pair(weak, strong, table, perturbed, rows)
    usable, left = usable_families(protocol.families, table)
    for family, why in left.items():
        progress(f"{family} left out: it {why}")
    found, choices = _fixed_rows(pair, data, protocol.seed), {}
    for family in dict.fromkeys(("random", "length", *usable)):
        own, moved = _scores(pair, family, protocol, progress)
        for share in STRONG_SHARES:
            threshold = route_at_for_share(own, share)
            name = f"{family} {share:.0%}"
            row, entries = _pair_row(name, pair, own < threshold, data, protocol.seed)
            flips = (own[list(rows)] < threshold) != (moved[list(rows)] < threshold)
            same = exact_share(int((~flips).sum()), len(rows)) if rows else None
            found.append(replace(row, robustness=same))
            choices[f"serve-graph-{family}-{round(100 * share)}"] = entries
    return found, choices


def _scores(pair: _Pair, family: str, protocol: Protocol, progress: Progress) -> OwnAndMoved:
    """Return a family's out-of-fold scores of the queries, and of their perturbed forms by the same routers."""
    table, rows = pair.table, np.array(pair.rows, dtype=np.int64)
    own, moved = np.full(len(table), np.nan), np.full(len(table), np.nan)
    y = routing_targets(table, pair.weak, pair.strong, protocol.target_for(pair.weak, pair.strong))
    for k, (inside, outside) in enumerate(folds_of(table, protocol.folds, protocol.seed)):
        if protocol.labels is not None and protocol.labels < len(inside):
            inside = np.sort(np.random.default_rng([protocol.seed, k]).permutation(inside)[: protocol.labels])
        progress(f"{family}: split {k + 1} of {protocol.folds}, {len(inside)} prompts to learn from")
        router = RouterWithFallback(ROUTERS[family]()).fit(table.prompts.take(inside), y[inside])
        own[outside] = router.predict(table.prompts.take(outside))
        here = np.flatnonzero(np.isin(rows, outside))
        if len(here):
            moved[rows[here]] = router.predict(pair.perturbed.take(here))
    return own, moved


def _fixed_rows(pair: _Pair, data: ArenaData, seed: int) -> list[ArenaFigures]:
    """Return the rows of either model alone, and of whoever knew every grade."""
    w, s = pair.table.grade(pair.weak), pair.table.grade(pair.strong)
    every = np.ones(len(w), dtype=np.bool_)
    fixed = {f"always {pair.weak}": ~every, f"always {pair.strong}": every, "oracle": s > w}
    return [_pair_row(name, pair, strong, data, seed)[0] for name, strong in fixed.items()]


def _pair_row(
    name: str, pair: _Pair, strong: BoolArray, data: ArenaData, seed: int
) -> tuple[ArenaFigures, list[ArenaEntry]]:
    table, metadata = pair.table, pair.table.prompts.metadata
    entries: tuple[list[ArenaEntry], list[ArenaEntry]] = ([], [])
    graded = {tier: table.grade(tier) for tier in (pair.weak, pair.strong)}
    for row, index in enumerate(metadata["index"]):
        for tier, column, is_strong in ((pair.weak, "cost_weak", False), (pair.strong, "cost_strong", True)):
            is_chosen = bool(strong[row]) == is_strong
            cost = float(metadata[column][row])
            one = ArenaEntry(index, tier, float(graded[tier][row]), cost, not is_chosen)
            entries[0 if is_chosen else 1].append(one)
    made = _row(name, entries[0], entries[1], data, seed, None)
    return replace(made, strong_share=float(strong.mean())), entries[0]


def _written(data: ArenaData, one: ArenaEntry) -> dict[str, Any]:
    """Return a choice as an entry of a prediction file."""
    return {
        "global index": one.index,
        "prompt": data.prompts[one.index],
        "prediction": one.model,
        "generated_result": None,
        "cost": one.cost_usd,
        "accuracy": one.accuracy,
        "for_optimality": False,
    }


def _page(
    data: ArenaData,
    published: Sequence[ArenaFigures],
    ours: Sequence[ArenaFigures],
    pair: tuple[str | None, str | None],
    made: str,
) -> str:
    parts = [
        "# RouterArena",
        made,
        f"{len(data.prompts):,} prompts, {len(data.perturbed):,} perturbed, prediction files of "
        f"{len(data.predictions)} routers. Arena score, cost, optimality and robustness by the formulas of arXiv "
        "2510.00202; intervals: 95 %, of the score and the accuracy by bootstrap over queries, of robustness exact.",
        "## Routers with prediction files",
        _rows_shown(published) if published else "None has graded entries.",
    ]
    if ours:
        parts += [
            f"## serve-graph on {pair[0]} and {pair[1]}",
            "Queries that both were graded on; every score out of fold. The number behind a family is the share of "
            "queries that go to the stronger model. Not comparable with a router above that chooses among other "
            "models, or on other queries.",
            _rows_shown(ours),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows_shown(rows: Sequence[ArenaFigures]) -> str:
    head = ["router", "queries", "arena", "accuracy", "$ / 1,000", "opt. sel.", "opt. cost", "opt. acc.", "robustness"]
    body = []
    for row in rows:
        near = row.optimality
        shown = ["", "", ""] if near is None else [f"{x:.2%}" for x in (near.selected, near.cost, near.accuracy)]
        body.append(
            [
                row.name, f"{row.queries:,}", spread(row.arena, 100, 2), percent(row.accuracy),
                f"{row.cost_per_1000:.4f}", *shown, "" if row.robustness is None else percent(row.robustness),
            ]
        )  # fmt: skip
    return markdown_table([head, *body])
