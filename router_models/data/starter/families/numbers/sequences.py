"""Continue a row of numbers or letters."""

import random

from router_models.data.starter.families.base import exact_task, number_task, settled
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_NUMBERS = (
    "What number comes next: {0}, ...? Answer with only the number.",
    "Continue the sequence with one number: {0},",
    "{0}, ? Write only the number in place of the question mark.",
    "On the wall of the waiting room somebody has begun to write a row of numbers that follows a simple rule, and "
    "then "
    "stopped. It reads {0}. Which number would have come next? Answer with only that number.",
)
_LETTERS = (
    "Which letter comes next: {0}, ...? Answer with only the letter.",
    "Continue with one letter: {0},",
)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1: steps of 1, 2, 5, 10; 2: any step, letters; 3: backwards, doubling; 4: growing steps; 5: mixed rules."""
    if difficulty <= 2 and rng.random() < 0.25:
        start, step = rng.randrange(16), difficulty
        row = [chr(ord("A") + start + step * place) for place in range(5)]
        shown = ", ".join(row[:-1])
        return exact_task(settled(_LETTERS, shown).format(shown), row[-1], fold_case=True, max_tokens=16)
    row_of_numbers = _row(rng, difficulty)
    shown = ", ".join(map(str, row_of_numbers[:-1]))
    return number_task(settled(_NUMBERS, shown).format(shown), row_of_numbers[-1])


def _row(rng: random.Random, difficulty: int) -> list[int]:
    length = rng.randint(5, 6)
    if difficulty == 1:
        step = rng.choice((1, 1, 2, 5, 10))
        start = rng.randint(1, 20) * (1 if step < 3 else step)
        return [start + step * place for place in range(length)]
    if difficulty == 2:
        start, step = rng.randint(1, 40), rng.choice((3, 4, 6, 7, 8, 9, 11, 20))
        return [start + step * place for place in range(length)]
    if difficulty == 3:
        if rng.random() < 0.5:
            start, step = rng.randint(60, 100), rng.choice((2, 3, 4, 5, 7, 9))
            return [start - step * place for place in range(length)]
        start, factor = rng.randint(1, 7), rng.choice((2, 3))
        return [start * factor**place for place in range(5)]
    if difficulty == 4:
        if rng.random() < 0.5:
            start = rng.randint(1, 9)
            return [(start + place) ** 2 for place in range(length)]
        start, step = rng.randint(1, 20), rng.randint(1, 4)
        return [start + step * place * (place + 1) // 2 for place in range(length)]
    if rng.random() < 0.5:
        row = [rng.randint(1, 5), rng.randint(2, 9)]
        while len(row) < 7:
            row.append(row[-1] + row[-2])
        return row
    start, add = rng.randint(1, 5), rng.randint(1, 4)
    row = [start]
    while len(row) < 6:
        row.append(row[-1] * 2 + add)
    return row
