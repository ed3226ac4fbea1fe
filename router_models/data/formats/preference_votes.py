"""Read preference votes: which of two models' answers to a prompt somebody liked better, one vote a row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from router_models.data.embeddings.cache import TextEncoder, cached_embeddings
from router_models.data.formats.cells import converted, place, to_prompts, to_texts
from router_models.data.formats.readers import read_frame
from router_models.errors import DataError
from router_models.types import BoolArray, FloatArray, IntArray, Progress, Prompts

VOTE_COLUMNS = ("prompt", "model_a", "model_b", "winner")
A, B, TIE, BOTH_BAD = "a", "b", "tie", "both-bad"
RESULTS = {A: 1.0, B: 0.0, TIE: 0.5, BOTH_BAD: 0.5}
"""What a vote counts for the first model: a tie, good or bad, is half a win of each."""
_SPELLINGS = {"model_a": A, "model_b": B, "both_bad": BOTH_BAD, "bothbad": BOTH_BAD, "tie (bothbad)": BOTH_BAD}


@dataclass(frozen=True, slots=True)
class VoteTable:
    """Hold n votes in columns.

    Parameters
    ----------
    prompts : Prompts
        What was asked, one entry a vote.
    left, right : tuple of str
        The two models (`model_a`, `model_b`).
    winners : tuple of str
        `a`, `b`, `tie` or `both-bad`.
    voters, groups : tuple of str
        Who voted (`judge` or `voter`), and what the prompt belongs to (a user, a session); empty: not said.
    """

    prompts: Prompts
    left: tuple[str, ...]
    right: tuple[str, ...]
    winners: tuple[str, ...]
    voters: tuple[str, ...]
    groups: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.winners)

    @property
    def results(self) -> FloatArray:
        """Return 1 where the left model won, 0 where the right one did, .5 for ties of both kinds, (n,)."""
        return np.array([RESULTS[winner] for winner in self.winners], dtype=np.float64)

    @property
    def models(self) -> tuple[str, ...]:
        """Return the models that were voted on, by name."""
        return tuple(sorted({*self.left, *self.right}))

    @property
    def content_hash(self) -> str:
        """Return the sha256 of all votes, in whatever order they stand."""
        columns = (self.prompts.texts, self.left, self.right, self.winners, self.voters, self.groups)
        rows = ("\x1f".join(row).encode("utf-8", "surrogatepass") for row in zip(*columns, strict=True))
        return hashlib.sha256(b"".join(sorted(hashlib.sha256(row).digest() for row in rows))).hexdigest()

    def take(self, index: IntArray | BoolArray) -> VoteTable:
        """Select votes by their numbers, or by a mask."""
        rows = np.arange(len(self))[np.asarray(index)]

        def selected(column: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(column[i] for i in rows)

        return VoteTable(
            self.prompts.take(rows),
            selected(self.left),
            selected(self.right),
            selected(self.winners),
            selected(self.voters),
            selected(self.groups),
        )

    def with_embeddings(
        self, encoder: TextEncoder, cache: Path | None = None, progress: Progress = lambda _: None
    ) -> VoteTable:
        """Return the same votes with every prompt embedded, equal ones once; `cache` keeps what was embedded."""
        texts = sorted(set(self.prompts.texts))
        vectors = cached_embeddings(encoder, texts, cache, progress)
        at = {text: i for i, text in enumerate(texts)}
        rows = np.array([at[text] for text in self.prompts.texts], dtype=np.int64)
        return replace(self, prompts=replace(self.prompts, embeddings=vectors[rows]))


def read_votes(path: Path) -> VoteTable:
    """Load a file of votes.

    Parameters
    ----------
    path : Path
        A .parquet, .csv or .jsonl file, compressed (.gz) or not, with the columns `prompt` (a text, or a conversation
        as a list of messages), `model_a`, `model_b` and `winner` (a, b, tie, both-bad; also as arenas spell them), and
        where known `judge` or `voter`, and `group`. Other columns are not read.

    Returns
    -------
    VoteTable

    Raises
    ------
    DataError
        Naming the column and the row (of text files the line) of what cannot be used.
    """
    try:
        return _votes(read_frame(path))
    except DataError as error:
        message = " ".join(str(error).splitlines())
        raise DataError(message if message.startswith(str(path)) else f"{path}: {message}") from error


def _votes(frame: pd.DataFrame) -> VoteTable:
    if missing := [name for name in VOTE_COLUMNS if name not in frame.columns]:
        raise DataError(
            f"no column(s) {', '.join(missing)}: a vote is one row of {', '.join(VOTE_COLUMNS)}; found: "
            f"{', '.join(map(str, frame.columns))}"
        )
    if frame.index.name != "line":
        frame = frame.reset_index(drop=True)
    prompts = to_prompts(frame["prompt"])
    left, right = (converted(frame[name], _model) for name in ("model_a", "model_b"))
    for row, (one, other) in enumerate(zip(left, right, strict=True)):
        if one == other:
            raise DataError(f"{place(frame, row)}: {one!r} is voted on against itself: drop the row")
    winners = converted(frame["winner"], _winner)
    nobody = ("",) * len(frame)
    voter = next((name for name in ("voter", "judge") if name in frame.columns), None)
    return VoteTable(
        Prompts(tuple(text for text, _ in prompts)),
        left,
        right,
        winners,
        nobody if voter is None else to_texts(frame[voter]),
        to_texts(frame["group"]) if "group" in frame.columns else nobody,
    )


def _model(cell: str) -> str:
    if not cell.strip():
        raise ValueError("no model: every vote names both")
    return cell.strip()


def _winner(cell: str) -> str:
    word = cell.strip().casefold()
    word = _SPELLINGS.get(word, word)
    if word not in RESULTS:
        raise ValueError(f"{cell[:40]!r} is no winner: a, b, tie or both-bad")
    return word
