"""docs/guides/learning/extraction.md, command by command: raw invoices become rows of a certified batch."""

import json
import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from router_models.data.starter import check_task, grade
from router_models.estimators.verifiers.checks.formats import measured_formats
from router_models.types import Completion
from serve_graph.cli import app
from serve_graph.cli.client.task_files import read_tasks
from serve_graph.config.graph import load_config
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.configured_graph import ConfiguredGraph
from tests.unit.serve_graph.cli.batch.invoice_api import InvoiceApi

EXAMPLES = Path(__file__).parents[5] / "examples"
WRITER = runpy.run_path(str(EXAMPLES / "invoices" / "write_invoices.py"))


def command(*words: object) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_every_invoice_is_a_task_whose_solution_is_right_and_stands_in_it(tmp_path: Path) -> None:
    WRITER["write"](tmp_path, 120, 30)
    tasks = read_tasks(tmp_path / "tasks.jsonl")
    assert {(task.family, task.language) for task in tasks} == {
        (layout, language) for layout in WRITER["LAYOUTS"] for language in WRITER["LANGUAGES"]
    }
    assert len({task.prompt_id for task in tasks}) == 120
    for task in tasks:
        check_task(task)
        assert grade(task, task.solution)
        measured = measured_formats(task.query, Completion(task.solution))
        assert measured == {"schema_fault": 0.0, "field_agreement": 1.0}, task.prompt
        wrong = json.loads(task.solution) | {"number": "Z99-0000"}
        assert not grade(task, json.dumps(wrong))
        assert measured_formats(task.query, Completion(json.dumps(wrong)))["field_agreement"] == 0.8
    documents = [json.loads(line) for line in (tmp_path / "documents.jsonl").read_text().splitlines()]
    assert len(documents) == 30
    assert sum("grader" in row for row in documents) == 3
    assert not {row["document"] for row in documents} & {task.question for task in tasks}


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        WRITER["write"](tmp_path / folder, 12, 12, seed=3)
    assert all((tmp_path / "b" / path.name).read_bytes() == path.read_bytes() for path in (tmp_path / "a").iterdir())


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("router", ["linear", "auto"])
def test_raw_invoices_become_rows_of_a_certified_batch(
    router: str,
    tmp_path: Path,
    new_registry: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
    pictures_undrawn: None,
) -> None:
    WRITER["write"](tmp_path, 360, 60)
    (tmp_path / "state").mkdir()
    new_registry(tmp_path / "state" / "mlflow.db")
    api = InvoiceApi()
    with listening(api.app) as upstream:
        monkeypatch.setattr(os, "environ", os.environ | dict.fromkeys(("SMALL_URL", "LARGE_URL"), f"{upstream}/v1"))
        monkeypatch.setenv("API_KEY", "none")
        given: Any = yaml.safe_load((EXAMPLES / "two_hosted_tiers" / "graph.yaml").read_text())
        for tier in given["tiers"]:
            tier |= {"base_url": f"{upstream}/v1", "parameters": {"logprobs": None}}
        config, table = tmp_path / "graph.yaml", tmp_path / "outcomes.parquet"
        config.write_text(yaml.safe_dump(given | {"state_folder": str(tmp_path / "state")}))
        with listening(ConfiguredGraph(load_config(config)).app) as url:
            command("collect", "-c", config, "--url", url, "--tasks", tmp_path / "tasks.jsonl", "--out", table)
        _check_signals(table)
        command("train", "-c", config, "-o", table, "--out", tmp_path / "candidate", "--router", router)
        command("certify", "-c", config, "-o", table, "--candidate", tmp_path / "candidate", "--alias", "stable")
        command("versions", "approve", "stable", "-c", config, "--by", "reader", "--reason", "as the page says")
        graph = ConfiguredGraph(load_config(config))
        assert "field_agreement" in _wanted(graph)
        with listening(graph.app) as url:
            out = tmp_path / "answers.jsonl"
            command(
                "batch", "run", tmp_path / "documents.jsonl", "--prompt-column", "document", "--url", url,
                "--system", tmp_path / "system.txt", "--response-format", tmp_path / "response_format.json",
                "--max-tokens", WRITER["MAX_TOKENS"], "--records", "--out", out,
            )  # fmt: skip
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    truth = {text: found for _, _, text, found in WRITER["invoices"](420, 0)}
    cheap = [row for row in rows if row["serve_graph_tier"] == "cheap"]
    assert all(row["serve_graph_promised"] == "True" for row in cheap), "what is not covered goes to the last tier"
    assert len(cheap) >= 8, "many of the receipts"
    wrong = [row for row in cheap if json.loads(row["answer"]) != truth[row["document"]]]
    assert len(wrong) <= 0.2 * len(cheap)
    assert all(json.loads(r["answer"]) == truth[r["document"]] for r in rows if r["serve_graph_tier"] == "frontier")


def _check_signals(table: Path) -> None:
    """Both signals are kept of every answer, and agreement tells the made-up numbers of letters."""
    frame = pd.read_parquet(table)
    assert frame["schema_fault"].eq(0).all()
    cheap = frame[frame["tier"] == "cheap"].set_index("family")
    letters = cheap.loc["letter"]
    assert (letters["field_agreement"].lt(1) == letters["grade"].lt(1)).all()
    assert 0.2 < cheap["grade"].mean() < 0.6
    assert frame[frame["tier"] == "frontier"]["grade"].mean() > 0.98


def _wanted(graph: ConfiguredGraph) -> set[str]:
    held = graph.service.context.judge.held.held.loaded[graph.version.name]  # type: ignore[attr-defined]
    return set(held.version.stages["cheap"].verifier.wants_signals)
