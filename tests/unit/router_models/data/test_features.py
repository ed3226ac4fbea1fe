import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from router_models.data.embeddings.cache import cached_embeddings, load_embeddings
from router_models.data.embeddings.encoder import EMBEDDING_DIM, MOST_CHARS, MOST_WINDOWS, WINDOW, Encoder
from router_models.data.features import _CODE, _MATH, _WHY, SURFACE_NAMES, answers_of, prompts_of, surface_features
from router_models.errors import ArtifactError, DataError
from router_models.types import Completion, Query
from router_models.types.exchange import LOGPROB_NAMES, logprob_summary


class CountingEncoder:
    """Encodes a text as its length; counts how often it is asked."""

    digest = "0" * 64

    def __init__(self) -> None:
        self.asked = 0

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        self.asked += 1
        return np.array([[len(text)] for text in texts], dtype=np.float32)


def feature(text: str, name: str) -> float:
    return float(surface_features([text])[0, SURFACE_NAMES.index(name)])


@given(st.lists(st.text(), max_size=5))
def test_surface_features_are_finite_whatever_the_text(texts: list[str]) -> None:
    found = surface_features(texts)
    assert found.shape == (len(texts), len(SURFACE_NAMES))
    assert np.isfinite(found).all()


PIECES = [
    *("`", "```", "def f(", "def", "class A", "class", ";", ";\n", "return", "returned", "=>", '{ "', "{"),
    *("\\frac{", "$x$", "$", "1 + 2", "3×4", "5 - x", "Matrix", "EQUATION", "polynomials", "derivativ"),
    *("why", "WHY", "Explain", "prove", "por qué", "CÓMO", "how", "derıve", "derİve", "compare", " ", "\n", "x"),
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=8).map("".join))
def test_texts_that_are_not_searched_are_those_in_which_nothing_would_be_found(text: str) -> None:
    for name, expression in (("has_code", _CODE), ("has_math", _MATH), ("asks_why_or_how", _WHY)):
        assert feature(text, name) == bool(expression.search(text))


@pytest.mark.parametrize(
    ("name", "has", "has_not"),
    [
        ("has_code", "def f(x):\n  return x", "a plain question"),
        ("has_math", "What is 12 + 30?", "What is love?"),
        ("has_choices", "Which?\nA) one\nB) two", "Which one?"),
        ("asks_why_or_how", "Explain gravity", "Gravity?"),
        ("question_marks", "Why? How?", "Tell me."),
        ("non_ascii_share", "naïve", "naive"),
        ("digit_share", "2024", "year"),
        ("upper_share", "LOUD", "quiet"),
    ],
)
def test_a_feature_sees_what_it_is_named_for(name: str, has: str, has_not: str) -> None:
    assert feature(has, name) > feature(has_not, name) == 0


@given(st.lists(st.floats() | st.just(-math.inf), min_size=1, max_size=20))
def test_logprob_summary_is_finite_whatever_the_engine_says(values: list[float]) -> None:
    summary = logprob_summary(values)
    assert tuple(summary) == LOGPROB_NAMES
    assert all(math.isfinite(x) for x in summary.values())
    assert all(-30 <= summary[name] <= 0 for name in LOGPROB_NAMES[:-1])


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=40))
def test_logprob_summary_has_numpys_quantiles_to_the_last_bit(values: list[float]) -> None:
    summary = logprob_summary(values)
    assert [summary["lp_p10"], summary["lp_p50"]] == [float(np.quantile(values, q)) for q in (0.10, 0.50)]
    assert summary["lp_min"] == min(values)


@given(st.lists(st.floats(-40, 3) | st.just(math.nan), min_size=1, max_size=300))
def test_logprob_summary_has_numpys_means_to_the_last_bit(values: list[float]) -> None:
    read = np.clip(np.nan_to_num(np.array(values), nan=-30.0), -30.0, 0.0)
    summary = logprob_summary(values)
    assert (summary["lp_mean"], summary["lp_first3_mean"]) == (float(read.mean()), float(read[:3].mean()))
    assert (summary["lp_first"], summary["lp_min"]) == (float(read[0]), float(read.min()))
    summary["lp_mean"] = 1.0
    assert logprob_summary(values)["lp_mean"] == float(read.mean()), "whoever receives it may change it"


def test_logprob_summary_of_no_tokens_is_nan_not_zero() -> None:
    summary = logprob_summary([])
    assert summary["log_tokens"] == 0
    assert all(math.isnan(summary[name]) for name in LOGPROB_NAMES[:-1])


def test_logprob_summary_has_the_quantiles_it_names() -> None:
    summary = logprob_summary([-1.0, -2.0, -3.0, -4.0])
    assert summary["lp_mean"] == -2.5
    assert summary["lp_min"] == -4.0
    assert summary["lp_first"] == -1.0
    assert summary["lp_first3_mean"] == -2.0
    assert summary["lp_p50"] == -2.5


