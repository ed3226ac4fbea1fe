"""Words and their opposites."""

import random

from router_models.data.starter.families.base import mentions_task, settled
from router_models.data.starter.families.words.opposites_data import OPPOSITES
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
_WORDINGS = {
    "en": (
        'What is the opposite of "{0}"? Answer with one word.',
        'Give the antonym of "{0}" as a single word.',
        'Name a word that means the opposite of "{0}". Write only that word.',
        "I am looking for the word that means exactly the reverse of another word. "
        'The word I have is "{0}". Which word is its opposite? Please answer with one word.',
    ),
    "de": (
        "Was ist das Gegenteil von „{0}“? Antworte mit einem Wort.",
        "Nenne das Gegenteil von „{0}“, bitte nur ein einziges Wort.",
        "Ich suche das Wort, das genau das Gegenteil von „{0}“ bedeutet. Schreibe nur dieses Wort.",
    ),
    "es": (
        "¿Cuál es el contrario de «{0}»? Responde con una sola palabra.",
        "Di el antónimo de «{0}» con una sola palabra.",
        "Busco la palabra que significa exactamente lo contrario de «{0}». Escribe solo esa palabra.",
    ),
}


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Ask for the opposite of one word of the level."""
    word, answers = rng.choice([(w, a) for level, w, a in OPPOSITES[language] if level == difficulty])
    return mentions_task(settled(_WORDINGS[language], word).format(word), answers.split("|"), max_tokens=16)
