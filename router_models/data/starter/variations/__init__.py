"""Starter questions as clients send them: under a system prompt, with sampling, as the second turn of a chat.

A version is certified for what its rows were asked under. Beside the plain questions the starter set therefore holds
others in every combination of two system prompts (a client's usual one, and one of a company's length), two decodings
and one or two turns, all of equal size. Their questions are none of the plain ones.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import cycle, product
from pathlib import Path
from typing import Any

from router_models.data.starter.families import FIGURES, TYPED
from router_models.data.starter.generate import generate, typed
from router_models.data.starter.task import Task
from router_models.types.chat_prompts import routed_text

VARIED_SHARE = 3 / 17
"""How many varied tasks there are beside every plain one: 600 beside 3,400."""
TYPED_SHARE = 3.5 / 17
"""How many questions as people type them first there are beside every plain task: 700 beside 3,400."""
FIGURES_SHARE = 1.25 / 17
"""How many sums in figures alone: 250 beside 3,400."""
SYSTEM_PROMPTS = ("short", "company")
"""The names of the shipped system prompts."""
SAMPLED: Mapping[str, Any] = {"temperature": 0.7}
"""The second decoding; the first is the tier's own."""
_OPENINGS_OF = 600
"""How many tasks the first turns are chosen from: the easy ones among them."""


def system_prompt(name: str) -> str:
    """Return the text of a shipped system prompt."""
    return Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def starter_tasks(n: int, *, seed: int) -> list[Task]:
    """Return `n` plain tasks, `VARIED_SHARE` times as many varied ones, and `TYPED_SHARE` times as many typed ones.

    Parameters
    ----------
    n : int
        How many plain tasks (`generate`).
    seed : int
        Another seed draws other tasks.

    Returns
    -------
    list of Task
        The plain tasks of `generate(n, seed=seed)`, then the varied ones, then the typed ones and sums in figures
        (`FIGURES_SHARE`); of these 17 in 20 are asked by themselves and 3 in the varied ways.
    """
    plain = generate(n, seed=seed)
    others = varied(round(n * VARIED_SHARE), seed=seed, exclude={task.id for task in plain})
    tasks = [*plain, *others]
    for share, registry in ((TYPED_SHARE, TYPED), (FIGURES_SHARE, FIGURES)):
        known = {task.id for task in tasks}
        asked = typed(round(n * share), seed=seed, exclude=known, registry=registry)
        bare = round(len(asked) / (1 + VARIED_SHARE))
        tasks += [*asked[:bare], *_in_other_ways(asked[bare:], seed, known)]
    return tasks


def varied(n: int, *, seed: int, exclude: Collection[str] = ()) -> list[Task]:
    """Draw tasks that are not plain; equal arguments give equal lists.

    Parameters
    ----------
    n : int
        How many.
    seed : int
        Another seed draws other questions.
    exclude : collection of str
        Ids of plain tasks whose questions must not be drawn.

    Returns
    -------
    list of Task
        Any eleven in a row are of the eleven combinations; a task's `id` is that of its question.
    """
    return _in_other_ways(generate(n, seed=seed, exclude=exclude), seed, exclude)


def _in_other_ways(questions: Sequence[Task], seed: int, exclude: Collection[str]) -> list[Task]:
    """Return the questions asked in the eleven ways, in turn, after first turns that are none of them."""
    openings = _openings(seed, {*exclude, *(task.id for task in questions)}) if questions else {}
    tasks = []
    for task, (system, decoding, follows) in zip(questions, _not_plain(), strict=False):
        chat = [{"role": "system", "content": system_prompt(system)}] if system else []
        if follows:
            first = next(openings[task.language])
            chat += [{"role": "user", "content": first.prompt}, {"role": "assistant", "content": first.solution}]
        chat.append({"role": "user", "content": task.prompt})
        messages = tuple(chat) if len(chat) > 1 else ()
        tasks.append(replace(task, prompt=routed_text(chat), messages=messages, parameters=decoding))
    return tasks


def _not_plain() -> Iterator[tuple[str | None, Mapping[str, Any], bool]]:
    """Yield the combinations of system prompt, decoding and a turn before, but for the plain one, over and over."""
    ways = list(product((None, *SYSTEM_PROMPTS), ({}, SAMPLED), (False, True)))
    return cycle(ways[1:])


def _openings(seed: int, exclude: Collection[str]) -> dict[str, Iterator[Task]]:
    """Return easy tasks by language, over and over."""
    easy: dict[str, list[Task]] = {}
    for task in generate(_OPENINGS_OF, seed=seed, exclude=exclude):
        if task.difficulty == 1:
            easy.setdefault(task.language, []).append(task)
    return {language: cycle(tasks) for language, tasks in easy.items()}
