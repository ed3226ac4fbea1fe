"""Find the word that does not belong, or say which of two things is more."""

import random

from router_models.data.starter.families.base import choice_task, settled
from router_models.data.starter.families.words.categories import GROUPS
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_ODD = (
    "Which word does not belong with the others: {0}? Answer with only that word.",
    "Find the odd one out and write just that word: {0}",
    "Four cards lie on the table. Three of them show things of the same kind and one does not. The cards say {0}. "
    "Which card is the odd one out? Answer with the word on it.",
)
_MORE = (
    "Which number is larger, {0} or {1}? Answer with only the number.",
    "{0} or {1}: which is the greater number? Write just that number.",
    "Two shops near us offer me {0} and {1} points. I would like the larger number. Which of the two numbers is it? "
    "Answer with the number only.",
)
_LESS = (
    "Which number is smaller, {0} or {1}? Answer with only the number.",
    "{0} or {1}: which is less? Write just that number.",
)
_BIGGER = (
    "Which is usually bigger, {0} or {1}? Answer with one of the two.",
    "Between {0} and {1}, name the one that is usually larger in size. Only the name.",
)
# from small to large, with clear steps
_SIZES = ("a grain of sand", "an ant", "a mouse", "a cat", "a wolf", "a horse", "an elephant", "a blue whale",
          "a football stadium",
          "a mountain")  # fmt: skip
_CLOSE = (
    ("guitar", "violin", "harp", "drum"), ("violin", "cello", "guitar", "trumpet"), ("eagle", "sparrow", "owl", "bat"),
    ("shark", "salmon", "tuna", "dolphin"), ("circle", "square", "triangle", "cube"),
    ("red", "yellow", "blue", "heavy"),
    ("Monday", "Friday", "Sunday", "July"), ("Paris", "Rome", "Madrid", "Spain"), ("two", "four", "eight", "seven"),
    ("run", "walk", "jump", "table"), ("Mars", "Venus", "Saturn", "Moon"), ("oak", "pine", "birch", "rose"),
    ("gold", "silver", "iron", "wood"), ("winter", "summer", "spring", "June"),
    ("French", "German", "Spanish", "Brazil"),
    ("lake", "river", "ocean", "hill"), ("spider", "ant", "bee", "butterfly"), ("frog", "toad", "newt", "lizard"),
    ("sad", "angry", "happy", "tall"), ("pen", "pencil", "crayon", "paper"), ("milk", "water", "juice", "bread"),
    ("cotton", "wool", "silk", "nylon"), ("Amazon", "Nile", "Danube", "Sahara"),
)  # fmt: skip


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1, 2: far-off sizes and far-off groups; 3: numbers of several digits; 4: close groups; 5: decimals, "
    "fractions."""
    if difficulty <= 2:
        return (
            _groups(rng)
            if rng.random() < 0.45
            else _numbers(rng, difficulty)
            if rng.random() < 0.6
            else _sizes(rng, difficulty)
        )
    if difficulty == 3:
        return _numbers(rng, 3) if rng.random() < 0.6 else _sizes(rng, 3)
    if difficulty == 4:
        return _close(rng) if rng.random() < 0.6 else _numbers(rng, 4)
    return _numbers(rng, 5)


def _groups(rng: random.Random) -> Draft:
    group, other = rng.sample(sorted(GROUPS["en"]), 2)
    odd = rng.choice(GROUPS["en"][other][0].split())
    return _odd(rng, [*rng.sample(GROUPS["en"][group][0].split(), 3), odd])


def _close(rng: random.Random) -> Draft:
    if rng.random() < 0.3:
        group, other = rng.sample(sorted(GROUPS["en"]), 2)
        odd = rng.choice(GROUPS["en"][other][1].split())
        return _odd(rng, [*rng.sample(GROUPS["en"][group][1].split(), 3), odd])
    return _odd(rng, list(rng.choice(_CLOSE)))


def _odd(rng: random.Random, words: list[str]) -> Draft:
    shown = rng.sample(words, len(words))
    return choice_task(settled(_ODD, words[-1] + words[0]).format(", ".join(shown)), words[-1], words)


def _sizes(rng: random.Random, difficulty: int) -> Draft:
    gap = {1: 5, 2: 3, 3: 2}[difficulty]
    small = rng.randrange(len(_SIZES) - gap)
    large = rng.randrange(small + gap, len(_SIZES))
    pair = [_SIZES[small], _SIZES[large]]
    shown = rng.sample(pair, 2)
    names = [name.split(" ", 1)[1] for name in pair]
    return choice_task(settled(_BIGGER, "".join(shown)).format(*shown), names[1], names)


def _numbers(rng: random.Random, difficulty: int) -> Draft:
    values = _pair(rng, difficulty)
    shown = rng.sample(list(values), 2)
    more = rng.random() < 0.6
    wordings = _MORE if more else _LESS
    if difficulty == 5:
        wordings = wordings[:2]
    prompt = settled(wordings, "".join(shown)).format(*shown)
    return Draft(prompt, "choice", {"answer": values[more], "options": list(values)}, values[more], 16)


def _pair(rng: random.Random, difficulty: int) -> tuple[str, str]:
    """Return two numbers as text, the smaller first."""
    if difficulty <= 2:
        low, high = sorted(rng.sample(range(1, 100 if difficulty == 1 else 1000), 2))
        return str(low), str(high)
    if difficulty == 3:
        low = rng.randint(1_000, 90_000)
        return str(low), str(low + rng.choice((9, 90, 900, 9_000)))
    if difficulty == 4:
        return f"-{rng.randint(51, 99)}", f"-{rng.randint(11, 49)}"
    if rng.random() < 0.5:
        whole, tenth = rng.randint(0, 20), rng.randint(5, 9)
        return f"{whole}.{rng.randint(1, tenth - 1)}{rng.randint(1, 9)}", f"{whole}.{tenth}"
    low = rng.randint(3, 8)
    return f"1/{low + rng.randint(1, 5)}", f"1/{low}"
