"""What the processes of a graph import before they can answer: every start, and every replacement, waits for it."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np

from router_models.estimators.calibrators.scores import CALIBRATORS

FOR_FITTING_ALONE = {"sklearn", "scipy.stats", "scipy.optimize"}
"""Libraries that no served version needs: half a second to a second of processor each time."""


def loaded_by(code: str, *words: str) -> set[str]:
    """The modules of a new process that ran this code."""
    told = [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))", *words]
    done = subprocess.run(told, capture_output=True, text=True, check=True, timeout=120)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_graph_starts_without_what_only_fitting_and_hosted_tiers_need() -> None:
    """All deployments' modules are imported by the application's."""
    loaded = loaded_by("import serve_graph.app")
    assert loaded >= {"serve_graph.cluster.ingress_deployment", "serve_graph.cluster.policy_deployment", "ray.serve"}
    assert loaded & {*FOR_FITTING_ALONE, "openai", "mlflow"} == set()


def test_a_served_calibrator_predicts_without_what_fitting_needs(tmp_path: Path) -> None:
    """Not at the first request either: whoever asks it would wait."""
    scores, right = np.linspace(0.05, 0.95, 60), np.tile([0.0, 1.0, 1.0], 20)
    states = [family().fit(scores, right).state() for family in CALIBRATORS.values()]
    path = tmp_path / "states"
    path.write_bytes(pickle.dumps(states))
    code = (
        "import pickle, sys\n"
        "from router_models.estimators.calibrators.scores import CALIBRATORS\n"
        "for state in pickle.load(open(sys.argv[1], 'rb')):\n"
        "    assert 0 < CALIBRATORS[state.meta['family']].from_state(state).predict([0.7])[0] < 1"
    )
    loaded = loaded_by(code, str(path))
    assert "scipy.special" in loaded
    assert loaded & FOR_FITTING_ALONE == set()
