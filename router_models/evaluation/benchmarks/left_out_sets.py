"""Leave one set out: how a router orders prompts of a set that it learned nothing of, and what its fallback changes.

Every file of outcomes in a folder is a set. Of each set's router there are two scores from one fit: its own ("before")
and the one that is served ("after"), which falls back to prompt length where a prompt is novel
(`estimators.routers.fallback`). The same two are compared within every set, by folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from router_models.data.embeddings.encoder import Encoder
from router_models.data.json_values import to_json_values
from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS, LengthRouter, SurfaceRouter
from router_models.estimators.routers.fallback import RouterWithFallback, weight_of_length
from router_models.evaluation.cross_validation import Protocol
from router_models.evaluation.held_out import folds_of, routing_targets, usable_families, without_near_duplicates
from router_models.evaluation.run import Destination
from router_models.evaluation.run_all import SetPairs, outcome_files, read_set
from router_models.metrics import Interval, RoutingSums, bootstrap_values, interval_of
from router_models.reports.markdown import spread
from router_models.reports.markdown import table as markdown_table
from router_models.training.labelling.label_budget import note_choice, prompt_labels
from router_models.types import FloatArray, Progress, Prompts

PROMPTS_OF_A_SET = 2500
SHORTFALL = 0.01
"""By how much less than prompt length's the area of a left-out set may be."""
SHORTFALL_INSIDE = 0.003
"""By how much the fallback may lower the area within a set."""
_SCORES = ("length", "surface", "before", "after")


@dataclass(frozen=True, slots=True)
class _Set:
    name: str
    table: OutcomeTable
    weak: str
    strong: str
    y: FloatArray


@dataclass(frozen=True, slots=True)
class Ordered:
    """Hold how one set's prompts were ordered, as APGR with 95 % intervals.

    Parameters
    ----------
    tested, learned : str
        The set, and what the router learned from; equal for folds of the set itself.
    prompts, labels : int
        Of the set, and learned from.
    novel : float
        The share of prompts whose estimate is mostly prompt length's.
    length, surface, before, after : Interval
        Prompt length; the surface features' logistic regression; the router alone; with its fallback.
    over_length, change : Interval
        `after` less `length`, and less `before`, paired.
    """

    tested: str
    learned: str
    prompts: int
    labels: int
    novel: float
    length: Interval
    surface: Interval
    before: Interval
    after: Interval
    over_length: Interval
    change: Interval


def run_left_out(folder: Path, pairs: SetPairs, protocol: Protocol, cache: Path, to: Destination) -> tuple[str, Any]:
    """Leave every set of a folder out once, and compare a router before and after its fallback within every set.

    Parameters
    ----------
    folder : Path
        Holds two .parquet, .csv or .jsonl files of outcomes or more.
    pairs : mapping of str to tuple of str
        (weak, strong) by file stem; by default the worst and the best tier.
    protocol : Protocol
        One family, the folds, the seed, the target ('auto' = the weak grade, which `train` fits), and `labels`: at
        most so many prompts of a set, drawn by chance, and of all other sets together (None = `PROMPTS_OF_A_SET`).
    cache : Path
        A folder for embeddings.
    to : Destination
        Where the page goes: a .md file.

    Returns
    -------
    tuple of str and dict
        The page as Markdown, and its figures as JSON values.

    Raises
    ------
    DataError
        Where the folder holds fewer than two sets, or the protocol does not name one family that they can feed.
    """
    most = protocol.labels or PROMPTS_OF_A_SET
    protocol = replace(protocol, target="weak" if protocol.target == "auto" else protocol.target)
    sets = [_read(file, pairs, protocol, most, cache, to.progress) for file in outcome_files(folder)]
    if len(sets) < 2:
        raise DataError(f"{folder}: one set alone leaves nothing to learn from")
    families = {tuple(usable_families(protocol.families, one.table)[0]) for one in sets}
    if len(families) != 1 or len(family := next(iter(families))) != 1:
        raise DataError("to leave sets out, name one learned router family that every set can feed: --router FAMILY")
    outside: list[Ordered] = []
    inside: list[Ordered] = []
    page = ""
    for tested in sets:
        others = [one for one in sets if one is not tested]
        for learned in ([[one] for one in others] if len(others) > 1 else []) + [others]:
            to.progress(f"{tested.name}: learning from {_named(learned, sets)}")
            outside.append(_from_others(tested, learned, _named(learned, sets), family[0], protocol, most))
        to.progress(f"{tested.name}: {protocol.folds} folds")
        inside.append(_by_folds(tested, family[0], protocol))
        note_choice(cache.parent, prompt_labels(tested.table), "evaluate", protocol.families)
        page = left_out_page(outside, inside, family[0], protocol, to.made)
        if to.folder is not None:  # after every set, so that a run cut short leaves what it found
            to.folder.parent.mkdir(parents=True, exist_ok=True)
            to.folder.write_text(page)
    return page, {"outside": to_json_values(outside), "inside": to_json_values(inside)}


