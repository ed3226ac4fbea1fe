"""Plain requests as people type them: a word form, a sentence to draft, a record to fill, a note to read.

No answer form is asked for but what the request itself says, and a whole sentence is a good answer. These are drawn
unframed, as the easy share of real traffic.
"""

import random
from types import SimpleNamespace

from router_models.data.starter.families.base import mentions_task, settled
from router_models.data.starter.families.knowledge.everyday_data import (
    ADJECTIVES,
    ALSO,
    NOUNS,
    TOPICS,
    VERBS,
    comparative,
    continuous,
    past,
    plural,
)
from router_models.data.starter.families.words.grammar import PAST, PLURALS
from router_models.data.starter.families.words.words_data import CITIES, JOBS, PEOPLE
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_FORMS = {
    "plural": ('What is the plural of "{0}"?', 'What is the plural form of the word "{0}"?'),
    "past": ('What is the past tense of "{0}"?', 'What is the past tense of the verb "{0}"?'),
    "ing": ('What is the -ing form of "{0}"?',),
    "comparative": ('What is the comparative form of "{0}"?',),
}
_SENTENCE = {
    1: ('Write one sentence with the word "{0}".', "Write a sentence about a {0}."),
    2: ('Write a short sentence that uses the word "{0}".', "Make a sentence with the word {0}."),
    3: ('Write a sentence that uses both "{0}" and "{1}".',),
    4: ('Write a sentence that contains the words "{0}", "{1}" and "{2}".',),
    5: ("Write one sentence that contains all of these words: {0}, {1}, {2}, {3}, {4}.",),
}
_RECORDS = {
    1: (("name", "age"), "{name} is {age} years old."),
    2: (("name", "age"), "{name} is {age} years old and lives in {city}."),
    3: (("name", "job"), "{name} works as a {job} in {city}."),
    4: (("name", "age", "city"), "{name}, who is {age}, moved from {other} to {city}."),
    5: (("name", "job", "city", "age"), "The {job} from {city} is called {name} and turned {age} in May."),
}
_NOTES = {
    1: ("{name} has a {color} {thing}.", "What color is the {thing} of {name}?", "color"),
    2: ("The museum in {city} is closed on {day}s.", "On which day is the museum closed?", "day"),
    3: ("{name} is a {job} in {city}.", "In which city does {name} work?", "city"),
    4: (
        "{name} has a {color} {thing}. {friend} has a {color2} {thing}.",
        "What color is the {thing} of {name}?",
        "color",
    ),
    5: ("{name} sat behind {friend}. {friend} sat behind {third}.", "Who sat in front?", "third"),
}
_COLORS = ("red", "blue", "green", "yellow", "black", "white", "brown", "pink", "gray", "purple")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_THINGS = ("car", "bike", "hat", "coat", "bag", "boat", "house", "scarf", "cup", "lamp")


def _word_form(rng: random.Random, difficulty: int, language: str) -> Draft:
    if difficulty <= 2:
        kind = rng.choice(("plural", "plural", "past"))
        word = rng.choice(NOUNS if kind == "plural" else VERBS)
        accepted = [plural(word) if kind == "plural" else past(word)]
    elif difficulty == 3:
        kind = rng.choice(("ing", "comparative"))
        word = rng.choice(VERBS if kind == "ing" else ADJECTIVES)
        accepted = [continuous(word) if kind == "ing" else comparative(word)]
    else:
        kind = rng.choice(("plural", "past"))
        word, _, form = rng.choice((PLURALS if kind == "plural" else PAST)[difficulty]).partition("/")
        accepted = [form]
    return mentions_task(
        settled(_FORMS[kind], f"{kind}{word}").format(word), [*accepted, *ALSO.get(accepted[0], ())], max_tokens=32
    )


def _sentence(rng: random.Random, difficulty: int, language: str) -> Draft:
    chosen = rng.sample(TOPICS, 5)
    asked = chosen[: max(1, difficulty - 1)] if difficulty < 5 else chosen
    prompt = settled(_SENTENCE[difficulty], asked[0]).format(*asked)
    return Draft(prompt, "sentence", {"words": asked}, f"It was all about {' and '.join(asked)}.", 64)


def _record(rng: random.Random, difficulty: int, language: str) -> Draft:
    city, other = rng.sample(CITIES, 2)
    values: dict[str, str | int] = {
        "name": rng.choice(PEOPLE), "age": rng.randint(18, 80), "city": city, "other": other, "job": rng.choice(JOBS),
    }  # fmt: skip
    keys, text = _RECORDS[difficulty]
    named = " and ".join([", ".join(keys[:-1]), keys[-1]])
    prompt = f'Extract the {named} as JSON from this sentence: "{text.format(**values)}"'
    record = {key: values[key] for key in keys}
    solution = str(record).replace("'", '"')
    return Draft(prompt, "record", {"fields": record}, solution, 64)


def _note(rng: random.Random, difficulty: int, language: str) -> Draft:
    name, friend, third = rng.sample(PEOPLE, 3)
    color, color2 = rng.sample(_COLORS, 2)
    values = {
        "name": name, "friend": friend, "third": third, "color": color, "color2": color2,
        "thing": rng.choice(_THINGS), "day": rng.choice(_DAYS), "city": rng.choice(CITIES), "job": rng.choice(JOBS),
    }  # fmt: skip
    text, question, key = _NOTES[difficulty]
    rivals = [color2] if difficulty == 4 else [name, friend] if difficulty == 5 else []
    accepted = [values[key], f"{values[key]}s"] if key == "day" else [values[key]]
    draft = mentions_task(f"{text} {question}".format(**values), accepted, max_tokens=40)
    return Draft(draft.prompt, draft.grader, {**draft.reference, "rivals": rivals}, draft.solution, draft.max_tokens)


word_forms = SimpleNamespace(draw=_word_form)
drafting = SimpleNamespace(draw=_sentence)
records = SimpleNamespace(draw=_record)
notes = SimpleNamespace(draw=_note)
