"""Has the model behind an API changed? The same tasks are asked again and again, and the answers compared. Pure.

An API that changes nothing answers each task by the same distribution every time, whatever that is: greedy decoding
on shared hardware does not always repeat itself. So of a task's earlier answers and its newest one, every order is
equally probable, and the newest is as different from the others as any of them is. Three figures are tested by that,
exactly, each summed over tasks (`compare_golden`):

- *answers*: from how many of the others an answer differs;
- *length*: where its number of tokens stands among theirs, both ways;
- *prompt_tokens*: how many of the others count another number of tokens for the same prompt.

Grades may fall by chance too, and are looked at after every run for as long as it takes: `FallenGrades` bets, task by
task, that the odds of a wrong answer have risen, by Fisher's conditional likelihood ratio, which does not need to know
how often answers were wrong before.

Answers to different tasks of one run are taken for independent once the model is given. An API that has several
models at work, and asks all tasks of a run of one of them, changes its model from run to run, and is reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from router_models.types import FloatArray

MOST_EARLIER = 20
"""Earlier answers of a task that a newer one is compared with, the first ones: what came soon after the reference."""


@dataclass(frozen=True, slots=True)
class GoldenAnswer:
    """One answer to one task.

    Parameters
    ----------
    said : str
        What it says, or a hash of it.
    tokens, prompt_tokens : int, optional
        As the API counted them.
    right : bool, optional
        Whether it is right; None where nobody graded it.
    source : str
        Which of a tier's APIs gave it. Answers are compared with those of the same one.
    """

    said: str
    tokens: int | None = None
    prompt_tokens: int | None = None
    right: bool | None = None
    source: str = ""


GoldenRun = Mapping[str, GoldenAnswer]
"""The answers of one run, by task; tasks whose calls failed are not there."""


@dataclass(frozen=True, slots=True)
class GoldenChange:
    """One figure of a run beside the earlier ones, whether or not it changed.

    Parameters
    ----------
    figure : str
        `answers` (the share of pairs of answers that differ), `length` and `prompt_tokens` (means).
    before, now : float
        Among earlier answers, and of the newest.
    n : int
        Tasks that were compared.
    p_value, adjusted : float
        Of the test, and after adjustment for all figures (Benjamini and Yekutieli).
    is_reported : bool
        Whether `adjusted` is within the level.
    """

    figure: str
    before: float
    now: float
    n: int
    p_value: float
    adjusted: float
    is_reported: bool

    def to_json(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)


def level_of_run(false_share: float, tiers: int, number: int) -> float:
    """The level of a tier's run, the first one that is compared being 1.

    Over all runs of all tiers, for ever, the levels add up to `false_share`: Σ 1/(k(k+1)) = 1.
    """
    return false_share / (tiers * number * (number + 1))


def compare_golden(earlier: Sequence[GoldenRun], now: GoldenRun, level: float) -> list[GoldenChange]:
    """Compare a run with those before it.

    Parameters
    ----------
    earlier : sequence of GoldenRun
        In order; the first `MOST_EARLIER` answers of each task count.
    now : GoldenRun
        The newest run.
    level : float
        With which probability at most any figure is reported where nothing has changed.

    Returns
    -------
    list of GoldenChange
        Every figure of which there is anything to compare.
    """
    from scipy.stats import false_discovery_control

    groups = groups_of(earlier, now)
    found = [test for test in (_answers(groups), _length(groups), _prompt_tokens(groups)) if test is not None]
    if not found:
        return []
    adjusted = false_discovery_control([test.p_value for test in found], method="by")
    return [
        replace(test, adjusted=float(p), is_reported=bool(p <= level)) for test, p in zip(found, adjusted, strict=True)
    ]


Groups = Sequence[tuple[GoldenAnswer, ...]]
"""Each task's earlier answers and its newest, which is last."""


def groups_of(earlier: Sequence[GoldenRun], now: GoldenRun) -> Groups:
    """The answers of each task that has an earlier one by the same source."""
    made = []
    for task, newest in now.items():
        known = [run[task] for run in earlier if task in run and run[task].source == newest.source]
        if known:
            made.append((*known[:MOST_EARLIER], newest))
    return made


def _answers(groups: Groups) -> GoldenChange | None:
    return _differing("answers", [[answer.said for answer in group] for group in groups])


def _prompt_tokens(groups: Groups) -> GoldenChange | None:
    counted = [[a.prompt_tokens for a in group if a.prompt_tokens is not None] for group in groups if _knows(group)]
    made = _differing("prompt_tokens", counted)
    if made is None:
        return None
    before, now = ([count for one in counted for count in part(one)] for part in (_earlier, _newest))
    return replace(made, before=float(np.mean(before)), now=float(np.mean(now)))


def _knows(group: tuple[GoldenAnswer, ...]) -> bool:
    return group[-1].prompt_tokens is not None and any(a.prompt_tokens is not None for a in group[:-1])


def _earlier(values: Sequence[Any]) -> Sequence[Any]:
    return values[:-1]


def _newest(values: Sequence[Any]) -> Sequence[Any]:
    return values[-1:]


def _differing(figure: str, groups: Sequence[Sequence[Any]]) -> GoldenChange | None:
    """Test in how many pairs the newest of each group differs from the others."""
    if not groups:
        return None
    scores = [np.array([sum(other != one for other in group) for one in group]) for group in groups]
    among = [  # pairs of earlier answers: those with the newest are taken off
        (score[:-1].sum() - score[-1]) / ((len(score) - 1) * (len(score) - 2)) for score in scores if len(score) > 2
    ]
    before = float(np.mean(among)) if among else 0.0
    now = float(np.mean([score[-1] / (len(score) - 1) for score in scores]))
    p = _upper_tail(scores)
    return GoldenChange(figure, before, now, len(groups), p, p, False)


