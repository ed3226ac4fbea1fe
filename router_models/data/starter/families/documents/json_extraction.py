"""Turn a sentence into a small JSON object with named keys."""

import json
import random

from router_models.data.starter.families.base import settled
from router_models.data.starter.families.words.words_data import CITIES, JOBS, OBJECTS, PEOPLE
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
# (keys, sentences)
_PERSON = (
    (("name", "city"), ("{name} lives in {city}.", "My friend {name} moved to {city} last spring.")),
    (("name", "age"), ("{name} is {age} years old.", "{name} turned {age} in March.")),
    (("name", "job"), ("{name} is a {job}.", "{name} has been working as a {job} for a long time.")),
    (("name", "age", "city"), ("{name} is {age} years old and lives in {city}.",
                               "Last week I met {name}, who is {age} and comes from {city}.")),
    (("name", "job", "city"), ("{name} works as a {job} in {city}.",
                               "In {city} there is a {job} called {name} whom everybody likes.")),
    (("name", "age", "job", "city"), ("{name}, {age}, is a {job} from {city}.",
                                      "The {job} {name} is {age} years old and has an office in {city}.")),
)  # fmt: skip
_ORDER = (
    (("item", "quantity"), ("Please send me {quantity} {item}.", "We need {quantity} {item} for the weekend.")),
    (("item", "quantity", "price"), ("{quantity} {item} cost {price} dollars.",
                                     "For {quantity} {item} the shop asked {price} dollars in all.")),
    (("customer", "item", "quantity"), ("{customer} ordered {quantity} {item}.",
                                        "An order for {quantity} {item} came in from {customer} this morning.")),
    (("customer", "item", "quantity", "price"), ("{customer} bought {quantity} {item} and paid {price} dollars.",)),
)  # fmt: skip
_WORDINGS = (
    "Extract {keys} from this sentence as a JSON object with exactly these keys. Answer with only the JSON.\n\n{text}",
    'Text: "{text}"\nReturn a JSON object with the keys {keys}. Output only JSON.',
    "{text}\n\nWrite the facts above as JSON with the keys {keys} and nothing else.",
    "I am moving some handwritten notes into a database and need each of them as one JSON object. The keys are "
    "{keys}, "
    "the values come from the note, and there should be no other text in your answer. The note says: {text}",
)


_LIST = "{text}\n\nAnswer with only a JSON array of objects of the form {form}, in the order of the text."


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1, 2: two keys; 3: three; 4: four; 5: a list of two or three objects."""
    if difficulty == 5:
        return _list(rng)
    many = {1: (2,), 2: (2, 3), 3: (3,), 4: (4,)}[difficulty]
    keys, sentences = rng.choice([row for row in _PERSON + _ORDER if len(row[0]) in many])
    values = _values(rng)
    text = rng.choice(sentences).format(**values)
    shown = ", ".join(f'"{key}"' for key in keys)
    prompt = settled(_WORDINGS, text).format(text=text, keys=shown)
    return _draft(prompt, {key: values[key] for key in keys})


def _list(rng: random.Random) -> Draft:
    names = rng.sample(PEOPLE, rng.randint(2, 3))
    rows: list[dict[str, str | int]] = [{"name": name, "age": rng.randint(20, 70)} for name in names]
    parts = [f"{row['name']} is {row['age']}" for row in rows]
    text = ", ".join(parts[:-1]) + f" and {parts[-1]}."
    return _draft(_LIST.format(text=text, form='{"name": ..., "age": ...}'), rows)


def _values(rng: random.Random) -> dict[str, str | int]:
    return {
        "name": rng.choice(PEOPLE),
        "customer": rng.choice(PEOPLE),
        "age": rng.randint(19, 79),
        "city": rng.choice(CITIES),
        "job": rng.choice(JOBS),
        "item": rng.choice(OBJECTS),
        "quantity": rng.randint(2, 60),
        "price": rng.randint(5, 95),
    }


def _draft(prompt: str, value: object) -> Draft:
    return Draft(prompt, "json", {"value": value, "loose": True}, json.dumps(value), 72)
