"""Finish a well-known phrase or an analogy with one word."""

import random

from router_models.data.starter.families.base import mentions_task, settled
from router_models.data.starter.families.knowledge.geography_data import COUNTRIES
from router_models.data.starter.families.words.completion_data import PHRASES
from router_models.data.starter.families.words.opposites_data import OPPOSITES
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_PHRASE = (
    "Fill in the missing word and write only that word: {0}",
    "Complete the saying with one word. {0}",
    "Which word is missing here? {0} Answer with just the word.",
    "I half remember a phrase that my grandmother used to say and the last word escapes me. Can you give me the "
    "one word "
    "that belongs in the gap? {0}",
)
_ANALOGY = (
    "{0} is to {1} as {2} is to what? Answer with one word.",
    "Complete the analogy with one word: {0} : {1} = {2} : ?",
)
_YOUNG = (("dog", "puppy"), ("cat", "kitten"), ("cow", "calf"), ("sheep", "lamb"), ("horse", "foal"), ("goat", "kid"),
          ("hen", "chick"),
          ("duck", "duckling"), ("bear", "cub"), ("frog", "tadpole"))  # fmt: skip


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return a phrase of the level, or an analogy of opposites, capitals or young animals."""
    if rng.random() < 0.65:
        phrase, answers = rng.choice([(phrase, answers) for level, phrase, answers in PHRASES if level == difficulty])
        return mentions_task(settled(_PHRASE, phrase).format(phrase), answers.split("|"), max_tokens=20)
    pairs = _pairs(rng, difficulty)
    (first, second), (third, answers) = rng.sample(pairs, 2)
    prompt = settled(_ANALOGY, first + third).format(first, second.split("|")[0], third)
    return mentions_task(prompt, answers.split("|"), max_tokens=20)


def _pairs(rng: random.Random, difficulty: int) -> list[tuple[str, str]]:
    roll = rng.random()
    if roll < 0.4:
        return [(word, answers) for level, word, answers in OPPOSITES["en"] if level == difficulty]
    if roll < 0.8 or difficulty == 1:
        return [(country.name, country.capital) for country in COUNTRIES if country.level == min(difficulty, 3)]
    return list(_YOUNG)
