"""Hold recorded outcomes in columns: a table's rows are prompts, and every tier is a column of grades."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from router_models.data.embeddings.cache import TextEncoder, cached_embeddings, load_embeddings
from router_models.errors import DataError
from router_models.types import Answers, BoolArray, FloatArray, IntArray, Progress, Prompts, Tokens

Column = TypeVar("Column")


@dataclass(frozen=True, slots=True)
class OutcomeTable:
    """Hold n prompts with the grades of every tier, and what else was measured; all columns have n entries.

    Parameters
    ----------
    prompts : Prompts
        The texts, with embeddings and metadata where there are any.
    prompt_ids : tuple of str
        One per prompt; equal texts have equal ids.
    tiers : tuple of str
        The tiers' names.
    grades : mapping of tier to array of float
        In [0, 1]; NaN = not graded.
    groups : array of int
        Equal where prompts are duplicates, in this table and in any other.
    answers : mapping of tier to Answers
        For the tiers whose answers are recorded.
    prompt_tokens, completion_tokens, cached_tokens : mapping of tier to array of float
        As the engines counted them.
    latency_s : mapping of tier to array of float
        Seconds a call took.
    confidences : mapping of str to array of float
        Further numbers, by `<tier>|<name>`.
    tokens : mapping of tier to Tokens
        Answers token by token, for the tiers of which they were recorded.
    label_sources : mapping of tier to tuple of str
        Who gave each grade (`types.label_sources`), for the tiers of which it is said; an empty text where a row says
        nothing.
    collected_at : mapping of tier to tuple of str
        When each answer was made (`types.drawn`), for the tiers of which it is said; an empty text where a row says
        nothing.
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
    label_sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    collected_at: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, index: Sequence[int] | IntArray | BoolArray) -> OutcomeTable:
        """Select rows.

        Parameters
        ----------
        index : sequence of int, array of int, or array of bool
            Row numbers, in the order wanted, or a mask over the rows.

        Returns
        -------
        OutcomeTable
            The selected rows, in that order.
        """
        rows = np.arange(len(self))[np.asarray(index)]

        def selected(columns: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            return {name: column[rows] for name, column in columns.items()}

        return OutcomeTable(
            self.prompts.take(rows),
            tuple(self.prompt_ids[i] for i in rows),
            self.tiers,
            selected(self.grades),
            self.groups[rows],
            {tier: answers.take(rows) for tier, answers in self.answers.items()},
            selected(self.prompt_tokens),
            selected(self.completion_tokens),
            selected(self.cached_tokens),
            selected(self.latency_s),
            selected(self.confidences),
            {tier: tokens.take(rows) for tier, tokens in self.tokens.items()},
            {tier: tuple(sources[i] for i in rows) for tier, sources in self.label_sources.items()},
            {tier: tuple(moments[i] for i in rows) for tier, moments in self.collected_at.items()},
        )

    def only(self, *tiers: str, ungraded: str | None = None) -> OutcomeTable:
        """Keep some tiers, and the rows on which all of them have a grade.

        Parameters
        ----------
        *tiers : str
            The tiers to keep, in this order.
        ungraded : str, optional
            A tier of them that needs no grade where it answered (its tokens were counted); None: each needs one.

        Returns
        -------
        OutcomeTable

        Raises
        ------
        DataError
            For an unknown tier, or where no prompt has been graded for all of them.
        """
        for tier in tiers:
            self.grade(tier)
        present = np.logical_and.reduce(
            [np.isfinite(self.grades[tier]) | self._answered(tier, ungraded) for tier in tiers]
        )
        if not present.any():
            raise DataError(f"no prompt has a grade of every requested tier ({', '.join(tiers)})")

        def of_tiers(columns: Mapping[str, Column]) -> dict[str, Column]:
            return {name: column for name, column in columns.items() if name.partition("|")[0] in tiers}

        table = replace(
            self,
            tiers=tuple(tiers),
            grades={tier: self.grades[tier] for tier in tiers},
            answers=of_tiers(self.answers),
            prompt_tokens=of_tiers(self.prompt_tokens),
            completion_tokens=of_tiers(self.completion_tokens),
            cached_tokens=of_tiers(self.cached_tokens),
            latency_s=of_tiers(self.latency_s),
            confidences=of_tiers(self.confidences),
            tokens=of_tiers(self.tokens),
            label_sources=of_tiers(self.label_sources),
            collected_at=of_tiers(self.collected_at),
        )
        return table if present.all() else table.take(present)

    def _answered(self, tier: str, ungraded: str | None) -> BoolArray:
        """Where a tier answered, if it is the one that needs no grade for it, (n,); else nowhere."""
        counted = self.completion_tokens.get(tier) if tier == ungraded else None
        return np.zeros(len(self), dtype=np.bool_) if counted is None else np.isfinite(counted)

    def grade(self, tier: str) -> FloatArray:
        """Return the grades of one tier.

        Parameters
        ----------
        tier : str
            A name in `tiers`.

        Returns
        -------
        array of float, (n,)
            In [0, 1]; NaN = missing.

        Raises
        ------
        DataError
            For an unknown tier; the message lists the known ones.
        """
        if tier not in self.grades:
            raise DataError(f"unknown tier {tier!r}; this table has: {', '.join(self.tiers)}")
        return self.grades[tier]

    def column(self, name: str) -> tuple[str, ...]:
        """Return a metadata column.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        tuple of str
            n strings; an empty string means unknown.

        Raises
        ------
        DataError
            For an unknown column; the message lists the known ones.
        """
        if name not in self.prompts.metadata:
            raise DataError(f"no column {name!r}; this table has: {', '.join(self.prompts.metadata) or 'none'}")
        return self.prompts.metadata[name]

    def label_source(self, tier: str) -> tuple[str, ...]:
        """Return who gave each of a tier's grades.

        Parameters
        ----------
        tier : str
            One of the table's.

        Returns
        -------
        tuple of str
            One a prompt; empty texts where the table does not say.
        """
        self.grade(tier)
        return self.label_sources.get(tier, ("",) * len(self))

    def answers_of(self, tier: str) -> Answers:
        """Return one tier's completions with every signal recorded for them.

        Parameters
        ----------
        tier : str
            A name in `tiers`.

        Returns
        -------
        Answers
            n completions; texts are empty where only signals were recorded.

        Raises
        ------
        DataError
            For an unknown tier.
        """
        self.grade(tier)
        found = self.answers.get(tier)
        if found is None:
            found = Answers(self.prompts, ("",) * len(self), ("stop",) * len(self))
        extra = {n.partition("|")[2]: c for n, c in self.confidences.items() if n.partition("|")[0] == tier}
        return replace(found, signals={**found.signals, **extra})

    def without_duplicates_of(self, other: OutcomeTable) -> OutcomeTable:
        """Return the rows whose prompt duplicates no prompt of another table.

        Parameters
        ----------
        other : OutcomeTable
            The table whose prompts are excluded.

        Returns
        -------
        OutcomeTable
        """
        return self.take(~np.isin(self.groups, other.groups))

    @property
    def content_hash(self) -> str:
        """Return the sha256 of the table's content, independent of the order of rows and columns.

        It covers prompts, metadata, grades, answers and counts. Tokens, who graded and when are left out: they add no
        label, so that a table to which they are added remains the same evidence.
        """
        return hashlib.sha256("\n".join(sorted(self.row_hashes)).encode()).hexdigest()

    @property
    def row_hashes(self) -> tuple[str, ...]:
        """Return the sha256 of every row's content, (n,): equal for copies of a row, whatever the order of columns."""
        numbers = {f"grade|{tier}": column for tier, column in self.grades.items()}
        for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "latency_s"):
            numbers |= {f"{name}|{tier}": column for tier, column in getattr(self, name).items()}
        numbers |= {f"signal|{name}": column for name, column in self.confidences.items()}
        texts = {f"metadata|{name}": column for name, column in self.prompts.metadata.items()}
        for tier, answers in self.answers.items():
            texts |= {f"answer|{tier}": answers.texts, f"finish|{tier}": answers.finish_reasons}
            numbers |= {f"signal|{tier}|{name}": column for name, column in answers.signals.items()}
        return tuple(
            hashlib.sha256(
                "\x1f".join(
                    [text]
                    + [f"{name}={column[i]}" for name, column in sorted(texts.items())]
                    + [f"{name}={float(column[i])!r}" for name, column in sorted(numbers.items())]
                ).encode("utf-8", "surrogatepass")
            ).hexdigest()
            for i, text in enumerate(self.prompts.texts)
        )

    def with_embeddings(
        self, source: TextEncoder | Path, cache: Path | None = None, progress: Progress = lambda _: None
    ) -> OutcomeTable:
        """Return the table with `prompts.embeddings`, scaled to unit length.

        Parameters
        ----------
        source : TextEncoder or Path
            An encoder, or a .npy file with one row per prompt, in order.
        cache : Path, optional
            A folder in which an encoder's embeddings are stored, by the hash of its weights and the prompts, and
            read the next time; what a run that was cut short had embedded is not embedded again.
        progress : callable
            Receives a bar after every few hundred prompts.

        Returns
        -------
        OutcomeTable

        Raises
        ------
        DataError
            Where the embeddings do not match the prompts in number, or are not finite.
        """
        if isinstance(source, Path):
            vectors = load_embeddings(source)
            try:
                return self._embedded(vectors)
            except DataError as error:
                raise DataError(f"{source}: {error}") from error
        return self._embedded(cached_embeddings(source, self.prompts.texts, cache, progress))

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
