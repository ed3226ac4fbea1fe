"""The demo's questions and its table; asking is `collect`'s, tested there."""

from router_models.data.outcomes import read_outcomes
from router_models.data.starter import Task, generate
from router_models.types import Outcome, Usage
from serve_graph.cli.client.demo import _row, held_out, render_demo
from serve_graph.policy.serving_version import STARTER_OUTCOMES


def answered(task: Task, text: str, outcome: str = "accepted") -> Outcome:
    return Outcome(task.id, task.prompt, "cheap", text, 0.0, Usage(10, 5), 0.5, metadata={"outcome": outcome})


def test_questions_are_held_out_and_the_same_every_time() -> None:
    asked = held_out(40)
    assert [t.prompt for t in asked] == [t.prompt for t in held_out(40)]
    known = read_outcomes(STARTER_OUTCOMES).prompts.texts
    assert len(asked) == 40
    assert not any(t.prompt in text for text in known for t in asked)


def test_an_abstention_is_not_right_even_where_its_words_are() -> None:
    tasks = generate(4, seed=5)
    right = [answered(task, task.solution) for task in tasks]
    assert _row("auto", tasks, list(right), [1.0] * 4)["right"] == 1
    silent = [answered(tasks[0], tasks[0].solution, "abstained"), *right[1:]]
    assert _row("auto", tasks, list(silent), None)["right"] == 0.75


def test_the_table_shows_quality_beside_cost_and_how_little_forty_questions_prove() -> None:
    row = {"policy": "auto", "n": 40, "share": 1.0, "right": 0.8, "right_low": 0.65, "right_high": 0.9}
    row |= {"p50_s": 1.0, "p95_s": 2.0, "usd": 0.0002}
    top = row | {"policy": "always frontier", "usd": 0.0004}
    text = render_demo(
        {
            "questions": 40,
            "concurrency": 4,
            "version": "router/1",
            "promise": "P(wrong) <= 0.2",
            "overall": [row, top],
            "by_tier": [row | {"policy": "cheap"}, {"policy": "frontier", "n": 0, "share": 0.0}],
            "outcomes": [{"tier": "cheap", "outcome": "accepted", "n": 40}],
            "speculation": {"cheap drafted": 208.0, "cheap accepted": 62.0, "cheap acceptance": 0.298},
        }
    )
    assert "| auto | 80% (65% to 90%) | 0.00500 | 50% | 1.00 / 2.00 |" in text
    assert "| frontier | 0% | none | none |" in text
    assert "cheap drafted 208, cheap accepted 62, cheap acceptance 0.3" in text
