"""Outcomes: what several tiers made of the same prompts. Load, group, split, hash.

A table's rows are prompts; a tier is a column of grades. Splits are drawn by hashing the content of *groups of
duplicate prompts*, so that a prompt keeps its split when rows are added and no question is on both sides.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from router_models.data.features import TextEncoder, cached_embeddings, load_embeddings
from router_models.data.formats import (
    Columns,
    frame_to_outcomes,
    outcomes_to_frame,
    parse_columns,
    write_outcomes,
)
from router_models.data.readers import read_frame
from router_models.errors import DataError
from router_models.types import Answers, BoolArray, FloatArray, IntArray, Prompts, Tokens

__all__ = [
    "OutcomeTable",
    "assert_disjoint",
    "frame_to_outcomes",
    "group_duplicates",
    "outcomes_to_frame",
    "prompt_id",
    "read_outcomes",
    "split",
    "table_of",
    "write_outcomes",
]

Column = TypeVar("Column")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """n prompts with the grades of every tier, and what else was measured; all columns have n entries.

    Parameters
    ----------
    prompts : Prompts
        The texts, with embeddings and metadata where there are any.
    prompt_ids : tuple of str
        One a prompt; equal texts have equal ids.
    tiers : tuple of str
        Their names.
    grades : mapping of tier to array of float
        In [0, 1]; NaN = this tier was not asked.
    groups : array of int
        Equal where prompts are duplicates, in this table and in any other.
    answers : mapping of tier to Answers
        For the tiers whose answers are known, as are the five below.
    prompt_tokens, completion_tokens, cached_tokens : mapping of tier to array of float
        As the engines counted them.
    latency_s : mapping of tier to array of float
        Seconds a call took.
    confidences : mapping of str to array of float
        Further numbers, by `<tier>|<name>`.
    tokens : mapping of tier to Tokens
        Answers token by token, for the tiers of which they were kept.
    """

    prompts: Prompts
    prompt_ids: tuple[str, ...]
    tiers: tuple[str, ...]
    grades: Mapping[str, FloatArray]
    groups: IntArray
    answers: Mapping[str, Answers] = field(default_factory=dict)
    prompt_tokens: Mapping[str, FloatArray] = field(default_factory=dict)
    completion_tokens: Mapping[str, FloatArray] = field(default_factory=dict)
    cached_tokens: Mapping[str, FloatArray] = field(default_factory=dict)
    latency_s: Mapping[str, FloatArray] = field(default_factory=dict)
    confidences: Mapping[str, FloatArray] = field(default_factory=dict)
    tokens: Mapping[str, Tokens] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, index: Sequence[int] | IntArray | BoolArray) -> OutcomeTable:
        """Select rows by integer index or boolean mask, in that order."""
        rows = np.arange(len(self))[np.asarray(index)]

        def cut(columns: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            return {name: column[rows] for name, column in columns.items()}

        return OutcomeTable(
            self.prompts.take(rows),
            tuple(self.prompt_ids[i] for i in rows),
            self.tiers,
            cut(self.grades),
            self.groups[rows],
            {tier: answers.take(rows) for tier, answers in self.answers.items()},
            cut(self.prompt_tokens),
            cut(self.completion_tokens),
            cut(self.cached_tokens),
            cut(self.latency_s),
            cut(self.confidences),
            {tier: tokens.take(rows) for tier, tokens in self.tokens.items()},
        )

    def only(self, *tiers: str) -> OutcomeTable:
        """Keep these tiers, in this order, and the rows on which all of them have a grade.

        DataError for an unknown tier, or where no prompt has been graded for all of them.
        """
        for tier in tiers:
            self.grade(tier)
        present = np.logical_and.reduce([np.isfinite(self.grades[tier]) for tier in tiers])
        if not present.any():
            raise DataError(f"no prompt has a grade of every tier asked for ({', '.join(tiers)})")

        def keep(columns: Mapping[str, Column]) -> dict[str, Column]:
            return {name: column for name, column in columns.items() if name.partition("|")[0] in tiers}

        kept = replace(
            self,
            tiers=tuple(tiers),
            grades={tier: self.grades[tier] for tier in tiers},
            answers=keep(self.answers),
            prompt_tokens=keep(self.prompt_tokens),
            completion_tokens=keep(self.completion_tokens),
            cached_tokens=keep(self.cached_tokens),
            latency_s=keep(self.latency_s),
            confidences=keep(self.confidences),
            tokens=keep(self.tokens),
        )
        return kept if present.all() else kept.take(present)

    def grade(self, tier: str) -> FloatArray:
        """Grades (n,) of one tier, NaN = missing; DataError names the tiers there are."""
        if tier not in self.grades:
            raise DataError(f"unknown tier {tier!r}; this table has: {', '.join(self.tiers)}")
        return self.grades[tier]

    def column(self, name: str) -> tuple[str, ...]:
        """A metadata column of n strings; DataError names the columns there are."""
        if name not in self.prompts.metadata:
            raise DataError(f"no column {name!r}; this table has: {', '.join(self.prompts.metadata) or 'none'}")
        return self.prompts.metadata[name]

    def answers_of(self, tier: str) -> Answers:
        """One tier's completions with every signal known of them; texts are '' where only signals were kept."""
        self.grade(tier)
        found = self.answers.get(tier)
        if found is None:
            found = Answers(self.prompts, ("",) * len(self), ("stop",) * len(self))
        extra = {n.partition("|")[2]: c for n, c in self.confidences.items() if n.partition("|")[0] == tier}
        return replace(found, signals={**found.signals, **extra})

    def without_duplicates_of(self, other: OutcomeTable) -> OutcomeTable:
        """The rows whose prompt is no duplicate of a prompt of `other`."""
        return self.take(~np.isin(self.groups, other.groups))

    @property
    def content_hash(self) -> str:
        """sha256 over prompts, metadata, grades, answers and counts, whatever the order of rows and columns.

        Tokens are left out: they add no label, so a table that gets them is the same table to whoever counts looks.
        """
        numbers = {f"grade|{tier}": column for tier, column in self.grades.items()}
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "latency_s"):
            numbers |= {f"{name}|{tier}": column for tier, column in getattr(self, name).items()}
        numbers |= {f"signal|{name}": column for name, column in self.confidences.items()}
        texts = {f"metadata|{name}": column for name, column in self.prompts.metadata.items()}
        for tier, answers in self.answers.items():
            texts |= {f"answer|{tier}": answers.texts, f"finish|{tier}": answers.finish_reasons}
            numbers |= {f"signal|{tier}|{name}": column for name, column in answers.signals.items()}
        rows = sorted(
            hashlib.sha256(
                "\x1f".join(
                    [text]
                    + [f"{name}={column[i]}" for name, column in sorted(texts.items())]
                    + [f"{name}={float(column[i])!r}" for name, column in sorted(numbers.items())]
                ).encode("utf-8", "surrogatepass")
            ).hexdigest()
            for i, text in enumerate(self.prompts.texts)
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def with_embeddings(self, source: TextEncoder | Path, cache: Path | None = None) -> OutcomeTable:
        """The same table with `prompts.embeddings`, unit rows.

        `source` is a .npy file with one row per prompt, in order, or an encoder; with `cache` (a folder) an encoder's
        work is stored there under the hash of its weights and the prompts, and read the next time.
        """
        if isinstance(source, Path):
            return self._embedded(load_embeddings(source))
        return self._embedded(cached_embeddings(source, self.prompts.texts, cache))

    def _embedded(self, vectors: NDArray[np.float32]) -> OutcomeTable:
        if vectors.ndim != 2 or len(vectors) != len(self):
            raise DataError(
                f"embeddings of shape {vectors.shape} for {len(self)} prompts: one row per prompt is needed"
            )
        if not np.isfinite(vectors).all():
            raise DataError(f"embeddings: row {int((~np.isfinite(vectors)).any(axis=1).argmax())} is NaN or infinite")
        vectors = vectors.astype(np.float32)
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        prompts = replace(self.prompts, embeddings=vectors)
        answers = {tier: replace(a, prompts=prompts) for tier, a in self.answers.items()}
        return replace(self, prompts=prompts, answers=answers)


def read_outcomes(
    path: Path | str,
    tiers: Sequence[str] | None = None,
    scale: tuple[float, float] | None = None,
    metadata: Sequence[str] = (),
) -> OutcomeTable:
    """Load a file of outcomes: one row per prompt and tier (LONG), or a column of grades per tier (WIDE).

    Parameters
    ----------
    path : Path or str
        A .parquet, .csv or .jsonl file.
    tiers : sequence of str, optional
        Keep only these tiers.
    scale : tuple of float, optional
        Maps scores from this range, such as (1, 10), to [0, 1].
    metadata : sequence of str
        Columns that are no grades although they hold numbers.

    Returns
    -------
    OutcomeTable
        Every prompt once, with the grades of every tier.

    Raises
    ------
    DataError
        Naming the column and row for what cannot be used.
    """
    try:
        return table_of(parse_columns(read_frame(Path(path)), tiers, scale, metadata))
    except DataError as error:
        raise DataError(message if (message := str(error)).startswith(str(path)) else f"{path}: {message}") from error


def table_of(columns: Columns) -> OutcomeTable:
    """Build the table from parsed columns: ids, duplicate groups, answers with their signals."""
    prompts = Prompts(columns.prompts, None, dict(columns.metadata))
    answers = {
        tier: Answers(
            prompts,
            texts,
            columns.finish_reasons.get(tier, ("stop",) * len(texts)),
            dict(columns.signals.get(tier, {})),
        )
        for tier, texts in columns.answers.items()
    }
    return OutcomeTable(
        prompts=prompts,
        prompt_ids=tuple(map(prompt_id, columns.prompts)),
        tiers=tuple(columns.grades),
        grades=dict(columns.grades),
        groups=group_duplicates(columns.prompts),
        answers=answers,
        prompt_tokens=dict(columns.counts.get("prompt_tokens", {})),
        completion_tokens=dict(columns.counts.get("completion_tokens", {})),
        cached_tokens=dict(columns.counts.get("cached_tokens", {})),
        latency_s=dict(columns.counts.get("latency_s", {})),
        confidences={f"{tier}|{n}": c for tier, named in columns.signals.items() for n, c in named.items()},
        tokens=dict(columns.tokens),
    )


def prompt_id(text: str) -> str:
    """16 hex digits of sha256 over the text without regard to case, spacing and Unicode form."""
    return hashlib.sha256(_normal(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def group_duplicates(
    texts: Sequence[str], embeddings: NDArray[np.float32] | None = None, cosine: float = 0.98
) -> IntArray:
    """Group near-duplicate prompts: (n,) int64, equal within a group, depending on the group's content alone.

    Prompts are duplicates when their letters and digits agree. With `embeddings` (unit rows) those with a cosine of
    at least `cosine` are merged as well, transitively; a group's number is then its smallest, which may change when
    prompts are added.
    """
    keys = [" ".join(_WORD.findall(normal)) or normal for normal in map(_normal, texts)]
    digests = (hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest() for key in keys)
    groups = np.array([int.from_bytes(d[:8], "big") >> 1 for d in digests], dtype=np.int64)
    if embeddings is None or len(groups) == 0:
        return groups
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    heads, members = np.unique(groups, return_inverse=True)
    left, right = [np.arange(len(groups))], [np.searchsorted(heads, groups) + len(groups)]
    for start in range(0, len(embeddings), 1024):
        a, b = np.nonzero(embeddings[start : start + 1024] @ embeddings.T >= cosine)
        left.append(a + start)
        right.append(b)
    i, j = np.concatenate(left), np.concatenate(right)
    size = len(groups) + len(heads)
    links = coo_matrix((np.ones(len(i)), (i, j)), shape=(size, size))
    part = connected_components(links, directed=False)[1][: len(groups)]
    smallest = np.full(part.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, part, heads[members])
    return np.asarray(smallest[part], dtype=np.int64)


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def split(table: OutcomeTable, shares: Mapping[str, float], seed: int = 0) -> dict[str, OutcomeTable]:
    """Part a table by content: every duplicate group falls, as a whole, into the split its hash and `seed` say.

    Shares are expectations, not exact sizes, and must sum to 1. Adding rows moves no row that was there.
    """
    total = sum(shares.values())
    if not shares or min(shares.values()) < 0 or abs(total - 1) > 1e-9:
        raise DataError(f"shares must be ≥ 0 and sum to 1, got {dict(shares)}")
    position = np.array([_unit(int(group), seed) for group in table.groups])
    edges = np.cumsum(list(shares.values()))
    edges[-1] = np.inf
    which = np.searchsorted(edges, position, side="right")
    return {name: table.take(np.flatnonzero(which == i)) for i, name in enumerate(shares)}


def _unit(group: int, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def assert_disjoint(splits: Mapping[str, OutcomeTable]) -> None:
    """Raise DataError, with an example, when a prompt or a near-duplicate of it is in two splits."""
    seen: dict[int, tuple[str, str]] = {}
    for name, table in splits.items():
        for group, text in zip(table.groups.tolist(), table.prompts.texts, strict=True):
            where, example = seen.setdefault(group, (name, text))
            if where != name:
                raise DataError(
                    f"{name!r} and {where!r} share a prompt: {text[:80]!r} and {example[:80]!r} are duplicates; "
                    "split with outcomes.split, which keeps duplicates together"
                )
