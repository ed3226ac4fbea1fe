"""The models of known quality that the story is told over are as good as they say, and their judge is right."""

import random
import re

import pytest

from serve_graph.learning.judging.judge_prompts import DEFAULT_PROMPTS, PAIRWISE_WORDS, judge_prompt, verdict_in
from tests.story.tables import german_unseen, lenient, write_outcomes
from tests.story.world import World, is_right, language_of, level_of, task, truth_of, verdict

PROMPTS = [task(random.Random(seed)) for seed in range(1500)]


def test_a_question_says_what_is_to_be_computed() -> None:
    assert truth_of("Was ist 123 * 4 - 50?") == 442
    assert (level_of("What is 1 + 2?"), level_of("What is 3 * 4?"), level_of("How much is 123 * 4 - 5, exactly?")) == (
        1,
        2,
        3,
    )
    assert {language_of(prompt) for prompt in PROMPTS} == {"en", "de"}
    assert all(re.search(r"\d7 [+*]|\* \d7 -", task(random.Random(seed), ending=7)) for seed in range(50))
    assert not all(re.search(r"\d7 [+*]|\* \d7 -", task(random.Random(seed), ending=6)) for seed in range(50))


def test_answers_are_right_as_often_as_the_models_know_and_the_same_for_whoever_asks_again() -> None:
    world = World()
    for model in ("cheap", "frontier"):
        expected = sum(world.p_right(model, prompt) for prompt in PROMPTS) / len(PROMPTS)
        right = sum(is_right(prompt, world.answer(model, prompt)) for prompt in PROMPTS) / len(PROMPTS)
        assert right == pytest.approx(expected, abs=0.04)
        assert world.answer(model, PROMPTS[0]) == world.answer(model, PROMPTS[0])
    world.knows["cheap"] = dict.fromkeys(world.knows["cheap"], 0.0)
    assert not any(is_right(prompt, world.answer("cheap", prompt)) for prompt in PROMPTS)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_the_judge_says_which_answers_are_right(first: bool, second: bool) -> None:
    answers = {True: "The answer is 19.", False: "Perhaps it is 21."}
    asked = judge_prompt(
        DEFAULT_PROMPTS["pairwise"],
        question="What is 12 + 7?",
        first=answers[first],
        second=answers[second],
        nonce="a1b2",
    )
    word = verdict_in(str(verdict(asked)), "a1b2", PAIRWISE_WORDS)
    assert word is not None
    assert PAIRWISE_WORDS[word] == (first, second)
    assert verdict("What is 12 + 7?") is None


def test_graders_of_known_faults_take_wrong_answers_for_right(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import pandas as pd

    def wrong_taken_for_right(grades) -> pd.DataFrame:  # type: ignore[no-untyped-def]
        table = pd.read_parquet(write_outcomes(tmp_path / "t.parquet", 400, 1, grades))
        truly = [is_right(prompt, answer) for prompt, answer in zip(table.prompt, table.answer, strict=True)]
        return table[(table.grade == 1) & ~pd.Series(truly)]

    assert len(wrong_taken_for_right(is_right)) == 0
    assert {level_of(prompt) for prompt in wrong_taken_for_right(lenient).prompt} == {2, 3}
    assert {language_of(prompt) for prompt in wrong_taken_for_right(german_unseen).prompt} == {"de"}
