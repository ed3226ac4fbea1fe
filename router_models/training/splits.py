"""The three parts of an outcome table, made once: what fits, what places thresholds, and what certifies.

A prompt's part follows from its content and the seed alone, so that training and certifying agree on it without
talking, and rows that are added to a table move none that were there. Neither the order of a file nor rows that were
appended to it twice change anything: rows are read in an order drawn by hash, and where several are one group (equal
prompts, or one value of a column such as the user) one of them counts (`data.groups`).

Rows of served traffic that were chosen rather than drawn (`types.drawn`) never certify. Where rows have weights, those
of TRAIN keep them, and TUNE is thinned to rows of equal weight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from router_models.data.embeddings.encoder import Encoder
from router_models.data.groups import grouped_by, in_hash_order, one_of_each
from router_models.data.outcomes import OutcomeTable, assert_disjoint, split
from router_models.errors import DataError
from router_models.training.whose_labels import Evidence, LabelsUsed, labels_used, rows_that_count
from router_models.types import Progress
from router_models.types.drawn import chosen_rows, drawn_rows, sample_weights

SPLIT_SHARES: Mapping[str, float] = {"train": 0.40, "tune": 0.20, "cert": 0.40}


@dataclass(frozen=True)
class LabelledSplits:
    """Hold the prompts that every tier was graded on, in three parts that share no group.

    Parameters
    ----------
    table : OutcomeTable
        All of the rows, in hash order and without exact copies.
    train : OutcomeTable
        Fits routers and verifiers; every tier's answers are graded.
    tune : OutcomeTable
        Calibrates them and places thresholds: one row of each group, every tier's answers graded.
    cert : OutcomeTable
        Is read for certificates alone: one row of each group, of those whose labels may certify (`whose_labels`). Of
        the last tier grades may be missing, where the table was divided so that they may.
    seed : int
        The seed that the parts were made with.
    group_by : str, optional
        The column whose values were kept together; None: equal prompts alone.
    counted : tuple of str
        The tiers whose labels the promise counts; empty: all.
    evidence : {"given", "judge", "asked"}
        Which labels certify.
    left_out : OutcomeTable, optional
        Rows of CERT's part that do not count, for whose labels they are or for how they were chosen.
    gaps : int
        Rows of a random sample without a grade that counts (of the last tier, where the promise needs it; a judge's
        beside people's): none of the sample certifies then, since leaving those out would choose among the others.
    """

    table: OutcomeTable
    train: OutcomeTable
    tune: OutcomeTable
    cert: OutcomeTable
    seed: int
    group_by: str | None = None
    counted: tuple[str, ...] = ()
    evidence: Evidence = "given"
    left_out: OutcomeTable | None = None
    gaps: int = 0

    @property
    def tiers(self) -> tuple[str, ...]:
        """The tiers that were graded, as the table names them."""
        return self.table.tiers

    @property
    def chosen(self) -> int:
        """How many rows of CERT's part were left out because something other than chance chose them."""
        return 0 if self.left_out is None else int(chosen_rows(self.left_out.prompts).sum())

    @property
    def labels_used(self) -> LabelsUsed:
        """Whose labels CERT holds, and how many were left out; DataError where a judge's are mixed with others'."""
        without = self.cert.take(range(0)) if self.left_out is None else self.left_out
        return labels_used(self.cert, without, self.counted or self.tiers)

    def with_embeddings(
        self, encoder: Encoder, cache: Path | None = None, progress: Progress = lambda _: None
    ) -> LabelledSplits:
        """The same parts with every prompt embedded; what was embedded before is read from `cache`."""
        return _parted(
            self.table.with_embeddings(encoder, cache, progress),
            self.seed,
            self.group_by,
            self.counted,
            self.evidence,
            self.gaps,
        )

    def check(self, tiers: Sequence[str], seed: int, group_by: str | None = None) -> None:
        """Raise DataError where the parts are not those of these tiers, this seed and this column of groups."""
        if self.group_by != group_by:
            raise DataError(f"the splits are grouped by {self.group_by!r}, not by {group_by!r}")
        if set(self.tiers) != set(tiers) or self.seed != seed:
            raise DataError(
                f"the splits are of the tiers {self.tiers} with seed {self.seed}, not of {tuple(tiers)} with {seed}"
            )


def split_outcomes(
    table: OutcomeTable,
    tiers: Sequence[str],
    seed: int,
    group_by: str | None = None,
    *,
    counted: Sequence[str] = (),
    evidence: Evidence = "given",
    last_ungraded: bool = False,
) -> LabelledSplits:
    """Divide a table for fitting and certifying.

    Parameters
    ----------
    table : OutcomeTable
        Outcomes; only the rows that are graded for every one of `tiers` are kept.
    tiers : sequence of str
        The tiers of the version to be made.
    seed : int
        The candidate's; the same seed gives the same parts.
    group_by : str, optional
        A column whose equal values (users, sessions, documents, templates) belong to one group, as equal prompts do.
    counted : sequence of str
        The tiers whose labels the promise counts (`Settings.counted_tiers`); all by default.
    evidence : {"given", "judge", "asked"}
        Which labels certify: those of the rows, a judge's only where there are no others; a judge's alone; or labels
        that people are asked for, for which every row may serve.
    last_ungraded : bool
        Whether rows are kept for CERT on which the last tier answered and nobody graded it: harm takes such an answer
        for right.

    Returns
    -------
    LabelledSplits
        The three parts.

    Raises
    ------
    DataError
        For a tier or column that the table does not hold.
    """
    grouped = grouped_by(table.only(*tiers, ungraded=tiers[-1]), group_by)  # the same groups for every promise
    kept = grouped if last_ungraded else _graded(grouped)
    gaps = int(drawn_rows(grouped.prompts).sum() - drawn_rows(kept.prompts).sum())
    return _parted(in_hash_order(kept, seed), seed, group_by or None, tuple(counted), evidence, gaps)


def _parted(
    table: OutcomeTable, seed: int, group_by: str | None, counted: tuple[str, ...], evidence: Evidence, gaps: int
) -> LabelledSplits:
    parts = split(table, SPLIT_SHARES, seed)
    assert_disjoint(parts)
    train, tune = (_weighty(_graded(parts[name])) for name in ("train", "tune"))
    tune = _thinned(tune, seed)
    unfit = chosen_rows(parts["cert"].prompts) | (drawn_rows(parts["cert"].prompts) if gaps else False)
    drawn = parts["cert"].take(~unfit)
    may = rows_that_count(drawn, counted or table.tiers, evidence)
    if evidence == "judge" and len(drawn) and not may.any():
        raise DataError("no label of CERT is a judge's: leave --label-source judge out")
    sampled = drawn_rows(drawn.prompts)
    if lost := int((sampled & ~may).sum()):
        may, gaps = may & ~sampled, gaps + lost
    kept = drawn.take(may)
    tune, cert = (part.take(one_of_each(part.groups)) for part in (tune, kept))
    left_out = parts["cert"].take(~np.isin(parts["cert"].groups, cert.groups))
    return LabelledSplits(table, train, tune, cert, seed, group_by, counted, evidence, left_out, gaps)


def _graded(part: OutcomeTable) -> OutcomeTable:
    """The rows on which every tier is graded."""
    missing = np.any([np.isnan(part.grade(tier)) for tier in part.tiers], axis=0)
    return part.take(~missing) if missing.any() else part


def _weighty(part: OutcomeTable) -> OutcomeTable:
    """The rows that count for anything in training."""
    weights = sample_weights(part.prompts)
    return part if weights is None else part.take(weights > 0)


def _thinned(part: OutcomeTable, seed: int) -> OutcomeTable:
    """Rows of equal weight: each is kept, by a hash of its group, with its weight over the largest."""
    weights = sample_weights(part.prompts)
    if weights is None or not len(part):
        return part
    digests = (hashlib.sha256(f"thin:{seed}:{group}".encode()).digest() for group in part.groups.tolist())
    drawn = np.array([int.from_bytes(digest[:8], "big") / 2.0**64 for digest in digests])
    return part.take(drawn < weights / weights.max())
