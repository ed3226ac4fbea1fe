"""The tree is one a reader can hold in mind, and no test lies where nothing runs it."""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("router_models", "serve_graph")
MOST_ENTRIES, MOST_LAYERS = 14, 13
UNCOUNTED = {"__init__.py", "py.typed", "__pycache__"}
GENERATED = re.compile(r"\..*|__pycache__|build|dist|mlruns|.*\.egg-info|.*\.log")

# Packages whose tests stand in the folder above, or in another kind's. Everything else has a folder of its own.
TESTED_ELSEWHERE = {
    "router_models/data/embeddings": "tests/unit/router_models/data/test_features.py",
    "router_models/data/formats": "tests/unit/router_models/data/test_formats.py",
    "router_models/data/starter/families": "tests/contract/test_every_starter_family.py",
    "router_models/data/starter/sandbox": "tests/unit/router_models/data/starter/test_sandbox.py",
    "router_models/data/starter/variations": "tests/unit/router_models/data/starter/test_variations.py",
    "router_models/estimators/calibrators": "tests/unit/router_models/estimators/test_calibrators.py",
    "router_models/estimators/catalogue": "tests/unit/router_models/estimators/routers/test_catalogue.py",
    "router_models/estimators/questions": "tests/unit/router_models/estimators/verifiers/test_questions.py",
    "router_models/estimators/routers/baselines": "tests/contract/test_every_router.py",
    "router_models/estimators/routers/combined": "tests/contract/test_every_router.py",
    "router_models/estimators/routers/embedding": "tests/contract/test_every_router.py",
    "router_models/estimators/routers/language_model": "tests/contract/test_every_router.py",
    "router_models/estimators/routers/text": "tests/contract/test_every_router.py",
    "router_models/estimators/verifiers/language_model": "tests/contract/test_every_verifier.py",
    "router_models/evaluation/benchmarks": "tests/unit/router_models/evaluation/test_routellm.py",
    "router_models/versions/sealed": "tests/unit/router_models/versions/test_router_version.py",
    "router_models/monitoring": "tests/unit/router_models/risk_control/test_promise_watch.py",
    "serve_graph/config/templates": "tests/unit/serve_graph/cli/setup/test_init.py",
    "serve_graph/engines/echo": "tests/unit/serve_graph/engines/test_echo.py",
    "serve_graph/engines/vllm": "tests/unit/serve_graph/engines/test_vllm_settings.py",
    "serve_graph/records/migrations/versions": "tests/unit/serve_graph/records/migrations/test_every_revision.py",
}


def defined_tests(source: str) -> list[str]:
    """The names of the test functions that pytest finds in a module, and of what stands in their place."""
    return [
        name
        for node in ast.walk(ast.parse(source))
        for name in (
            [node.name] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else
            [target.id for target in node.targets if isinstance(target, ast.Name)] if isinstance(node, ast.Assign) else
            []
        )
        if name.startswith(("test_", "Test"))
    ]  # fmt: skip


def stages(makefile: str) -> set[str]:
    """The folders of tests that the Makefile's targets give to pytest."""
    return set(re.findall(r"\btests/\w+(?=[\s;\"']|$)", makefile, re.MULTILINE))


def crowded(levels: Iterable[tuple[str, Sequence[str]]], most: int) -> list[str]:
    return [f"{name}: {len(entries)}" for name, entries in levels if len(entries) > most]


def levels() -> list[tuple[str, list[str]]]:
    """Every folder of the checkout with what it shows: no caches, no build products, nothing hidden."""
    found, left = [], [ROOT]
    while left:
        folder = left.pop()
        entries = [path for path in folder.iterdir() if not GENERATED.fullmatch(path.name)]
        left += [path for path in entries if path.is_dir() and not path.is_symlink()]
        found.append((str(folder.relative_to(ROOT)), [p.name for p in entries if p.name not in UNCOUNTED]))
    return found


def test_every_test_file_holds_a_test_and_a_stage_runs_it() -> None:
    run = stages((ROOT / "Makefile").read_text())
    files = {path: path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(name) for path, name in files.items() if not defined_tests(path.read_text())] == []
    assert [str(name) for name in files.values() if "/".join(name.parts[:2]) not in run] == []


def test_a_file_without_a_test_and_a_folder_without_a_stage_would_be_seen() -> None:
    assert defined_tests("def helper(): ...\ntested = 1") == []
    assert defined_tests("async def test_a(): ...\nTestB = machine.TestCase") == ["test_a", "TestB"]
    assert stages("t:\n\tpytest -q tests/unit tests/contract\n\tpytest tests/cluster/load/test_soak.py") == {
        "tests/unit",
        "tests/contract",
    }


def test_no_level_of_the_tree_shows_more_than_fits_on_a_screen() -> None:
    assert crowded(levels(), MOST_ENTRIES) == []
    assert crowded([("x", ["a"] * 15)], MOST_ENTRIES) == ["x: 15"]


def test_every_list_of_layers_can_be_held_in_mind() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lists = [(contract["name"], contract["layers"]) for contract in contracts if contract["type"] == "layers"]
    assert len(lists) >= len(PACKAGES)
    assert crowded(lists, MOST_LAYERS) == []


def test_every_package_has_a_folder_of_tests_or_is_listed() -> None:
    folders = [path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    names = {str(folder.relative_to(ROOT)) for folder in folders}
    without = {name for name in names if not (ROOT / "tests" / "unit" / name).is_dir()}
    listed = {name for name in without if any(name == one or name.startswith(f"{one}/") for one in TESTED_ELSEWHERE)}
    assert without == listed
    assert TESTED_ELSEWHERE.keys() <= without, "has a folder of its own by now"
    assert [where for where in TESTED_ELSEWHERE.values() if not (ROOT / where).is_file()] == []


def test_every_folder_of_unit_tests_mirrors_a_package() -> None:
    holding = {
        path.parent.relative_to(ROOT / "tests" / "unit") for path in (ROOT / "tests" / "unit").rglob("test_*.py")
    }
    assert [str(folder) for folder in holding if not (ROOT / folder).is_dir()] == []


def test_no_two_decisions_share_a_number() -> None:
    numbers = Counter(path.name[:4] for path in (ROOT / "docs" / "decisions").rglob("[0-9][0-9][0-9][0-9]-*.md"))
    assert len(numbers) > 80
    assert [number for number, count in numbers.items() if count > 1] == []
