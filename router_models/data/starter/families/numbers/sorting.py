"""Put numbers or words in order."""

import random

from router_models.data.starter.families.base import settled
from router_models.data.starter.families.words.words_data import COMMON_WORDS, PEOPLE
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_UP = (
    "Sort these numbers from smallest to largest: {0}. Answer with only the sorted list, separated by commas.",
    "Put in ascending order: {0}. Write just the numbers with commas between them.",
    "The scores on our board got mixed up while we were tidying the room. Please write them again from the lowest "
    "to the highest, with commas between them and nothing else: {0}",
)
_DOWN = (
    "Sort these numbers from largest to smallest: {0}. Answer with only the sorted list, separated by commas.",
    "Put in descending order: {0}. Write just the numbers with commas between them.",
)
_WORDS = (
    "Sort these words alphabetically: {0}. Answer with only the sorted list, separated by commas.",
    "Put these in alphabetical order, separated by commas, and write nothing else: {0}",
)
_SMALLEST = ("Which of these numbers is the smallest: {0}? Answer with only the number.",)
_LARGEST = ("Which of these numbers is the largest: {0}? Answer with only the number.",)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1: the largest or three small numbers; up to 5: seven numbers or words."""
    count = difficulty + 2
    if difficulty == 1 and rng.random() < 0.6:
        items = rng.sample(range(1, 100), 3)
        wordings, pick = rng.choice(((_SMALLEST, min(items)), (_LARGEST, max(items))))
        shown = ", ".join(map(str, items))
        options = [str(item) for item in items]
        return Draft(wordings[0].format(shown), "choice", {"answer": str(pick), "options": options}, str(pick), 16)
    if difficulty >= 2 and rng.random() < 0.45:
        words = _unsorted(rng, rng.sample(rng.choice((COMMON_WORDS, PEOPLE)), count))
        return _draft(settled(_WORDS, words[0] + words[1]).format(", ".join(words)), sorted(words))
    numbers = rng.sample(range(1, 20 if difficulty == 1 else 100 if difficulty < 4 else 1000), count)
    down = rng.random() < 0.4
    numbers = numbers if numbers not in (sorted(numbers), sorted(numbers)[::-1]) else numbers[1:] + numbers[:1]
    prompt = settled(_DOWN if down else _UP, str(numbers)).format(", ".join(map(str, numbers)))
    return _draft(prompt, [str(item) for item in sorted(numbers, reverse=down)])


def _unsorted(rng: random.Random, words: list[str]) -> list[str]:
    return words if words != sorted(words) else words[::-1]


def _draft(prompt: str, items: list[str]) -> Draft:
    return Draft(prompt, "sequence", {"items": items}, ", ".join(items), 48)
