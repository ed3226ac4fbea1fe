"""What mkdocs calls: pages made from the code and from the files at the root, and folders listed in the navigation."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import generate  # noqa: E402
from mkdocs.structure.files import File  # noqa: E402

COPIED = {  # page: the file at the root that it shows
    "index.md": "README.md",
    "guides/examples.md": "examples/README.md",
    "project/changelog.md": "CHANGELOG.md",
}
GENERATED: dict[str, Callable[[], str]] = {
    "reference/configuration.md": generate.configuration,
    "reference/http.md": generate.http,
    "reference/cli.md": generate.cli,
    "reference/errors.md": generate.errors,
    "reference/metrics.md": generate.metrics,
    "decisions/index.md": lambda: generate.index("Decisions", DOCS / "decisions", generate.DECISIONS),
    "results/index.md": lambda: generate.index("Results", DOCS / "results", generate.RESULTS),
}


def on_config(config: Any) -> Any:
    """Replace every `folder/*` of the navigation by the folder's pages; the code documented is this checkout's."""
    sys.path.insert(0, str(ROOT))  # mkdocs puts the path back as it was once this file is loaded
    config.nav = _listed(config.nav)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made, not written."""
    for page, source in COPIED.items():
        files.append(File.generated(config, page, content=copied(page, (ROOT / source).read_text(encoding="utf-8"))))
    for page, make in GENERATED.items():
        files.append(File.generated(config, page, content=make()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Python-Markdown wants an empty line before a list, as GitHub does not."""
    return spaced(markdown)


def copied(page: str, text: str) -> str:
    """A file of the root as a page: its links into docs/ become relative to the page."""
    up = "../" * page.count("/")
    known = {source: target for target, source in COPIED.items()}

    def relative(match: re.Match[str]) -> str:
        target = match[1].removeprefix("../")
        if target.startswith("docs/"):
            return f"]({up}{target.removeprefix('docs/')}{match[2] or ''})"
        if target in known:
            return f"]({up}{known[target]}{match[2] or ''})"
        return match[0]

    return re.sub(r"\]\(([\w./-]+)(#[\w-]+)?\)", relative, text)


def spaced(markdown: str) -> str:
    """Put an empty line between a paragraph and the list that follows it at once, outside code."""
    lines: list[str] = []
    fenced = False
    for line in markdown.split("\n"):
        fenced ^= line.lstrip().startswith("```")
        item = re.match(r"([-*]|\d+\.) ", line)
        before = lines[-1] if lines else ""
        if item and not fenced and before.strip() and not re.match(r"\s|([-*]|\d+\.) |#|\|", before):
            inside = next((re.match(r"([-*]|\d+\.) ", old) for old in reversed(lines) if not old[:1].isspace()), None)
            if not inside:
                lines.append("")
        lines.append(line)
    return "\n".join(lines)


def _listed(entries: list[Any]) -> list[Any]:
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            [(title, value)] = entry.items()
            folder = value.removesuffix("/*") if isinstance(value, str) else None
            if folder is not None and folder != value:
                value = _pages(folder)
            found.append({title: _listed(value) if isinstance(value, list) else value})
        elif entry.endswith("/*"):
            found += _pages(entry.removesuffix("/*"))
        else:
            found.append(entry)
    return found


def _pages(folder: str) -> list[str]:
    return sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / folder).glob("*.md"))
