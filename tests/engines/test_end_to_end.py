"""The whole graph with real engines: what a newcomer gets from `make up`, asked through the openai client."""

import json
import runpy
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest

from router_models.data.starter.graders import GRADERS
from router_models.types.exchange import ASKED_NAMES
from serve_graph.cli.batch.forecast import share_of
from serve_graph.config.graph import GraphConfig
from tests.engines.datasets import FOREIGN, OWN, dataset_run
from tests.engines.served_batches import batch_line, begun, has_ended, lines_of, reached, recorded, window_over

# Ray, vLLM and what they start warn of much that is theirs to mend.
pytestmark = [pytest.mark.timeout(1500), pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).parents[2]
Serving = Callable[[dict[str, Any], Path], AbstractContextManager[str]]
HEADERS = {"authorization": f"Bearer {OWN}"}


@pytest.fixture(scope="module")
def graph(serving: Serving, local_graph: dict[str, Any]) -> Iterator[tuple[str, GraphConfig]]:
    patient = local_graph | {"signals": {"timeout_s": 60.0}}  # a busy machine takes longer than the usual five seconds
    with serving(patient, Path(local_graph["state_folder"])) as url:
        yield url, GraphConfig.model_validate(patient)


@pytest.fixture
def client(graph: tuple[str, GraphConfig]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{graph[0]}/v1", api_key=OWN, timeout=120, max_retries=0)


def ask(client: openai.OpenAI, model: str, prompt: str) -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], max_tokens=48, temperature=0
    )


@pytest.mark.parametrize("model", ["auto", "cheap", "frontier"])
def test_a_simple_question_is_answered_right_by_every_model_name(client: openai.OpenAI, model: str) -> None:
    reply = ask(client, model, "What is the capital of France?")
    assert "Paris" in (reply.choices[0].message.content or "")
    assert reply.usage is not None
    assert reply.usage.completion_tokens > 0


@pytest.mark.parametrize("model", ["auto", "cheap", "frontier"])
def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI, model: str) -> None:
    whole = ask(client, model, "What is the capital of Japan?").choices[0].message.content
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "What is the capital of Japan?"}],
        max_tokens=48, temperature=0, stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert chunks[-1].usage is not None


def test_the_version_is_certified_and_says_so(graph: tuple[str, GraphConfig]) -> None:
    state = httpx.get(f"{graph[0]}/readyz", headers=HEADERS).json()
    assert state["certified"]
    assert state["promise"].startswith("P(cheap wrong and last tier right | cheap accepted) <=")


ROUTED = [
    *(f'Extract the name and age as JSON from this sentence: "{n} is {a} years old."' for n, a in
      (("Omar", 41), ("Lena", 33), ("Paul", 62), ("Rita", 27), ("Hugo", 55), ("Iris", 38))),
    "Sort these words by their last letter: lamp, tree, moon, desk.", "What is 347 * 29? Only the number.",
    *(f"What is the capital of {country}?" for country in ("France", "Japan", "Italy", "Spain", "Germany")),
]  # fmt: skip


def test_routing_accepts_some_cheap_answers_and_refuses_others(graph: tuple[str, GraphConfig]) -> None:
    outcomes = set()
    for prompt in ROUTED:
        body = {"model": "auto", "messages": [{"role": "user", "content": prompt}], "max_tokens": 64}
        reply = httpx.post(f"{graph[0]}/v1/chat/completions", json=body, headers=HEADERS, timeout=120)
        outcomes.add(reply.headers["x-serve-graph-outcome"])
        assert json.loads(reply.text)["serve_graph"]["tier"] == reply.headers["x-serve-graph-tier"]
    assert "accepted" in outcomes
    assert outcomes & {"routed", "escalated", "abstained"}


def test_speculation_is_at_work_in_the_cheap_tier(graph: tuple[str, GraphConfig], client: openai.OpenAI) -> None:
    ask(client, "cheap", "Repeat three times: the red cat and the blue cat and the green cat.")
    text = httpx.get(f"{graph[0]}/metrics", headers=HEADERS).text
    name = "serve_graph_engine_spec_decode_num_draft_tokens_total"
    drafted = [line for line in text.splitlines() if line.startswith(name)]
    assert drafted
    assert float(drafted[0].rsplit(" ", 1)[1]) > 0


