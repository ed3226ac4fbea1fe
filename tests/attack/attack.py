"""What an attack is, and the table that is made of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tests.attack.target import Answer, Target, Watcher

Given = TypeVar("Given")
HONEST_S = 4.0
"""What an honest caller may have to wait while somebody attacks: echo engines answer in milliseconds."""


@dataclass(frozen=True)
class Attack:
    """One attack: its name, what is sent, what is wanted, and how to carry it out.

    `carry_out` returns what came, and whether that is what was wanted.
    """

    name: str
    sent: str
    wanted: str
    carry_out: Callable[[Target], tuple[str, bool]]
    honest_too: bool = True
    """Whether an honest key is answered meanwhile; False where the attack itself shuts everybody out."""


@dataclass(frozen=True)
class Result:
    """What became of an attack; `honest` is how long an honest caller waited at most, in seconds."""

    attack: Attack
    got: str
    ok: bool
    honest: float | None


def attack(name: str, sent: str, wanted: str, into: list[Attack], *, honest_too: bool = True) -> Callable[..., None]:
    """Make an attack of a function that carries it out, and put it into a list."""

    def keep(carry_out: Callable[[Target], tuple[str, bool]]) -> None:
        into.append(Attack(name, sent, wanted, carry_out, honest_too))

    return keep


def at_once(each: Callable[[Given], Answer], given: Iterable[Given]) -> list[Answer]:
    """Send many requests, 32 at a time: a key that is refused again and again waits for each refusal."""
    with ThreadPoolExecutor(32) as callers:
        return list(callers.map(each, given))


def refused(answers: Iterable[Answer], *wanted: int) -> tuple[str, bool]:
    """What came, each kind once with its count, and whether every answer has one of the wanted statuses."""
    answers = list(answers)
    kinds = [str(answer) for answer in answers]
    told = ", ".join(
        f"{kind}{f' × {kinds.count(kind)}' if kinds.count(kind) > 1 else ''}" for kind in dict.fromkeys(kinds)
    )
    return told, bool(answers) and all(answer.status in wanted for answer in answers)


def carried_out(each: Attack, target: Target) -> Result:
    """Attack once, while an honest key goes on asking where there are keys."""
    if not (each.honest_too and target.secrets):
        got, ok = _tried(each, target)
        return Result(each, got, ok, None)
    with Watcher(target) as honest:
        got, ok = _tried(each, target)
    if honest.failures:
        return Result(each, f"{got}; an honest caller got {honest.failures[0]}", False, honest.slowest_s)
    if honest.slowest_s > HONEST_S:
        return Result(each, f"{got}; an honest caller waited", False, honest.slowest_s)
    return Result(each, got, ok, honest.slowest_s)


def _tried(each: Attack, target: Target) -> tuple[str, bool]:
    try:
        return each.carry_out(target)
    except Exception as error:  # noqa: BLE001 (one attack that breaks must not hide those after it)
        return f"{type(error).__name__}: {error}"[:200], False


def failed(results: Iterable[Result]) -> list[str]:
    """The names of the attacks that were not refused as wanted."""
    return [result.attack.name for result in results if not result.ok]


def table(results: Iterable[Result]) -> str:
    """The results in Markdown."""
    lines = [
        "| attack | what was sent | wanted | got | an honest caller waited at most | ok |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        waited = "" if result.honest is None else f"{1000 * result.honest:.0f} ms"
        each = result.attack
        cells = (each.name, each.sent, each.wanted, result.got, waited, "ok" if result.ok else "**NO**")
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)
