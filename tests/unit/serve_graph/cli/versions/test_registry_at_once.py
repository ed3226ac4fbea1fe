"""An empty registry on disk that several processes open at the same moment: a graph that follows it, and `certify`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[5]
PROGRAM = """
import os, sys, time
import mlflow
import mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
from router_models.versions.mlflow_client import registry_client
begins, children = time.time() + 1, []
for _ in range(int(sys.argv[2])):
    if (child := os.fork()) == 0:
        time.sleep(max(0, begins - time.time()))
        try:
            registry_client(sys.argv[1]).search_registered_models()
        except BaseException as error:
            print(str(error)[:300], file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
"""


@pytest.mark.timeout(300)
def test_an_empty_registry_may_be_opened_by_several_processes_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, f"sqlite:///{tmp_path / 'mlflow.db'}", "4"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
