"""Prompts of one set that ask what another set asks, in nearly the same words.

Benchmarks share questions under other wordings, with options added or removed; a router trained on one and tested on
the other would be remembering. Two signs count: shared runs of words, and sentence embeddings that all but coincide.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from router_models.types import BoolArray

_WORD = re.compile(r"[^\W_]+")
RUN = 6
SHARED = 0.4
COSINE = 0.92


def near_duplicates_of(
    texts: Sequence[str],
    others: Sequence[str],
    embeddings: NDArray[np.float32] | None = None,
    other_embeddings: NDArray[np.float32] | None = None,
    *,
    shared: float = SHARED,
    cosine: float = COSINE,
) -> BoolArray:
    """Which of `texts` (n,) nearly repeat one of `others`.

    A text repeats another when at least `shared` of its runs of six words, or of the other's, occur in that one other
    text. With embeddings of both (unit rows), also when a cosine reaches `cosine`.
    """
    found = _by_words(texts, others, shared)
    if embeddings is not None and other_embeddings is not None:
        for start in range(0, len(texts), 512):
            rows = slice(start, start + 512)
            found[rows] |= (embeddings[rows] @ other_embeddings.T).max(axis=1) >= cosine
    return found


def _by_words(texts: Sequence[str], others: Sequence[str], shared: float) -> BoolArray:
    where: dict[int, list[int]] = {}
    sizes = []
    for i, text in enumerate(others):
        runs = _runs(text)
        sizes.append(len(runs))
        for run in runs:
            where.setdefault(run, []).append(i)
    found = np.zeros(len(texts), dtype=np.bool_)
    for k, text in enumerate(texts):
        runs = _runs(text)
        hits: dict[int, int] = {}
        for run in runs:
            for i in where.get(run, ()):
                hits[i] = hits.get(i, 0) + 1
        found[k] = any(n >= shared * min(len(runs), sizes[i]) for i, n in hits.items())
    return found


def _runs(text: str) -> set[int]:
    """Hashes of all runs of RUN words; a shorter text is one run."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if len(words) <= RUN:
        return {hash(tuple(words))}
    return {hash(tuple(words[i : i + RUN])) for i in range(len(words) - RUN + 1)}
