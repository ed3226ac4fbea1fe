"""Router families on a labelled table, each prompt scored by a router that had not seen it; then all the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from router_models.certified_point import Terms
from router_models.economics import TierTerms, calls_of
from router_models.evaluation import Evaluation, baselines, evaluate
from router_models.held_out import (
    Held,
    Progress,
    domain_column,
    domain_folds_of,
    families_of,
    folds_of,
    held_out_scores,
    targets_of,
    transferred_scores,
    without_near_duplicates,
)
from router_models.outcomes import OutcomeTable
from router_models.types import FloatArray


@dataclass(frozen=True, slots=True)
class Source:
    """Other outcomes to train on, with the names its tiers have there."""

    name: str
    table: OutcomeTable
    weak: str
    strong: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """How scores are made. `labels`: at most so many training prompts a fold. `domain`: the column to hold out whole
    values of, None = the first usual one, '' = none. `train`: fit on this instead of on folds.
    """

    families: Sequence[str] = ("default",)
    folds: int = 5
    labels: int | None = None
    domain: str | None = None
    target: str = "weak"
    train: Source | None = None
    seed: int = 0


def cross_validate(
    table: OutcomeTable,
    weak: str,
    strong: str,
    protocol: Protocol,
    terms: Terms,
    now: datetime,
    *,
    name: str = "outcomes",
    notes: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> tuple[Evaluation, list[Held]]:
    """The figures, and every method's scores (baselines first) for the pictures. `table` holds graded rows only.

    DataError for unknown families or columns, a pair without a gap, or training data that is the test data.
    """
    usable, left = families_of(protocol.families, table)
    said = [*notes, *(f"{family} left out: it {why}" for family, why in left.items())]
    seed = protocol.seed
    held: list[Held] = []
    away: dict[str, FloatArray] = {}
    domain = None
    if protocol.train is not None:
        other, dropped = without_near_duplicates(protocol.train.table, table)
        y = targets_of(other, protocol.train.weak, protocol.train.strong, protocol.target)
        if protocol.labels is not None and protocol.labels < len(other):
            rows = np.sort(np.random.default_rng(seed).permutation(len(other))[: protocol.labels])
            other, y = other.take(rows), y[rows]
        said.append(
            f"trained on {len(other):,} prompts of {protocol.train.name} ({protocol.train.weak} → "
            f"{protocol.train.strong}); {dropped:,} that nearly repeat a test prompt were removed"
        )
        for family in usable:
            progress(f"{family}: fitting on {len(other)} prompts of {protocol.train.name}")
            scores = transferred_scores(table, family, other, y)
            held.append(Held(family, f"trained on {protocol.train.name}", scores))
    else:
        y = targets_of(table, weak, strong, protocol.target)
        splits = folds_of(table, protocol.folds, seed)
        domain = None if protocol.domain == "" else domain_column(table, protocol.domain)
        far = domain_folds_of(table, domain, protocol.folds, seed) if domain is not None and usable else []
        few = "" if protocol.labels is None else f", {protocol.labels:,} labels"
        for family in usable:
            scores = held_out_scores(table, family, y, splits, labels=protocol.labels, seed=seed, progress=progress)
            held.append(Held(family, f"{protocol.folds} grouped folds{few}", scores))
            if far:
                away[family] = held_out_scores(
                    table, family, y, far, labels=protocol.labels, seed=seed, progress=progress
                )
    progress("intervals")
    found = evaluate(table, weak, strong, held, terms, now, name=name, away=away, domain=domain, notes=said, seed=seed)
    return found, [*baselines(table, weak, strong), *held]


def costs_of(
    table: OutcomeTable,
    weak: str,
    strong: str,
    prices: tuple[TierTerms, TierTerms] | None,
    *,
    epsilon: float,
    delta: float,
    acceptable: float | None = None,
) -> Terms:
    """What the figures are taken at: dollars per prompt where prices are given, else strong calls."""
    if prices is None:
        n = len(table)
        return Terms(np.zeros(n), np.ones(n), False, epsilon, delta, acceptable)
    low, high = (calls_of(table, tier, given).usd for tier, given in zip((weak, strong), prices, strict=True))
    return Terms(low, high, True, epsilon, delta, acceptable)
