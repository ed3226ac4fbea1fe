"""Prompts of five kinds that differ in how much of an answer stands in its prompt already."""

from __future__ import annotations

PEOPLE = ("Omar", "Lena", "Paul", "Rita", "Hugo", "Iris", "Nils", "Clara")
TOWNS = ("Lisbon", "Oslo", "Lima", "Kyoto", "Dublin", "Cairo", "Riga", "Turin")
THINGS = ("lamps", "chairs", "kettles", "maps", "boots", "clocks", "tents", "bikes")
TOPICS = ("the sea", "bread", "winter", "trains", "gardens", "music", "bridges", "sleep")
FUNCTIONS = ("reverse", "total", "largest", "average", "count_words", "is_even", "squares", "join_lines")


def _passage(n: int) -> str:
    who, town, thing = PEOPLE[n % 8], TOWNS[(n * 3 + 1) % 8], THINGS[(n * 5 + 2) % 8]
    return (
        f"{who} opened a small shop in {town} and sells {thing} there. The shop has been open for {n + 3} years. "
        f"Every morning {who} counts the {thing} and writes the number on a card by the door."
    )


def _code(n: int) -> str:
    name = FUNCTIONS[n % 8]
    return (
        f"def {name}(values):\n    result = []\n    for value in values:\n        if value is not None:\n"
        f"            result.append(value + {n})\n    return result"
    )


def _record(n: int) -> str:
    return (
        f"Order {1000 + n}: {PEOPLE[n % 8]} in {TOWNS[(n * 3 + 1) % 8]} ordered {n + 2} {THINGS[(n * 5 + 2) % 8]} "
        f"for {12 + n} euros each, to be delivered on {1 + n % 28} May."
    )


def _copy(n: int) -> str:
    return f"Repeat the following text word for word, and add nothing:\n\n{_passage(n)}"


def _edit(n: int) -> str:
    thing = THINGS[(n * 5 + 2) % 8]
    return f"Write the following text again, with the word 'goods' instead of '{thing}':\n\n{_passage(n)}"


def _json(n: int) -> str:
    return f"Write this order as JSON with the keys order, name, town, quantity, item, price, date:\n\n{_record(n)}"


def _program(n: int) -> str:
    return f"Add type hints and a docstring to this Python function and write it whole:\n\n{_code(n)}"


def _chat(n: int) -> str:
    return f"Tell me something interesting about {TOPICS[n % 8]} that a child of {6 + n % 5} years would like."


WORKLOADS = {"copy": _copy, "edit": _edit, "JSON": _json, "code": _program, "open chat": _chat}
"""Each makes its n-th prompt; prompts of different n are different."""


def prompts(kind: str, first: int, count: int) -> list[str]:
    """`count` prompts of a kind, from the `first` on."""
    return [WORKLOADS[kind](n) for n in range(first, first + count)]
