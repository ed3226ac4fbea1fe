"""Every router family on every scheme that matters, side by side: the table a choice of router is made from.

Four questions, each answered on prompts the router was not fitted on: how good at home (grouped folds), how good with
few labels, how good on whole domains it never saw, how good when trained on *another* pair's outcomes.

What a router is fitted to matters more than its family. At home the gain of escalating, (1 + weak − strong) / 2, is
what the routing curve rewards. A pair's gain says little about another pair's, where how hard a question is, the mean
of both grades, still does. [measured] forest, MMLU, APGR: at home gain .68, weak grade .64; from MMLU-Pro's Llama
pair gain .51, weak grade .58, ease .60.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from router_models.errors import DataError
from router_models.metrics import Interval, RoutingSums, bootstrap, gap_of, oracle_scores
from router_models.near_duplicates import near_duplicates_of
from router_models.outcomes import OutcomeTable
from router_models.routers import ROUTERS, LengthRouter
from router_models.routers.default import balanced_folds
from router_models.types import FloatArray, IntArray

BASELINES = ("random", "length", "oracle")
DOMAIN_COLUMNS = ("domain", "category", "family", "qset", "task")
Progress = Callable[[str], None]


class Scheme(StrEnum):
    """How a router came to score prompts it had not seen."""

    HOME = "in-domain"
    FEW = "few labels"
    AWAY = "domains held out"
    TRANSFER = "other pair"


@dataclass(frozen=True, slots=True)
class Pair:
    """A table (embedded, where families need that) and the two tiers to route between."""

    name: str
    table: OutcomeTable
    weak: str
    strong: str

    @property
    def gain(self) -> FloatArray:
        """(1 + weak − strong) / 2, (n,): 0 = only the strong answer is right, 1 = only the weak one."""
        return np.asarray((1 + self.table.grade(self.weak) - self.table.grade(self.strong)) / 2, dtype=np.float64)

    @property
    def ease(self) -> FloatArray:
        """(weak + strong) / 2, (n,): how easy the prompt is, whoever answers."""
        return np.asarray((self.table.grade(self.weak) + self.table.grade(self.strong)) / 2, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One family under one scheme: APGR with a 95 % interval over prompts, or why there is none."""

    family: str
    scheme: Scheme
    apgr: Interval | None
    note: str = ""


def compare_routers(
    pair: Pair,
    families: Sequence[str],
    *,
    schemes: Sequence[Scheme] = tuple(Scheme),
    other: Pair | None = None,
    folds: int = 5,
    labels: int = 1500,
    seed: int = 0,
    draws: int = 2000,
    options: Mapping[str, Mapping[str, object]] | None = None,
    progress: Progress = lambda _: None,
) -> list[Comparison]:
    """APGR of every family under every scheme, the untrained baselines first.

    Rows without a grade of both tiers are left out. `other` is what TRANSFER trains on; its prompts that nearly repeat
    one of `pair` are removed. `options` are constructor arguments by family. A family that this table cannot feed gets
    a note instead of a number. DataError for an unknown family or a pair without a gap.
    """
    unknown = [f for f in families if f not in ROUTERS]
    if unknown:
        raise DataError(f"unknown router families {', '.join(unknown)}; known: {', '.join(ROUTERS)}")
    pair = _graded(pair)
    w, s = pair.table.grade(pair.weak), pair.table.grade(pair.strong)
    gap_of(w, s)
    flat = {"random": np.full(len(w), 0.5), "length": LengthRouter().predict(pair.table.prompts)}
    flat["oracle"] = oracle_scores(w, s)
    known = {name: _interval(scores, w, s, draws, seed) for name, scores in flat.items()}
    rows = [Comparison(name, scheme, interval) for scheme in schemes for name, interval in known.items()]
    for scheme in schemes:
        try:
            work = list(_splits(pair, scheme, other, folds, labels, seed))
        except DataError as error:
            rows += [Comparison(family, scheme, None, str(error)) for family in families]
            continue
        for family in families:
            progress(f"{pair.name}: {family}, {scheme}")
            try:
                scores = _scores(pair, family, work, dict((options or {}).get(family, {})))
            except DataError as error:
                rows.append(Comparison(family, scheme, None, str(error)))
            else:
                rows.append(Comparison(family, scheme, _interval(scores, w, s, draws, seed)))
    return rows


