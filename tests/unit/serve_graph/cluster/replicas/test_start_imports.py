"""What the processes of a graph import before they can answer: every start, and every replacement, waits for it."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from router_models.estimators.calibrators.scores import CALIBRATORS
from router_models.estimators.routers import ROUTERS
from router_models.estimators.verifiers import VERIFIERS
from router_models.types import Answers, Prompts
from serve_graph.cluster.replicas.lean_imports import HOOK, spare_pandas_in_workers

FOR_FITTING_ALONE = {"sklearn", "scipy.stats", "scipy.optimize", "scipy.sparse"}
"""Libraries that no served version needs: half a second to a second of processor each time, and 130 MB."""
READING_TEXT = ("default", "tfidf", "forest", "surface-forest", "linear", "knn", "semantic")

DATA_FRAMES = {"pandas", "pyarrow"}
"""Some 60 MB of every process that holds them."""
SPARED = "from serve_graph.cluster.replicas.lean_imports import spare_pandas; spare_pandas()\n"


def loaded_after(*steps: str, words: tuple[str, ...] = ()) -> list[set[str]]:
    """The modules of a new process after each of these steps, one after the other."""
    say = "import json, sys; print(json.dumps(sorted(sys.modules)))"
    told = [sys.executable, "-c", "\n".join(f"{step}\n{say}" for step in steps), *words]
    done = subprocess.run(told, capture_output=True, text=True, check=True, timeout=600)  # a busy machine
    return [set(json.loads(line)) for line in done.stdout.splitlines()[-len(steps) :]]


def loaded_by(code: str, *words: str) -> set[str]:
    """The modules of a new process that ran this code."""
    return loaded_after(code, words=words)[0]


@pytest.fixture(scope="module")
def ray_serve_then_app() -> list[set[str]]:
    return loaded_after("import ray.serve", "import serve_graph.app")


def test_a_graph_starts_without_what_only_fitting_and_hosted_tiers_need(ray_serve_then_app: list[set[str]]) -> None:
    """All deployments' modules are imported by the application's."""
    loaded = ray_serve_then_app[-1]
    assert loaded >= {"serve_graph.cluster.ingress_deployment", "serve_graph.cluster.policy_deployment", "ray.serve"}
    assert loaded & {*FOR_FITTING_ALONE, "openai", "mlflow"} == set()


def test_no_process_of_a_graph_holds_data_frames(ray_serve_then_app: list[set[str]]) -> None:
    """Not even Ray Serve's, which imports pandas wherever it is installed; whoever asks for it has it afterwards."""
    app, asked = loaded_after(f"{SPARED}import serve_graph.app", "import pandas; assert pandas.DataFrame")
    assert "ray.serve" in app
    assert app & DATA_FRAMES == set()
    assert asked >= DATA_FRAMES
    assert ray_serve_then_app[0] >= {"pandas"}  # else nothing has to be spared any more


def test_workers_are_told_to_spare_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._common.utils import load_class
    from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR

    assert HOOK == WORKER_PROCESS_SETUP_HOOK_ENV_VAR
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setenv(HOOK, "somebody.elses")
    spare_pandas_in_workers()
    assert os.environ[HOOK] == "somebody.elses"
    monkeypatch.delenv(HOOK)
    spare_pandas_in_workers()
    load_class(os.environ[HOOK])()  # as a worker finds and calls it
    assert [type(finder).__name__ for finder in sys.meta_path].count("WithoutPandas") == 1


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


def test_served_routers_and_verifiers_score_without_what_fitting_needs(tmp_path: Path) -> None:
    """130 MB of each process that holds a version, were it for scikit-learn's hash of a word alone."""
    drawn = np.random.default_rng(3)
    texts = tuple(f"{'prove' if i % 3 else 'add'} {i} to the {'sum' if i % 5 else 'product'}" for i in range(120))
    vectors = drawn.normal(size=(120, 384)).astype(np.float32)
    prompts = Prompts(texts, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    right = (drawn.random(120) < 0.7).astype(float)
    answers = Answers(prompts, tuple(f"the answer is {i}" for i in range(120)), ("stop",) * 120)
    fitted = [ROUTERS[family]().fit(prompts, right).state() for family in READING_TEXT]
    verifiers = [VERIFIERS[family]().fit(answers, right) for family in ("combined", "learned", "rule-checks")]
    path = tmp_path / "states"
    path.write_bytes(pickle.dumps((fitted, [one.state() for one in verifiers], prompts, answers)))
    code = (
        "import pickle, sys\n"
        "import numpy as np\n"
        "from router_models.estimators.routers import ROUTERS\n"
        "from router_models.estimators.verifiers import VERIFIERS\n"
        f"families = {READING_TEXT}, ('combined', 'learned', 'rule-checks')\n"
        "routers, verifiers, prompts, answers = pickle.load(open(sys.argv[1], 'rb'))\n"
        "for i in range(2):\n"
        "    for family, state in zip(families[0], routers, strict=True):\n"
        "        assert 0 <= ROUTERS[family].from_state(state).predict(prompts.take(np.array([i])))[0] <= 1\n"
        "    for family, state in zip(families[1], verifiers, strict=True):\n"
        "        assert 0 <= VERIFIERS[family].from_state(state).predict(answers.take(np.array([i])))[0] <= 1"
    )
    loaded = loaded_by(code, str(path))
    assert "mmh3" in loaded
    assert loaded & FOR_FITTING_ALONE == set()
