"""Kept prompts of decision records become tasks: once each, with what they were asked under, not graded."""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from router_models.data.outcomes import prompt_id
from router_models.data.starter import Task
from router_models.data.starter.task import UNGRADED
from router_models.types import DecisionRecord
from router_models.types.conditions import conditions_of
from serve_graph.cli.client.collect import collect_outcomes, summary
from serve_graph.cli.client.replayed import tasks_from_decisions
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.config.judge import GradersConfig
from serve_graph.errors import ServeGraphError
from serve_graph.records.store import DecisionStore

ROOT = Path(__file__).parents[5]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.fixture
def config(tmp_path: Path) -> GraphConfig:
    return load_config(ROOT / "configs" / "echo.yaml", state_folder=tmp_path)


def keep(config: GraphConfig, *records: DecisionRecord) -> None:
    async def write() -> None:
        store = DecisionStore(config.records_url)
        await store.write_many(records)
        await store.close()

    asyncio.run(write())


def asked(config: GraphConfig, database: str | None = None, most: int = 10) -> tuple[list[Task], list[str]]:
    said: list[str] = []
    return tasks_from_decisions(config, database, most, said.append), said


def test_requests_are_replayed_with_what_they_carried(config: GraphConfig, a_record: Callable[..., Any]) -> None:
    carried = {"temperature": 0.7, "max_tokens": 9, "tools": [TOOL], "tool_choice": "auto"}
    evidence = {"asked": {"messages": CHAT, "parameters": carried}}
    keep(config, a_record(prompt="Be brief.\nWhy?", evidence=evidence, metadata={"domain": "law", "language": "de"}))
    [task], said = asked(config)
    assert (task.chat, task.carried, said) == (CHAT, carried, [])
    assert (task.grader, task.family, task.language) == (UNGRADED, "law", "de")
    found = conditions_of(task.query)
    assert (found.decoding, found.tools, found.max_tokens) == ('{"temperature":0.7}', True, 9)


def test_a_known_task_comes_with_its_grader(config: GraphConfig, a_record: Callable[..., Any], tmp_path: Path) -> None:
    known = Task("q1", "Why?", "", 1, "en", "mentions", {"accepted": ["because"]}, "because", None)
    (tmp_path / "known.jsonl").write_text(json.dumps(known.to_json()))
    named = config.model_copy(update={"graders": GradersConfig(tasks=(tmp_path / "known.jsonl",))})
    evidence = {"asked": {"messages": CHAT, "parameters": {"temperature": 0.7}}}
    keep(named, a_record("dec-1", prompt="Be brief.\nWhy?", evidence=evidence), a_record("dec-2", prompt="How?"))
    assert {(task.chat[-1]["content"], task.grader) for task in asked(named)[0]} == {
        ("Why?", "mentions"),
        ("How?", ""),
    }


def test_every_request_comes_once_and_the_newest_first(config: GraphConfig, a_record: Callable[..., Any]) -> None:
    def one(number: int, text: str, **parameters: Any) -> DecisionRecord:
        evidence = {"asked": {"messages": [{"role": "user", "content": text}], "parameters": parameters}}
        return a_record(f"dec-{number}", prompt=text, evidence=evidence,  # type: ignore[no-any-return]
                        created_at=f"2026-01-02T03:04:{number:02}.000+00:00")  # fmt: skip

    keep(config, one(1, "Why?"), one(2, "WHY?"), one(3, "Why?", temperature=1), one(4, "How?"), one(5, "Who?", seed=1))
    tasks, _ = asked(config)
    assert [task.id for task in tasks] == ["dec-5", "dec-4", "dec-3", "dec-2"]
    assert tasks[-1].prompt_id == prompt_id("Why?")
    assert [task.id for task in asked(config, most=2)[0]] == ["dec-5", "dec-4"]


def test_what_cannot_be_replayed_is_left_out_and_said(config: GraphConfig, a_record: Callable[..., Any]) -> None:
    keep(
        config,
        a_record("dec-1", prompt="of an earlier release"),
        a_record("dec-2", prompt="an image", evidence={"asked": {"not_kept": "content that is no text"}}),
        a_record("dec-3", prompt="of collect itself", outcome="forced"),
        a_record("dec-4", prompt="refused", status=400),
        a_record("dec-5", prompt=None),
        a_record("dec-6", prompt=""),
    )
    tasks, said = asked(config)
    assert [(task.id, task.chat) for task in tasks] == [
        ("dec-1", [{"role": "user", "content": "of an earlier release"}])]  # fmt: skip
    assert sorted(said) == [
        "1 kept prompt(s): left out, as the request was not kept whole (content that is no text)",
        "1 kept prompt(s): of an earlier release, asked as one message without their conditions",
    ]


@pytest.mark.parametrize("is_there", [True, False])
def test_without_kept_prompts_the_error_says_how_to_keep_them(
    config: GraphConfig, a_record: Callable[..., Any], is_there: bool
) -> None:
    if is_there:
        keep(config, a_record(prompt=None))
    with pytest.raises(ServeGraphError, match=r"records: \{keep_prompts: true\}"):
        asked(config)
    assert (config.state_folder / "decisions.db").exists() is is_there


def test_another_store_is_a_file_or_a_url(config: GraphConfig, a_record: Callable[..., Any], tmp_path: Path) -> None:
    keep(config, a_record(prompt="Why?"))
    other = load_config(ROOT / "configs" / "echo.yaml", state_folder=tmp_path / "other")
    file = tmp_path / "decisions.db"
    for database in (str(file), f"sqlite:///{file}"):
        assert [task.prompt for task in asked(other, database)[0]] == ["Why?"]
    with pytest.raises(ServeGraphError, match=r"no decision records in .*missing\.db"):
        asked(other, str(tmp_path / "missing.db"))


async def test_ungraded_answers_are_rows_without_a_grade_or_a_grader(tmp_path: Path) -> None:
    def api(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "So."}}
        reply = {"id": "x", "object": "chat.completion", "created": 0, "model": "cheap", "choices": [choice],
                 "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}  # fmt: skip
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(reply).encode()))

    sent: list[dict[str, Any]] = []
    task = Task("d", "Be brief.\nWhy?", "", 0, "", UNGRADED, {}, "", None, tuple(CHAT), {"top_k": 4, "tools": [TOOL]})
    client = httpx.AsyncClient(transport=httpx.MockTransport(api))
    [row] = await collect_outcomes("http://test", ("cheap",), [task], tmp_path / "o.parquet", http_client=client)
    assert math.isnan(row.grade)
    assert row.label_source == ""
    assert row.metadata["tools"] == "yes"
    assert "max_tokens" not in row.metadata
    assert {name: sent[0].get(name) for name in ("messages", "top_k", "tools")} == {
        "messages": CHAT, "top_k": 4, "tools": [TOOL]}  # fmt: skip
    assert "max_tokens" not in sent[0]


def test_a_summary_counts_what_is_graded() -> None:
    assert summary([1.0, 0.0]) == "2 outcomes, 50.0% right"
    assert summary([math.nan]) == "1 outcome, not graded"
    assert summary([1.0, math.nan]) == "2 outcomes, 100.0% right (1 not graded)"
