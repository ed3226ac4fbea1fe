"""Sums in figures, from one digit to three operations."""

import random

from router_models.data.starter.families.base import number_task, settled
from router_models.data.starter.task import Draft

LANGUAGES = ("en", "de", "es")
_WORDINGS = {
    "en": (
        "What is {0}? Answer with only the number.",
        "Calculate {0}. Give only the result.",
        "{0} = ?",
        "Compute {0} and reply with the number alone.",
        "Please work out the value of the expression {0} for me. Do not show the steps; write only the number.",
        "At the bottom of my shopping receipt somebody has scribbled \"{0}\" without an answer. "
        "What does it come to? Write just the number.",
    ),
    "de": (
        "Was ist {0}? Antworte nur mit der Zahl.",
        "Berechne {0}. Gib nur das Ergebnis an.",
        "Wie viel ergibt {0}? Schreibe bitte nur die Zahl, keinen Rechenweg.",
    ),
    "es": (
        "¿Cuánto es {0}? Responde solo con el número.",
        "Calcula {0}. Da solo el resultado.",
        "¿Cuál es el resultado de {0}? Escribe únicamente el número, sin pasos.",
    ),
}  # fmt: skip


def draw(rng: random.Random, difficulty: int, language: str) -> Draft:
    """Return one sum with a whole, non-negative result."""
    expression, value = _LEVELS[difficulty - 1](rng)
    return number_task(settled(_WORDINGS[language], expression).format(expression), value)


def _one_digit(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randint(1, 9), rng.randint(1, 9)
    if rng.random() < 0.6:
        return f"{a} + {b}", a + b
    return f"{max(a, b)} - {min(a, b)}", abs(a - b)


def _two_digits(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randint(10, 49), rng.randint(2, 40)
    kind = rng.randrange(3)
    if kind == 0:
        return f"{a} + {b}", a + b
    if kind == 1:
        return f"{max(a, b)} - {min(a, b)}", abs(a - b)
    c, d = rng.randint(2, 9), rng.randint(2, 9)
    return f"{c} × {d}", c * d


def _three_terms(rng: random.Random) -> tuple[str, int]:
    a, b, c = rng.randint(20, 99), rng.randint(10, 99), rng.randint(2, 19)
    kind = rng.randrange(3)
    if kind == 0:
        return f"{a} + {b} - {c}", a + b - c
    if kind == 1:
        return f"{a} × {c % 8 + 2}", a * (c % 8 + 2)
    return f"{a * c} ÷ {c}", a


def _three_digits(rng: random.Random) -> tuple[str, int]:
    a, b = rng.randint(100, 999), rng.randint(100, 999)
    c, d = rng.randint(11, 29), rng.randint(3, 19)
    kind = rng.randrange(3)
    if kind == 0:
        return f"{a} + {b}", a + b
    if kind == 1:
        return f"{max(a, b)} - {min(a, b)}", abs(a - b)
    return f"{c} × {d} + {d}", c * d + d


def _brackets(rng: random.Random) -> tuple[str, int]:
    a, b, c, d = rng.randint(2, 12), rng.randint(2, 12), rng.randint(2, 9), rng.randint(2, 9)
    if rng.random() < 0.5:
        return f"({a} + {b}) × {c} - {d}", (a + b) * c - d
    return f"{a} × {c} + {b} × {d}", a * c + b * d


_LEVELS = (_one_digit, _two_digits, _three_terms, _three_digits, _brackets)
