"""Evaluate on a sample the families that need minutes, or a language model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from router_models.data.outcomes import OutcomeTable
from router_models.estimators.routers import ROUTERS
from router_models.evaluation.benchmarks.prompt_readers import read_by
from router_models.evaluation.certified_point import PromiseTerms
from router_models.evaluation.cross_validation import Protocol, cross_validate_routers
from router_models.evaluation.figures import Evaluation
from router_models.types import Progress
from router_models.types.exchange import BEFORE_NAMES


@dataclass(frozen=True, slots=True)
class Slow:
    """Hold how the slow families are evaluated.

    Parameters
    ----------
    prompts : int
        On at most so many prompts.
    reader : Path, optional
        The folder of a local language model that reads prompts.
    cache : Path, optional
        A folder for what it read.
    """

    prompts: int
    reader: Path | None = None
    cache: Path | None = None

    @property
    def families(self) -> tuple[str, ...]:
        """Return the families that can be evaluated, in the registry's order: without a reader none that needs one."""
        slow = {name: cls for name, cls in ROUTERS.items() if cls.apart and not cls.needs_votes}
        if self.reader is None:
            return tuple(name for name, cls in slow.items() if not (cls.needs_reader or cls.needs_signals))
        read = set(BEFORE_NAMES)
        return tuple(name for name, cls in slow.items() if not cls.needs_signals or read & set(cls.needs_signals))


def evaluate_slow(
    table: OutcomeTable,
    weak: str,
    strong: str,
    protocol: Protocol,
    slow: Slow,
    now: datetime,
    *,
    name: str = "outcomes",
    progress: Progress = lambda _: None,
) -> Evaluation:
    """Evaluate the slow families beside the baselines and the default, on prompts drawn by `protocol.seed`.

    In-domain folds only, with all labels of the sample.

    Parameters
    ----------
    table : OutcomeTable
        Prompts graded for both tiers.
    weak, strong : str
        The two tiers.
    protocol : Protocol
        How scores are made.
    slow : Slow
        Sample size and reader.
    now : datetime
        The time of the evaluation.
    name : str
        The set's name.
    progress : callable
        Receives a sentence about each step.

    Returns
    -------
    Evaluation

    Raises
    ------
    DataError
        As `cross_validate_routers` does.
    ArtifactError
        Where the reader's folder holds no model.
    """
    if slow.prompts < len(table):
        drawn = np.random.default_rng(protocol.seed).permutation(len(table))[: slow.prompts]
        table = table.take(np.sort(drawn))
    if slow.reader is not None:
        progress(f"{name}: {slow.reader.name} reads {len(table)} prompts (kept in {slow.cache})")
        table = read_by(table, slow.reader, slow.cache, progress=progress, families=slow.families)
    families = ("default", *slow.families)
    plainly = replace(protocol, families=families, labels=None, domain="", certify=False)
    terms = PromiseTerms(np.zeros(len(table)), np.ones(len(table)), False, 0.1, 0.1)
    found, _ = cross_validate_routers(table, weak, strong, plainly, terms, now, name=name, progress=progress)
    return found
