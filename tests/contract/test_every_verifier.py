"""The contract that every verifier in the registry keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from router_models.data.artifacts import load_state, save_state, seal, verify
from router_models.errors import ArtifactError, DataError, NotFittedError
from router_models.estimators.verifiers import VERIFIERS, VerifierModel
from router_models.types import Answers, FloatArray, Prompts
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary

pytestmark = pytest.mark.sampled(one_in=3)

FAMILIES = sorted(VERIFIERS)
LEARNERS = [name for name in FAMILIES if name != "non-empty"]

ODD_ANSWERS = (
    "",
    "   \n\t ",
    "x" * 100_000,
    "spam and eggs " * 7_000,
    "🙂🙃🎉" * 20,
    "\x00\x00null\x00",
    '{"a": [1, 2',
    '{"a": {"b": null}}',
    "[" * 5_000,
    "答えは四十二です。",
    "الجواب هو ٤٢",
    "Ответ: 42",
    "```python\ndef f(:\n```",
    "I'm sorry, but I can't help with that.",
    "\ud800 lone surrogate",
    "NaN",
)


def _batch(n: int, seed: int = 0) -> tuple[Answers, FloatArray]:
    """n exchanges with every signal; logprobs, p_true, agreement and the words all say something about the grade."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.6).astype(np.float64)
    summaries = [logprob_summary((-rng.exponential(0.1 + 0.9 * (1 - ok), 6)).tolist()) for ok in y]
    signals = {name: np.array([s[name] for s in summaries]) for name in LOGPROB_NAMES}
    signals |= {
        "p_true": np.clip(0.3 + 0.4 * y + rng.normal(0, 0.2, n), 0, 1),
        "self_verification": np.clip(0.3 + 0.4 * y + rng.normal(0, 0.2, n), 0, 1),
        "first_token_entropy": np.abs(1 - y + rng.normal(0, 0.5, n)),
        "agreement": np.clip(0.3 + 0.4 * y + rng.normal(0, 0.2, n), 0.05, 0.95),
        "last_tier_verdict": np.clip(0.3 + 0.4 * y + rng.normal(0, 0.2, n), 0, 1),
        "last_tier_likelihood": y - 2 + rng.normal(0, 0.5, n),
        "reward:critic": y + rng.normal(0, 1.0, n),
        "router_score": np.clip(0.4 + 0.2 * y + rng.normal(0, 0.2, n), 0, 1),
    }
    embeddings = rng.normal(size=(n, 24)).astype(np.float32)
    embeddings[:, 0] += y
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    prompts = tuple(f"Question {i}: what is {i} plus {i % 7}? Only the number." for i in range(n))
    texts = tuple(str(i) if ok else ("I'm not sure, perhaps it is " + str(i)) for i, ok in enumerate(y))
    return Answers(Prompts(prompts, embeddings), texts, ("stop",) * n, signals), y


def _odd() -> Answers:
    X, _ = _batch(len(ODD_ANSWERS), seed=9)
    return Answers(X.prompts, ODD_ANSWERS, X.finish_reasons, X.signals)


@pytest.fixture(scope="module")
def batch() -> tuple[Answers, FloatArray]:
    return _batch(160)


@pytest.fixture(scope="module", params=FAMILIES)
def fitted(request: pytest.FixtureRequest, batch: tuple[Answers, FloatArray]) -> VerifierModel:
    return VERIFIERS[request.param]().fit(*batch)


def test_scores_are_finite_and_within_zero_and_one(fitted: VerifierModel) -> None:
    score = fitted.predict(_batch(80, seed=1)[0])
    assert score.shape == (80,)
    assert score.dtype == np.float64
    assert np.isfinite(score).all()
    assert score.min() >= 0
    assert score.max() <= 1


def test_fitting_twice_gives_equal_scores(fitted: VerifierModel, batch: tuple[Answers, FloatArray]) -> None:
    again = VERIFIERS[fitted.family]().fit(*batch)
    assert np.array_equal(again.predict(batch[0]), fitted.predict(batch[0]))


def test_a_stored_verifier_scores_equally_after_reload(fitted: VerifierModel, tmp_path: Path) -> None:
    save_state(tmp_path, "verifier", fitted.state())
    seal(tmp_path)
    verify(tmp_path)
    loaded = type(fitted).from_state(load_state(tmp_path, "verifier"))
    new = _batch(40, seed=2)[0]
    assert np.array_equal(loaded.predict(new), fitted.predict(new))
    assert loaded.wants_embeddings == fitted.wants_embeddings
    assert loaded.wants_signals == fitted.wants_signals


def test_odd_answers_get_a_score_and_no_exception(fitted: VerifierModel) -> None:
    score = fitted.predict(_odd())
    assert np.isfinite(score).all()
    assert score.min() >= 0
    assert score.max() <= 1


def test_odd_answers_can_be_learned_from(fitted: VerifierModel) -> None:
    odd = _odd()
    y = (np.arange(len(odd)) % 2).astype(np.float64)
    assert np.isfinite(VERIFIERS[fitted.family]().fit(odd, y).predict(odd)).all()


