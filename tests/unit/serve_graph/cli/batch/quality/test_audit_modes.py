"""The same walk from a sample to what is known of the batch, where no graph runs: in passes, and by a provider."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.cli.batch.dataset import Dataset
from serve_graph.cli.batch.passes.own_engines import OwnPasses
from serve_graph.cli.batch.running import BatchOptions, run_batch
from serve_graph.cluster.batches.passes.passes import LocalPasses
from serve_graph.config.graph import load_config
from tests.fixtures.local_graph import listening
from tests.fixtures.registry import registered_version
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer, echo_reply

PRICE = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def rows_in(folder: Path) -> Path:
    source = folder / "in.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(20)))
    return source


def call(*words: object, keys: str = "") -> Any:
    done = CliRunner().invoke(app, list(map(str, words)), input=keys)
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def test_in_passes_without_a_record_of_any_decision(tmp_path: Path, new_registry: Callable[[Path], str]) -> None:
    new_registry(tmp_path / "state" / "mlflow.db")
    tiers = [{"engine": "echo", "name": name, "price": PRICE} for name in ("cheap", "frontier")]
    config = tmp_path / "graph.yaml"
    config.write_text(yaml.safe_dump({"tiers": tiers, "state_folder": str(tmp_path / "state")}))
    graph = load_config(config)
    registered_version(graph, tmp_path / "version", datetime.now(UTC), alias="stable")
    options = BatchOptions("", tmp_path / "out.jsonl", audit=10)
    passes = OwnPasses(graph, options.settings, tmp_path, 8, make=LocalPasses)
    told = run_batch(Dataset.found([str(rows_in(tmp_path))]), options, lambda _: None, passes)
    call("label", told["audit_file"], "--labeller", "ann", keys="w" + "r" * 9)
    found = json.loads(call("batch", "audit", told["audit_file"], "-c", config, "--json").stdout)
    assert (found["wrong"]["count"], found["wrong"]["of"], list(found["tiers"])) == (1, 10, ["cheap"])
    assert found["certificate"] == {
        "what": "P(wrong | cheap accepted)", "epsilon": 0.1, "contradicted": False, "shown": False,
    }  # fmt: skip
    assert (
        "certified: P(wrong | cheap accepted) <= 0.1"
        in call("batch", "audit", told["audit_file"], "-c", config).stdout
    )


def test_by_a_providers_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "none")
    with listening(ProviderServer(echo_reply).app) as url:
        tiers = [
            {"name": name, "engine": "openai", "model": f"m-{name}", "base_url": f"{url}/v1", "api_key_env": "API_KEY",
             "price": PRICE}
            for name in ("cheap", "frontier")
        ]  # fmt: skip
        given = {"tiers": tiers, "state_folder": str(tmp_path / "state"), "policy": {"version": "none"}}
        (tmp_path / "graph.yaml").write_text(yaml.safe_dump(given))
        words = ["batch", "run", rows_in(tmp_path), "--out", tmp_path / "out.jsonl", "--provider-batches", "--poll-s",
                 0.05, "-c", tmp_path / "graph.yaml", "--audit", 5, "--dry-run", 8]  # fmt: skip
        shown = call(*words).stdout
        assert "how many of these are wrong is not known: the configuration asks for no router version" in shown
        assert "time: " in shown
        assert "to 48.0 h; as long as the sample's batches" in shown
    sample = tmp_path / "out.jsonl.audit.jsonl"
    shown = call("label", sample, keys="wwrrr").stderr
    assert "m-frontier: question" in shown
    found = json.loads(call("batch", "audit", sample, "--json").stdout)
    assert (found["answers"], found["wrong"]["count"], found["harm"]) == (8, 2, None), "the last tier's own answers"