def _length(groups: Groups) -> GoldenChange | None:
    from scipy.stats import rankdata

    counted = [
        [float(a.tokens) for a in group if a.tokens is not None] for group in groups if group[-1].tokens is not None
    ]
    counted = [group for group in counted if len(group) > 1]
    if not counted:
        return None
    ranks = [np.rint(2 * rankdata(group)).astype(np.int64) for group in counted]
    mirrored = [2 * len(rank) + 2 - rank for rank in ranks]
    p = min(1.0, 2 * min(_upper_tail(ranks), _upper_tail(mirrored)))
    before = float(np.mean([count for group in counted for count in group[:-1]]))
    return GoldenChange("length", before, float(np.mean([g[-1] for g in counted])), len(counted), p, p, False)


def _upper_tail(scores: Sequence[np.ndarray]) -> float:
    """P(the sum of one score of each group, drawn by chance, is at least that of the last ones), exactly."""
    total: FloatArray = np.ones(1)
    least = 0
    for score in scores:
        lowest = int(score.min())
        drawn = np.bincount(score - lowest).astype(np.float64) / len(score)
        total, least = np.asarray(np.convolve(total, drawn), dtype=np.float64), least + lowest
    return float(min(1.0, total[sum(int(score[-1]) for score in scores) - least :].sum()))


@dataclass(frozen=True, slots=True)
class FallenGrades:
    """An e-value against "answers are as often right as they were", after any number of runs.

    After run T the last m runs, for each m of `WINDOWS`, are held against those before them: of a task's wrong
    answers, as many fall into the last m as a draw without replacement gives, so that the likelihood ratio of higher
    odds against equal ones has the mean 1, and so has the product over tasks. What is held against a limit is
    Σ_T v_T · mean over m and `FALLS` of that, v_T = 1/(T(T+1)): its mean is 1 at most, it never falls, and so it ever
    reaches 1/α with probability α at most (Markov). A great fall shows in one run, a small one
    adds up over the window that holds it.

    Parameters
    ----------
    runs : int
        Runs that were looked at after.
    e_value : float
        The sum over T so far.
    wrong, graded, expected : int, int, float
        Of the newest run: answers that are wrong, those that were compared, and how many of these were wrong before,
        on average.
    """

    runs: int = 0
    e_value: float = 0.0
    wrong: int = 0
    graded: int = 0
    expected: float = 0.0

    def update(self, earlier: Sequence[GoldenRun], now: GoldenRun) -> FallenGrades:
        """Look after another run; `earlier` are all before it, those of the reference first."""
        number, history = self.runs + 1, [*earlier, now]
        found = [log_odds_ratio(history[:-m], history[-m:]) for m in WINDOWS if m <= number]
        counts = _counts(earlier)
        marks = [(counts[key], wrong) for key, (wrong, _) in _counts([now]).items() if key in counts]
        weighed = sum(math.exp(min(one, 700.0)) for one in found) / len(WINDOWS) / (number * (number + 1))
        return FallenGrades(
            number,
            self.e_value + weighed,
            sum(wrong for _, wrong in marks),
            len(marks),
            float(sum(wrong / graded for (wrong, graded), _ in marks)),
        )


WINDOWS = (1, 2, 4, 8, 16, 32)
"""Numbers of newest runs that are held against those before them."""
FALLS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Shares of right answers turned wrong that are bet on."""


def log_odds_ratio(before: Sequence[GoldenRun], after: Sequence[GoldenRun]) -> float:
    """ln of the e-value that wrong answers are more frequent after than before, averaged over `FALLS`."""
    earlier, later = _counts(before), _counts(after)
    total: FloatArray = np.zeros(len(FALLS))
    for key, (wrong, graded) in later.items():
        if key in earlier:
            was_wrong, was_graded = earlier[key]
            log_odds, log_mean = _tilts(was_graded, graded, wrong + was_wrong)
            total = total + wrong * log_odds - log_mean
    return float(np.logaddexp.reduce(total) - math.log(len(FALLS)))


@lru_cache(maxsize=65_536)
def _tilts(before: int, after: int, wrong: int) -> tuple[FloatArray, FloatArray]:
    """ln ρ and ln E[ρ^x] for each fall: x of `wrong` answers fall among the last `after` of `before + after`.

    ρ is the odds ratio of a fall that leaves this many wrong ones together: of what was often wrong already, a small
    one. Given their number it is fixed, whatever came when.
    """
    falls, part = np.array(FALLS), after / (before + after)
    was = np.clip((wrong / (before + after) - part * falls) / (1 - part * falls), 0.01, 0.99)
    now = was + falls * (1 - was)
    odds = now / (1 - now) / (was / (1 - was))
    drawn = np.arange(max(0, wrong - before), min(after, wrong) + 1)
    ways = np.array([math.comb(after, x) * math.comb(before, wrong - x) for x in drawn.tolist()], dtype=np.float64)
    means = (ways[:, None] * odds ** drawn[:, None]).sum(axis=0) / math.comb(before + after, wrong)
    return np.log(odds), np.log(means)


def _counts(runs: Sequence[GoldenRun]) -> dict[tuple[str, str], tuple[int, int]]:
    """Wrong and graded answers, by task and source."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for run in runs:
        for task, answer in run.items():
            if answer.right is not None:
                wrong, graded = found.get((task, answer.source), (0, 0))
                found[task, answer.source] = wrong + (not answer.right), graded + 1
    return found
