"""What is locked is within the ranges of pyproject.toml, is checked by hash, and says nothing of where it was made."""

import ast
import importlib.metadata
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {path.stem: path.read_text() for path in sorted((ROOT / "scripts" / "locks").glob("*.txt"))}
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(\[[^]]*\])?==(\S+)", re.MULTILINE)
FROM = {  # lock files together, and the ranges they are made from
    "cpu": (("cpu", "torch"), ("cpu", "local-models")),
    "gpu": (("gpu",), ("gpu", "local-models")),
    "tools with the CPU build": (("cpu", "torch", "dev"), ("dev",)),
    "tools with the GPU build": (("gpu", "dev"), ("dev",)),
}
NEVER = {
    canonicalize_name(Requirement(text).name)
    for text in PROJECT["tool"]["uv"]["override-dependencies"]
    if "never" in text
}


def locked(*names: str) -> dict[str, set[str]]:
    """Package → versions (one for each Python, where they differ)."""
    found: dict[str, set[str]] = {}
    for name in names:
        for package, _, version in ENTRY.findall(LOCKS[name]):
            found.setdefault(canonicalize_name(package), set()).add(version)
    return found


def requirements(extra: str | None) -> Iterator[Requirement]:
    """The ranges of an extra (None: of the project itself), those of other extras it names among them."""
    project = PROJECT["project"]
    for text in project["dependencies"] if extra is None else project["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if canonicalize_name(requirement.name) == canonicalize_name(project["name"]):
            for other in requirement.extras:
                yield from requirements(other)
        else:
            yield requirement


@pytest.mark.parametrize("build", FROM)
def test_every_range_is_locked_within_it(build: str) -> None:
    names, extras = FROM[build]
    versions = locked(*names)
    for extra in (None, *extras):
        for wanted in requirements(extra):
            found = versions.get(canonicalize_name(wanted.name), set())
            assert found, f"{wanted} is not locked: make lock"
            assert all(wanted.specifier.contains(version, prereleases=True) for version in found), (
                f"{wanted}: make lock"
            )


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("uv", "tools"),
        ("clients", "clients"),
        ("clients-older", "clients-older"),
        ("supply", "supply"),
        ("registry", "registry"),
        ("kubernetes", "kubernetes"),
    ],
)
def test_every_group_is_locked_within_its_ranges(name: str, group: str) -> None:
    versions = locked(name)
    for wanted in map(Requirement, PROJECT["dependency-groups"][group]):
        assert all(wanted.specifier.contains(v) for v in versions[canonicalize_name(wanted.name)]), "make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_hashes_and_no_file_says_where_it_was_made(name: str) -> None:
    text = LOCKS[name]
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text.split("\n", 1)[1])
    assert len(blocks) == len(ENTRY.findall(text)) > 0
    assert [block.split(" ")[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert not re.search(r"://|file:|--(extra-)?index|--find-links|(^|\s)/\w", text, re.MULTILINE)


def test_torch_and_its_cuda_libraries_stand_apart_from_the_cpu_build() -> None:
    """What a provided CPU build of torch replaces; the GPU build has them with everything else."""
    apart = {name for name in locked("gpu") if name == "torch" or name.startswith(("nvidia-", "cuda-"))}
    assert "torch" in locked("torch")
    assert not {name for name in locked("cpu") if name == "torch" or name.startswith(("nvidia-", "cuda-"))}
    assert locked("torch").keys() <= apart


def test_no_tool_of_development_is_installed_where_it_serves() -> None:
    assert {"mypy", "ruff", "pytest", "hypothesis", "mkdocs"} <= locked("dev").keys()
    assert not locked("dev").keys() & installed_here("cpu", "torch").keys()
    assert not locked("dev").keys() & installed_here("gpu").keys()


def installed_here(*names: str) -> dict[str, str]:
    """What of lock files is installed on this system and Python, by version."""
    lines = [line.removesuffix("\\").strip() for name in names for line in LOCKS[name].splitlines()]
    wanted = [Requirement(line) for line in lines if line and line[0] not in " #-"]
    return {canonicalize_name(r.name): str(r.specifier) for r in wanted if r.marker is None or r.marker.evaluate()}


def test_every_tool_finds_what_it_needs_among_what_is_locked() -> None:
    """On this system: what a tool needs may be locked for what serves on other systems alone."""
    there = installed_here("cpu", "torch", "dev").keys() | NEVER
    for name in installed_here("dev"):
        for need in map(Requirement, importlib.metadata.requires(name) or []):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in there, f"{name} needs {need}: make lock"


def test_nothing_that_is_shipped_imports_a_tool_of_development() -> None:
    """Not even inside a function: `make up` installs none."""
    providers = importlib.metadata.packages_distributions()
    tools = locked("dev").keys() - locked("cpu", "gpu").keys()
    from_tools = {name for name, by in providers.items() if {canonicalize_name(each) for each in by} <= tools}
    assert {"pytest", "mypy", "hypothesis"} <= from_tools
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for package in ("serve_graph", "router_models")
        for path in (ROOT / package).rglob("*.py")
        for name in imported(path.read_text())
        if name in from_tools
    ]
    assert found == []
    assert imported("def f():\n    import pytest.x\n    from mypy import y") == {"pytest", "mypy"}


def imported(source: str) -> set[str]:
    """The top-level packages that a module imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.split(".")[0] for name in names}


def test_what_the_overrides_take_out_is_not_installed() -> None:
    assert not {name: NEVER & locked(name).keys() for name in LOCKS if NEVER & locked(name).keys()}
