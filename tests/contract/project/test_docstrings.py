"""Docstrings say what a name does first, and their Parameters sections name the parameters that there are."""

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
import yaml

PACKAGE = Path(__file__).parents[3] / "router_models"
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "python.md"
ROOMS = ("data", "estimators", "evaluation", "metrics", "planning", "pricing", "types")
"""Where every public name has a docstring whose first line is a sentence in the imperative."""
ELSEWHERE = (
    "data/starter/families",
    "estimators/routers/text/forest",
    "estimators/routers/text/surface_forest",
    "estimators/routers/text/tree_ensemble",
)
NOT_IMPERATIVE = frozenset(
    {"A", "An", "How", "One", "The", "These", "This", "What", "Where", "Whether", "Which", "Why"}
)

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
MODULES = sorted(PACKAGE.rglob("*.py"))


def public(
    body: list[ast.stmt], owner: ast.ClassDef | None = None
) -> Iterator[tuple[Definition, ast.ClassDef | None]]:
    """Yield the public functions, classes and methods of a module, each with the class that it belongs to."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node, owner
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, node)


def parameters(node: Definition) -> set[str]:
    """Return the names of a function's parameters, or of those that make an object of a class."""
    if isinstance(node, ast.ClassDef):
        made_by = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if made_by is None:
            fields = (n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name))
            given = (n for n in fields if "ClassVar" not in ast.unparse(n.annotation) and not _is_made(n.value))
            return {n.target.id for n in given}  # type: ignore[union-attr]
        node = made_by
    every = [*node.args.posonlyargs, *node.args.args, node.args.vararg, *node.args.kwonlyargs, node.args.kwarg]
    return {arg.arg for arg in every if arg is not None} - {"self", "cls"}


def _is_made(value: ast.expr | None) -> bool:
    """Whether a dataclass's field is no parameter: `field(init=False)`."""
    return value is not None and "init=False" in ast.unparse(value)


def documented(docstring: str) -> set[str] | None:
    """Return the names in a docstring's Parameters section; None where it has none."""
    _, heading, section = docstring.partition("\nParameters\n----------\n")
    if not heading:
        return None
    names = (line.partition(" : ")[0] for line in section.split("\n\n")[0].splitlines() if not line.startswith(" "))
    return {name.strip().lstrip("*") for line in names for name in line.split(",")}


def wrong_sections(source: str) -> list[str]:
    """Return the names whose Parameters section lists other parameters than they have."""
    found = []
    for node, _ in public(ast.parse(source).body):
        names = documented(ast.get_docstring(node) or "")
        # A class that adds none to its base's constructor documents the base's.
        inherits = isinstance(node, ast.ClassDef) and node.bases and not parameters(node)
        if names is not None and not inherits and names != parameters(node):
            found.append(f"{node.name}: {sorted(names ^ parameters(node))}")
    return found


def bad_summaries(source: str) -> list[str]:
    """Return the names without a docstring, or whose first line is not one sentence that begins with a verb."""
    found = []
    for node, owner in public(ast.parse(source).body):
        docstring = ast.get_docstring(node)
        if docstring is None:
            if owner is None or not owner.bases:
                found.append(f"{node.name}: no docstring")
            continue
        summary, *rest = docstring.splitlines()
        if summary[-1] not in ".?:" or (rest and rest[0]) or summary.split()[0] in NOT_IMPERATIVE:
            found.append(f"{node.name}: {summary}")
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_parameters_sections_name_exactly_the_parameters(module: Path) -> None:
    assert wrong_sections(module.read_text()) == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_says_first_what_it_does(room: str) -> None:
    found = {
        str(name): bad
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if not str(name := path.relative_to(PACKAGE)).startswith(ELSEWHERE)
        and (bad := bad_summaries(path.read_text()))
    }
    assert found == {}


def shown(page: str) -> Iterator[tuple[str, object]]:
    """Yield the functions, classes and methods that a page of mkdocstrings shows, by name."""
    for name, block in re.findall(r"^::: (\S+)\n((?:    .*\n)*)", page, re.MULTILINE):
        options = (yaml.safe_load(block) or {}).get("options") or {}
        members, hidden = options.get("members", True), [f[1:] for f in options.get("filters", ["!^_"])]
        found: object = pkgutil.resolve_name(name)
        named = [(f"{name}.{one}", getattr(found, one)) for one in members] if isinstance(members, list) else []
        own = [
            (f"{name}.{one}", value)
            for one, value in vars(found).items()
            if not any(re.search(what, one) for what in hidden)
        ]
        if inspect.ismodule(found):
            here = [(path, value) for path, value in own if getattr(value, "__module__", "") == found.__name__]
            for path, one in named or here:
                yield path, one
                if inspect.isclass(one):
                    yield from ((f"{path}.{n}", m) for n, m in vars(one).items() if not n.startswith("_"))
            continue
        yield name, found
        yield from named if members is not True else own if inspect.isclass(found) else ()


def lacking(name: str, found: object) -> list[str]:
    """Return the numpydoc sections that a function or class should have and has not."""
    found = getattr(found, "__func__", found)
    made_by_itself = inspect.isclass(found) and issubclass(found, Exception | Enum)
    if not (inspect.isclass(found) or inspect.isfunction(found)) or made_by_itself:
        return []
    signature, text = inspect.signature(found), inspect.getdoc(found) or ""
    wanted = {"Parameters": bool(signature.parameters.keys() - {"self", "cls"})}
    if inspect.isfunction(found):
        wanted["Returns"] = signature.return_annotation not in (None, "None", inspect.Signature.empty)
    if inspect.isgeneratorfunction(found):
        wanted["Yields"] = wanted.pop("Returns")
    return [f"{name}: {head}" for head, due in wanted.items() if due and f"{head}\n{'-' * len(head)}" not in text]


def test_what_the_reference_shows_has_the_sections_of_numpydoc() -> None:
    names = list(shown(PAGE.read_text()))
    assert len(names) > 80
    assert [one for name, found in names for one in lacking(name, found)] == []


def test_what_the_checks_are_for_is_found() -> None:
    section = '    """Add.\n\n    Parameters\n    ----------\n    x, z : int\n        Numbers.\n    """\n'
    assert wrong_sections(f"def add(x, y):\n{section}") == ["add: ['y', 'z']"]
    assert wrong_sections(f"def add(x, z):\n{section}") == []
    assert bad_summaries('def add(x):\n    """The sum."""\n') == ["add: The sum."]
    assert bad_summaries("def add(x): ...\n") == ["add: no docstring"]
    assert bad_summaries('def add(x):\n    """Add.\n    More."""\n') == ["add: Add."]
    assert bad_summaries('def add(x):\n    """Add."""\n') == []
