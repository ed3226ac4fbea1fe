"""Find prompts of one set that nearly repeat prompts of another.

Benchmarks share questions under other wordings, with options added or removed; a router trained on one and tested on
the other would be tested on its training data. Two criteria are used: shared runs of words, and sentence embeddings
that almost coincide.
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
    """Return which texts nearly repeat one of the others.

    A text repeats another when at least the share `shared` of its runs of six words, or of the other's, occurs in that
    one other text. With embeddings of both, also when a cosine reaches `cosine`.

    Parameters
    ----------
    texts, others : sequence of str
        The n texts to test, and the m texts to compare them with.
    embeddings, other_embeddings : array of float32, (n, d) and (m, d), optional
        Unit rows.
    shared : float
        A share in (0, 1].
    cosine : float
        A similarity in [-1, 1].

    Returns
    -------
    array of bool, (n,)
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
    """Return hashes of all runs of RUN words; a shorter text is one run."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if len(words) <= RUN:
        return {hash(tuple(words))}
    return {hash(tuple(words[i : i + RUN])) for i in range(len(words) - RUN + 1)}
