"""Yes or no: everyday truths, order relations, syllogisms with known and made-up words."""

import random
from itertools import pairwise

from router_models.data.starter.families.base import choice_task, settled
from router_models.data.starter.families.words.words_data import PEOPLE, words
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_TRUTHS = (
    ("Is fire hot?", True), ("Is ice cold?", True), ("Can a fish live in water?", True), ("Is the Earth round?", True),
    ("Do birds have wings?", True), ("Is a week longer than a day?", True),
    ("Can a bicycle fly to the Moon by itself?", False),
    ("Is a mouse bigger than an elephant?", False), ("Does the Sun rise in the west?", False),
    ("Is milk usually blue?", False),
    ("Do cats have six legs?", False), ("Is snow black?", False), ("Can a stone read a book?", False),
    ("Is July a winter month in Canada?", False),
    ("Is honey sweet?", True), ("Is a minute shorter than an hour?", True), ("Is sugar salty?", False),
    ("Do trees have roots?", True),
    ("Are lemons sour?", True), ("Is glass made of wood?", False), ("Is Paris in Germany?", False),
    ("Is Tokyo in Japan?", True),
    ("Is ten more than seven?", True), ("Is twelve less than five?", False),
    ("Does a triangle have four sides?", False),
    ("Can humans breathe under water without equipment?", False), ("Is a rose a flower?", True),
    ("Is gold a metal?", True),
)  # fmt: skip
_ORDERS = (
    ("taller than", "shorter than"),
    ("older than", "younger than"),
    ("faster than", "slower than"),
    ("richer than", "poorer than"),
)
_KNOWN = (
    ("roses", "flowers", "plants"), ("dogs", "mammals", "animals"), ("violins", "instruments", "objects"),
    ("nurses", "adults", "people"), ("cars", "vehicles", "machines"), ("sparrows", "birds", "animals"),
    ("novels", "books", "things made of paper"), ("apples", "fruits", "foods"),
)  # fmt: skip
_MADE_UP = words("blickets wugs daxes morps zilks fleps tovas gorps nibbets plons quibs rastles")
_END = (
    " Answer yes or no.",
    " Answer with only yes or no.",
    " Reply with a single word, yes or no.",
    " Think it over carefully, but then write nothing except the one word yes or the one word no.",
)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1: everyday truths; 2: one comparison; 3: two comparisons; 4: syllogisms; 5: made-up words, negation."""
    if difficulty == 1 and rng.random() < 0.5:
        text, truth = rng.choice(_TRUTHS)
    elif difficulty == 4:
        text, truth = _syllogism(rng, rng.choice(_KNOWN))
    elif difficulty == 5:
        text, truth = _syllogism(rng, rng.sample(_MADE_UP, 3)) if rng.random() < 0.6 else _ordered(rng, 4)
    else:
        text, truth = _ordered(rng, min(difficulty + 1, 3))
    return choice_task(text + settled(_END, text), "yes" if truth else "no", ("yes", "no"), max_tokens=16)


def _ordered(rng: random.Random, count: int) -> tuple[str, bool]:
    """Return a chain of comparisons between `count` people and a question about two of them."""
    more, less = rng.choice(_ORDERS)
    if rng.random() < 0.5:
        more, less = less, more
    people = rng.sample(PEOPLE, count)  # from the most to the least
    links = []
    for left, right in pairwise(people):
        turned = count >= 3 and rng.random() < 0.5
        links.append(f"{right} is {less} {left}." if turned else f"{left} is {more} {right}.")
    if count >= 4:
        rng.shuffle(links)
    truth = rng.random() < 0.5
    first, last = people[0], people[-1]
    asked = f"Is {first} {more} {last}?" if truth else f"Is {last} {more} {first}?"
    if count >= 4 and rng.random() < 0.5:
        asked = f"Is {last} {less} {first}?" if truth else f"Is {first} {less} {last}?"
    return " ".join([*links, asked]), truth


def _syllogism(rng: random.Random, terms: "tuple[str, str, str] | list[str]") -> tuple[str, bool]:
    a, b, c = terms
    who = rng.choice(PEOPLE)
    forms = (
        (f"All {a} are {b}. All {b} are {c}. Are all {a} {c}?", True),
        (
            f"Every one of the {a} belongs to the {b}, and all {b} are {c}. {who} has one of the {a}. Is it one "
            f"of the {c}?",
            True,
        ),
        (f"All {a} are {b}. No {b} are stones. Are any {a} stones?", False),
        (
            f"All {a} are {b}. {who} has something that is not one of the {b}. Could it be one of the {a}?",
            False,
        ),
        (f"All {a} are {b}, and there is at least one of the {a}. Is it true that some {b} are {a}?", True),
        (f"All {a} are {b}. Does it follow that nothing outside the {b} is one of the {a}?", True),
        (f"Some {c} are {b}. Suppose that all {b} are {a}. Is it certain that no {c} are {a}?", False),
    )
    return rng.choice(forms)
