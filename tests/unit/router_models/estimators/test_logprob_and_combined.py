"""What the default verifier and its core promise beyond the contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from router_models.data.artifacts import State
from router_models.data.text_cache import each_text_once
from router_models.errors import ArtifactError, DataError
from router_models.estimators.verifiers import CombinedVerifier, LogprobVerifier
from router_models.estimators.verifiers.learned.logistic import folds_by_prompt, mean_log_loss, sigmoid
from router_models.estimators.verifiers.learned.sources import SOURCES
from router_models.estimators.verifiers.learned.text_score import TextScore
from router_models.types import Answers, FloatArray, Prompts
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary


def _answers(logprobs: list[tuple[float, ...]], **signals: FloatArray) -> Answers:
    summaries = [logprob_summary(row) for row in logprobs]
    columns = {name: np.array([s[name] for s in summaries]) for name in LOGPROB_NAMES}
    prompts = tuple(f"question number {i}" for i in range(len(logprobs)))
    return Answers(Prompts(prompts), ("an answer",) * len(prompts), ("stop",) * len(prompts), columns | signals)


def _drawn(n: int, seed: int) -> tuple[Answers, FloatArray, FloatArray]:
    """Answers whose true P(ok) is known: σ(2 + 3·mean logprob)."""
    rng = np.random.default_rng(seed)
    rows = [tuple((-rng.exponential(rng.gamma(1.0, 0.7), 5)).tolist()) for _ in range(n)]
    p = sigmoid(2.0 + 3.0 * np.array([np.mean(row) for row in rows]))
    return _answers(rows), (rng.random(n) < p).astype(np.float64), p


def test_rows_without_logprobs_score_the_base_rate() -> None:
    X, y, _ = _drawn(200, 0)
    rows = _answers([(), (-0.1, -0.2), ()])
    score = LogprobVerifier().fit(X, y).predict(rows)
    assert score[0] == score[2] == y.mean()
    assert score[1] != y.mean()


def test_no_logprobs_at_all_still_fits_to_the_base_rate() -> None:
    y = np.array([0.0, 1.0, 1.0, 1.0])
    fitted = LogprobVerifier().fit(_answers([()] * 4), y)
    np.testing.assert_allclose(fitted.predict(_answers([(), (-0.3,)])), 0.75)


def test_the_logprob_estimate_is_calibrated_and_near_the_best_possible() -> None:
    X, y, _ = _drawn(600, 1)
    new, y_new, p = _drawn(4000, 2)
    score = LogprobVerifier().fit(X, y).predict(new)
    assert mean_log_loss(y_new, score) < mean_log_loss(y_new, p) + 0.01
    assert abs(score.mean() - y_new.mean()) < 0.03


def test_the_combined_estimate_uses_the_signal_that_informs_and_shrinks_the_one_that_does_not() -> None:
    X, y, _ = _drawn(600, 3)
    rng = np.random.default_rng(0)
    useful = np.clip(0.3 + 0.4 * y + rng.normal(0, 0.15, 600), 0.01, 0.99)
    noise = rng.random(600)
    signals = dict(X.signals) | {"router_score": useful, "p_true": noise}
    fitted = CombinedVerifier().fit(Answers(X.prompts, X.texts, X.finish_reasons, signals), y)
    weights = fitted.weights()
    assert weights["router_score"] > 1.0
    assert abs(weights["p_true"]) < 0.4
    assert list(weights) == fitted.columns_


def test_noise_embeddings_do_not_hurt_beyond_chance() -> None:
    X, y, _ = _drawn(300, 4)
    new, y_new, _ = _drawn(3000, 5)
    rng = np.random.default_rng(1)

    def noisy(answers: Answers) -> Answers:
        vectors = rng.normal(size=(len(answers), 384)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Answers(Prompts(answers.prompts.texts, vectors), answers.texts, answers.finish_reasons, answers.signals)

    alone = CombinedVerifier().fit(X, y).predict(new)
    beside = CombinedVerifier().fit(noisy(X), y).predict(noisy(new))
    assert mean_log_loss(y_new, beside) < mean_log_loss(y_new, alone) + 0.02


def test_a_score_fitted_on_its_own_training_rows_would_be_overtrusted() -> None:
    """The negative control of cross-fitting: in-sample ridge scores of pure noise look like knowledge."""
    from router_models.estimators.verifiers.learned.embedding_score import EmbeddingScore

    inside, outside = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        E, y = rng.normal(size=(200, 384)), (rng.random(200) < 0.5).astype(np.float64)
        folds = folds_by_prompt([str(i) for i in range(200)], y, 5, 0)
        fitted, crossed = EmbeddingScore.fit_and_cross_score(E, y, folds)
        inside.append(np.corrcoef(fitted.predict(E), y)[0, 1])
        outside.append(np.corrcoef(crossed, y)[0, 1])
    assert min(inside) > 0.5
    assert abs(np.mean(outside)) < 0.15


def test_words_are_weighed_once_while_other_signals_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y, _ = _drawn(200, 8)
    told = Answers(X.prompts, X.texts, X.finish_reasons, dict(X.signals) | {"p_true": 0.2 + 0.5 * y})
    alone = [CombinedVerifier().fit(rows, y).predict(rows) for rows in (X, told)]
    fitted, fit = list[FloatArray](), TextScore.fit_and_cross_score.__func__  # type: ignore[attr-defined]

    def counted(cls: type[TextScore], *given: Any) -> Any:
        fitted.append(given[2])
        return fit(cls, *given)

    monkeypatch.setattr(TextScore, "fit_and_cross_score", classmethod(counted))
    with each_text_once():
        together = [CombinedVerifier().fit(rows, y).predict(rows) for rows in (X, told)]
        CombinedVerifier().fit(X, 1 - y)
    assert [grades.tolist() for grades in fitted] == [y.tolist(), (1 - y).tolist()], "once for each set of grades"
    np.testing.assert_array_equal(alone, together)


def test_a_blank_answer_is_never_acceptable_whatever_was_learned() -> None:
    X, y, _ = _drawn(200, 6)
    blank = Answers(X.prompts, ("",) * len(X), X.finish_reasons, X.signals)
    assert CombinedVerifier().fit(X, y).predict(blank).max() <= 1e-6


def test_a_fault_never_seen_in_training_still_lowers_the_score() -> None:
    X, y, _ = _drawn(400, 7)
    texts = tuple("I'm sorry, I can't help with that." if ok == 0 and i % 2 else "an answer" for i, ok in enumerate(y))
    fitted = CombinedVerifier().fit(Answers(X.prompts, texts, X.finish_reasons, X.signals), y)
    new = X.take(range(50))
    cut = Answers(new.prompts, ("an answer",) * 50, ("length",) * 50, new.signals)
    fine = Answers(new.prompts, ("an answer",) * 50, ("stop",) * 50, new.signals)
    assert (fitted.predict(cut) < fitted.predict(fine)).all()


def test_equal_prompts_share_a_fold_and_folds_do_not_depend_on_the_order() -> None:
    texts = [f"q{i % 30}" for i in range(120)]
    y = np.array([(i % 30) % 2 for i in range(120)], dtype=np.float64)
    folds = folds_by_prompt(texts, y, 5, seed=0)
    assert all(len(set(folds[[t == text for t in texts]])) == 1 for text in set(texts))
    order = np.random.default_rng(0).permutation(120)
    assert np.array_equal(folds_by_prompt([texts[i] for i in order], y[order], 5, seed=0), folds[order])
    assert np.bincount(folds, minlength=5).min() >= 20


def test_a_source_that_does_not_exist_is_refused() -> None:
    X, y, _ = _drawn(50, 8)
    with pytest.raises(DataError, match="horoscope"):
        CombinedVerifier(sources=("horoscope",)).fit(X, y)
    with pytest.raises(DataError, match="embedding"):
        CombinedVerifier(sources=("embedding",)).fit(X, y)
    assert "logprob" in SOURCES


def test_embeddings_missing_or_of_another_size_are_refused() -> None:
    X, y, _ = _drawn(80, 9)
    E = np.random.default_rng(0).normal(size=(80, 8)).astype(np.float32)
    with_E = Answers(Prompts(X.prompts.texts, E), X.texts, X.finish_reasons, X.signals)
    fitted = CombinedVerifier().fit(with_E, y)
    assert fitted.wants_embeddings
    assert not CombinedVerifier().fit(X, y).wants_embeddings
    with pytest.raises(DataError, match="embeddings"):
        fitted.predict(X)
    with pytest.raises(DataError, match="dimensions"):
        fitted.predict(Answers(Prompts(X.prompts.texts, E[:, :4]), X.texts, X.finish_reasons, X.signals))


def test_damaged_states_are_refused() -> None:
    X, y, _ = _drawn(80, 10)
    good = CombinedVerifier().fit(X, y).state()
    own = good.meta["own"]
    short = {k: v[:-1] for k, v in good.arrays.items()}
    poisoned = {k: np.where(np.arange(len(v)) == 0, np.nan, v) for k, v in good.arrays.items()}
    for arrays, meta in (
        (short, good.meta),
        (poisoned, good.meta),
        ({}, good.meta),
        (good.arrays, {}),
        (good.arrays, {**good.meta, "own": {**own, "version": [0, 0]}}),
        (good.arrays, {**good.meta, "own": {**own, "columns": ["a"]}}),
        (good.arrays, {**good.meta, "own": {**own, "sources": ["logprob"]}}),
        (good.arrays, {**good.meta, "parts": {}}),
    ):
        with pytest.raises(ArtifactError):
            CombinedVerifier.from_state(State(arrays, meta))


def test_answers_whose_texts_were_not_recorded_are_judged_by_the_rest() -> None:
    X, y, _ = _drawn(200, 11)
    bare = Answers(X.prompts, ("",) * 200, X.finish_reasons, X.signals)
    score = CombinedVerifier().fit(bare, y).predict(bare)
    assert score.max() > 0.5
    assert np.corrcoef(score, y)[0, 1] > 0.3


def test_texts_that_were_not_recorded_are_not_read_later_either() -> None:
    """Else a threshold certified on grades alone would be compared with other scores when real answers come."""
    X, y, _ = _drawn(200, 11)
    silent = Answers(X.prompts, ("",) * len(X), X.finish_reasons, X.signals)
    fitted = CombinedVerifier().fit(silent, y)
    np.testing.assert_array_equal(fitted.predict(silent), fitted.predict(X))
