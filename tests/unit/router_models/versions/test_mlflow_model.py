"""A registered version is an MLflow model: loaded by alias it answers a table of prompts with decisions."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import yaml

from router_models.errors import DataError
from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import NonEmptyVerifier
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import ACCEPTED_RISK
from router_models.types import OperatingPoint
from router_models.types.label_sources import LabelSource
from router_models.versions.decided import decide_frame
from router_models.versions.mlflow_model import shortened_report
from router_models.versions.policy import Policy
from router_models.versions.registry import RegisteredVersion, register
from router_models.versions.router_version import RouterVersion, Stage

MADE = datetime(2026, 1, 1, tzinfo=UTC)
LONG = "Prove that " + "and ".join(["this holds "] * 60)


def version() -> RouterVersion:
    """Tries short prompts; certified for single turns without a system prompt."""
    made = RouterVersion(
        Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.3, 0.5)}),
        {"cheap": Stage(LengthRouter(), None, NonEmptyVerifier(), None)},
    )
    proof = Certificate(
        what=ACCEPTED_RISK, epsilon=0.1, delta=0.1, level=0.1, n=300, accepted_n=200, errors=9, upper=0.08,
        threshold=0.5, label_source=LabelSource.PROGRAMMATIC, made_at=MADE, expires_at=MADE + timedelta(days=90),
        binds={},
    )  # fmt: skip
    return replace(made, certificate=proof)


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, new_registry: Callable[[Path], str]) -> RegisteredVersion:
    folder = tmp_path_factory.mktemp("model")
    version().save(folder / "version")
    return register(
        new_registry(folder / "mlflow.db"), "router", folder / "version", params={}, metrics={}, tags={},
        alias="stable", artifacts_folder=folder / "artifacts", dataset=("ab" * 32, {"cert_prompts": 300}),
        pages={"report.html": "<p>"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def loaded(registered: RegisteredVersion) -> Iterator[Any]:
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(registered.uri)
    mlflow.set_registry_uri(registered.uri)
    yield mlflow.pyfunc.load_model("models:/router@stable")
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


def test_the_model_that_is_loaded_by_alias_decides_as_the_version_does(loaded: Any) -> None:
    frame = pd.DataFrame({"prompt": ["What is 7 times 6?", LONG]}, index=[7, 3])
    answered = loaded.predict(frame)
    assert list(answered.columns) == ["tier", "score", "covered", "reasons"]
    pd.testing.assert_frame_equal(answered, decide_frame(version(), frame))
    assert answered["tier"].tolist() == ["cheap", "frontier"]
    assert answered["covered"].all()


def test_messages_are_read_as_a_list_or_its_json_and_say_what_is_not_covered(loaded: Any) -> None:
    asked = [{"role": "user", "content": "What is 7 times 6?"}]
    told = [{"role": "system", "content": "You are a poet."}, *asked]
    answered = loaded.predict(pd.DataFrame({"messages": [asked, json.dumps(asked), told]}))
    assert answered["tier"].tolist() == ["cheap", "cheap", "frontier"]
    assert answered["covered"].tolist() == [True, True, False]
    assert "system prompt" in " ".join(answered["reasons"][2])


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"question": ["x"]}, "a column `prompt` or `messages` is needed, found question"),
        ({"prompt": ["x", None]}, "row 1 has neither a prompt nor messages"),
        ({"prompt": ["x"], "messages": [[{"role": "wizard"}]]}, "row 0, column `messages`: a chat message is"),
        ({"messages": ["plain"]}, "row 0, column `messages`: a list of chat messages is needed"),
        ({"prompt": [7]}, "row 0, column `prompt`: a text is needed, found int"),
    ],
)
def test_a_row_that_cannot_be_decided_of_is_named(frame: dict[str, list[Any]], said: str) -> None:
    with pytest.raises(DataError) as refused:
        decide_frame(version(), pd.DataFrame(frame))
    assert said in str(refused.value)


def test_a_long_report_is_cut_between_sections_to_what_databases_hold() -> None:
    text = "# Title\n" + "".join(f"\n## Section {i}\n{'word ' * 149}word\n" for i in range(12))
    short = shortened_report(text)
    assert len(short) <= 5000
    assert text.startswith(short.rpartition("\n\nThe other sections: `report.html`")[0] + "\n\n## Section")
    assert shortened_report(text[:4000]) == text[:4000]
    assert len(shortened_report("x" * 9000)) == 5000


def test_of_a_version_without_a_certificate_nothing_is_covered() -> None:
    [row] = decide_frame(replace(version(), certificate=None), pd.DataFrame({"prompt": ["x"]})).to_dict("records")
    assert (row["covered"], math.isnan(row["score"])) == (False, False)
    assert "the version carries no certificate" in row["reasons"]


def test_what_is_registered_is_text_and_data_with_signature_example_and_lineage(
    registered: RegisteredVersion, loaded: Any, tmp_path: Path
) -> None:
    client = mlflow.MlflowClient(registered.uri, registered.uri)
    source = client.get_model_version("router", "1").source
    files = {path.name: path for path in Path(source.removeprefix("file://")).rglob("*") if path.is_file()}
    assert {"MLmodel", "pyfunc_code.py", "input_example.json", "manifest.json"} <= files.keys()
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]
    model = yaml.safe_load(files["MLmodel"].read_text())
    assert [column["name"] for column in json.loads(model["signature"]["inputs"])] == ["prompt", "messages"]
    assert model["flavors"]["python_function"]["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    example = json.loads(files["input_example.json"].read_text())
    assert len(loaded.predict(pd.DataFrame(example["data"], columns=example["columns"]))) == 2
    run = client.get_run(registered.run_id)
    [given] = run.inputs.dataset_inputs
    assert ("ab" * 32).startswith(given.dataset.digest)
    assert json.loads(given.dataset.source) == {"sha256": "ab" * 32}
    assert {file.path for file in client.list_artifacts(registered.run_id)} >= {"model", "report.html"}
    assert (registered.folder(tmp_path) / "policy.json").is_file()
