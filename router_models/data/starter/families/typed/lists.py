"""Lists of a few things of a kind."""

import random
from types import SimpleNamespace

from router_models.data.starter.families.base import settled
from router_models.data.starter.families.typed.level import of_level
from router_models.data.starter.families.typed.lists_data import THINGS
from router_models.data.starter.task import Draft

_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
_WORDINGS = ("List {0} {1}.", "Name {0} {1}", "list {0} {1}", "Give me {0} {1}.", "Tell me {0} {1}.", "name {0} {1}.")


def _draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    what, members = rng.choice(of_level(THINGS, difficulty))
    count = rng.choice([number for number in (2, 3, 3, 4, 5) if number < len(members)])
    written = _NUMBERS[count] if rng.random() < 0.7 else str(count)
    prompt = settled(_WORDINGS, f"{what}{count}").format(written, what)
    solution = ", ".join(forms[0] for forms in members[:count])
    return Draft(prompt, "listed", {"members": members, "count": count}, solution, 256)


lists = SimpleNamespace(draw=_draw)
