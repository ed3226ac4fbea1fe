"""Count items, words or letters."""

import random

from router_models.data.starter.families.base import number_task, settled
from router_models.data.starter.families.words.words_data import COMMON_WORDS, LONG_WORDS, PEOPLE, SHORT_WORDS
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_ITEMS = (
    "How many items are in this list: {0}? Answer with only the number.",
    "Count the words in this list and give only the number: {0}",
    "The following people have said they will come to dinner, and I need to set the table. "
    "How many are they? Answer with only the number. {0}",
)
_REPEATS = (
    'How many times does the word "{1}" appear here: {0}? Answer with only the number.',
    'Count how often "{1}" occurs in the list and give only the number: {0}',
)
_WORDS = ('How many words are in this sentence: "{0}"? Answer with only the number.',)
_LETTERS = (
    'How many letters does the word "{0}" have? Answer with only the number.',
    'Count the letters of "{0}". Only the number, please.',
)
_LETTER = ('How many times does the letter "{1}" appear in the word "{0}"? Answer with only the number.',)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1, 2: short lists; 3: letters of a short word, repeats; 4: longer lists; 5: one letter in a long word."""
    if difficulty == 3:
        if rng.random() < 0.5:
            word = rng.choice(SHORT_WORDS + COMMON_WORDS)
            return number_task(settled(_LETTERS, word).format(word), len(word))
        return _repeats(rng, 5, 3)
    if difficulty == 4:
        return (
            _repeats(rng, 9, 5) if rng.random() < 0.4 else _sentence(rng) if rng.random() < 0.6 else _items(rng, 7, 9)
        )
    if difficulty == 5:
        word = rng.choice(LONG_WORDS)
        letter = rng.choice(sorted(set(word)))
        return number_task(settled(_LETTER, word).format(word, letter), word.count(letter))
    return _items(rng, 2, 3) if difficulty == 1 else _items(rng, 4, 6)


def _items(rng: random.Random, low: int, high: int) -> Draft:
    count = rng.randint(low, high)
    names = rng.random() < 0.4
    items = ", ".join(rng.sample(PEOPLE if names else COMMON_WORDS, count))
    return number_task((_ITEMS[2] if names else settled(_ITEMS[:2], items)).format(items), count)


def _repeats(rng: random.Random, length: int, most: int) -> Draft:
    word, *others = rng.sample(SHORT_WORDS, 4)
    count = rng.randint(2, most)
    items = [word] * count + [rng.choice(others) for _ in range(length - count)]
    rng.shuffle(items)
    shown = ", ".join(items)
    return number_task(settled(_REPEATS, shown).format(shown, word), count)


def _sentence(rng: random.Random) -> Draft:
    first, second, third = rng.sample(COMMON_WORDS, 3)
    texts = (
        f"The {first} is behind the {second}",
        f"I left my {first} next to the {second} and the {third}",
        f"Did you see the small {first} near that old {second}",
        f"A {first} can be more useful than a {second} or a {third} on such a day",
    )
    text = rng.choice(texts)
    return number_task(settled(_WORDS, text).format(text), len(text.split()))
