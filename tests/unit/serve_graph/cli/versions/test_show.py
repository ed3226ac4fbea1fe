"""`versions show` says of a version that embeds prompts as those of before do, and what to do about it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from router_models.data.embeddings.encoder import PRODUCTS, Encoder
from router_models.estimators.routers import LinearRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.types import Prompts
from router_models.versions.registry import register
from router_models.versions.router_version import Stage
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from tests.fixtures.registry import PRICE
from tests.unit.router_models.versions.made_version import version


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> Path:
    """Version 1 embeds by integers, version 2 by floats; version 3 does not embed, though it could by floats."""
    folder, rng = tmp_path_factory.mktemp("graph"), np.random.default_rng(0)
    new_registry(folder / "state" / "mlflow.db")
    path = folder / "graph.yaml"
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    path.write_text(yaml.safe_dump({"tiers": tiers, "state_folder": str(folder / "state")}))
    config = load_config(path)
    rows = Prompts(tuple(map(str, range(40))), rng.normal(size=(40, 384)).astype(np.float32), {})
    linear = Stage(LinearRouter().fit(rows, rng.random(40)), None, NonEmptyVerifier(), None)
    for n, (stage, products) in enumerate([*((linear, each) for each in PRODUCTS), (None, "floats")], 1):
        report = folder / f"report{n}"
        report.mkdir()
        (report / "report.md").write_text("# A version\n")
        version(stage, encoder=Encoder(products=products)).save(folder / f"v{n}", report)
        register(
            config.registry_uri, config.policy.model_name, folder / f"v{n}", params={}, metrics={}, tags={},
            alias=None, artifacts_folder=config.state_folder / "artifacts",
        )  # fmt: skip
    return path


@pytest.mark.parametrize(("number", "products"), [("1", "integers"), ("2", "floats"), ("3", None)])
def test_it_says_how_a_version_embeds_and_how_it_would_be_faster(
    graph: Path, number: str, products: str | None
) -> None:
    plain = CliRunner().invoke(app, ["versions", "show", number, "--config", str(graph)])
    assert plain.exit_code == 0, (plain.output, plain.exception)
    assert ("train again to have them twice as fast" in plain.output) == (products == "floats")
    told = CliRunner().invoke(app, ["versions", "show", number, "--config", str(graph), "--json"])
    assert told.exit_code == 0, (told.output, told.exception)
    assert json.loads(told.stdout)["encoder_products"] == products
