"""Small Python functions, asked for in a line; they are run on hidden cases in the sandbox."""

import random
from types import SimpleNamespace

from router_models.data.starter.families.base import settled
from router_models.data.starter.families.typed.code_data import ASKED_CODE
from router_models.data.starter.families.typed.level import of_level
from router_models.data.starter.task import Draft

_ASK = (
    "Write a Python function {0} that {1}.",
    "write a python function {0} that {1}",
    "Write a function in Python called {0} that {1}.",
    "python function {0} which {1}",
    "Can you write a Python function {0} that {1}?",
)


def _draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    name, parameters, does, body, arguments = rng.choice(of_level(ASKED_CODE, difficulty))
    solution = f"def {name}({parameters}):\n    {body}"
    namespace: dict[str, object] = {}
    exec(solution, namespace)
    function = namespace[name]
    assert callable(function)
    cases = [[list(case), function(*case)] for case in arguments]
    prompt = settled(_ASK, name).format(f"{name}({parameters})", does)
    return Draft(prompt, "program", {"function": name, "cases": cases}, solution, 256)


code = SimpleNamespace(draw=_draw)
