"""Words and word pairs of a text in hashed buckets, as scikit-learn's `HashingVectorizer` fills them.

By the package `mmh3`, whose MurmurHash3 is the one that scikit-learn holds: importing that library for this function
alone brings 130 MB into every process that serves a version (docs/decisions/project/cluster/0090).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import mmh3
import numpy as np

from router_models.data.embeddings.encoder import MOST_CHARS
from router_models.types import IntArray

FEW_TERMS = 64
"""Up to so many are counted one by one: more are quicker as an array."""


def readable(text: str) -> str:
    """Return the characters of a text that are read, lower case; lone surrogates are replaced."""
    return text[:MOST_CHARS].encode("utf-8", "replace").decode().lower()


def bucket_counts(words: Sequence[str], width: int) -> tuple[IntArray, IntArray]:
    """Return the buckets that words and pairs of neighbours fill, ascending, and how many fill each.

    `width`: the number of buckets, a power of two: for others scikit-learn places one hash in 2^32 elsewhere.
    """
    terms = [*words, *(f"{first} {second}" for first, second in pairwise(words))]
    if len(terms) <= FEW_TERMS:
        found = sorted(Counter([abs(mmh3.hash(term)) % width for term in terms]).items())
        return np.array([bucket for bucket, _ in found], dtype=np.int64), np.array(
            [n for _, n in found], dtype=np.int64
        )
    hashes = np.array([mmh3.hash(term) for term in terms], dtype=np.int64)
    return np.unique(np.abs(hashes) % width, return_counts=True)
