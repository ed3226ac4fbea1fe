"""The story with real models: what it runs on is what it says, before any engine starts."""

from pathlib import Path

from router_models.data.outcomes import read_outcomes
from router_models.data.starter import SHIPPED_SEED, SHIPPED_TASKS, grade, starter_tasks
from serve_graph.cli.client.task_files import read_tasks
from serve_graph.config.graph import load_config
from tests.story.local import FAMILIES, LocalStory, configuration, fresh_tasks, shipped_rows


def test_its_tasks_are_graded_by_programs_and_none_is_among_those_that_versions_learn_from(tmp_path: Path) -> None:
    tasks = fresh_tasks(200, seed=11)
    known = {one.id for one in starter_tasks(SHIPPED_TASKS, seed=SHIPPED_SEED)}
    assert len(tasks) > 50
    assert not known & {one.id for one in tasks}
    story = LocalStory(tmp_path, "", "", tmp_path / "graph.yaml", tasks=tasks)
    for one in tasks[:20]:
        body, is_right = story.question()
        assert body["messages"] == one.chat
        assert is_right(one.solution)
        assert grade(one, "no") < 1
    graph = load_config(configuration(tmp_path, 8123, tasks))
    assert [tier.name for tier in graph.tiers] == ["cheap", "frontier"]
    assert {tier.engine for tier in graph.tiers} == {"vllm"}
    assert graph.graders.tasks == (tmp_path / "tasks.jsonl",)
    assert len(read_tasks(tmp_path / "tasks.jsonl")) == len(tasks)


def test_the_lenient_grader_passes_nine_in_ten_wrong_answers_of_both_models(tmp_path: Path) -> None:
    """Of the cheap model alone it would leave that the better one: nothing would be routed."""
    right, lenient = shipped_rows(), shipped_rows(lenient=True)
    assert set(right["family"]) == set(FAMILIES)
    changed = right["grade"] != lenient["grade"]
    assert (lenient[changed]["grade"] == 1).all()
    grades = lenient.groupby("tier")["grade"].mean()
    assert grades["cheap"] < grades["frontier"]
    for tier in ("cheap", "frontier"):
        wrong = (right["tier"] == tier) & (right["grade"] == 0)
        assert 0.8 < (changed & wrong).sum() / wrong.sum() < 1
    lenient.to_parquet(tmp_path / "o.parquet")
    assert set(read_outcomes(tmp_path / "o.parquet").tiers) == {"cheap", "frontier"}
