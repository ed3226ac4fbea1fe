"""The reviewer's walk through MLflow and the console on a real graph: each step shows what it has to (`make walk`)."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.story.running import ROOT
from tests.unit.serve_graph.api.console.browser import CHROMIUM

pytestmark = [pytest.mark.full, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]


@pytest.mark.timeout(3600)
def test_a_reviewer_reads_compares_approves_watches_and_labels(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "tests.story.walk",
        "--out",
        str(tmp_path / "out"),
        "--keep",
        str(tmp_path / "kept"),
    ]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert len(list((tmp_path / "out").glob("*.png"))) == 7
