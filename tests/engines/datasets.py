"""Datasets through `serve-graph batch run`, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from serve_graph.access.keys import key_hash

OWN, FOREIGN = "own-secret", "foreign-secret"
KEYS = [
    {"name": "own", "sha256": key_hash(OWN), "scopes": ["use", "force", "admin"]},
    {"name": "foreign", "sha256": key_hash(FOREIGN), "scopes": ["use"]},
]


def dataset_run(rows: Path, out: Path, *words: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The run's summary, and the rows that it wrote."""
    command = [str(Path(sys.executable).with_name("serve-graph")), "batch", "run", str(rows), "--out", str(out)]
    done = subprocess.run(
        [*command, "--records", "--json", *map(str, words)], capture_output=True, text=True, timeout=900,
        env=os.environ | {"SERVE_GRAPH_KEY": OWN},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DeprecationWarning" not in done.stderr
    return json.loads(done.stdout), [json.loads(line) for line in out.read_text().splitlines()]
