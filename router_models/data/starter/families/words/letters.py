"""Change or inspect the letters of a word: first letter, upper case, reversal, vowels."""

import random

from router_models.data.starter.families.base import exact_task, settled
from router_models.data.starter.families.words.words_data import COMMON_WORDS, LONG_WORDS, PEOPLE, SHORT_WORDS
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_FIRST = (
    'What is the first letter of the word "{0}"? Answer with only the letter.',
    'The word "{0}" starts with which letter? Give just that letter.',
    'I am putting index cards into alphabetical boxes, one box for each letter. The card says "{0}". '
    "Which letter is on its box? Answer with that one letter.",
)
_LAST = (
    'What is the last letter of the word "{0}"? Answer with only the letter.',
    'Which letter does "{0}" end with? Just the letter.',
)
_UPPER = (
    'Write "{0}" in capital letters. Answer with only the result.',
    "Convert this to upper case and write nothing else: {0}",
)
_LOWER = ('Write "{0}" in lower case letters. Answer with only the result.',)
_SPELL = (
    'Spell the word "{0}" with a hyphen between the letters, like c-a-t. Answer with only the result.',
    "Put a hyphen between every two letters of {0} (for example: d-o-g). Only the result, please.",
)
_JOIN = (
    'Join the words "{0}" and "{1}" with an underscore between them. Answer with only the result.',
    "Write {0} and {1} as one string with an underscore in between, and nothing else.",
)
_VOWELS = ('Remove all vowels (a, e, i, o, u) from "{0}". Answer with only the result.',)
_REVERSE = (
    'Write the word "{0}" backwards. Answer with only the result.',
    "Reverse the letters of {0}. Only the result.",
)
_NTH = ('What is letter number {1} of the word "{0}"? Answer with only the letter.',)
_INITIALS = ("What are the initials of {0}? Write them as capital letters without dots or blanks.",)
_REPLACE = ('Replace every "{1}" in "{0}" with "{2}". Answer with only the result.',)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return one edit; letters are compared in any case, edits exactly."""
    word = rng.choice(
        {1: SHORT_WORDS + COMMON_WORDS, 2: COMMON_WORDS, 3: COMMON_WORDS, 4: COMMON_WORDS, 5: LONG_WORDS}[difficulty]
    )
    if difficulty == 1:
        if rng.random() < 0.7:
            return exact_task(settled(_FIRST, word).format(word), word[0], fold_case=True, max_tokens=16)
        word = rng.choice(SHORT_WORDS)
        return exact_task(settled(_UPPER, word).format(word), word.upper(), max_tokens=16)
    if difficulty == 2:
        return rng.choice((_upper, _lower, _joined, _initials))(rng, word)
    if difficulty == 3:
        if rng.random() < 0.5:
            return exact_task(settled(_LAST, word).format(word), word[-1], fold_case=True, max_tokens=16)
        return _upper(rng, word)
    if difficulty == 4:
        return rng.choice((_spelled, _replaced, _upper_sentence))(rng, word)
    kind = rng.randrange(3)
    if kind == 0:
        text = "".join(letter for letter in word if letter not in "aeiou")
        return exact_task(settled(_VOWELS, word).format(word), text)
    if kind == 1:
        word = rng.choice(SHORT_WORDS)
        return exact_task(settled(_REVERSE, word).format(word), word[::-1])
    place = rng.randint(2, 4)
    return exact_task(settled(_NTH, word).format(word, place), word[place - 1], fold_case=True, max_tokens=16)


def _upper(rng: random.Random, word: str) -> Draft:
    return exact_task(settled(_UPPER, word).format(word), word.upper())


def _lower(rng: random.Random, word: str) -> Draft:
    return exact_task(settled(_LOWER, word).format(word.upper()), word)


def _joined(rng: random.Random, word: str) -> Draft:
    other = rng.choice(COMMON_WORDS)
    return exact_task(settled(_JOIN, word + other).format(word, other), f"{word}_{other}")


def _initials(rng: random.Random, word: str) -> Draft:
    people = rng.sample(PEOPLE, 2)
    name = " ".join(people)
    return exact_task(settled(_INITIALS, name).format(name), "".join(part[0] for part in people), max_tokens=16)


def _spelled(rng: random.Random, word: str) -> Draft:
    return exact_task(settled(_SPELL, word).format(word), "-".join(word))


def _replaced(rng: random.Random, word: str) -> Draft:
    old = rng.choice(sorted(set(word)))
    new = rng.choice([mark for mark in "#*+x" if mark != old])
    return exact_task(settled(_REPLACE, word).format(word, old, new), word.replace(old, new))


def _upper_sentence(rng: random.Random, word: str) -> Draft:
    text = f"the {rng.choice(COMMON_WORDS)} and the {word}"
    return exact_task(settled(_UPPER, text).format(text), text.upper())
