"""The three parts of an outcome table, made once: what fits, what places thresholds, and what certifies.

A prompt's part follows from its content and the seed alone, so that training and certifying agree on it without
talking, and rows that are added to a table move none that were there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from router_models.data.features import Encoder
from router_models.data.outcomes import OutcomeTable, assert_disjoint, split
from router_models.errors import DataError

SPLIT_SHARES: Mapping[str, float] = {"train": 0.40, "tune": 0.20, "cert": 0.40}


@dataclass(frozen=True)
class LabelledSplits:
    """Hold the prompts that every tier was graded on, in three parts that share no prompt.

    Parameters
    ----------
    table : OutcomeTable
        All of the prompts.
    train : OutcomeTable
        Fits routers and verifiers.
    tune : OutcomeTable
        Calibrates them and places thresholds.
    cert : OutcomeTable
        Is read for certificates alone.
    seed : int
        The seed that the parts were made with.
    """

    table: OutcomeTable
    train: OutcomeTable
    tune: OutcomeTable
    cert: OutcomeTable
    seed: int

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that were graded, as the table names them."""
        return self.table.tiers

    def with_embeddings(self, encoder: Encoder, cache: Path | None = None) -> LabelledSplits:
        """The same parts with every prompt embedded; what was embedded before is read from `cache`."""
        return _parted(self.table.with_embeddings(encoder, cache), self.seed)

    def check(self, tiers: Sequence[str], seed: int) -> None:
        """Raise DataError where the parts are not those of these tiers and this seed."""
        if set(self.tiers) != set(tiers) or self.seed != seed:
            raise DataError(
                f"the splits are of the tiers {self.tiers} with seed {self.seed}, not of {tuple(tiers)} with {seed}"
            )


def split_outcomes(table: OutcomeTable, tiers: Sequence[str], seed: int) -> LabelledSplits:
    """Divide a table for fitting and certifying.

    Parameters
    ----------
    table : OutcomeTable
        Outcomes; only the rows that are graded for every one of `tiers` are kept.
    tiers : sequence of str
        The tiers of the version to be made.
    seed : int
        The candidate's; the same seed gives the same parts.

    Returns
    -------
    LabelledSplits
        The three parts.

    Raises
    ------
    DataError
        For a tier that the table does not hold.
    """
    return _parted(table.only(*tiers), seed)


def _parted(table: OutcomeTable, seed: int) -> LabelledSplits:
    parts = split(table, SPLIT_SHARES, seed)
    assert_disjoint(parts)
    return LabelledSplits(table, **parts, seed=seed)
