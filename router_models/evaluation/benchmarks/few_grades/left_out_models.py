"""What carries over to a model that is new: each model of a table left out, a few of its grades given back.

    python -m router_models.evaluation.benchmarks.few_grades.left_out_models FILE --models a,b --graded 150

The prompt side learns from the other models' grades of a third of the prompts and of those that are graded; what it
says of the new one is measured on the rest, beside prompt length and a router that learns from the same grades alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from router_models.data.embeddings.encoder import Encoder
from router_models.data.outcomes import OutcomeTable, read_outcomes
from router_models.errors import DataError
from router_models.estimators.routers import ROUTERS, LengthRouter
from router_models.estimators.routers.fallback import RouterWithFallback
from router_models.evaluation.benchmarks.few_grades.command import faults_in_a_line, whole_number
from router_models.metrics import Interval, auc, auc_weighted, bootstrap_values, interval_of
from router_models.reports.markdown import table as markdown_table
from router_models.training.labelling.new_model import measure_transfer

SIDE_SHARE = 1 / 3


@dataclass(frozen=True, slots=True)
class LeftOutModel:
    """Hold one model's figures on prompts that nothing saw: AUC by way of learning, and differences."""

    model: str
    method: str
    expected: float
    areas: dict[str, Interval]
    over_length: Interval
    over_alone: Interval


def leave_model_out(table: OutcomeTable, model: str, graded: int, family: str, seed: int) -> LeftOutModel:
    """Take one model for new, and measure what a few of its grades are worth.

    Parameters
    ----------
    table : OutcomeTable
        Prompts graded for every model, with embeddings, one row a duplicate group.
    model : str
        The model that is taken for new.
    graded : int
        How many of its grades are given back.
    family : str
        The router family that learns from these grades alone.
    seed : int
        Of the draw of prompts.

    Returns
    -------
    LeftOutModel

    Raises
    ------
    DataError
        Where the table has too few prompts.
    """
    side_n = _side_of(table, graded)
    order = np.random.default_rng(seed).permutation(len(table))
    train = table.take(order[side_n : side_n + graded])
    side, test = table.take(order[: side_n + graded]), table.take(order[side_n + graded :])
    found = measure_transfer(model, side, train, seed=seed)
    y, right = train.grade(model), (test.grade(model) >= 0.5).astype(np.float64)
    alone = RouterWithFallback(ROUTERS[family]()).fit(train.prompts, y)
    scores = {
        "prompt length": LengthRouter().predict(test.prompts),
        f"{family} alone": alone.predict(test.prompts),
        "carried over": found.choice.router.predict(test.prompts),
    }
    drawn = {
        name: bootstrap_values(auc_weighted(one, right), len(right), seed=seed, groups=test.groups)
        for name, one in scores.items()
    }
    areas = {name: auc(one, right) for name, one in scores.items()}

    def over(name: str) -> Interval:
        return interval_of(areas["carried over"] - areas[name], drawn["carried over"] - drawn[name])

    return LeftOutModel(
        model,
        found.method,
        found.choice.best.auc,
        {name: interval_of(areas[name], drawn[name]) for name in scores},
        over("prompt length"),
        over(f"{family} alone"),
    )


def _side_of(table: OutcomeTable, graded: int) -> int:
    """Return how many prompts are of other models alone; DataError where too few are left."""
    side_n = int(len(table) * SIDE_SHARE)
    if len(table) - side_n < 2 * graded:
        raise DataError(f"{len(table)} prompts are too few for {graded} graded ones and others to test on")
    return side_n


def new_models_page(found: Sequence[LeftOutModel]) -> str:
    """Return the figures as a table."""
    names = list(found[0].areas)
    rows = [["new model", "method", "AUC out of fold", *names, "over length", "over the same grades alone"]]
    for one in found:
        more = [f"{x.value:+.3f} ({x.low:+.3f} to {x.high:+.3f})" for x in (one.over_length, one.over_alone)]
        areas = [f"{one.areas[name].value:.3f}" for name in names]
        rows.append([one.model, one.method, f"{one.expected:.3f}", *areas, *more])
    return markdown_table(rows)


def print_new_models() -> None:
    """Read the outcomes, leave each named model out, print the table."""
    parser = argparse.ArgumentParser(description="What carries over to a model that is new.")
    parser.add_argument("outcomes", type=Path)
    parser.add_argument("--models", required=True, help="Models to take for new, comma-separated.")
    parser.add_argument("--graded", type=whole_number, default=150)
    parser.add_argument("--router", default="linear", choices=tuple(ROUTERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path(".serve_graph/embeddings"))
    given = parser.parse_args()
    with faults_in_a_line("left_out_models"):
        table = read_outcomes(given.outcomes)
        table = table.only(*table.tiers)
        for model in given.models.split(","):  # before prompts are embedded, which takes minutes
            table.grade(model)
        _side_of(table, given.graded)
        table = table.with_embeddings(Encoder(), given.cache)
        found = [
            leave_model_out(table, model, given.graded, given.router, given.seed) for model in given.models.split(",")
        ]
    print(f"{len(table):,} prompts, {len(table.tiers)} models\n\n{new_models_page(found)}")  # noqa: T201


if __name__ == "__main__":
    print_new_models()
