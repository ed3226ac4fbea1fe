"""Multiple choice about a short passage: a stated fact, a fact among many, or one that takes two steps."""

import random

from router_models.data.starter.families.base import settled
from router_models.data.starter.families.words.words_data import CITIES, JOBS, PEOPLE
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_COLORS = ("red", "blue", "green", "yellow", "white", "black")
_PETS = ("a dog", "a cat", "a parrot", "a rabbit", "a turtle", "a hamster")
_INSTRUMENTS = ("the piano", "the guitar", "the violin", "the flute", "the drums", "the harp")
_FILLER = (
    "They all met at school many years ago.",
    "Every summer they spend a few days together by the sea.",
    "It rained on the morning of their last meeting.",
    "Their letters are always long and full of jokes.",
    "None of them likes to get up early.",
)
_ASK = (
    "{passage}\n\n{question}\n{options}\n\nAnswer with only the letter.",
    "Read the passage and choose the right answer.\n\n{passage}\n\nQuestion: {question}\n{options}\nLetter:",
    "{question} Choose one letter.\n{options}\n\nPassage: {passage}",
)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1: one person, 3 options; 2: two; 3: three people, 4 options; 4: asked backwards; 5: two steps."""
    count = min(difficulty, 3) + (difficulty == 5)
    who = rng.sample(PEOPLE, 4)
    facts = {
        "job": [f"a {job}" if job[0] not in "aeiou" else f"an {job}" for job in rng.sample(JOBS, 4)],
        "city": rng.sample(CITIES, 4),
        "color": rng.sample(_COLORS, 4),
        "pet": rng.sample(_PETS, 4),
        "music": rng.sample(_INSTRUMENTS, 4),
    }
    first, second = rng.sample(sorted(facts), 2)
    sentences = [_says(key, who[place], facts[key][place]) for place in range(count) for key in (first, second)]
    if difficulty > 1:
        rng.shuffle(sentences)
    for filler in rng.sample(_FILLER, rng.choice((0, 1, 3))):
        sentences.insert(rng.randint(0, len(sentences)), filler)
    target = rng.randrange(count)
    if difficulty <= 3:
        question, options = _asks(first, who[target]), facts[first]
    elif difficulty == 4:
        question, options = f"Who {_does(first, facts[first][target])}?", who
    else:
        question, options = (
            _asks(first, f"the person who {_does(second, facts[second][target])}"),
            facts[first],
        )
    answer, wrong = options[target], [option for option in options if option != options[target]]
    shown = rng.sample([answer, *wrong[: 2 if difficulty < 3 else 3]], 3 if difficulty < 3 else 4)
    lettered = dict(zip("ABCD", shown, strict=False))
    passage = " ".join(sentences)
    prompt = settled(_ASK, passage).format(
        passage=passage,
        question=question,
        options="\n".join(f"{key}) {option}" for key, option in lettered.items()),
    )
    key = next(key for key, option in lettered.items() if option == answer)
    return Draft(prompt, "letter", {"answer": key, "options": lettered}, key, 16)


def _does(key: str, value: str) -> str:
    verb = {
        "job": "is",
        "city": "lives in",
        "color": "has a bicycle that is",
        "pet": "owns",
        "music": "plays",
    }[key]
    return f"{verb} {value}"


def _says(key: str, who: str, value: str) -> str:
    return f"{who} {_does(key, value)}."


def _asks(key: str, who: str) -> str:
    return {
        "job": f"What is the job of {who}?",
        "city": f"In which city does {who} live?",
        "color": f"What color is the bicycle of {who}?",
        "pet": f"Which animal does {who} own?",
        "music": f"Which instrument does {who} play?",
    }[key]
