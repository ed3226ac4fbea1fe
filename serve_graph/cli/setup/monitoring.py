"""`serve-graph monitoring`: alert rules for Prometheus and dashboards for Grafana."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from serve_graph.cli.output import say
from serve_graph.config.kubernetes.monitoring.rules import RUNBOOKS_URL


def monitoring(
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path("monitoring"),
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="A PrometheusRule and ConfigMaps instead of plain files.")
    ] = False,
    runbooks_url: Annotated[str, typer.Option(help="Where the runbooks are published.")] = RUNBOOKS_URL,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 where --out holds something else.")
    ] = False,
) -> None:
    """Write recording and alert rules for Prometheus, and dashboards for Grafana.

    Example: serve-graph monitoring --out monitoring
    """
    from serve_graph.config.kubernetes.monitoring.files import monitoring_files
    from serve_graph.errors import ConfigError

    words = ["serve-graph", "monitoring", *(["--kubernetes"] if kubernetes else [])]
    words += ["--runbooks-url", runbooks_url] if runbooks_url != RUNBOOKS_URL else []
    command = shlex.join([*words, "--out", str(out)])
    files = monitoring_files(command, kubernetes=kubernetes, runbooks_url=runbooks_url)
    if check:
        stale = [str(out / path) for path, text in files.items() if not _holds(out / path, text)]
        if stale:
            raise ConfigError(f"{', '.join(stale)}: not what this release gives; run `{command}`")
        return say(f"{out}: up to date")
    for path, text in files.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_text(text, encoding="utf-8")
    return say(f"{out}: {', '.join(map(str, files))}")


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