@dataclass(frozen=True, slots=True)
class _Split:
    train: OutcomeTable
    y: FloatArray
    held: IntArray


def _splits(pair: Pair, scheme: Scheme, other: Pair | None, folds: int, labels: int, seed: int) -> Iterable[_Split]:
    table, n = pair.table, len(pair.table)
    if scheme is Scheme.TRANSFER:
        if other is None:
            raise DataError("no other pair's outcomes were given to train on")
        other = _graded(other)
        repeats = near_duplicates_of(
            other.table.prompts.texts, table.prompts.texts, other.table.prompts.embeddings, table.prompts.embeddings
        )
        yield _Split(other.table.take(~repeats), other.ease[~repeats], np.arange(n))
        return
    parts = _domain_splits(table, folds) if scheme is Scheme.AWAY else _home_splits(table, folds, seed)
    for k, (inside, held) in enumerate(parts):
        if scheme is Scheme.FEW and labels < len(inside):
            inside = np.sort(np.random.default_rng([seed, k]).permutation(inside)[:labels])
        yield _Split(table.take(inside), pair.gain[inside], held)


def _home_splits(table: OutcomeTable, folds: int, seed: int) -> list[tuple[IntArray, IntArray]]:
    groups, member = np.unique(table.groups, return_inverse=True)
    if len(groups) < folds:
        raise DataError(f"{len(groups)} different prompts cannot be parted into {folds} folds")
    fold = (np.random.default_rng(seed).permutation(len(groups)) % folds)[member]
    return [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(folds)]


def _domain_splits(table: OutcomeTable, folds: int) -> list[tuple[IntArray, IntArray]]:
    named = (c for c in DOMAIN_COLUMNS if len(set(table.prompts.metadata.get(c, ()))) > 1)
    column = next(named, None)
    if column is None:
        raise DataError(f"no column of domains ({', '.join(DOMAIN_COLUMNS)}) with two values or more")
    labels = np.unique(np.array(table.column(column)), return_inverse=True)[1].astype(np.int64)
    fold = balanced_folds(labels, min(folds, int(labels.max()) + 1))
    splits = []
    for f in np.unique(fold):
        held = np.flatnonzero(fold == f)
        # A question that two domains share must not be learned from one and asked in the other.
        inside = np.flatnonzero((fold != f) & ~np.isin(table.groups, table.groups[held]))
        splits.append((inside, held))
    return splits


def _scores(pair: Pair, family: str, work: Sequence[_Split], options: dict[str, object]) -> FloatArray:
    scores = np.full(len(pair.table), np.nan)
    for part in work:
        router = ROUTERS[family](**options).fit(part.train.prompts, part.y)
        scores[part.held] = router.predict(pair.table.prompts.take(part.held))
    return scores


def _graded(pair: Pair) -> Pair:
    return Pair(pair.name, pair.table.only(pair.weak, pair.strong), pair.weak, pair.strong)


def _interval(scores: FloatArray, w: FloatArray, s: FloatArray, draws: int, seed: int) -> Interval:
    return bootstrap(RoutingSums(scores, w, s).apgr, len(w), draws=draws, seed=seed)


def comparison_table(rows: Sequence[Comparison], title: str = "") -> str:
    """A Markdown table, families down and schemes across, each cell APGR [95 % interval]; notes below."""
    schemes = list(dict.fromkeys(row.scheme for row in rows))
    families = list(dict.fromkeys(row.family for row in rows))
    cells = {(row.family, row.scheme): row for row in rows}
    lines = [f"**{title}**", ""] if title else []
    lines += [f"| router | {' | '.join(schemes)} | needs, costs |", "|---|" + "---|" * (len(schemes) + 1)]
    for family in families:
        shown = [_cell(cells.get((family, scheme))) for scheme in schemes]
        lines.append(f"| {family} | {' | '.join(shown)} | {ROUTERS[family].card} |")
    notes = sorted({f"{row.family}, {row.scheme}: {row.note}" for row in rows if row.note})
    return "\n".join(lines + ([""] + [f"- {note}" for note in notes] if notes else [])) + "\n"


def _cell(row: Comparison | None) -> str:
    if row is None or row.apgr is None:
        return "n/a"
    return f"{row.apgr.value:.3f} [{row.apgr.low:.3f}, {row.apgr.high:.3f}]"
