"""Common knowledge, from the colour of snow to the composer of Carmen."""

import random

from router_models.data.starter.families.base import mentions_task, settled
from router_models.data.starter.families.knowledge.trivia_data import TRIVIA
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_WORDINGS = (
    "{0}? Answer in one to three words.",
    "{0}?",
    "{0}? Just the answer, please.",
    "Answer with as few words as possible: {1}?",
    "My daughter and I are playing a quiz game in the car, and the next card in the pile asks: \"{0}?\" "
    "What should we say? Give only the answer itself.",
    "Here is a general knowledge question that came up yesterday evening. {0}? "
    "There is one right answer, so please write only that.",
)  # fmt: skip


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return one question of the level."""
    question, answers = rng.choice([(q, a) for level, q, a in TRIVIA if level == difficulty])
    prompt = settled(_WORDINGS, question).format(question, question[0].lower() + question[1:])
    return mentions_task(prompt, answers.split("|"))
