"""What the statistical experiments share: the sampling rule, the sizes, the pools.

The rule: CERT is drawn with replacement from a labelled pool, so that the pool's own risk is the true one, and an
experiment fails if the promise is broken more often than chance allows (`allowed`). Each runs in a quick size in
`make test` and at full size in `make statistical`, and prints what it measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
LLAMA_8B, LLAMA_70B = "Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct"
_MEASURED: list[str] = []


@dataclass(frozen=True)
class Pool:
    """A labelled population: scores in [0, 1], whether each answer is wrong, a slice name each."""

    scores: np.ndarray
    wrong: np.ndarray
    slices: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def risk_and_share(self, threshold: float, within: np.ndarray | None = None) -> tuple[float, float]:
        """True P(wrong | score ≥ threshold) and P(score ≥ threshold)."""
        rows = np.ones(len(self), dtype=bool) if within is None else within
        accepted = rows & (self.scores >= threshold)
        share = accepted.sum() / rows.sum()
        return (float(self.wrong[accepted].mean()) if accepted.any() else 0.0), float(share)

    def oracle_share(self, epsilon: float) -> float:
        """The largest share any threshold could accept at risk ≤ ε, knowing every label."""
        order = np.argsort(-self.scores, kind="stable")
        risk = np.cumsum(self.wrong[order]) / np.arange(1, len(self) + 1)
        last_of_tie = np.append(np.diff(self.scores[order]) != 0, True)
        fits = np.flatnonzero((risk <= epsilon) & last_of_tie)
        return float((fits[-1] + 1) / len(self)) if len(fits) else 0.0


@pytest.fixture(params=["quick", pytest.param("full", marks=[pytest.mark.full, pytest.mark.timeout(3600)])])
def size(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """size(quick, full): how many runs this experiment makes."""
    return lambda quick, full: full if request.param == "full" else quick


@pytest.fixture
def allowed() -> Callable[[int, float], int]:
    """How many of B runs may break a promise of 1 - δ before chance (1 in 1000) no longer explains it."""
    from scipy.stats import binom  # seconds, which the process that hands out the tests has no use for

    return lambda runs, delta: int(binom.ppf(0.999, runs, delta))


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Print a line in the terminal summary: the figures behind a pass."""
    return lambda line: _MEASURED.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _MEASURED:
        terminalreporter.section("statistical experiments: measured")
        for line in _MEASURED:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def pools() -> Callable[[str], Pool]:
    """Pools by name: `synthetic` and `slices` always, the others where the data is present."""
    made: dict[str, Pool] = {}

    def get(name: str) -> Pool:
        if name not in made:
            made[name] = _MAKERS[name]()
        return made[name]

    return get


@pytest.fixture(scope="session")
def qa_table():
    """The question-answering table itself, for experiments on several tiers."""
    return _table("qa_11models_confidence.parquet")


def _table(file: str):
    path = DATA / file
    if not path.exists():
        pytest.skip(f"{file} is not present: outcomes of real models live beside the repository, in shared/data")
    import pandas as pd

    return pd.read_parquet(path)


def _synthetic() -> Pool:
    """Confidences like a chat model's: crowded near 1, over-confident, wrong 24 % of the time."""
    rng = np.random.default_rng(11)
    z = rng.normal(1.6, 1.4, 20_000)
    wrong = rng.random(len(z)) > 1 / (1 + np.exp(-z))
    return Pool(1 / (1 + np.exp(-1.7 * z)), wrong, np.full(len(z), "all"))


def _slices() -> Pool:
    """Eight slices of growing difficulty behind one score that is too sure of the last ones."""
    rng = np.random.default_rng(12)
    which = rng.integers(0, 8, 40_000)
    z = rng.normal(2.6, 1.3, len(which))
    wrong = rng.random(len(z)) > 1 / (1 + np.exp(-(z - 0.22 * which)))
    return Pool(1 / (1 + np.exp(-z)), wrong, np.char.add("slice-", which.astype(str)))


def _qa(model: str, *sets: str) -> Pool:
    table = _table("qa_11models_confidence.parquet")
    if sets:
        table = table[table["qset"].isin(sets)]
    table = table[[model, f"{model}|max_token_confidence", "qset"]].dropna()
    wrong = table[model].to_numpy() == 0
    return Pool(table[f"{model}|max_token_confidence"].to_numpy(float), wrong, table["qset"].to_numpy(str))


def _mmlu() -> Pool:
    """mixtral on MMLU, scored before generation: logistic regression on the embeddings of a third of the prompts."""
    from sklearn.linear_model import LogisticRegression

    table = _table("routellm_mmlu.parquet")
    X = np.load(DATA / "routellm_mmlu.minilm.f16.npy").astype(np.float32)
    right = table["mixtral-8x7b"].to_numpy(int)
    fit = np.random.default_rng(13).random(len(table)) < 1 / 3
    model = LogisticRegression(C=1.0, max_iter=500).fit(X[fit], right[fit])
    return Pool(model.predict_proba(X[~fit])[:, 1], right[~fit] == 0, table["domain"].to_numpy(str)[~fit])


_MAKERS: dict[str, Callable[[], Pool]] = {
    "synthetic": _synthetic,
    "slices": _slices,
    "qa-8b": lambda: _qa(LLAMA_8B),
    "qa-70b": lambda: _qa(LLAMA_70B),
    "qa-8b-easy": lambda: _qa(LLAMA_8B, "sciq_test", "sat_en"),
    "qa-8b-hard": lambda: _qa(LLAMA_8B, "boolq_valid"),
    "mmlu": _mmlu,
}