def test_a_prompt_that_fits_no_tier_is_a_clear_400(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "auto", "word " * 6000)
    assert refused.value.body["code"] == "context_length_exceeded"  # type: ignore[index]


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "country": {"type": "string"}},
    "required": ["city", "country"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("model", ["auto", "frontier"])
def test_a_json_schema_is_kept_by_the_real_models(client: openai.OpenAI, model: str) -> None:
    reply = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Name one city and its country, as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": CITY}},
        max_tokens=60,
    )
    jsonschema.validate(json.loads(reply.choices[0].message.content or ""), CITY)


def test_a_tool_is_called_and_its_result_is_used(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "weather_of", "parameters": CITY}}
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Oslo, Norway?"}]
    first = client.chat.completions.create(
        model="frontier",
        messages=messages,
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "weather_of"}},
        max_tokens=80,
    )
    [call] = first.choices[0].message.tool_calls or []
    assert call.type == "function"
    jsonschema.validate(json.loads(call.function.arguments), CITY)
    messages += [
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "It is snowing, -7 degrees."},
    ]
    then = client.chat.completions.create(model="auto", messages=messages, max_tokens=60)
    assert then.model_extra is not None
    assert then.model_extra["serve_graph"]["tier"] == "frontier"
    assert "snow" in (then.choices[0].message.content or "").lower()


def test_signals_about_an_answer_are_had_of_the_real_pair(client: openai.OpenAI) -> None:
    """What `collect --signals` asks for: P(True), samples, the verdict of the last tier and its likelihood."""
    reply = client.chat.completions.create(
        model="cheap", messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=32,
        temperature=0, extra_body={"serve_graph": {"signals": list(ASKED_NAMES)}},
    )  # fmt: skip
    assert reply.model_extra is not None
    facts = reply.model_extra["serve_graph"]
    assert set(facts["signals"]) == set(ASKED_NAMES), facts
    for name in ("p_true", "agreement", "last_tier_verdict"):
        assert 0 < facts["signals"][name] < 1
    assert -20 < facts["signals"]["last_tier_likelihood"] < 0
    assert facts["signals_s"] > 0
    plain = ask(client, "cheap", "What is the capital of France?")
    assert plain.model_extra is not None
    assert "signals" not in plain.model_extra["serve_graph"]
    assert float(facts["cost_usd"]) > float(plain.model_extra["serve_graph"]["cost_usd"])


def test_every_request_has_its_record(graph: tuple[str, GraphConfig], client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": "What is the opposite of hot?"}], max_tokens=32
    )
    decision = raw.headers["x-serve-graph-decision"]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with sqlite3.connect(graph[1].state_folder / "decisions.db") as db:
            row = db.execute("select tier, outcome, cost_usd from decisions where id = ?", (decision,)).fetchone()
        if row:
            break
        time.sleep(0.2)
    assert row == (
        raw.headers["x-serve-graph-tier"], raw.headers["x-serve-graph-outcome"], row[2],
    )  # fmt: skip
    assert float(row[2]) > 0


def test_a_batch_goes_from_upload_to_results_and_is_its_keys_own(
    graph: tuple[str, GraphConfig], client: openai.OpenAI
) -> None:
    names = ("auto", "cheap", "frontier")
    asked = [batch_line(name, "What is the capital of France?", name) for name in names]
    batch = reached(client, begun(client, *asked, batch_line("unknown", "x", "nope")), has_ended)
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 3, 1)
    found = lines_of(client, batch.output_file_id)
    assert [one["custom_id"] for one in found] == list(names)
    for name, one in zip(names, found, strict=True):
        reply = openai.types.chat.ChatCompletion.model_validate(one["response"]["body"])
        assert "Paris" in (reply.choices[0].message.content or "")
        assert (
            reply.choices[0].message.content
            == ask(client, name, "What is the capital of France?").choices[0].message.content
        )
    [refused] = lines_of(client, batch.error_file_id)
    assert (refused["custom_id"], refused["response"]["status_code"]) == ("unknown", 404)

    other = openai.OpenAI(base_url=f"{graph[0]}/v1", api_key=FOREIGN, timeout=60, max_retries=0)
    for read in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            read(batch.id)
    with pytest.raises(openai.NotFoundError):
        other.files.content(batch.output_file_id or "")
    assert list(other.batches.list()) == []


def test_a_malformed_line_fails_its_batch_before_any_model_is_asked(client: openai.OpenAI) -> None:
    batch = reached(client, begun(client, batch_line("good", "What is the opposite of hot?"), "{no json"), has_ended)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [one.line for one in batch.errors.data or []] == [2]
    assert batch.output_file_id is None


