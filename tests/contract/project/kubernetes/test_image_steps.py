"""The Dockerfile's steps outside of a container: what it copies, in a folder of its own (`make k8s`; minutes)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.project.kubernetes.kustomize import ROOT
from tests.contract.project.kubernetes.test_image import STAGES

pytestmark = [pytest.mark.full, pytest.mark.timeout(1800)]
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", ".serve_graph", ".venv*", "*.egg-info")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The stage `source`: what it copies, and nothing else of the repository."""
    for word, rest in STAGES["source"]:
        if word == "COPY":
            *names, _ = rest.split()
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, tmp_path / name, ignore=IGNORED, symlinks=True)
                else:
                    shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def taken(stage: str, folder: Path) -> None:
    """Take a stage's RUN steps, each in a shell that ends at the first failure of a pipe, as the Dockerfile says."""
    for step in [rest for word, rest in STAGES[stage] if word == "RUN"]:
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", step],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]


def said(folder: Path, *words: str) -> str:
    ran = subprocess.run(
        [str(folder / ".venv" / "bin" / words[0]), *words[1:]],
        cwd="/", capture_output=True, text=True, timeout=300, check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_steps_of_the_cpu_image_install_what_the_pods_run(source: Path) -> None:
    taken("build-cpu", source)
    assert said(source, "serve-graph", "--version").startswith("serve-graph ")
    assert "ray, version 2.60.0" in said(source, "ray", "--version")
    found = said(source, "python", "-c", "import serve_graph.app; print(serve_graph.app.__file__)")
    assert found.strip() == str(source / "serve_graph" / "app.py")
    assert said(source, "serve-graph", "records", "migrate", "--help")


def test_the_steps_of_the_registrys_image_install_its_server_and_drivers(source: Path) -> None:
    taken("build-mlflow", source)
    assert said(source, "mlflow", "--version").startswith("mlflow, version 3.17.2")
    said(source, "python", "-c", "import psycopg2, boto3")
