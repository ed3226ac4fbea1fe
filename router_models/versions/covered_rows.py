"""Which rows of a table a certificate speaks of: the coverage of CERT, and the rows of any table that it covers.

No label is read. Rows that are not covered are left out before anything is counted: a bound on all rows together
would let the risk of the covered ones reach ε / (1 - uncovered share).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from router_models.data.formats.condition_columns import conditions_of_table
from router_models.data.outcomes import OutcomeTable
from router_models.types import BoolArray
from router_models.types.coverage import NOVELTY_QUANTILE, Coverage, Uncovered
from router_models.versions.router_version import RouterVersion


def coverage_of(version: RouterVersion, tune: OutcomeTable, cert: OutcomeTable) -> Coverage:
    """Return what a certificate on these CERT rows would cover.

    Parameters
    ----------
    version : RouterVersion
        Measures how far a prompt lies from its training data, if it can.
    tune : OutcomeTable
        Its distances say from where on a prompt is novel: beyond their `NOVELTY_QUANTILE`, rounded up.
    cert : OutcomeTable
        The rows that may count.
    """
    read = np.array([version.unread(text) is None for text in cert.prompts.texts], dtype=np.bool_)
    long, cert = int((~read).sum()), cert if read.all() else cert.take(read)
    far, near = version.distance(cert.prompts), version.distance(tune.prompts)
    edge = None
    if near is not None and len(near):
        edge = (math.floor(1000 * float(np.quantile(near, NOVELTY_QUANTILE))) + 1) / 1000
    lengths = [cert.completion_tokens[tier] for tier in version.policy.tiers if tier in cert.completion_tokens]
    known = [int(np.nanmax(column)) for column in lengths if np.isfinite(column).any()]
    found = Coverage.of(
        conditions_of_table(cert),
        edge,
        longest=max(known) if known and len(known) == len(version.policy.tiers) else None,
        distances=None if far is None else far.tolist(),
    )
    return replace(found, left_out=tuple(sorted([*found.left_out, ("length", long)]))) if long else found


def uncovered_rows(coverage: Coverage, version: RouterVersion, table: OutcomeTable) -> list[Uncovered | None]:
    """Return for every row why it is not covered, (n,); None where it is. Embeddings must be there where read."""
    asked = conditions_of_table(table)
    far = version.distance(table.prompts) if coverage.novelty is not None else None
    sizes, most = prompt_bytes(table), version.longest_prompt

    def uncovered(row: int) -> Uncovered | None:
        if most is not None and sizes[row] > most:
            return Uncovered(
                "length", f"the prompt is longer than the {most} bytes that a tier below the last has room for"
            )
        if (unread := version.unread(table.prompts.texts[row])) is not None:
            return unread
        return coverage.uncovered(asked[row], None if far is None else float(far[row]))

    return [uncovered(row) for row in range(len(table))]


def prompt_bytes(table: OutcomeTable) -> list[int]:
    """Return how long every prompt of a table is, (n,), in bytes of UTF-8."""
    return [len(text.encode("utf-8", "replace")) for text in table.prompts.texts]


def covered_rows(coverage: Coverage, version: RouterVersion, table: OutcomeTable) -> BoolArray:
    """Return which rows are covered, (n,)."""
    return np.array([why is None for why in uncovered_rows(coverage, version, table)], dtype=np.bool_)
