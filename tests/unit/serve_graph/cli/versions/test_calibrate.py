"""`versions calibrate`: thresholds of shares, what they were worth, and what they are of live traffic."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from router_models.types import DecisionRecord
from router_models.versions.registry import register
from serve_graph.cli import app
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.records.store import DecisionStore
from tests.fixtures.registry import PRICE
from tests.unit.router_models.versions.made_version import version

DEFERRAL = {
    "n": 300,
    "curves": [
        {"name": "router", "points": [[0.0, 0.5], [0.5, 0.9], [1.0, 0.9]]},
        {"name": "random", "points": [[0.0, 0.5], [1.0, 0.9]]},
    ],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Path:
    """Version 1 knows its scores, uniform from 0 to 1; version 2 does not."""
    return graph_of(tmp_path_factory.mktemp("graph"), new_registry, {1: tuple(np.linspace(0, 1, 101)), 2: ()})


def graph_of(folder: Path, new_registry: Callable[[Path], str], versions: dict[int, tuple[float, ...]]) -> Path:
    new_registry(folder / "state" / "mlflow.db")
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    path = folder / "graph.yaml"
    path.write_text(yaml.safe_dump({"tiers": tiers, "state_folder": str(folder / "state")}))
    graph = load_config(path)
    for n, quantiles in versions.items():
        report = folder / f"report{n}"
        report.mkdir()
        (report / "deferral.json").write_text(json.dumps(DEFERRAL))
        sealed = folder / f"v{n}"
        version(score_quantiles=quantiles).save(sealed, report)
        register(
            graph.registry_uri, graph.policy.model_name, sealed, params={}, metrics={}, tags={},
            alias="stable" if n == 1 else None, artifacts_folder=graph.state_folder / "artifacts",
        )  # fmt: skip
    return path


def decided(graph: GraphConfig, a_record: Callable[..., DecisionRecord], estimates: list[float | None]) -> None:
    async def write() -> None:
        store = DecisionStore(graph.records_url)
        name = f"{graph.policy.model_name}/1"
        records = [
            replace(a_record(), id=f"dec_{i:028x}", version=name, p_cheap_ok=p) for i, p in enumerate(estimates)
        ]
        await store.write_many([*records, replace(a_record(), id=f"dec_{10**6:028x}", version="other/1")])
        await store.close()

    asyncio.run(write())


def test_a_share_is_said_of_certified_prompts_and_of_live_ones(
    made: Path, a_record: Callable[..., DecisionRecord]
) -> None:
    """Live prompts are easier: estimates from .5 to 1, of which none lies below the threshold of .3."""
    decided(load_config(made), a_record, list(np.linspace(0.5, 1, 201)))
    words = ["versions", "calibrate", "stable", "--share", "0.3", "--share", "0.75", "--config", str(made)]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["decisions"], said["last_tier"]) == (201, "frontier")
    low, high = said["shares"]
    assert (low["threshold"], low["live_share"]) == (pytest.approx(0.3), 0)
    assert (low["live_low"], low["certified_share"], said["prompts"]) == (0, pytest.approx(0.3), 300)
    assert (low["right"], low["right_by_chance"]) == (pytest.approx(0.74), pytest.approx(0.62))
    assert low["ask_for"] == pytest.approx(0.65), "the threshold below which .3 of live estimates lie"
    assert high["live_share"] == pytest.approx(0.5, abs=0.01)
    text = CliRunner().invoke(app, words).stdout
    assert "a share, not a promise" in text
    assert "0.740" in text


def test_few_decisions_say_nothing(made: Path, a_record: Callable[..., DecisionRecord]) -> None:
    words = ["versions", "calibrate", "--decisions", "0", "--config", str(made)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "0 live decisions by this version" in done.stdout
    assert "100 are needed" in done.stdout


def test_live_estimates_outside_the_certified_ones_are_said_and_no_share_is_advised(
    tmp_path: Path, new_registry: Callable[[Path], str], a_record: Callable[..., DecisionRecord]
) -> None:
    """Traffic that is harder than any certified prompt: a share of 0 would send nothing to the last tier."""
    path = graph_of(tmp_path, new_registry, {1: tuple(np.linspace(0.5, 1, 101))})
    decided(load_config(path), a_record, [*np.linspace(0, 0.45, 150), None, None])
    words = ["versions", "calibrate", "stable", "--share", "0.3", "--config", str(path)]
    [row] = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["shares"]
    assert (row["live_share"], row["ask_for"]) == (1, None)
    text = CliRunner().invoke(app, words).stdout
    assert "lie outside those that certified" in text
    assert "2 more had no estimate" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [(["2"], "certify it again"), (["1", "--share", "1.5"], "between 0 and 1"), (["7"], "7")],
    ids=["no quantiles", "no share", "no version"],
)
def test_what_cannot_be_said_is_refused(words: list[str], said: str, made: Path) -> None:
    done = CliRunner().invoke(app, ["versions", "calibrate", *words, "--config", str(made)])
    assert done.exit_code != 0
    assert said in str(done.exception) + done.output