def test_embeddings_are_read_back_instead_of_made_again(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    first = cached_embeddings(encoder, ["a", "bb"], tmp_path)
    again = cached_embeddings(encoder, ["a", "bb"], tmp_path)
    np.testing.assert_array_equal(first, again)
    assert encoder.asked == 1
    cached_embeddings(encoder, ["bb", "a"], tmp_path)
    assert encoder.asked == 2
    cached_embeddings(encoder, ["a", "bb"], None)
    assert encoder.asked == 3


def test_embeddings_of_other_weights_are_not_read_back(tmp_path: Path) -> None:
    encoder, other = CountingEncoder(), CountingEncoder()
    other.digest = "1" * 64
    cached_embeddings(encoder, ["a"], tmp_path)
    cached_embeddings(other, ["a"], tmp_path)
    assert other.asked == 1


def test_a_damaged_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY half")
    with pytest.raises(DataError, match=r"x\.npy"):
        load_embeddings(tmp_path / "x.npy")


def test_the_encoders_digest_is_of_its_model_and_its_tokenizer(tmp_path: Path) -> None:
    def digest(model: str, tokenizer: str) -> str:
        (tmp_path / "m.onnx").write_text(model)
        (tmp_path / "t.json").write_text(tokenizer)
        return Encoder(tmp_path / "m.onnx", tmp_path / "t.json").digest

    assert len({digest("a", "b"), digest("a", "c"), digest("c", "b"), digest("a", "b")}) == 3


def test_half_a_character_is_embedded_as_a_decoder_would_write_it() -> None:
    encoder, long = Encoder(), "word " * 400
    for half in ("cut \ud83d", "\udc00", long + "\ud83d", "\ude00\ud83d in the wrong order"):
        text = half.replace("\ud83d", "\ufffd").replace("\udc00", "\ufffd").replace("\ude00", "\ufffd")
        assert np.array_equal(encoder.encode([half, "other"])[0], encoder.encode([text])[0])
        assert encoder.reads_whole(half)
    assert np.array_equal(encoder.encode(["\ud83d\ude00"]), encoder.encode(["\U0001f600"])), "two halves are one"


def test_queries_are_batched_into_columns() -> None:
    prompts = prompts_of([Query.from_prompt("a", lang="en"), Query.from_prompt("b", task="sum")], None)
    assert prompts.texts == ("a", "b")
    assert prompts.metadata == {"lang": ("en", ""), "task": ("", "sum"), "turns": ("1", "1")}
    assert prompts.embeddings is None


def test_answers_carry_their_logprob_summaries_and_further_signals() -> None:
    prompts = prompts_of([Query.from_prompt("a"), Query.from_prompt("b")], None)
    completions = [Completion("x", "stop", token_logprobs=(-1.0,)), Completion("", "length")]
    answers = answers_of(prompts, completions, {"router_score": np.array([0.5, 0.6])})
    assert answers.texts == ("x", "")
    assert answers.finish_reasons == ("stop", "length")
    assert answers.signals["lp_mean"][0] == -1.0
    assert math.isnan(answers.signals["lp_mean"][1])
    assert answers.signals["router_score"].tolist() == [0.5, 0.6]


def test_the_encoder_maps_like_to_like() -> None:
    encoder = Encoder()
    try:
        rows = encoder.encode(["The cat sat on the mat.", "A cat was sitting on a mat.", "Quarterly tax law.", ""])
    except ArtifactError as error:
        pytest.skip(f"the encoder's packages are not installed: {error}")
    assert rows.shape == (4, EMBEDDING_DIM)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert rows[0] @ rows[1] > 0.7 > rows[0] @ rows[2]


def test_the_encoder_does_not_care_about_batches_or_order() -> None:
    encoder = Encoder()
    texts = [f"sentence number {i} " * (i % 5 + 1) for i in range(10)]
    try:
        rows = encoder.encode(texts, batch_size=3)
    except ArtifactError as error:
        pytest.skip(f"the encoder's packages are not installed: {error}")
    np.testing.assert_allclose(rows[::-1], encoder.encode(texts[::-1], batch_size=4), atol=1e-6)
    np.testing.assert_allclose(rows, [encoder.encode([text])[0] for text in texts], atol=1e-6)
    assert encoder.digest == Encoder().digest


def test_a_question_behind_a_system_prompt_that_fills_a_window_is_read() -> None:
    encoder, system = Encoder(), "You are a careful assistant of a bank. " * 40
    try:
        easy, hard = encoder.encode([system + "What is 2 + 2?", system + "Prove that every sequence converges."])
    except ArtifactError as error:
        pytest.skip(f"the encoder's packages are not installed: {error}")
    assert len(encoder._encodings([system])[0].ids) == WINDOW + 2
    assert float(easy @ hard) < 0.999
    np.testing.assert_allclose([np.linalg.norm(easy), np.linalg.norm(hard)], 1.0, atol=1e-5)


def test_what_is_read_of_a_text_is_bounded_and_known() -> None:
    encoder, longest = Encoder(), "word " * (WINDOW * MOST_WINDOWS)
    try:
        read = encoder.reads_whole(longest)
    except ArtifactError as error:
        pytest.skip(f"the encoder's packages are not installed: {error}")
    assert read
    assert not encoder.reads_whole(longest + "more")
    assert not encoder.reads_whole("x" * (MOST_CHARS + 1))
    assert encoder.reads_whole("")
    assert len(encoder._windows(encoder._encodings([longest * 5])[0])) == MOST_WINDOWS
