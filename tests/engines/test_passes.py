"""`batch run --passes` with the two packaged models: answers, counts and estimates as the running graph gives them.

The graph is asked all prompts at once, as a pass asks them: in bfloat16 an answer also depends on what is computed
with it (asked one by one, the served 135M model itself gives other words to 4 of these 10 prompts).
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from router_models.estimators.routers import LengthRouter
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.tier_models import Stage
from tests.cluster.load.test_pass_kills import by_logprobs
from tests.engines.datasets import dataset_run
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.cli.batch.passes.mixed_run import HALF, mixed_tiers
from tests.unit.serve_graph.cli.batch.providers.provider_server import ProviderServer, echo_reply

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


LONG = " many words" * 150
"""What sends a prompt to the last tier at once."""
SURE = [f"Repeat these words: red, red, red, red, red, red, {word}." for word in ("red", "blue", "green", "black")]
UNSURE = [f"Invent a strange new animal and say what it thinks of {what}." for what in ("war", "jazz", "rust", "tax")]


def test_a_real_cheap_tier_is_mixed_with_batches_of_a_hosted_last_one(
    local_graph: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--passes --provider-batches`: vLLM answers and is judged by its logprobs, the rest is one batch, sent on once
    where it expires.
    """
    monkeypatch.setenv("API_KEY", "none")
    server = ProviderServer(echo_reply, looks=2, ends=["expired"], answered=3)
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(0.2, 0.002)})  # the surer ones have .005 and more
    version = RouterVersion(policy, {"cheap": Stage(LengthRouter(), None, by_logprobs(-0.02, -1.2), None)})
    state = tmp_path / "state"
    version.save(state / "builtin" / "builtin-uncertified")
    (state / "weights").symlink_to(Path(local_graph["state_folder"]) / "weights")
    prompts = [*SURE, *UNSURE, *PROMPTS[:4], *(f"{prompt}{LONG}" for prompt in PROMPTS[4:8])]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    with listening(server.app) as url:
        cheap, frontier = local_graph["tiers"][0], mixed_tiers(url, ("frontier",))[1]
        changed = {"tiers": [cheap, frontier], "policy": {"version": "builtin"}, "state_folder": str(state)}
        (tmp_path / "graph.yaml").write_text(yaml.safe_dump(local_graph | changed))
        given = ("--passes", "--provider-batches", "--poll-s", 0.5, "--config", tmp_path / "graph.yaml")
        told, found = dataset_run(rows, tmp_path / "out.jsonl", *given, "--max-tokens", 32)
    assert (told["answered"], told["failed"], told["left"], told["stopped"]) == (len(prompts), 0, 0, None)
    shown = [(row["serve_graph_tier"], row["serve_graph_outcome"]) for row in found]
    assert set(shown) == {("cheap", "accepted"), ("frontier", "escalated"), ("frontier", "routed")}
    assert shown[-4:] == [("frontier", "routed")] * 4
    hosted = [row for row in found if row["serve_graph_tier"] == "frontier"]
    assert all(row["answer"] == f"m-frontier: {row['prompt']}" for row in hosted)
    assert server.sizes == [len(hosted), len(hosted) - 3]
    assert (server.chats, len(server.paid), set(server.paid.values())) == (0, len(hosted), {1})
    assert told["provider_batches"] == {"frontier": {"batches": 2, "price_factor": "0.5", "passes": 1}}
    for row in found:
        cost = Decimal(row["serve_graph_cost_usd"])
        if row["serve_graph_tier"] == "cheap":
            assert row["answer"]
            assert int(row["serve_graph_completion_tokens"]) > 0
            assert cost < HALF["frontier"]
        else:
            assert (cost > HALF["frontier"]) == (row["serve_graph_outcome"] == "escalated"), "both calls are paid"
    assert sum(Decimal(row["serve_graph_cost_usd"]) for row in found) == Decimal(told["total_usd"])
