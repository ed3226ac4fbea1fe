"""Write a small Python function; it is run on hidden cases in the sandbox."""

import random

from router_models.data.starter.families.base import settled
from router_models.data.starter.families.documents.functions_data import EASY
from router_models.data.starter.families.documents.functions_hard_data import HARD
from router_models.data.starter.task import Draft

LANGUAGES = ("en",)
_ASK = (
    "Write a Python function `{signature}` that returns {does}. Answer with only the code.",
    "Python: define {signature} so that it returns {does}. Give just the function.",
    "I need one function for a script of mine. It is called {signature} and has to return {does}. "
    "Please write it in Python, without explanation and without example calls.",
    "def {signature}:\n    # returns {does}\n\nComplete this Python function. Output the whole function and "
    "nothing else.",
)
_NUMBERS = {1: range(2, 100), 2: range(2, 10), 3: range(2, 10), 4: range(2, 8), 5: range(2, 10)}


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return one function of the level; the expected values come from running the listed solution."""
    _, name, parameters, does, body, cases = rng.choice([row for row in EASY + HARD if row[0] == difficulty])
    slots = {"k": str(rng.choice(_NUMBERS[difficulty])), "c": rng.choice("abehilmnops")}
    name, does, body = (_fill(text, slots) for text in (name, does, body))
    solution = f"def {name}({parameters}):\n    {body}"
    namespace: dict[str, object] = {}
    exec(solution, namespace)
    function = namespace[name]
    assert callable(function)
    pairs = [[list(case), function(*case)] for case in cases]
    prompt = settled(_ASK, name).format(signature=f"{name}({parameters})", does=does)
    return Draft(prompt, "program", {"function": name, "cases": pairs}, solution, 144 if difficulty >= 4 else 96)


def _fill(text: str, slots: dict[str, str]) -> str:
    for key, value in slots.items():
        text = text.replace("{" + key + "}", value)
    return text