def test_one_row_scores_as_it_does_in_a_batch(fitted: VerifierModel) -> None:
    new = _batch(12, seed=3)[0]
    together = fitted.predict(new)
    alone = np.array([fitted.predict(new.take([i]))[0] for i in range(len(new))])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-12)


def test_rows_whose_signals_were_not_measured_still_get_a_score(fitted: VerifierModel) -> None:
    X = _batch(10, seed=4)[0]
    unmeasured = Answers(X.prompts, X.texts, X.finish_reasons, {name: np.full(10, np.nan) for name in X.signals})
    assert np.isfinite(fitted.predict(unmeasured)).all()


def test_infinite_signals_are_bounded(fitted: VerifierModel) -> None:
    X = _batch(10, seed=4)[0]
    infinite = Answers(X.prompts, X.texts, X.finish_reasons, {name: np.full(10, -np.inf) for name in X.signals})
    assert np.isfinite(fitted.predict(infinite)).all()


@pytest.mark.parametrize("family", LEARNERS)
def test_an_unfitted_verifier_says_so(family: str, batch: tuple[Answers, FloatArray]) -> None:
    with pytest.raises(NotFittedError):
        VERIFIERS[family]().predict(batch[0])
    with pytest.raises(NotFittedError):
        VERIFIERS[family]().state()


@pytest.mark.parametrize("family", LEARNERS)
def test_grades_that_cannot_be_learned_from_are_refused(family: str, batch: tuple[Answers, FloatArray]) -> None:
    X, y = batch
    bad: list[FloatArray] = [
        np.full(len(y), 1.0),
        y + np.where(np.arange(len(y)) == 3, np.nan, 0),
        y * 2 - 0.5,
        y[:-1],
    ]
    for grades in bad:
        with pytest.raises(DataError):
            VERIFIERS[family]().fit(X, grades)
    with pytest.raises(DataError):
        VERIFIERS[family]().fit(X.take(np.array([], dtype=np.int64)), y[:0])


@pytest.mark.parametrize("family", LEARNERS)
def test_fractional_grades_are_learned_from(family: str, batch: tuple[Answers, FloatArray]) -> None:
    X, y = batch
    fitted = VERIFIERS[family]().fit(X, 0.1 + 0.8 * y)
    assert np.corrcoef(fitted.predict(X), y)[0, 1] > 0


@pytest.mark.parametrize("family", LEARNERS)
@pytest.mark.parametrize("minority", [1, 2, 4])
def test_a_handful_of_bad_answers_is_enough_to_fit(family: str, minority: int) -> None:
    X, _ = _batch(40)
    y = np.ones(40)
    y[:minority] = 0.0
    score = VERIFIERS[family]().fit(X, y).predict(X)
    assert np.isfinite(score).all()
    assert abs(score.mean() - y.mean()) < 0.2


@pytest.mark.parametrize("family", LEARNERS)
def test_a_verifier_learns_what_its_evidence_says(family: str) -> None:
    score = VERIFIERS[family]().fit(*_batch(250)).predict(_batch(400, seed=5)[0])
    y = _batch(400, seed=5)[1]
    assert score[y == 1].mean() > score[y == 0].mean() + 0.1


@pytest.mark.parametrize("family", LEARNERS)
def test_a_state_of_something_else_is_refused(family: str, fitted: VerifierModel) -> None:
    alike = {family, fitted.family} <= {"combined", "rule-checks"}
    if family == fitted.family or alike or fitted.family == "non-empty":
        pytest.skip("the same kind of state")
    with pytest.raises(ArtifactError):
        VERIFIERS[family].from_state(fitted.state())


def test_every_card_is_one_line_that_names_a_cost() -> None:
    for family, cls in VERIFIERS.items():
        assert cls.family == family
        assert "\n" not in cls.card
        assert "needs" in cls.card


def test_a_missing_signal_is_named(batch: tuple[Answers, FloatArray]) -> None:
    X, y = batch
    bare = Answers(X.prompts, X.texts, X.finish_reasons)
    for family, name in (
        ("logprob", "lp_mean"),
        ("p-true", "p_true"),
        ("self-verification", "self_verification"),
        ("first-token-entropy", "first_token_entropy"),
        ("agreement", "agreement"),
        ("last-tier-verdict", "last_tier_verdict"),
        ("last-tier-likelihood", "last_tier_likelihood"),
        ("reward", "reward"),
    ):
        with pytest.raises(DataError, match=name):
            VERIFIERS[family]().fit(bare, y)
    with pytest.raises(DataError, match="router_score"):
        VERIFIERS["combined"]().fit(X, y).predict(bare_of(X, "router_score"))


def bare_of(X: Answers, without: str) -> Answers:
    """The batch without one signal."""
    return Answers(X.prompts, X.texts, X.finish_reasons, {k: v for k, v in X.signals.items() if k != without})