def left_out_page(
    outside: Sequence[Ordered], inside: Sequence[Ordered], family: str, protocol: Protocol, made: str = ""
) -> str:
    """Return the page as Markdown: a summary, then left-out sets, then folds within sets."""
    low = [row for row in outside if row.over_length.value < -SHORTFALL]
    kept = [row for row in outside if row.change.value < 0 and row.before.value > row.length.value]
    lowered = [row for row in inside if row.change.value < -SHORTFALL_INSIDE]
    head = [["left out", "learned from", "novel", "length", "surface", f"{family} before", "after", "after - length"]]
    head += [
        [
            row.tested, f"{row.learned} ({row.labels:,})", f"{row.novel:.0%}",
            *(spread(getattr(row, name), 1, 3) for name in _SCORES), spread(row.over_length, 1, 3),
        ]
        for row in outside
    ]  # fmt: skip
    within = [["set", "prompts", "novel", "length", "surface", f"{family} before", "after", "after - before"]]
    within += [
        [
            row.tested, f"{row.prompts:,}", f"{row.novel:.1%}",
            *(spread(getattr(row, name), 1, 3) for name in _SCORES), spread(row.change, 1, 4),
        ]
        for row in inside
    ]  # fmt: skip
    parts = [
        "# A set that the router learned nothing of",
        made,
        f"APGR (random: .500) with 95 % intervals, of routers that learn the {protocol.target} target. Before: the "
        f"{family} router's own scores. After: as served, falling back to prompt length where a prompt is novel. "
        "Surface: logistic regression on the prompt's surface features, learned from the same prompts.",
        f"- {_count(low, outside, 'left-out sets')} lie more than {SHORTFALL} below prompt length"
        f"{_listed(low)}; before the fallback "
        f"{sum(row.before.value < row.length.value - SHORTFALL for row in outside)} did.\n"
        f"- The price: on {_count(kept, outside, 'left-out sets')} a router that ordered better than length lost some "
        f"of that, {-min((row.change.value for row in kept), default=0.0):.3f} at most.\n"
        f"- {_count(lowered, inside, 'sets')} lost more than {SHORTFALL_INSIDE} within themselves{_listed(lowered)}.",
        "## Left-out sets",
        markdown_table(head),
        f"## Within sets, {protocol.folds} folds",
        markdown_table(within),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _read(file: Path, pairs: SetPairs, protocol: Protocol, most: int, cache: Path, progress: Progress) -> _Set:
    table, weak, strong, _ = read_set(file, pairs)
    table = table.only(weak, strong)
    if len(table) > most:
        table = table.take(np.sort(np.random.default_rng(protocol.seed).permutation(len(table))[:most]))
    if any(ROUTERS[name].needs_embeddings for name in protocol.families if name in ROUTERS):
        progress(f"{file.stem}: embedding {len(table)} prompts (kept in {cache})")
        table = table.with_embeddings(Encoder(), cache, progress)
    name = file.name.split(".")[0]
    return _Set(name, table, weak, strong, routing_targets(table, weak, strong, protocol.target))


def _from_others(
    tested: _Set, sources: Sequence[_Set], named: str, family: str, protocol: Protocol, most: int
) -> Ordered:
    parts, targets, names = [], [], []
    for source in sources:
        learned, _ = without_near_duplicates(source.table, tested.table)
        share = min(most // len(sources), len(learned))
        rows = np.sort(np.random.default_rng(protocol.seed).permutation(len(learned))[:share])
        parts.append(learned.take(rows))
        targets.append(routing_targets(parts[-1], source.weak, source.strong, protocol.target))
        names += [source.name] * share
    X, y = parts[0].prompts if len(parts) == 1 else _joined(parts, names), np.concatenate(targets)
    scores, novel = _scores(family, X, y, tested.table.prompts)
    return _ordered(tested, named, len(X), scores, novel, protocol.seed)


def _by_folds(tested: _Set, family: str, protocol: Protocol) -> Ordered:
    n = len(tested.table)
    scores, novel, labels = {name: np.empty(n) for name in _SCORES}, np.empty(n), 0
    for inside, outside in folds_of(tested.table, protocol.folds, protocol.seed):
        X, test = tested.table.prompts.take(inside), tested.table.prompts.take(outside)
        found, novel[outside] = _scores(family, X, tested.y[inside], test)
        labels = max(labels, len(inside))
        for name in _SCORES:
            scores[name][outside] = found[name]
    return _ordered(tested, tested.name, labels, scores, novel, protocol.seed)


def _scores(family: str, X: Prompts, y: FloatArray, test: Prompts) -> tuple[dict[str, FloatArray], FloatArray]:
    """Return each method's scores of test prompts, and which of them are novel (1) or not (0), (n,)."""
    router = RouterWithFallback(ROUTERS[family]()).fit(X, y)
    before = router.router.predict(test)
    after, distance = router.blended(test, before)
    scores = {"length": LengthRouter().predict(test), "surface": SurfaceRouter().fit(X, y).predict(test)}
    novel = np.zeros(len(test)) if distance is None else (weight_of_length(distance) > 0.5).astype(np.float64)
    return {**scores, "before": before, "after": after}, novel


def _ordered(
    tested: _Set, learned: str, labels: int, scores: Mapping[str, FloatArray], novel: FloatArray, seed: int
) -> Ordered:
    w, s = tested.table.grade(tested.weak), tested.table.grade(tested.strong)
    value, drawn = {}, {}
    for name in _SCORES:
        area = RoutingSums(scores[name], w, s).apgr
        value[name] = float(area(np.ones((1, len(w))))[0])
        drawn[name] = bootstrap_values(area, len(w), seed=seed, groups=tested.table.groups)

    def less(other: str) -> Interval:
        return interval_of(value["after"] - value[other], drawn["after"] - drawn[other])

    areas = {name: interval_of(value[name], drawn[name]) for name in _SCORES}
    return Ordered(
        tested.name, learned, len(w), labels, float(novel.mean()), **areas,
        over_length=less("length"), change=less("before"),
    )  # fmt: skip


def _joined(parts: Sequence[OutcomeTable], names: Sequence[str]) -> Prompts:
    """Return several sets' prompts as one batch, each set a domain."""
    embedded = [part.prompts.embeddings for part in parts if part.prompts.embeddings is not None]
    texts = tuple(text for part in parts for text in part.prompts.texts)
    return Prompts(texts, np.concatenate(embedded) if len(embedded) == len(parts) else None, {"task": tuple(names)})


def _named(learned: Sequence[_Set], sets: Sequence[_Set]) -> str:
    return learned[0].name if len(learned) == 1 else f"all {len(sets) - 1} others"


def _count(rows: Sequence[Ordered], of: Sequence[Ordered], what: str) -> str:
    return f"{len(rows)} of {len(of)} {what}"


def _listed(rows: Sequence[Ordered]) -> str:
    if not rows:
        return ""
    named = (row.tested if row.learned == row.tested else f"{row.tested} from {row.learned}" for row in rows)
    return f" ({'; '.join(named)})"
