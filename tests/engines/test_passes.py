"""`batch run --passes` with the two packaged models: answers, counts and estimates as the running graph gives them.

The graph is asked all prompts at once, as a pass asks them: in bfloat16 an answer also depends on what is computed
with it (asked one by one, the served 135M model itself gives other words to 4 of these 10 prompts).
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engines.datasets import dataset_run

# Ray, vLLM and what they start warn of much that is theirs to mend.
pytestmark = [pytest.mark.full, pytest.mark.timeout(2400), pytest.mark.filterwarnings("ignore")]
Serving = Callable[[dict[str, Any], Path], AbstractContextManager[str]]
MODELS = ("cheap", "frontier", "auto")
PROMPTS = (
    "What is the capital of France?",
    "What is the opposite of hot?",
    'What is the plural of "mouse"?',
    'Extract the name and age as JSON from this sentence: "Omar is 41 years old."',
    'Extract the name and age as JSON from this sentence: "Lena is 33 years old."',
    "Sort these words by their last letter: lamp, tree, moon, desk.",
    "What is 347 * 29? Only the number.",
    "Write a Python function that adds 17 to its argument.",
    "Repeat three times: the red cat and the blue cat and the green cat.",
    "Wie heißt die Hauptstadt von Österreich?",
)
SAME = (
    "answer", "serve_graph_tier", "serve_graph_outcome", "serve_graph_version", "serve_graph_finish_reason",
    "serve_graph_prompt_tokens", "serve_graph_completion_tokens", "serve_graph_promised", "serve_graph_cost_usd",
)  # fmt: skip


@pytest.fixture(scope="module")
def served(
    serving: Serving, local_graph: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    """The prompts as a file, and what the graph answered, which is stopped by then: its engines take much memory."""
    folder = tmp_path_factory.mktemp("served")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    with serving(local_graph, Path(local_graph["state_folder"])) as url:
        given = ("--url", url, "--concurrency", len(PROMPTS), "--max-tokens", 48, "--model")
        return rows, {name: dataset_run(rows, folder / f"{name}.jsonl", *given, name)[1] for name in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_passes_answer_as_the_served_engines_do(
    served: tuple[Path, dict[str, list[dict[str, Any]]]], local_graph: dict[str, Any], tmp_path: Path, model: str
) -> None:
    rows, answers = served
    config = tmp_path / "graph.yaml"
    config.write_text(yaml.safe_dump(local_graph))
    given = ("--passes", "--config", config, "--max-tokens", 48, "--model", model)
    told, found = dataset_run(rows, tmp_path / "passes.jsonl", *given)
    assert told["certificate"].startswith("its certificate holds of these rows")
    assert [[row[name] for name in SAME] for row in found] == [[row[name] for name in SAME] for row in answers[model]]
    estimates = [[row["serve_graph_p_answer_ok"] for row in rows] for rows in (answers[model], found)]
    assert [None if one is None else float(one) for one in estimates[1]] == [
        None if one is None else pytest.approx(float(one), abs=0.02) for one in estimates[0]
    ]
