"""Chemical symbols, atomic numbers and general science."""

import random

from router_models.data.starter.families.base import exact_task, mentions_task, number_task, settled
from router_models.data.starter.families.knowledge.science_data import ELEMENTS, FACTS
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_FACT = (
    "{0}? Answer in one to three words.",
    "{0}? Give only the answer, no sentence.",
    "Science question for a general audience: {1}? Please answer as briefly as you can, ideally with one word.",
    "{0}?",
)
_SYMBOL = (
    "What is the chemical symbol for {0}? Answer with only the symbol.",
    "Write the chemical symbol of the element {0}, and nothing else.",
    "In the periodic table every element has a short symbol of one or two letters. "
    "Which symbol stands for {0}? Give only the symbol.",
)
_NAME = (
    "Which chemical element has the symbol {0}? Answer with only its name.",
    "In chemistry, what does the symbol {0} stand for? Give only the element's name.",
)
_NUMBER = (
    "What is the atomic number of {0}? Answer with only the number.",
    "How many protons are there in the nucleus of an atom of {0}? Give only the number.",
)
_SPELLINGS = {"aluminum": ("aluminium",), "sulfur": ("sulphur",)}


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return a question of the level; atomic numbers are asked one level above the element's fame."""
    if rng.random() < 0.4:
        question, answers = rng.choice([(q, a) for level, q, a in FACTS if level == difficulty])
        prompt = settled(_FACT, question).format(question, question[0].lower() + question[1:])
        return mentions_task(prompt, answers.split("|"))
    if difficulty > 1 and rng.random() < 0.3:
        name, count = rng.choice([(name, count) for level, name, _, count in ELEMENTS if level == difficulty - 1])
        return number_task(settled(_NUMBER, name).format(name), count)
    name, symbol = rng.choice([(name, symbol) for level, name, symbol, _ in ELEMENTS if level == difficulty])
    if rng.random() < 0.5:
        return mentions_task(settled(_NAME, name).format(symbol), [name, *_SPELLINGS.get(name, ())])
    return exact_task(settled(_SYMBOL, name).format(name), symbol, max_tokens=16)
