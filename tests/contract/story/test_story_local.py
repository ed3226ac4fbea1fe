"""The story with real models: what it runs on is what it says, before any engine starts."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from router_models.data.outcomes import read_outcomes
from router_models.data.slices import language
from router_models.data.starter import SHIPPED_SEED, SHIPPED_TASKS, grade, starter_tasks
from serve_graph.cli.client.task_files import read_tasks
from serve_graph.config.graph import load_config
from tests.story.expected import Expected
from tests.story.local import CANARIES, CHAPTERS, Tried, canary
from tests.story.local_alarm import shadowed
from tests.story.local_graph import VERSIONS, LocalStory, configuration
from tests.story.local_tables import FAMILIES, fresh_tasks, is_kept_out, learned_rows, shipped_rows


def test_its_tasks_are_graded_by_programs_and_none_is_among_those_that_versions_learn_from(tmp_path: Path) -> None:
    tasks = fresh_tasks(300, seed=11)
    known = {one.id for one in starter_tasks(SHIPPED_TASKS, seed=SHIPPED_SEED)}
    assert len(tasks) > 50
    assert not known & {one.id for one in tasks}
    german = [one for one in tasks if one.language == "de"]
    assert 0.05 < len(german) / len(tasks) < 0.3
    assert {language(one.prompt, {}) for one in german} == {"de"}
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


def test_a_chapter_may_ask_of_some_families_alone(tmp_path: Path) -> None:
    story = LocalStory(tmp_path, "", "", tmp_path / "graph.yaml", tasks=fresh_tasks(300, seed=11), asks=("notes",))
    asked = {story.question()[0]["messages"][0]["content"] for _ in range(len(story.tasks))}
    assert asked == {one.prompt for one in story.tasks if one.family == "notes"}


def test_what_is_expected_of_a_version_is_found_on_questions_that_none_is_made_of() -> None:
    rows = shipped_rows()
    kept = set(rows[is_kept_out(rows)]["prompt"])
    assert 0.2 < len(kept) / rows["prompt"].nunique() < 0.3
    for name in VERSIONS:
        assert not kept & set(learned_rows(name)["prompt"])


def test_the_lenient_grader_passes_nine_in_ten_wrong_answers_of_both_models(tmp_path: Path) -> None:
    """Of the cheap model alone it would leave that the better one: nothing would be routed."""
    right, lenient = learned_rows("first"), learned_rows("lenient")
    assert set(right[right["language"] == "en"]["family"]) == set(FAMILIES)
    changed = right["grade"] != lenient["grade"]
    assert (lenient[changed]["grade"] == 1).all()
    grades = lenient.groupby("tier")["grade"].mean()
    assert grades["cheap"] < grades["frontier"]
    for tier in ("cheap", "frontier"):
        wrong = (right["tier"] == tier) & (right["grade"] == 0)
        assert 0.8 < (changed & wrong).sum() / wrong.sum() < 1
    lenient.to_parquet(tmp_path / "o.parquet")
    assert set(read_outcomes(tmp_path / "o.parquet").tiers) == {"cheap", "frontier"}


def test_the_grader_that_reads_no_german_is_wrong_about_nothing_else() -> None:
    right, german = learned_rows("first"), learned_rows("German")
    changed = right["grade"] != german["grade"]
    assert set(right[changed]["language"]) == {"de"}
    assert (german[german["language"] == "de"]["grade"] == 1).all()
    cheap = right[(right["language"] == "de") & (right["tier"] == "cheap")]
    assert cheap["grade"].mean() < 0.3, "the small model has to be wrong there, or nothing is to be found"


@pytest.mark.parametrize(
    ("chapter", "state", "reason", "fits"),
    [
        ("good", "Healthy", "it is served", True),
        ("good", "Aborted", "undecided after 350 requests", False),
        ("slow", "Degraded", "worse by evidence: latency_worse (overall)", True),
        ("slow", "Degraded", "worse by evidence: errors_worse (overall)", False),
        ("german", "Degraded", "worse by evidence: harm_worse (de)", True),
        ("german", "Degraded", "worse by evidence: harm_worse (overall)", False),
        ("canary", "Aborted", "undecided after 350 requests", True),
        ("canary", "Healthy", "it is served", False),
    ],
)
def test_a_chapter_that_ends_otherwise_than_it_had_to_is_known_for_it(
    chapter: str, state: str, reason: str, fits: bool
) -> None:
    tried: Tried = CANARIES[chapter]
    assert tried.as_it_had_to(state, reason) is fits


def test_every_canary_is_a_chapter_and_its_version_is_known() -> None:
    assert set(CANARIES) < set(CHAPTERS)
    assert {tried.version for tried in CANARIES.values()} < set(VERSIONS)


def rollout(state: str, reason: str) -> dict[str, Any]:
    finding = {"name": "harm_worse", "scope": "de", "value": 41.0, "limit": 40.0, "reached": True, "n": 17}
    comparing = {"offered": 20, "compared": 17, "shed": {"busy": 3}, "ungraded": {}}
    evidence = {"findings": [finding | {"effect": "roll_back"}], "comparing": comparing}
    return {"state": state, "weight": 0.5, "reason": reason, "evidence": evidence}


@dataclass
class Retold(LocalStory):
    """A story whose graph has answered: what it says of its rollout, and the commands that are run."""

    now: dict[str, Any] = field(default_factory=dict)
    ran: list[tuple[str, ...]] = field(default_factory=list)

    def version(self, name: str, *_: Any, **__: Any) -> str:
        return str(1 + list(VERSIONS).index(name))

    def run(self, *words: str) -> str:
        self.ran.append(words)
        return ""

    def rollout(self) -> dict[str, Any]:
        return self.now

    def rollout_now(self) -> dict[str, Any]:
        asyncio.run(asyncio.sleep(0))  # as the store is read: not where a loop runs already
        return self.now

    def ready(self) -> dict[str, Any]:
        return {"version": "serve-graph-router/" + self.ran[-1][2]}

    async def traffic(self, until: Callable[[], Any], most: int, label: bool = False) -> int:
        self.asked_so_far += most
        assert await asyncio.to_thread(until)
        return most


async def told_of(folder: Path, chapter: str, state: str, reason: str) -> Retold:
    story = Retold(folder, "", "", folder / "graph.yaml", now=rollout(state, reason))
    await canary(story, chapter, Expected("roll_back", 30, 30, 60, 90, "harm_worse (de)", 2))
    return story


async def test_a_canary_is_told_with_what_was_compared_and_left_as_it_ended(tmp_path: Path) -> None:
    story = await told_of(tmp_path, "german", "Degraded", "worse by evidence: harm_worse (de)")
    assert (story.short, [words[1] for words in story.ran]) == ([], ["canary"])
    assert '"shed": {"busy": 3}' in story.ends[0]


async def test_a_canary_that_is_undecided_is_ended_by_a_person_and_a_good_one_promoted_so_that_all_goes_on(
    tmp_path: Path,
) -> None:
    story = await told_of(tmp_path, "good", "Progressing", "the story's good version")
    assert [words[1] for words in story.ran] == ["canary", "abort", "promote"]
    assert len(story.short) == 1
    assert "good: Progressing" in story.short[0]


async def test_a_shadow_is_ended_once_enough_was_compared(tmp_path: Path) -> None:
    story = Retold(tmp_path, "", "", tmp_path / "graph.yaml", now=rollout("Progressing", ""))
    await shadowed(story)
    assert [words[1] for words in story.ran] == ["shadow", "abort"]
    assert '"compared": 17' in story.ends[0]
