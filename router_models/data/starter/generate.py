"""Draw a balanced set of tasks.

The plan is a list of slots (family, difficulty, language): families in proportion to their weight, difficulties
1..5 as 5 : 5 : 4 : 3 : 3, about 15 % of all tasks in German or Spanish. Each slot draws until it finds a question
that is new; a slot whose pool is exhausted is skipped, and the plan starts over.
"""

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from router_models.data.starter.families import EVERYDAY, FAMILIES, FIGURES, TYPED, Entry
from router_models.data.starter.families.framing import frame
from router_models.data.starter.families.typed import NEVER_ASKED
from router_models.data.starter.task import Task, task_id

MOST_TASKS = 20_000
OTHER_LANGUAGES_SHARE = 0.15
EVERYDAY_SHARE = 5 / 17
"""The share of plain everyday requests: 1,000 beside every 2,400 others."""
_DIFFICULTIES = (1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 1, 2)
_TRIES = 40
_DRY_ROUNDS = 3


def families() -> tuple[str, ...]:
    """Return the names of all families, in the order of the registries."""
    return (*FAMILIES, *EVERYDAY, *TYPED, *FIGURES)


def generate(n: int, *, seed: int, exclude: Collection[str] = ()) -> list[Task]:
    """Draw different tasks in random order; equal arguments give equal lists.

    Parameters
    ----------
    n : int
        How many tasks, at most `MOST_TASKS`: beyond that the finite pools are exhausted and the balance is lost.
    seed : int
        Another seed draws other tasks.
    exclude : collection of str
        Ids that must not be drawn: pass the training set's to get a held-out set.

    Returns
    -------
    list of Task

    Raises
    ------
    ValueError
        Where `n` is beyond `MOST_TASKS`, or the pools hold fewer than `n` new tasks.
    """
    if n > MOST_TASKS:
        raise ValueError(
            f"{n} tasks requested: request at most {MOST_TASKS:,}; beyond that the families are exhausted"
        )
    plain = round(n * EVERYDAY_SHARE)
    tasks = _pool(FAMILIES, n - plain, random.Random(f"starter:{seed}"), exclude, framed=True)
    tasks += _pool(EVERYDAY, plain, random.Random(f"everyday:{seed}"), exclude, framed=False)
    random.Random(f"order:{seed}").shuffle(tasks)
    return tasks


def typed(n: int, *, seed: int, exclude: Collection[str] = (), registry: Mapping[str, Entry] = TYPED) -> list[Task]:
    """Draw questions as people type them first, asked without a limit of length; equal arguments give equal lists.

    Parameters
    ----------
    n : int
        How many; the lists hold about 750, and all beyond are sums.
    seed : int
        Another seed draws others.
    exclude : collection of str
        Ids that must not be drawn.
    registry : mapping of str to Entry
        The families: `TYPED`, or `FIGURES`.

    Returns
    -------
    list of Task

    Raises
    ------
    ValueError
        Where the pools hold fewer than `n` new tasks.
    """
    taken = {*exclude, *(task_id(question) for question in NEVER_ASKED)}
    tasks = _pool(registry, n, random.Random(f"typed:{seed}"), taken, framed=False)
    return [replace(task, max_tokens=None) for task in tasks]


def _pool(
    registry: Mapping[str, Entry], n: int, rng: random.Random, exclude: Collection[str], *, framed: bool
) -> list[Task]:
    seen = set(exclude)
    tasks: list[Task] = []
    dry = 0
    while len(tasks) < n and dry < _DRY_ROUNDS:
        before = len(tasks)
        for name, difficulty, language in _slots(registry, rng):
            task = _draw(registry[name], name, rng, difficulty, language, seen, framed=framed)
            if task is not None:
                seen.add(task.id)
                tasks.append(task)
            if len(tasks) == n:
                break
        dry = dry + 1 if len(tasks) == before else 0
    if len(tasks) < n:
        raise ValueError(f"{n} new tasks requested, the families have {len(tasks)}: request fewer or exclude fewer")
    rng.shuffle(tasks)
    return tasks


def _slots(registry: Mapping[str, Entry], rng: random.Random) -> Iterator[tuple[str, int, str]]:
    """Yield one round of the plan: every family `weight` times, difficulties spread over the round."""
    names = [name for name, entry in registry.items() for _ in range(entry.weight)]
    polyglot = sum(entry.weight for entry in registry.values() if len(entry.languages) > 1)
    share = OTHER_LANGUAGES_SHARE * len(names) / max(polyglot, 1)
    rng.shuffle(names)
    offset = rng.randrange(len(_DIFFICULTIES))
    for place, name in enumerate(names):
        difficulty = _DIFFICULTIES[(place + offset) % len(_DIFFICULTIES)]
        yield name, difficulty, _language(rng, registry[name], share)


def _language(rng: random.Random, entry: Entry, share: float) -> str:
    others = [language for language in entry.languages if language != "en"]
    return rng.choice(others) if others and rng.random() < share else "en"


def _draw(
    entry: Entry, name: str, rng: random.Random, difficulty: int, language: str, seen: set[str], *, framed: bool
) -> Task | None:
    for _ in range(_TRIES):
        draft = entry.family.draw(rng, difficulty, language)
        prompt = frame(draft.prompt, language, closing=draft.grader != "verbatim") if framed else draft.prompt
        if (key := task_id(prompt)) not in seen:
            return Task(
                id=key,
                prompt=prompt,
                family=name,
                difficulty=difficulty,
                language=language,
                grader=draft.grader,
                reference=draft.reference,
                solution=draft.solution,
                max_tokens=draft.max_tokens,
            )
    return None
