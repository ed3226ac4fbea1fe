"""Translate single words; write numbers as words and words as numbers."""

import random

from router_models.data.starter.families.base import mentions_task, number_task, settled
from router_models.data.starter.families.words.translation_data import VOCABULARY
from router_models.data.starter.families.words.words_data import words
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_LANGUAGES = ("French", "German", "Spanish")
_INTO = (
    'Translate "{0}" into {1}. Answer with only the translation.',
    'What is the {1} word for "{0}"? Give only that word.',
    'How do you say "{0}" in {1}? Only the {1} word or words, please.',
    'I am labelling things for a {1} evening class and the next label in English reads "{0}". '
    "What do I write on the {1} label? Give just the translation.",
)
_FROM = (
    'What does the {1} word "{0}" mean in English? Answer with only the English word.',
    'Translate the {1} "{0}" into English. Only the English word.',
)
_DIGITS = (
    "Write {0} in digits. Answer with only the number.",
    'Which number is "{0}"? Give it in digits only.',
)
_SPELLED = (
    "Write the number {0} in English words. Answer with only the words.",
    "How is {0} written out in words? Only the words, please.",
)
_UNITS = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = words("- - twenty thirty forty fifty sixty seventy eighty ninety")


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return a word of the level in French, German or Spanish, or a number that grows with the level."""
    roll = rng.random()
    if roll < 0.3:
        value = rng.randrange(*((3, 20), (20, 100), (100, 1000), (1000, 10_000), (10_000, 1_000_000))[difficulty - 1])
        name = in_words(value)
        if roll < 0.18:
            return number_task(settled(_DIGITS, name).format(name), value)
        return Draft(settled(_SPELLED, name).format(value), "number_words", {"words": name}, name, 32)
    english, *foreign = rng.choice([row[1:] for row in VOCABULARY if row[0] == difficulty])
    which = rng.randrange(3)
    target, forms = _LANGUAGES[which], foreign[which].split("|")
    if roll < 0.55:
        name = english.removeprefix("to ")
        return mentions_task(
            settled(_FROM, target + english).format(forms[0], target), [name, *_ALSO.get(english, ())]
        )
    return mentions_task(settled(_INTO, target + english).format(english, target), forms)


_ALSO = {
    "hello": ("hi", "good day", "good morning"), "good morning": ("hello", "good day"), "thank you": ("thanks",),
    "goodbye": ("bye", "farewell"), "child": ("kid", "boy"), "city": ("town",), "mother": ("mom", "mum"),
    "neighbor": ("neighbour",), "doctor": ("physician",), "street": ("road",), "one": ("a",), "to eat": ("eating",),
    "forest": ("wood", "woods"), "day": ("daytime",), "to sleep": ("sleeping",), "to write": ("writing",),
    "pillow": ("cushion",),
    "kitchen": ("cooking", "cuisine"), "blacksmith": ("smith",),
}  # fmt: skip


def in_words(value: int) -> str:
    """Return 0..999,999 in English words, with hyphens and without "and"."""
    if value < 20:
        return _UNITS[value]
    if value < 100:
        return _TENS[value // 10] + (f"-{_UNITS[value % 10]}" if value % 10 else "")
    if value < 1000:
        return f"{_UNITS[value // 100]} hundred" + (f" {in_words(value % 100)}" if value % 100 else "")
    return f"{in_words(value // 1000)} thousand" + (f" {in_words(value % 1000)}" if value % 1000 else "")
