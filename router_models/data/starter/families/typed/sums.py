"""Sums as people type them: "17 * 23", "what's 15% of 80", "half of 86"; and in figures and signs alone."""

import random
from types import SimpleNamespace

from router_models.data.starter.families.base import number_task, settled
from router_models.data.starter.task import Draft

_WORDINGS = (
    "What is {0}?",
    "what is {0}",
    "What's {0}?",
    "what's {0}",
    "{0}",
    "{0}?",
    "How much is {0}?",
    "how much is {0}",
    "Calculate {0}",
    "calculate {0}.",
    "Can you tell me what {0} is?",
    "{0} equals what?",
)
_SIGNS = {
    "+": (" + ", "+", " plus "),
    "-": (" - ", "-", " minus "),
    "*": (" * ", "*", " x ", " times ", " × "),
    "/": (" / ", "/", " divided by "),
}

_SHORT = (
    *("What is {0}?",) * 5,
    *("what is {0}",) * 2,
    *("What's {0}?",) * 2,
    *("what's {0}",) * 1,
    *("{0}",) * 4,
    *("{0}=",) * 2,
    "{0} = ?",
    "{0}?",
    "Calculate {0}",
    "calculate {0}",
    "Solve {0}",
)
_SHORT_SIGNS = {
    "+": (" + ", "+"),
    "-": (" - ", "-"),
    "*": (" * ", "*", " x ", "x", " × "),
    "/": (" / ", "/"),
}


def _draw_figures(rng: random.Random, difficulty: int, language: str) -> Draft:
    if rng.random() < 0.1:
        prompt, value = _equation(rng, 9 * difficulty)
        return number_task(prompt, value, max_tokens=256)
    most = (9, 20, 50, 99, 400)[difficulty - 1]
    a, b = rng.randint(2, most), rng.randint(2, max(9, most // 2))
    sign = rng.choice("++--***/")
    if sign == "/":
        a *= b
    if sign == "-":
        a, b = max(a, b), min(a, b)
    value = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
    expression = f"{a}{rng.choice(_SHORT_SIGNS[sign])}{b}"
    return number_task(settled(_SHORT, expression).format(expression), value, max_tokens=256)


def _equation(rng: random.Random, most: int) -> tuple[str, int]:
    x, a, k = rng.randint(1, most), rng.randint(1, most), rng.randint(2, 9)
    equation = rng.choice((f"x + {a} = {x + a}", f"x+{a}={x + a}", f"{k}x = {k * x}", f"x - {a} = {x - a}"))
    wording = settled(("solve {0}", "Solve {0}", "Solve for x: {0}", "What is x if {0}?"), equation)
    return wording.format(equation), x


def _draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    expression, value = rng.choice(_LEVELS[difficulty - 1])(rng)
    return number_task(settled(_WORDINGS, expression).format(expression), value, max_tokens=256)


def _written(rng: random.Random, a: int, sign: str, b: int) -> str:
    return f"{a}{rng.choice(_SIGNS[sign])}{b}"


def _plus(rng: random.Random, low: int, high: int) -> tuple[str, int]:
    a, b = rng.randint(low, high), rng.randint(low, high)
    if rng.random() < 0.6:
        return _written(rng, a, "+", b), a + b
    return _written(rng, max(a, b), "-", min(a, b)), abs(a - b)


def _times(rng: random.Random, most: int, other: int) -> tuple[str, int]:
    a, b = rng.randint(2, most), rng.randint(2, other)
    return _written(rng, a, "*", b), a * b


def _over(rng: random.Random, most: int, other: int) -> tuple[str, int]:
    a, b = rng.randint(2, most), rng.randint(2, other)
    return _written(rng, a * b, "/", b), a


def _percent(rng: random.Random, shares: tuple[int, ...], step: int) -> tuple[str, int]:
    share, whole = rng.choice(shares), step * rng.randint(1, 30)
    return f"{share}% of {whole}", share * whole // 100


def _part(rng: random.Random) -> tuple[str, int]:
    name, parts = rng.choice((("half of", 2), ("a third of", 3), ("a quarter of", 4)))
    value = rng.randint(3, 60)
    return f"{name} {value * parts}", value


def _square(rng: random.Random) -> tuple[str, int]:
    a = rng.randint(3, 16)
    return (f"{a} squared", a * a) if rng.random() < 0.5 else (f"the square root of {a * a}", a)


def _three(rng: random.Random) -> tuple[str, int]:
    a, b, c = rng.randint(2, 30), rng.randint(2, 12), rng.randint(2, 12)
    return f"{a} + {b} * {c}", a + b * c


_LEVELS = (
    (lambda rng: _plus(rng, 1, 12), lambda rng: _times(rng, 5, 5)),
    (lambda rng: _plus(rng, 10, 60), lambda rng: _times(rng, 10, 10), lambda rng: _percent(rng, (50, 10), 20)),
    (lambda rng: _times(rng, 30, 9), lambda rng: _plus(rng, 50, 400), _part, lambda rng: _over(rng, 12, 10)),
    (_square, lambda rng: _percent(rng, (5, 20, 25, 75), 20), _three, lambda rng: _over(rng, 60, 12)),
    (
        lambda rng: _times(rng, 99, 99),
        lambda rng: _plus(rng, 1000, 9999),
        lambda rng: _percent(rng, (15, 35, 12), 100),
    ),
)

sums = SimpleNamespace(draw=_draw)
figures = SimpleNamespace(draw=_draw_figures)
