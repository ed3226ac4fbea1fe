"""Which rows belong together, what counts as a look, and how sure everything is at once: from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from router_models.types.exchange import LOGPROB_NAMES
from serve_graph.cli import app
from tests.fixtures.registry import echo_graph_file

PRICES = {"cheap": (0.1, 0.2), "frontier": (1, 2)}
PAIR = ["--weak", "cheap", "--strong", "frontier"]
PRICED = ["--price-weak", "0.1,0.2", "--price-strong", "1,2"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> dict[str, Path]:
    """A configuration, 900 outcomes of 450 users, and a candidate that was trained with them as groups."""
    folder = tmp_path_factory.mktemp("groups")
    new_registry(folder / "state" / "mlflow.db")
    echo_graph_file(folder, PRICES, epsilon=0.3, delta=0.1)
    rng, n = np.random.default_rng(0), 900
    p = np.sqrt(rng.random(n))
    told = np.log(np.maximum(p, 0.01))
    columns: dict[str, Any] = {
        "prompt": [f"Question {i}: what comes after {i * i}?" for i in range(n)],
        "user": np.arange(n) // 2,
        "cheap": rng.random(n) < p,
        "frontier": rng.random(n) < 0.97,
    }
    columns |= {f"{tier}|{name}": told for tier in PRICES for name in LOGPROB_NAMES}
    columns |= {f"{tier}_prompt_tokens": 20 for tier in PRICES} | {"cheap_completion_tokens": 6}
    pd.DataFrame({**columns, "frontier_completion_tokens": 12}).to_parquet(folder / "outcomes.parquet")
    np.save(folder / "vectors.npy", rng.normal(size=(n, 8)).astype(np.float32))
    made = {
        name: folder / file
        for name, file in {
            "config": "graph.yaml",
            "outcomes": "outcomes.parquet",
            "candidate": "candidate",
            "vectors": "vectors.npy",
            "state": "state",
        }.items()
    }
    trained = call(
        "train", "--config", made["config"], "-o", made["outcomes"], "--out", made["candidate"], "--group-by", "user",
        "--router", "surface", "--verifier", "logprob",
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    return made


def call(*words: object) -> Any:
    return CliRunner().invoke(app, list(map(str, words)))


def certify(made: dict[str, Path], *words: object) -> Any:
    given = ["--config", made["config"], "-o", made["outcomes"], "--candidate", made["candidate"]]
    return call("certify", *given, "--engines-as-configured", *words)


def test_certify_takes_the_candidates_groups_and_refuses_others(workshop: dict[str, Path]) -> None:
    refused = certify(workshop, "--group-by", "prompt")
    assert refused.exit_code == 1
    assert "was trained with --group-by user" in str(refused.exception)


def test_jointly_everything_holds_at_once_with_the_confidence_asked_for(workshop: dict[str, Path]) -> None:
    apart = json.loads(certify(workshop, "--json").stdout)
    together = json.loads(certify(workshop, "--jointly", "--json").stdout)
    assert apart["certificate"]["one_row_per"] == together["certificate"]["one_row_per"] == "user"
    assert apart["certificate"]["n"] <= 0.5 * 450, "users, not rows"
    assert apart["delta_together"] == pytest.approx(0.2)
    assert together["delta_together"] <= 0.1 + 1e-9
    assert together["certificate"]["round"] == apart["certificate"]["round"] + 1
    assert apart["certificate"]["token_ratios"]["cheap"] == pytest.approx([2, 2, 2])


def test_plans_and_evaluations_are_noted_once_and_not_where_they_spare_what_certifies(
    workshop: dict[str, Path], tmp_path: Path
) -> None:
    given = ["-o", workshop["outcomes"], *PAIR, *PRICED, "--router", "surface"]
    given += ["--embeddings", workshop["vectors"], "--cache"]
    for _ in range(2):
        done = call("plan", *given, tmp_path / "all" / "embeddings", "--volume", 50_000, "--group-by", "user")
        assert done.exit_code == 0, done.output
    [note] = (tmp_path / "all" / "looks").iterdir()
    noted = set(json.loads(note.read_text())["labels"])
    spared = call(
        "plan", *given, tmp_path / "some" / "embeddings", "--volume", 50_000, "--group-by", "user", "--spare-cert"
    )
    assert spared.exit_code == 0, spared.output
    [note] = (tmp_path / "some" / "looks").iterdir()
    assert 0.4 < len(set(json.loads(note.read_text())["labels"]) & noted) / len(noted) < 0.8


def test_a_column_of_few_values_is_for_holding_out(workshop: dict[str, Path], tmp_path: Path) -> None:
    table = pd.read_parquet(workshop["outcomes"]).assign(domain=lambda f: [f"d{i % 3}" for i in range(len(f))])
    table.to_parquet(tmp_path / "o.parquet")
    done = call("evaluate", "-o", tmp_path / "o.parquet", *PAIR, "--router", "surface", "--group-by", "domain")
    assert done.exit_code == 2
    assert "--hold-out domain" in done.output


def test_one_look_spends_all_of_delta_and_lets_no_other_through(
    workshop: dict[str, Path], tmp_path: Path, new_registry: Callable[[Path], str]
) -> None:
    """On a registry of its own: the shipped way spends .0608 of .1 at first, `--looks 1` all of it."""
    graph = yaml.safe_load(workshop["config"].read_text())
    config = tmp_path / "graph.yaml"
    new_registry(tmp_path / "state" / "mlflow.db")
    config.write_text(yaml.safe_dump(graph | {"state_folder": str(tmp_path / "state")}))
    own = {**workshop, "config": config}
    found = certify(own, "--looks", "1", "--json")
    assert found.exit_code == 0, found.output
    certificate = json.loads(found.stdout)["certificate"]
    assert certificate["level"] == certificate["delta"] == 0.1
    assert "the only look at these labels" in found.stderr
    shown = CliRunner().invoke(app, ["versions", "show", "1", "-c", str(config)])
    assert "all of δ 0.1 in one look at these labels" in shown.output
    for words in ([], ["--looks", "1"]):
        again = certify(own, *words)
        assert again.exit_code == 1
        assert "spent the whole δ of these labels (--looks 1)" in str(again.exception)
    assert certify(own, "--looks", "2").exit_code == 2
