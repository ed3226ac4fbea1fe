"""Identify, group and split prompts, so that no question is on both sides of a split.

Splits are drawn by hashing the content of groups of duplicate prompts: a prompt keeps its split when rows are added.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from router_models.errors import DataError
from router_models.types import IntArray

if TYPE_CHECKING:
    from router_models.data.table import OutcomeTable

_WORD = re.compile(r"[^\W_]+")


def prompt_id(text: str) -> str:
    """Return the identifier of a prompt.

    Parameters
    ----------
    text : str
        The prompt; case, white space and Unicode form do not matter.

    Returns
    -------
    str
        16 hexadecimal digits of a sha256.
    """
    return hashlib.sha256(_normal(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def group_duplicates(
    texts: Sequence[str], embeddings: NDArray[np.float32] | None = None, cosine: float = 0.98
) -> IntArray:
    """Group near-duplicate prompts.

    Prompts are duplicates when their letters and digits agree. A group's number depends on its content alone, except
    with `embeddings`, where it is the smallest of the merged groups and may change when prompts are added.

    Parameters
    ----------
    texts : sequence of str
        The n prompts.
    embeddings : array of float32, (n, d), optional
        Unit rows; prompts whose cosine reaches `cosine` are merged as well, transitively.
    cosine : float
        The similarity from which on two prompts count as duplicates.

    Returns
    -------
    array of int64, (n,)
        Equal within a group.
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
    """Divide a table by content: every duplicate group falls as a whole into one split.

    The split of a group depends on its hash and on `seed` alone, so that adding rows moves no other row.

    Parameters
    ----------
    table : OutcomeTable
        The table to divide.
    shares : mapping of str to float
        The expected share of rows by the name of the split; shares are ≥ 0 and sum to 1.
    seed : int
        Another seed draws other splits.

    Returns
    -------
    dict of str to OutcomeTable
        The splits by name; their sizes follow the shares approximately.

    Raises
    ------
    DataError
        Where the shares are negative or do not sum to 1.
    """
    total = sum(shares.values())
    if not shares or min(shares.values()) < 0 or abs(total - 1) > 1e-9:
        raise DataError(f"shares must be ≥ 0 and sum to 1, got {dict(shares)}")
    position = np.array([_unit(int(group), seed) for group in table.groups])
    edges = np.cumsum(list(shares.values()))
    edges[-1] = np.inf
    index = np.searchsorted(edges, position, side="right")
    return {name: table.take(np.flatnonzero(index == i)) for i, name in enumerate(shares)}


def _unit(group: int, seed: int) -> float:
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def assert_disjoint(splits: Mapping[str, OutcomeTable]) -> None:
    """Raise DataError, with an example, where a prompt or a duplicate of it is in two splits.

    Parameters
    ----------
    splits : mapping of str to OutcomeTable
        The splits by name.
    """
    first_use: dict[int, tuple[str, str]] = {}
    for name, table in splits.items():
        for group, text in zip(table.groups.tolist(), table.prompts.texts, strict=True):
            other, example = first_use.setdefault(group, (name, text))
            if other != name:
                raise DataError(
                    f"{name!r} and {other!r} share a prompt: {text[:80]!r} and {example[:80]!r} are duplicates; "
                    "split with outcomes.split, which keeps duplicates together"
                )
