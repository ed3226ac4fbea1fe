"""Files of known tasks that cannot be used are named before anything starts."""

import json
from pathlib import Path

import pytest

from router_models.data.starter import Task
from serve_graph.cli.local.doctor import Finding, examine
from serve_graph.config.graph import GraphConfig
from serve_graph.config.judge import GradersConfig
from serve_graph.errors import ConfigError
from tests.fixtures.registry import echo_graph

TASK = Task("q1", "Why?", "", 1, "en", "mentions", {"accepted": ["because"]}, "because", None)


def with_tasks(folder: Path, text: str) -> GraphConfig:
    path = folder / "known.jsonl"
    path.write_text(text)
    return echo_graph(folder).model_copy(update={"graders": GradersConfig(tasks=(path,))})


def test_doctor_and_the_start_read_files_of_known_tasks(tmp_path: Path) -> None:
    from serve_graph.app import build_app

    def found(config: GraphConfig) -> list[Finding]:
        return [one for one in examine(config) if one.check == "known tasks"]

    assert found(echo_graph(tmp_path)) == []
    good = with_tasks(tmp_path, json.dumps(TASK.to_json()))
    assert found(good) == [Finding("known tasks", True, "1, whose answers programs grade")]
    bad = with_tasks(tmp_path, "{}\n")
    [fault] = found(bad)
    assert not fault.ok
    assert "known.jsonl, line 1" in fault.detail
    with pytest.raises(ConfigError, match=r"known\.jsonl, line 1"):
        build_app({"config": bad})
