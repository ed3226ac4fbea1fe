"""`from router_models import …`: what is public, what it costs to import, and that it is documented."""

import ast
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import router_models

DOCUMENTED = [name for name in router_models.__all__ if callable(getattr(router_models, name))]


def test_importing_the_package_loads_no_library() -> None:
    code = "import sys, router_models; print([m for m in sys.modules if m.startswith(('numpy', 'sklearn', 'pandas'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", router_models.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(router_models, name) is not None
    assert name in dir(router_models)


def test_what_editors_and_mypy_are_told_is_what_is_loaded() -> None:
    tree = ast.parse(Path(inspect.getfile(router_models)).read_text())
    told = {
        (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    loaded = {(f"router_models.{m}", name) for m, names in router_models._MODULES.items() for name in names}
    assert told == loaded
    assert sorted(name for _, name in loaded) == sorted(router_models.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = router_models.nonsense


def test_the_version_is_the_distributions() -> None:
    assert router_models.__version__ == version("serve-graph")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_parameter_is_documented(name: str) -> None:
    thing = getattr(router_models, name)
    text = inspect.getdoc(thing) or ""
    sections = text.split("\nParameters\n----------\n")
    assert len(sections) == 2, f"{name} has no section Parameters"
    documented = {
        word.strip().lstrip("*")
        for line in sections[1].split("\n\n")[0].splitlines()
        if line and not line.startswith(" ")
        for word in line.partition(" : ")[0].split(",")
    }
    wanted = {p for p in inspect.signature(thing).parameters if p != "self"}
    assert documented == wanted
    if inspect.isfunction(thing):
        assert "\nReturns\n-------\n" in text
