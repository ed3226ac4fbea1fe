"""Which rows of a table a certificate speaks of: the coverage of CERT, and the rows of any table that it covers.

No label is read. Rows that are not covered are left out before anything is counted: a bound on all rows together
would let the risk of the covered ones reach ε / (1 - uncovered share).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from router_models.data.formats.condition_columns import conditions_of_table
from router_models.data.outcomes import OutcomeTable
from router_models.estimators.prompt_parts import without_system_prompt
from router_models.types import BoolArray
from router_models.types.coverage import Coverage, Uncovered
from router_models.types.text_coverage import NOT_COMPARED, TextCoverage
from router_models.versions.covering.covered_conditions import NOVELTY_QUANTILE, covered_conditions
from router_models.versions.covering.routed_by_intent import taken_out
from router_models.versions.covering.text_checks import rounded_up
from router_models.versions.router_version import RouterVersion


def coverage_of(
    version: RouterVersion, tune: OutcomeTable, cert: OutcomeTable, text: TextCoverage | None = None
) -> Coverage:
    """Return what a certificate on these CERT rows would cover.

    Parameters
    ----------
    version : RouterVersion
        Measures how far a prompt lies from its training data, if it can.
    tune : OutcomeTable
        Its distances say from where on a prompt is novel: beyond their `NOVELTY_QUANTILE`, rounded up.
    cert : OutcomeTable
        The rows that may count.
    text : TextCoverage, optional
        Which texts are covered; None: those that are usual among TUNE's.
    """
    far, edge = version.distance(cert.prompts), edge_of(version, tune)
    texts = usual_of(version, tune) if text is None else text
    unlike = unlike_rows(Coverage(text=texts), version, cert)
    kept = np.array([why is None for why in unlike], dtype=np.bool_)
    left_out = Counter(why.reason for why in unlike if why is not None)
    counted = cert if kept.all() else cert.take(kept)
    lengths = [counted.completion_tokens[t] for t in version.policy.tiers if t in counted.completion_tokens]
    known = [int(np.nanmax(column)) for column in lengths if np.isfinite(column).any()]
    found = covered_conditions(
        conditions_of_table(counted),
        edge,
        longest=max(known) if known and len(known) == len(version.policy.tiers) else None,
        distances=None if far is None else far[kept].tolist(),
    )
    found = replace(found, text=texts, left_out=tuple(sorted([*found.left_out, *left_out.items()])))
    return found if version.catalogue is None else replace(found, catalogue=version.catalogue.catalogue.binding)


def edge_of(version: RouterVersion, tune: OutcomeTable) -> float | None:
    """Return the distance from the training data from which on a prompt is novel; None where it is not measured."""
    near = version.distance(tune.prompts)
    return None if near is None or not len(near) else rounded_up(float(np.quantile(near, NOVELTY_QUANTILE)))


def usual_of(version: RouterVersion, tune: OutcomeTable) -> TextCoverage:
    """Return which texts are covered by what is usual among TUNE's; no label is read."""
    placed = any(tier in version.policy.points for tier in version.policy.tiers[:-1])
    return version.text_models.coverage(tune.prompts, conversations(tune), sent_down=placed)


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
        return coverage.uncovered(asked[row], None if far is None else float(far[row]))

    found = [uncovered(row) for row in range(len(table))]
    rest = [row for row, why in enumerate(found) if why is None]
    for row, unlike in zip(
        rest, unlike_rows(coverage, version, table.take(np.array(rest, dtype=np.int64))), strict=True
    ):
        found[row] = unlike
    return found


def unlike_rows(coverage: Coverage, version: RouterVersion, table: OutcomeTable) -> list[Uncovered | None]:
    """Return for every row why its text is not covered: not read whole, spelled otherwise, with an odd part; (n,).

    Nor are those that an intent takes from the router to another tier than the cheapest (`routed_by_intent`).
    """
    found = [version.unread(text) for text in table.prompts.texts]
    found = [long or taken for long, taken in zip(found, taken_out(version, table.prompts), strict=True)]
    if coverage.text == NOT_COMPARED or not len(table):
        return found
    rest = [row for row, long in enumerate(found) if long is None]
    texts, read_whole = conversations(table), np.array(rest, dtype=np.int64)
    prompts = table.prompts.take(read_whole)
    down = version.sent_down(prompts) if coverage.text.sent_down else None
    unlike = version.text_models.unlike(coverage, prompts, [texts[row] for row in rest], down)
    for row, why in zip(rest, unlike, strict=True):
        found[row] = why
    return found


def conversations(table: OutcomeTable) -> list[str]:
    """Return the rows' texts without the system prompts that they were asked under, (n,)."""
    texts = table.prompts.texts
    digests = [asked.system_prompt for asked in conditions_of_table(table)]
    return [without_system_prompt(text, digest) for text, digest in zip(texts, digests, strict=True)]


def prompt_bytes(table: OutcomeTable) -> list[int]:
    """Return how long every prompt of a table is, (n,), in bytes of UTF-8."""
    return [len(text.encode("utf-8", "replace")) for text in table.prompts.texts]


def covered_rows(coverage: Coverage, version: RouterVersion, table: OutcomeTable) -> BoolArray:
    """Return which rows are covered, (n,)."""
    return np.array([why is None for why in uncovered_rows(coverage, version, table)], dtype=np.bool_)
