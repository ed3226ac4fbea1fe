"""Names that MLflow would refuse after the work are refused before it; those that it takes are taken."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils import validation

from router_models.errors import RegistryError
from router_models.pipeline import run_pipeline
from router_models.versions.names import LONGEST_MODEL_BYTES, check_name, name_fault
from router_models.versions.registry import set_alias
from router_models.versions.workspace import Workspace

SPOILED = ["", " ", "prod candidate", "latest", "LATEST", "v1", "V12", "team/router", "a:b", "a b", "é!", "x" * 256]
ALIASES = [
    *SPOILED,
    "stable",
    "prod-2",
    "_",
    "-",
    "vv1",
    "v1a",
    "latest2",
    "ünïcode",
    "abc\n",
    "12",
    "none",
    "x" * 255,
]
MODELS = [
    "",
    " ",
    "team/router",
    "a:b",
    ".",
    "..",
    "..a",
    "...",
    "a.",
    ".a",
    "a//b",
    " a",
    "it's",
    "x" * 300,
    "router",
    "a b",
]
NAMES = st.text(max_size=8) | st.text(alphabet="avV1_-. /:latest\n", max_size=8)


def mlflow_takes(check: Any, name: str) -> bool:
    try:
        check(name)
    except MlflowException:
        return False
    return True


def alias_agrees(name: str) -> None:
    taken = mlflow_takes(validation._validate_model_alias_name, name) and mlflow_takes(
        validation._validate_model_alias_name_reserved, name
    )
    beyond = name.isdigit() or name in ("none", "builtin") or name.endswith("\n")
    assert (name_fault("alias", name) is None) == (taken and not beyond)


def model_agrees(name: str) -> None:
    taken = mlflow_takes(validation._validate_model_name, name)
    unsafe = any(char in "'\"\x7f" or ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in name)
    beyond = unsafe or len(name.encode("utf-8", "replace")) > LONGEST_MODEL_BYTES
    assert (name_fault("model", name) is None) == (taken and not beyond)
    if name_fault("model", name) is None:
        validation._validate_experiment_name(name)


@pytest.mark.parametrize("name", ALIASES)
def test_an_alias_is_refused_where_mlflow_refuses_it(name: str) -> None:
    alias_agrees(name)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_refused_where_mlflow_refuses_it(name: str) -> None:
    model_agrees(name)


@given(NAMES)
def test_any_name_is_refused_where_mlflow_refuses_it(name: str) -> None:
    alias_agrees(name)
    model_agrees(name)


@pytest.mark.parametrize("name", ["3", "12", "stable", "latest", "none", "builtin", "prod-2"])
def test_a_version_is_asked_for_by_number_or_alias(name: str) -> None:
    assert name_fault("version", name) is None


@pytest.mark.parametrize("name", ["", "prod candidate", "v1", "a/b", "router@stable", "²"])
def test_a_version_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(RegistryError, match="the version"):
        check_name("version", name)


def test_nothing_is_read_or_noted_for_a_name_that_will_be_refused(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'registry.db'}"
    now, missing = datetime(2026, 1, 1, tzinfo=UTC), tmp_path / "none.parquet"
    settings: Any = None
    for call in (
        lambda: run_pipeline(missing, settings, tmp_path, uri, "team/router", now),
        lambda: run_pipeline(missing, settings, tmp_path, uri, "router", now, alias="prod candidate"),
        lambda: Workspace(tmp_path, uri, "a:b"),
        lambda: set_alias(uri, "router", "v1", "1"),
    ):
        with pytest.raises(RegistryError, match=r"the alias|the model's name"):
            call()
    assert list(tmp_path.iterdir()) == []
