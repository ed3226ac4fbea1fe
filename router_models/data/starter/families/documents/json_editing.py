"""Change a given JSON value: rename, add, drop, nest, filter."""

import json
import random

from router_models.data.starter.families.base import settled
from router_models.data.starter.families.words.words_data import CITIES, OBJECTS, PEOPLE
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_END = (
    " Answer with only the JSON.\n\n{0}",
    " Output only the resulting JSON and nothing else.\n\n{0}",
    " Here is the input: {0}\nReturn just the JSON.",
)


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """1: read a value or copy; 2: rename or add; 3: drop or change; 4: nest or list; 5: filter."""
    person = {"name": rng.choice(PEOPLE), "age": rng.randint(18, 80), "city": rng.choice(CITIES)}
    if difficulty == 1:
        return _read(rng, person)
    task, value, result = _EDITS[difficulty](rng, person)
    given = json.dumps(value)
    prompt = task + settled(_END, given + task).format(given)
    return Draft(prompt, "json", {"value": result}, json.dumps(result), 96)


def _read(rng: random.Random, person: dict[str, object]) -> Draft:
    key = rng.choice(sorted(person))
    given = json.dumps(person)
    prompt = settled(
        (
            'What is the value of "{0}" in this JSON object? Answer with only the value.\n\n{1}',
            "{1}\n\nWhich value does the key {0} have? Write just the value.",
            "Our program printed the object below. Please look up the field called {0} and tell me what it holds, "
            "without repeating the rest of the object: {1}",
        ),
        given + key,
    ).format(key, given)
    value = str(person[key])
    rivals = [str(other) for name, other in person.items() if name != key]
    return Draft(prompt, "mentions", {"accepted": [value], "rivals": rivals}, value, 24)


Edit = tuple[str, object, object]


def _small(rng: random.Random, person: dict[str, object]) -> Edit:
    if rng.random() < 0.5:
        old, new = rng.choice((("name", "full_name"), ("age", "years"), ("city", "town"), ("city", "home")))
        return (
            f'Rename the key "{old}" to "{new}".',
            person,
            {new if k == old else k: v for k, v in person.items()},
        )
    key, value = rng.choice((("active", True), ("score", 10), ("country", "unknown"), ("member", False)))
    return f'Add the key "{key}" with the value {json.dumps(value)}.', person, {**person, key: value}


def _medium(rng: random.Random, person: dict[str, object]) -> Edit:
    key = rng.choice(sorted(person))
    if rng.random() < 0.5:
        return f'Remove the key "{key}".', person, {k: v for k, v in person.items() if k != key}
    value = rng.randint(18, 80)
    return f'Set "age" to {value} and remove "city".', person, {"name": person["name"], "age": value}


def _nesting(rng: random.Random, person: dict[str, object]) -> Edit:
    kind = rng.randrange(3)
    if kind == 0:
        address = {"city": person["city"]}
        task = 'Move "city" into a nested object under the new key "address", so that address.city holds it.'
        return task, person, {"name": person["name"], "age": person["age"], "address": address}
    if kind == 1:
        return "Turn this object into an array of its values, in order.", person, list(person.values())
    names = rng.sample(PEOPLE, 3)
    return 'Collect the values of "name" into one array.', [{"name": name} for name in names], names


def _filtering(rng: random.Random, person: dict[str, object]) -> Edit:
    rows = [{"item": item, "count": rng.randint(1, 30)} for item in rng.sample(OBJECTS, 3)]
    counts = sorted(int(str(row["count"])) for row in rows)
    limit = rng.randint(counts[0], max(counts[0], counts[-1] - 1))
    if rng.random() < 0.5:
        task = f'Keep only the objects whose "count" is greater than {limit}.'
        return task, rows, [row for row in rows if int(str(row["count"])) > limit]
    merged = {str(row["item"]): row["count"] for row in rows}
    return 'Turn this array into one object that maps each "item" to its "count".', rows, merged


_EDITS = {2: _small, 3: _medium, 4: _nesting, 5: _filtering}
