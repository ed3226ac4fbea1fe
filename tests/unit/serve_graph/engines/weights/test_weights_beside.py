"""Conversions in a process of their own: what it says, how it fails, how it ends."""

import importlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.engines.weights import resolve as resolving
from serve_graph.engines.weights.beside import Resolve, weights_beside
from serve_graph.engines.weights.resolve import PackagedModel
from serve_graph.errors import WeightsError

TINY = WeightsConfig(package="tiny")
# Read by another process, which knows nothing of what a test has patched in this one.
CONVERTERS = """
import os, signal, time
from serve_graph.errors import WeightsError

def steady(weights, state_folder, progress):
    progress(f"{weights.package}: converting")
    for _ in range(600):
        if (state_folder / "begun").exists():
            (state_folder / "converted").write_text(str(os.getpid()))
            return ""
        time.sleep(0.05)

def damaged(weights, state_folder, progress):
    raise WeightsError("tiny: the packaged weights have another hash")

def full(weights, state_folder, progress):
    raise OSError(28, "No space left on device")

def killed(weights, state_folder, progress):
    os.kill(os.getpid(), signal.SIGKILL)

def endless(weights, state_folder, progress):
    progress(f"pid {os.getpid()}")
    time.sleep(600)
"""
Converter = Callable[[str], Resolve]


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Converter:
    """What converts a packaged model `tiny`, by name, as another process finds it."""
    site = tmp_path / "site"
    (site / "tiny_package_beside").mkdir(parents=True)
    (site / "tiny_package_beside" / "__init__.py").touch()
    (site / "tiny_package_beside" / "model.gguf").touch()
    (site / "converters_beside.py").write_text(CONVERTERS)
    monkeypatch.syspath_prepend(str(site))
    model = PackagedModel((("tiny_package_beside", "model.gguf"),), "", "Apache-2.0")
    monkeypatch.setattr(resolving, "PACKAGED", {"tiny": model})
    module = importlib.import_module("converters_beside")
    return lambda name: getattr(module, name)  # type: ignore[no-any-return]


def test_the_body_runs_while_another_process_converts(converter: Converter, tmp_path: Path) -> None:
    said: list[str] = []
    with weights_beside([TINY], tmp_path, said.append, converter("steady")):
        (tmp_path / "begun").touch()  # nothing is converted before the body runs
    assert said == ["tiny: converting"]
    assert int((tmp_path / "converted").read_text()) != os.getpid()


@pytest.mark.parametrize(
    ("name", "why"),
    [("damaged", "another hash"), ("full", "No space left"), ("killed", "exit code -9 before it was done")],
)
def test_why_a_conversion_failed_is_said_and_raised(converter: Converter, tmp_path: Path, name: str, why: str) -> None:
    said: list[str] = []
    ended = []
    with pytest.raises(WeightsError, match=why), weights_beside([TINY], tmp_path, said.append, converter(name)):
        ended.append("body")
    assert ended == ["body"]
    assert name == "killed" or any(why in line for line in said)


def test_a_body_that_fails_ends_the_conversion(converter: Converter, tmp_path: Path) -> None:
    said: list[str] = []
    told = threading.Event()

    def interrupted() -> None:
        with weights_beside([TINY], tmp_path, tell, converter("endless")):
            assert told.wait(60)
            raise KeyboardInterrupt

    def tell(message: str) -> None:
        said.append(message)
        told.set()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    pid = int(said[0].removeprefix("pid "))
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_a_package_that_is_not_installed_is_said_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = PackagedModel((("tiny_package_that_nobody_has", "model.gguf"),), "", "Apache-2.0")
    monkeypatch.setattr(resolving, "PACKAGED", {"tiny": absent})
    with pytest.raises(WeightsError, match="is not installed"), weights_beside([TINY], tmp_path, print):
        pytest.fail("the body ran")


def test_without_anything_to_convert_everything_is_verified_before_the_body(
    converter: Converter, tmp_path: Path
) -> None:
    (tmp_path / "weights" / "tiny").mkdir(parents=True)
    with pytest.raises(WeightsError, match="damaged"), weights_beside([TINY], tmp_path, print):
        pytest.fail("the body ran")
