"""One public name, one meaning: what two modules of a package define stands in the list below, with its reason."""

import ast
import functools
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SHARED = {
    "serve_graph": {
        "T": "type variables belong to the module that uses them",
        "app": "each group of commands is a Typer application of its own",
        "down_revision": "Alembic asks every revision of the store for it",
        "logger": "one logger a module",
        "revision": "Alembic asks every revision of the store for it",
        "show": "`decisions show` and `versions show` are commands named by their functions",
        "upgrade": "Alembic asks every revision of the store for it",
    },
    "router_models": {
        "LANGUAGES": "every family of starter tasks says which languages it has",
        "T": "type variables belong to the module that uses them",
        "draw": "every family of starter tasks is drawn by a function of this name",
    },
}


def public_names(module: Path) -> set[str]:
    """The names that a module defines at its top level, without those that begin with an underscore."""
    names: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


@functools.cache
def defined_twice(package: Path) -> dict[str, list[str]]:
    """Names by the modules that define them, where more than one does."""
    found: dict[str, list[str]] = defaultdict(list)
    for module in sorted(package.rglob("*.py")):
        if module.name != "__init__.py":
            for name in public_names(module):
                found[name].append(str(module.relative_to(package)))
    return {name: modules for name, modules in sorted(found.items()) if len(modules) > 1}


@pytest.mark.parametrize("package", list(SHARED))
def test_no_public_name_is_defined_in_two_modules(package: str) -> None:
    found = defined_twice(ROOT / package)
    assert {name: modules for name, modules in found.items() if name not in SHARED[package]} == {}


@pytest.mark.parametrize("package", list(SHARED))
def test_the_list_of_shared_names_holds_no_name_that_is_not_shared(package: str) -> None:
    assert set(SHARED[package]) - set(defined_twice(ROOT / package)) == set()


def test_a_second_definition_is_found(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("class Budget: ...\n_private = 1\n")
    assert defined_twice(tmp_path) == {"Budget": ["a.py", "b.py"]}
