"""Words and word pairs of a text in hashed buckets, as scikit-learn's `HashingVectorizer` fills them.

By the package `mmh3`, whose MurmurHash3 is the one that scikit-learn holds: importing that library for this function
alone brings 130 MB into every process that serves a version (docs/decisions/project/cluster/0090).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import mmh3
import numpy as np

from router_models.data.embeddings.encoder import MOST_CHARS
from router_models.types import IntArray


def readable(text: str) -> str:
    """Return the characters of a text that are read, lower case; lone surrogates are replaced."""
    return text[:MOST_CHARS].encode("utf-8", "replace").decode().lower()


def bucket_counts(words: Sequence[str], width: int) -> tuple[IntArray, IntArray]:
    """Return the buckets that words and pairs of neighbours fill, ascending, and how many fill each.

    `width`: the number of buckets, a power of two: for others scikit-learn places one hash in 2^32 elsewhere.
    """
    terms = [*words, *(f"{first} {second}" for first, second in pairwise(words))]
    hashes = np.array([mmh3.hash(term) for term in terms], dtype=np.int64)
    return np.unique(np.abs(hashes) % width, return_counts=True)