@pytest.mark.parametrize("last", ["cancelled", "expired"])
def test_a_batch_that_is_stopped_midway_keeps_the_answers_so_far(
    graph: tuple[str, GraphConfig], client: openai.OpenAI, last: str
) -> None:
    models = ("cheap", "frontier", "auto")
    asked = [
        batch_line(f"row-{n}", f"Count from {n} upwards, one number a line.", models[n % 3], 48) for n in range(150)
    ]
    batch = reached(client, begun(client, *asked), lambda one: one.request_counts.completed >= 4)
    if last == "cancelled":
        client.batches.cancel(batch.id)
    else:
        window_over(graph[1].state_folder, batch.id)
    batch = reached(client, batch, has_ended)
    assert batch.status == last
    assert batch.request_counts is not None
    answered, left = (lines_of(client, name) for name in (batch.output_file_id, batch.error_file_id))
    assert 4 <= len(answered) == batch.request_counts.completed < 150
    assert all(one["response"]["body"]["choices"][0]["message"]["content"] for one in answered)
    assert {one["response"]["body"]["serve_graph"]["tier"] for one in answered} == {"cheap", "frontier"}
    assert {(one["response"], one["error"]["code"]) for one in left} == {(None, f"batch_{last}")}
    names = [one["custom_id"] for one in (*answered, *left)]
    assert sorted(names, key=lambda name: int(name[4:])) == [f"row-{n}" for n in range(150)]


def test_a_batchs_routed_rows_are_decided_by_the_certified_version(
    graph: tuple[str, GraphConfig], client: openai.OpenAI
) -> None:
    version = httpx.get(f"{graph[0]}/readyz", headers=HEADERS).json()["version"]
    batch = reached(client, begun(client, *(batch_line(f"row-{n}", one) for n, one in enumerate(ROUTED))), has_ended)
    assert batch.request_counts is not None
    assert (batch.status, batch.request_counts.completed) == ("completed", len(ROUTED))
    found = lines_of(client, batch.output_file_id)
    assert [one["custom_id"] for one in found] == [f"row-{n}" for n in range(len(ROUTED))]
    facts = [one["response"]["body"]["serve_graph"] for one in found]
    assert {one["version"] for one in facts} == {version}
    outcomes = {one["outcome"] for one in facts}
    assert "accepted" in outcomes
    assert outcomes & {"routed", "escalated", "abstained"}
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum(one["response"]["body"]["usage"]["completion_tokens"] for one in found)
    records = recorded(graph[1].state_folder, [one["decision"] for one in facts])
    assert records == {one["decision"]: (one["tier"], one["outcome"]) for one in facts}


INVOICES = runpy.run_path(str(ROOT / "examples" / "invoices" / "write_invoices.py"))


@pytest.mark.full
def test_sixty_invoices_are_read_as_the_schema_says(graph: tuple[str, GraphConfig], tmp_path: Path) -> None:
    """docs/guides/learning/extraction.md with the two real models: guided decoding keeps the schema."""
    INVOICES["write"](tmp_path, 0, 60, with_truth=1)
    found = {}
    given = (
        "--url", graph[0], "--prompt-column", "document", "--system", tmp_path / "system.txt",
        "--response-format", tmp_path / "response_format.json", "--max-tokens", INVOICES["MAX_TOKENS"],
    )  # fmt: skip
    for model in ("cheap", "frontier", "auto"):
        out = tmp_path / f"{model}.jsonl"
        told, found[model] = dataset_run(tmp_path / "documents.jsonl", out, *given, "--model", model)
        print(model, json.dumps({name: told[name] for name in ("seconds", "total_usd", "measured", "outcomes")}))
    right = {
        model: [GRADERS["fields"](row["reference"], row["answer"]) for row in rows] for model, rows in found.items()
    }
    harm = sum(last > cheap for cheap, last in zip(right["cheap"], right["frontier"], strict=True))
    print({model: share_of(sum(marks), 60) for model, marks in right.items()}, "harm", share_of(harm, 60))
    for rows in found.values():
        whole = [json.loads(row["answer"]) for row in rows if row["serve_graph_finish_reason"] == "stop"]
        for answer in whole:
            jsonschema.validate(answer, INVOICES["SCHEMA"])
        assert len(whole) >= 54, "answers that end within the length"
