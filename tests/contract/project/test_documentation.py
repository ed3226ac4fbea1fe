"""Documents name what is there: links, commands with their options, and pages that are made from the code."""

import importlib
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main
import yaml

import router_models
from serve_graph.cli import app
from serve_graph.config.graph import GraphConfig
from serve_graph.protocol.fields import TABLES

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "examples" / "README.md", ROOT / "k8s" / "README.md"]
)
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


def site(name: str) -> ModuleType:
    """A module of docs/site, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_site_{name}", ROOT / "docs" / "site" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(path: Path) -> set[str]:
    """What GitHub and mkdocs make of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", text):
        aim = (page.parent / target).resolve() if target else page
        made = page.is_relative_to(ROOT / "docs") and str(aim.relative_to(ROOT / "docs")) in pages_made()
        assert aim.exists() or made, f"{target} is not there"
        if anchor and aim.suffix == ".md" and not made:
            assert anchor in anchors(aim), f"{target} has no heading #{anchor}"


def pages_made() -> set[str]:
    source = (ROOT / "docs" / "site" / "hooks.py").read_text()
    return set(re.findall(r'^    "([\w/-]+\.md)": ', source, re.MULTILINE))


def commands() -> dict[str, set[str]]:
    """Every command's words, and its options."""

    def walk(command: Any, words: tuple[str, ...]) -> dict[str, set[str]]:
        if hasattr(command, "commands"):
            return {k: v for name, sub in command.commands.items() for k, v in walk(sub, (*words, name)).items()}
        return {" ".join(words): {opt for parameter in command.params for opt in parameter.opts}}

    return walk(typer.main.get_command(app), ())


def used(text: str) -> list[list[str]]:
    """The words of every `serve-graph …` in blocks of code, and in cells of tables."""
    blocks = re.findall(r"```(?:sh|bash)?\n(.*?)```|((?:^    .*\n)+)", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(a or b for a, b in blocks).replace("\\\n", " ").splitlines()
    parts = (part.strip() for line in lines for part in re.split(r"&&|;", re.sub(r"\s#.*", "", line)))
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    cells = re.findall(r"`(serve-graph [^`]+)`", rows)
    return [shlex.split(part)[1:] for part in (*parts, *cells) if part.startswith("serve-graph ")]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_line_in_a_page_is_one_there_is(page: Path) -> None:
    known = commands()
    for words in used(page.read_text(encoding="utf-8")):
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
        assert name, f"serve-graph {' '.join(words[:2])} is no command"
        options = {re.sub(r"=.*", "", word) for word in words if word.startswith("--")}
        assert options <= known[name], f"serve-graph {name} has no {', '.join(sorted(options - known[name]))}"


def test_the_readme_fits_two_screens_and_its_python_compiles() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec")


def test_every_target_of_make_that_is_named_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z]+)[ `]", page.read_text(encoding="utf-8")))
        assert named <= targets, f"{page.name} names make {', '.join(sorted(named - targets))}"


def test_no_folder_of_the_documentation_shows_more_than_fourteen_entries() -> None:
    for folder in [ROOT / "docs", *(path for path in (ROOT / "docs").rglob("*") if path.is_dir())]:
        shown = [path.name for path in folder.iterdir() if path.name != "__pycache__"]
        assert len(shown) <= 14, folder


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "docs" / "site" / "mkdocs.yml").read_text()
    named = re.findall(r"([\w/-]+\.md|[\w/-]+/\*)$", text.split("\nnav:")[1], re.MULTILINE)
    for path in (ROOT / "docs").rglob("*.md"):
        page = path.relative_to(ROOT / "docs")
        assert str(page) in named or f"{page.parent}/*" in named, page
    assert yaml.safe_load(text)["theme"]["font"] is False, "the site is built and read without the network"


def test_the_generated_reference_names_every_command_key_and_error() -> None:
    generate = site("generate")
    told = generate.cli()
    for name, options in commands().items():
        assert f"## `serve-graph {name}`" in told
        assert all(f"`{option}`" in told for option in options if option.startswith("-"))
    told = generate.configuration()
    for key in GraphConfig.model_fields:
        assert f"| `{key}` |" in told
    assert "| `input_usd_per_mtok` | number, ≥ 0 | **required** |" in told
    told = generate.http()
    assert "`POST /v1/chat/completions`" in told
    for table in TABLES.values():
        for row in table.values():
            assert f"| `{row.name}` | {' | '.join(row.handling.values())} | {row.note} |" in told
    assert "| `serve_graph_requests_total` | counter | Requests" in generate.metrics()
    assert "| 429 | `rate_limit_error` | `SaturatedError` |" in generate.errors()


def test_the_python_reference_shows_every_public_name_of_the_library() -> None:
    text = (ROOT / "docs" / "reference" / "python.md").read_text()
    shown = set(re.findall(r"`router_models\.[\w.]*\.(\w+)`", text))
    for target, options in re.findall(r"^::: ([\w.]+)\n((?:    .*\n)*)", text, re.MULTILINE):
        members = re.search(r"members: \[(.*)\]", options)
        if "show_root_heading: false" not in options:
            path, _, name = target.rpartition(".")
            assert hasattr(importlib.import_module(path), name), target
            shown.add(name)
        else:
            module = importlib.import_module(target)
            named = members[1].split(", ") if members else [name for name in vars(module) if name.endswith("Error")]
            assert all(hasattr(module, name) for name in named), target
            shown |= set(named)
    assert len(shown) > 30
    assert set(getattr(router_models, "__all__", ())) <= shown


def test_an_empty_line_is_put_before_a_list_and_nowhere_else() -> None:
    sys.path.insert(0, str(ROOT / "docs" / "site"))
    try:
        spaced = pytest.importorskip("mkdocs") and site("hooks").spaced
    finally:
        sys.path.remove(str(ROOT / "docs" / "site"))
    assert spaced("So:\n- one\n  more\n- two") == "So:\n\n- one\n  more\n- two"
    assert spaced("```\nSo:\n- one\n```") == "```\nSo:\n- one\n```"
