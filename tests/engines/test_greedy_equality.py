"""The real SmolLM2 on vLLM says what transformers says, with speculation too, alone or beside requests that sample."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serve_graph.config.graph import load_config
from serve_graph.config.tiers.kinds import VllmTierConfig
from serve_graph.engines.weights.resolve import PACKAGED, converted_digest, resolve_weights

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).parents[2]
PROMPTS = [
    "What is the capital of France?",
    "What is the plural of the word 'cat'?",
    "Repeat this sentence: The cat sat on the mat and the cat sat on the hat.",
    'Extract the name and age as JSON: "Alice is 30 years old."',
    "What is the opposite of hot?",
    "Who wrote Romeo and Juliet?",
    "List the numbers from one to ten.",
    "Anna has a red car. What color is the car of Anna?",
    "What is the chemical symbol for water?",
    'Write one sentence with the word "dog".',
]


@pytest.fixture(scope="module")
def folder() -> str:
    tier = load_config(ROOT / "configs" / "local.yaml").tier("cheap")
    assert isinstance(tier, VllmTierConfig)
    return resolve_weights(tier.weights, ROOT / ".serve_graph")


def test_the_model_was_converted_to_what_certificates_made_elsewhere_are_bound_to(folder: str) -> None:
    assert converted_digest(Path(folder)) == PACKAGED[Path(folder).name].contents


def run(kind: str, folder: str, *draft: str) -> dict[str, Any]:
    tier = load_config(ROOT / "configs" / "local.yaml").tier("cheap")
    assert isinstance(tier, VllmTierConfig)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("greedy_tokens.py")), kind, folder, *draft],
        input=json.dumps(PROMPTS), capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, **tier.env, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, f"{kind} exited {done.returncode}:\n{done.stderr[-3000:]}"
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result


@pytest.fixture(scope="module")
def found(folder: str) -> dict[str, dict[str, Any]]:
    """What each says, all at once: most of their time goes into imports, on one core each."""
    kinds = ("vllm", "vllm-speculating", "vllm-beside-sampled", "transformers")
    with ThreadPoolExecutor(len(kinds)) as pool:
        return dict(zip(kinds, pool.map(lambda kind: run(kind, folder), kinds), strict=True))


def test_greedy_tokens_equal_those_of_transformers(found: dict[str, dict[str, Any]]) -> None:
    said = found["vllm"]["tokens"], found["transformers"]["tokens"]
    differing = [p for p, a, b in zip(PROMPTS, *said, strict=True) if a != b]
    assert len(PROMPTS) - len(differing) >= 8, f"different answers to {differing}"


def test_speculation_changes_no_token(found: dict[str, dict[str, Any]]) -> None:
    assert found["vllm-speculating"]["tokens"] == found["vllm"]["tokens"]


def test_requests_that_sample_change_no_greedy_token_beside_them(found: dict[str, dict[str, Any]]) -> None:
    said = found["vllm-beside-sampled"]["tokens"], found["vllm"]["tokens"]
    differing = [p for p, a, b in zip(PROMPTS, *said, strict=True) if a != b]
    assert len(PROMPTS) - len(differing) >= 8, f"different answers to {differing}"


def test_acceptance_counters_move_only_with_speculation(found: dict[str, dict[str, Any]]) -> None:
    assert not any(found["vllm"]["counters"].values())
    counters = found["vllm-speculating"]["counters"]
    drafted = counters["vllm:spec_decode_num_draft_tokens"]
    accepted = counters["vllm:spec_decode_num_accepted_tokens"]
    assert 0 < accepted <= drafted


@pytest.mark.full
def test_a_draft_model_of_another_vocabulary_changes_no_answer(folder: str) -> None:
    """The packaged pair: the small model's tokens are drafts for the large one, which keeps what it would say."""
    tier = load_config(ROOT / "configs" / "local.yaml").tier("frontier")
    assert isinstance(tier, VllmTierConfig)
    large = resolve_weights(tier.weights, ROOT / ".serve_graph")
    alone, drafted = run("vllm", large), run("vllm-speculating", large, folder)
    differing = [p for p, a, b in zip(PROMPTS, alone["tokens"], drafted["tokens"], strict=True) if a != b]
    assert len(PROMPTS) - len(differing) >= 8, f"different answers to {differing}"
    counters = drafted["counters"]
    assert 0 < counters["vllm:spec_decode_num_accepted_tokens"] <= counters["vllm:spec_decode_num_draft_tokens"]
