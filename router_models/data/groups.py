"""Decide which rows count as evidence, and in which order they are read.

A bound on a risk takes rows for independent draws. Rows of one group are not: copies of a prompt, the requests of one
user, the instances of one template. One row of each group counts, drawn by hash, in an order drawn by hash. Neither
draw looks at a label, so that no file and no order of one gives another certificate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from router_models.data.splits import group_duplicates
from router_models.data.table import OutcomeTable
from router_models.errors import DataError
from router_models.types import BoolArray, IntArray

MOST_IN_ONE_GROUP = 0.5
"""The share of the rows that one group may hold; a larger one leaves nothing to split or resample."""


def grouped_by(table: OutcomeTable, column: str | None) -> OutcomeTable:
    """Put rows into one group that share a value of a metadata column, or a prompt; transitively.

    Parameters
    ----------
    table : OutcomeTable
        The table.
    column : str, optional
        For example the column of users, sessions, documents or templates. A row without a value is grouped by its
        prompt alone. None: nothing changes.

    Returns
    -------
    OutcomeTable
        With other `groups`; a group's number depends on its content alone.

    Raises
    ------
    DataError
        For an unknown column, and where it joins more than half of the rows into one group.
    """
    if not column or len(table) == 0:
        return table
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    prompts = group_duplicates(table.prompts.texts)
    values = table.column(column)
    own = np.array(
        [
            _number(f"{column}\x1f{value}") if value else int(group)
            for value, group in zip(values, prompts, strict=True)
        ],
        dtype=np.int64,
    )
    (_, left), (_, right) = (np.unique(names, return_inverse=True) for names in (own, prompts))
    sizes = (int(left.max()) + 1, int(right.max()) + 1)
    links = coo_matrix((np.ones(len(left)), (left, right + sizes[0])), shape=(sum(sizes), sum(sizes)))
    part = connected_components(links, directed=False)[1][left]
    smallest = np.full(int(part.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, part, own)
    largest = int(np.bincount(part).max())
    if largest > MOST_IN_ONE_GROUP * len(table):
        raise DataError(
            f"column {column!r} joins {largest} of {len(table)} rows into one group, by its values and the prompts "
            "they share: group by a column with more values, or leave out the prompts that many of them share"
        )
    return replace(table, groups=smallest[part])


def in_hash_order(table: OutcomeTable, seed: int) -> OutcomeTable:
    """Drop exact copies of rows, and order the others by a hash of the seed and their group, then of their content.

    Parameters
    ----------
    table : OutcomeTable
        The table, in any order.
    seed : int
        Another seed gives another order.

    Returns
    -------
    OutcomeTable
        The same for every order of the rows, whether or not some of them were appended again.
    """
    return table.take(hash_order(table, seed))


def hash_order(table: OutcomeTable, seed: int) -> IntArray:
    """Return the rows of `in_hash_order`, by their numbers in this table."""
    graders = zip(*(table.label_source(tier) for tier in sorted(table.label_sources)), strict=True)
    keys = [
        (_digest(f"order:{seed}:{group}"), _digest(f"{seed}:{row}"), said)
        for group, row, said in zip(
            table.groups.tolist(), table.row_hashes, graders if table.label_sources else [()] * len(table), strict=True
        )
    ]
    made = [tuple(table.collected_at[tier][i] for tier in sorted(table.collected_at)) for i in range(len(table))]
    first: dict[tuple[bytes, bytes, tuple[str, ...]], int] = {}
    for i in sorted(range(len(table)), key=made.__getitem__):  # of copies the oldest, and first what does not say
        first.setdefault(keys[i], i)
    return np.array([first[key] for key in sorted(first)], dtype=np.int64)


def one_of_each(groups: Sequence[int] | IntArray) -> BoolArray:
    """Return which rows count: the first of each group. In a table `in_hash_order` that is a row drawn by hash.

    Parameters
    ----------
    groups : array of int, (n,)
        Equal within a group.

    Returns
    -------
    array of bool, (n,)
    """
    counted = np.zeros(len(groups), dtype=np.bool_)
    counted[np.unique(np.asarray(groups), return_index=True)[1]] = True
    return counted


def evidence_rows(table: OutcomeTable, seed: int) -> IntArray:
    """Return the numbers of one hash-drawn row of each group, in hash order: what a certificate may count."""
    ordered = hash_order(table, seed)
    return ordered[one_of_each(table.groups[ordered])]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _number(text: str) -> int:
    return int.from_bytes(_digest(text)[:8], "big") >> 1
