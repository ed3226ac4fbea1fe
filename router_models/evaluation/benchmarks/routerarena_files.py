"""Read what RouterArena publishes (arXiv 2510.00202): its prompts, its perturbed prompts, and routers' predictions.

    <folder>/dataset/router_data.json           prompts of the full split; router_data_10.json, of its tenth
    <folder>/dataset/router_robustness.json     the same prompts perturbed, by the same `global index`
    <folder>/router_inference/predictions/R.json, R-robustness.json    what a router R chose, with costs and grades

The layout is that of a checkout of RouteWorks/RouterArena after its `prep_datasets.py`. An entry of a prediction file
names a query (`global index`), the chosen model (`prediction`), its `accuracy` and `cost` in dollars, and whether it
is there `for_optimality` alone: the answer of a model that was not chosen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from router_models.data.formats import Columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import DataError

PREDICTIONS = Path("router_inference") / "predictions"
ROBUST = "-robustness"
Graded = tuple[float, float]
"""A model's grade and its cost in dollars, of one query."""


@dataclass(frozen=True, slots=True)
class ArenaEntry:
    """Hold what one router chose for one query, or, `for_optimality`, what another model would have given."""

    index: str
    model: str
    accuracy: float | None
    cost_usd: float | None
    for_optimality: bool = False


@dataclass(frozen=True, slots=True)
class ArenaData:
    """Hold a checkout.

    Parameters
    ----------
    prompts, perturbed : mapping of str to str
        By global index.
    tenth : frozenset of str
        The queries by which optimality is measured; empty: it is not there.
    predictions, robust : mapping of str to tuple of ArenaEntry
        By router: of the prompts, and of the perturbed ones.
    """

    prompts: Mapping[str, str]
    perturbed: Mapping[str, str] = field(default_factory=dict)
    tenth: frozenset[str] = frozenset()
    predictions: Mapping[str, tuple[ArenaEntry, ...]] = field(default_factory=dict)
    robust: Mapping[str, tuple[ArenaEntry, ...]] = field(default_factory=dict)

    def graded(self) -> dict[str, dict[str, Graded]]:
        """Return every model's grade and cost by query, from whichever prediction file has them: model → index."""
        found: dict[str, dict[str, Graded]] = {}
        for entries in self.predictions.values():
            for one in entries:
                if one.accuracy is not None and one.cost_usd is not None:
                    found.setdefault(one.model, {}).setdefault(one.index, (one.accuracy, one.cost_usd))
        return found


def read_arena(folder: Path) -> ArenaData:
    """Read a checkout of RouterArena; DataError names what is missing, or the file and entry that cannot be read."""
    dataset, predictions = folder / "dataset", folder / PREDICTIONS
    full = [path for name in ("router_data.json", "router_data_10.json") if (path := dataset / name).is_file()]
    if not full:
        raise DataError(
            f"{dataset}: neither router_data.json nor router_data_10.json; give a checkout of RouteWorks/RouterArena "
            "in which its scripts/process_datasets/prep_datasets.py has run"
        )
    tenth, robust = dataset / "router_data_10.json", dataset / "router_robustness.json"
    files = sorted(predictions.glob("*.json"))
    return ArenaData(
        _prompts(full[0]),
        _prompts(robust) if robust.is_file() else {},
        frozenset(_prompts(tenth)) if tenth.is_file() else frozenset(),
        {path.stem: _entries(path) for path in files if not path.stem.endswith(ROBUST)},
        {path.stem.removesuffix(ROBUST): _entries(path) for path in files if path.stem.endswith(ROBUST)},
    )


def table_of_pair(data: ArenaData, weak: str, strong: str) -> OutcomeTable:
    """Return the queries that both models were graded on as outcomes, with costs and the set they come from.

    The metadata are `index`, `dataset` (what the global index begins with), `cost_weak` and `cost_strong` in dollars.
    """
    graded = data.graded()
    if missing := [model for model in (weak, strong) if model not in graded]:
        known = ", ".join(f"{model} ({len(graded[model])})" for model in sorted(graded)) or "none"
        raise DataError(f"no graded answers of {', '.join(missing)} in {PREDICTIONS}; graded models: {known}")
    shared = [index for index in data.prompts if index in graded[weak] and index in graded[strong]]
    if not shared:
        raise DataError(f"no query has graded answers of both {weak} and {strong}")
    pair = {tier: [graded[tier][index] for index in shared] for tier in (weak, strong)}
    costs = {f"cost_{name}": tuple(str(one[1]) for one in pair[tier]) for name, tier in _named(weak, strong)}
    return table_of(
        Columns(
            prompts=tuple(data.prompts[index] for index in shared),
            metadata={"index": tuple(shared), "dataset": tuple(index.rpartition("_")[0] for index in shared), **costs},
            grades={tier: np.array([one[0] for one in rows], dtype=np.float64) for tier, rows in pair.items()},
            answers={},
            finish_reasons={},
            counts={},
            signals={},
        )
    )


def _named(weak: str, strong: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("weak", weak), ("strong", strong)


def _prompts(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for i, row in enumerate(_rows(path)):
        index, text = _index(row), row.get("prompt_formatted") or row.get("prompt")
        if index is None or not isinstance(text, str) or not text:
            raise DataError(f"{path}: entry {i} has no 'global index' or no 'prompt_formatted'")
        found[index] = text
    return found


def _entries(path: Path) -> tuple[ArenaEntry, ...]:
    found = []
    for i, row in enumerate(_rows(path)):
        index, model = _index(row), row.get("prediction")
        if index is None or not isinstance(model, str) or not model:
            raise DataError(f"{path}: entry {i} has no 'global index' or no 'prediction'")
        accuracy, cost = (_number(path, i, row, name) for name in ("accuracy", "cost"))
        found.append(ArenaEntry(index, model, accuracy, cost, bool(row.get("for_optimality", False))))
    return tuple(found)


def _number(path: Path, i: int, row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
        raise DataError(f"{path}: entry {i}: {name!r} is {value!r:.40}, not a number from 0 on")
    if name == "accuracy" and value > 1:
        raise DataError(f"{path}: entry {i}: an accuracy of {value:g} is above 1")
    return float(value)


def _index(row: Mapping[str, Any]) -> str | None:
    value = row.get("global index") or row.get("global_index")
    return None if value is None else str(value)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error!s:.200})") from error
    if not isinstance(data, list) or not data or not all(isinstance(row, dict) for row in data):
        raise DataError(f"{path}: a list of objects is expected")
    return data
