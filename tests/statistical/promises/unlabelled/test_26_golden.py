"""Experiment 26: golden tasks. A model that stays as it is is reported as rarely as is said, however long it is asked.

The API is not deterministic: each task has answers of its own, the commonest said with its own probability. Negative
controls that must fail: "any answer that differs", and a paired t-test of the grades that is made after every run.
"""

from dataclasses import replace

import numpy as np

from router_models.monitoring.golden_answers import (
    FallenGrades,
    GoldenAnswer,
    GoldenRun,
    compare_golden,
    level_of_run,
)

TASKS, REFERENCE, LEVEL, ALPHA = 40, 5, 0.01, 0.05


class Api:
    """A model behind an API: task i is answered by one of three texts, the first with probability `repeats[i]`.

    A text's length is its own; the grade of an answer is drawn by itself, right with probability `skill[i]`.
    """

    def __init__(self, rng: np.random.Generator, drop: float = 0.0) -> None:
        self.rng = rng
        self.repeats = np.where(rng.random(TASKS) < 0.5, 1.0, rng.uniform(0.4, 1.0, TASKS))
        self.skill = np.where(rng.random(TASKS) < 0.7, 1.0, rng.uniform(0.0, 1.0, TASKS)) * (1 - drop)
        self.changed = np.zeros(TASKS, dtype=bool)

    def change(self, share: float) -> None:
        """Another model: of a share of the tasks it says something else."""
        self.changed = self.rng.random(TASKS) < share

    def run(self) -> GoldenRun:
        said = np.where(self.rng.random(TASKS) < self.repeats, 0, self.rng.integers(1, 3, TASKS))
        right = self.rng.random(TASKS) < self.skill
        return {
            str(i): GoldenAnswer(f"{said[i]} {self.changed[i]}", int(20 + 3 * said[i]), 10, bool(right[i]))
            for i in range(TASKS)
        }


def looks(api: Api, runs: int, change: float | None = None) -> tuple[int | None, int | None]:
    """The first run with a ticket, and the first in which any answer differs from its task's commonest."""
    earlier = [api.run() for _ in range(REFERENCE)]
    if change is not None:
        api.change(change)
    ticket = naive = None
    for number in range(1, runs + 1):
        now = api.run()
        found = compare_golden(earlier, now, level_of_run(LEVEL, 1, number))
        if ticket is None and any(one.is_reported for one in found):
            ticket = number
        if naive is None and any(now[task].said != earlier[0][task].said for task in now):
            naive = number
        earlier.append(now)
    return ticket, naive


def test_an_api_that_does_not_repeat_itself_opens_a_ticket_as_rarely_as_is_said(size, allowed, measured):
    runs, days = size(20, 2000), 30
    rng = np.random.default_rng(26)
    found = [looks(Api(rng), days) for _ in range(runs)]
    tickets, naive = (sum(first[at] is not None for first in found) for at in (0, 1))
    measured(f"a ticket within {days} runs in {tickets} of {runs} lives; by any answer that differs in {naive}")
    assert tickets <= allowed(runs, LEVEL)
    assert naive > allowed(runs, LEVEL), "the negative control: an answer that differs is no change"


def test_another_model_is_found_in_its_first_run(size, measured):
    runs = size(20, 500)
    rng = np.random.default_rng(27)
    shares = {}
    for share in (0.2, 0.5):
        first = [looks(Api(rng), 3, change=share)[0] for _ in range(runs)]
        shares[share] = np.mean([at == 1 for at in first])
    measured(
        f"found in the first run, of {runs}: a fifth of answers changed {shares[0.2]:.3f}, half {shares[0.5]:.3f}"
    )
    assert shares[0.5] >= 0.95


def grades(rng: np.random.Generator, runs: int, drop: float) -> tuple[int | None, int | None]:
    """The first run with an alarm, and with a paired t-test of the run against the reference at the same level."""
    api = Api(rng)
    earlier = [api.run() for _ in range(REFERENCE)]
    before = {task: np.mean([bool(run[task].right) for run in earlier]) for task in earlier[0]}
    api.skill = api.skill * (1 - drop)
    watch = FallenGrades()
    alarm = naive = None
    for number in range(1, runs + 1):
        now = api.run()
        watch = watch.update(earlier, now)
        earlier.append(now)
        if alarm is None and watch.e_value >= 1 / ALPHA:
            alarm = number
        fell = np.array([before[task] - bool(one.right) for task, one in now.items()])
        if naive is None and fell.mean() > 1.645 * fell.std() / np.sqrt(len(fell)) > 0:
            naive = number
    return alarm, naive


def test_grades_that_stay_raise_the_alarm_as_rarely_as_is_said(size, allowed, measured):
    runs, days = size(30, 2000), 40
    rng = np.random.default_rng(28)
    found = [grades(rng, days, 0.0) for _ in range(runs)]
    alarms, naive = (sum(first[at] is not None for first in found) for at in (0, 1))
    measured(f"an alarm within {days} runs in {alarms} of {runs} lives, by a paired t-test after each run in {naive}")
    assert alarms <= allowed(runs, ALPHA)
    assert naive > allowed(runs, ALPHA), "the negative control: a test for one look"


def test_grades_that_fall_raise_it_within_a_few_runs(size, measured):
    runs = size(20, 500)
    rng = np.random.default_rng(29)
    first = {drop: [grades(rng, 20, drop)[0] or 99 for _ in range(runs)] for drop in (0.15, 0.3)}
    said = ", ".join(
        f"{drop:.0%} fewer right: {np.median(at):g} (90 %: {np.quantile(at, 0.9):g})" for drop, at in first.items()
    )
    measured(f"runs until the alarm, of {runs}: {said}")
    assert np.median(first[0.3]) <= 2
    assert np.quantile(first[0.15], 0.9) <= 10


def test_a_failed_call_is_no_mismatch():
    rng = np.random.default_rng(30)
    api = Api(rng)
    earlier = [api.run() for _ in range(REFERENCE)]
    now = api.run()
    whole = compare_golden(earlier, now, LEVEL)
    some = dict(list(now.items())[: TASKS // 2])
    assert {one.n for one in whole} == {TASKS}
    assert {one.n for one in compare_golden(earlier, some, LEVEL)} == {TASKS // 2}
    elsewhere = {task: replace(one, source="another API") for task, one in now.items()}
    assert compare_golden(earlier, elsewhere, LEVEL) == []
