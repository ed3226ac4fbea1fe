"""Models of known quality: sums in two languages, a cheap model that is right by difficulty, a judge that computes.

`python -m tests.story.world PORT` serves them as an OpenAI-compatible API. What the models know is set by
`POST /world`, so that a model can go bad while it is served. Whether an answer is right follows from a hash of the
prompt: whoever asks again gets the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import operator
import random
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "en": (
        "What is {0}?",
        "Please work out {0} for me.",
        "Anna has to find {0}. What does she get?",
        "How much is {0}, exactly?",
    ),
    "de": (
        "Was ist {0}?",
        "Bitte rechne {0} für mich aus.",
        "Anna soll {0} bestimmen. Was bekommt sie heraus?",
        "Wie viel ist {0} genau?",
    ),
}
SAYS = {"en": ("The answer is {0}.", "Perhaps it is {0}."), "de": ("Die Antwort ist {0}.", "Vielleicht ist es {0}.")}
_SUM = re.compile(r"\d+(?: [+*-] \d+)+")
_DO = {"+": operator.add, "-": operator.sub, "*": operator.mul}
Knows = dict[str, dict[str, float]]


def usual_knowledge() -> Knows:
    """P(right) of each model, by language and level."""
    return {
        "cheap": {"en1": 0.98, "en2": 0.65, "en3": 0.1, "de1": 0.98, "de2": 0.65, "de3": 0.1},
        "frontier": {"en1": 0.99, "en2": 0.98, "en3": 0.95, "de1": 0.99, "de2": 0.98, "de3": 0.95},
    }


@dataclass
class World:
    """What the models know, and how long they take, in seconds."""

    knows: Knows = field(default_factory=usual_knowledge)
    takes_s: dict[str, float] = field(default_factory=lambda: {"cheap": 0.01, "frontier": 0.05})

    def p_right(self, model: str, prompt: str) -> float:
        return self.knows[model][f"{language_of(prompt)}{level_of(prompt)}"]

    def answer(self, model: str, prompt: str) -> str:
        """A right or a wrong answer; half of the wrong ones sound unsure."""
        u, v = (_share(f"{model}|{prompt}|{what}") for what in ("right", "sounds"))
        right = u < self.p_right(model, prompt)
        said = truth_of(prompt) + (0 if right else 1 + int(9 * v))
        return SAYS[language_of(prompt)][not right and v < 0.5].format(said)


def task(rng: random.Random, ending: int | None = None) -> str:
    """One question: half of them easy, a fifth hard, a quarter in German.

    `ending`: the last digit of one number in it, so that tables of other endings have no question in common.
    """
    level = rng.choices((1, 2, 3), (50, 30, 20))[0]
    a, b, c = rng.randint(10, 99), rng.randint(2, 99), rng.randint(100, 999)
    a = a if ending is None else a - a % 10 + ending
    said = {1: f"{a} + {b}", 2: f"{a} * {b}", 3: f"{c} * {a} - {b}"}[level]
    return rng.choice(TEMPLATES[rng.choices(("en", "de"), (75, 25))[0]]).format(said)


def level_of(prompt: str) -> int:
    said = _sum_of(prompt)
    return 1 if "*" not in said else 2 if "-" not in said else 3


def language_of(prompt: str) -> str:
    return "de" if re.search(r"Was ist|Bitte rechne|Anna soll|Wie viel", prompt) else "en"


def truth_of(prompt: str) -> int:
    """The number that a question asks for."""
    first, *rest = re.findall(r"\d+|[+*-]", _sum_of(prompt))
    found = int(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        found = _DO[sign](found, int(number))
    return found


def is_right(prompt: str, answer: str) -> bool:
    """Whether an answer says the right number."""
    said = re.search(r"-?\d+", answer)
    return said is not None and int(said[0]) == truth_of(prompt)


def verdict(asked: str) -> str | None:
    """What the judge says of two answers; None where it is not asked for a verdict."""
    nonce = re.search(r"BEGIN REQUEST (\w+)\n", asked)
    if nonce is None:
        return None
    part = lambda name: re.search(rf"BEGIN {name} {nonce[1]}\n(.*?)\nEND {name} {nonce[1]}", asked, re.S)[1]  # type: ignore[index]  # noqa: E731
    question = part("REQUEST")
    said = tuple(is_right(question, part(f"{which} ANSWER")) for which in ("FIRST", "SECOND"))
    word = {(True, True): "both", (True, False): "first", (False, True): "second", (False, False): "neither"}[said]
    return f"I have worked it out.\nVERDICT {nonce[1]}: {word}"


def _sum_of(prompt: str) -> str:
    found = _SUM.search(prompt)
    return "0 + 0" if found is None else found[0]


def _share(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def serve(port: int) -> None:
    """The models behind `/v1/chat/completions`, for ever."""
    import uvicorn
    from fastapi import FastAPI

    app, world = FastAPI(), World()

    @app.post("/world")
    async def change(what: dict[str, Any]) -> dict[str, Any]:
        for model, known in what.get("knows", {}).items():
            world.knows[model].update(known)
        world.takes_s.update(what.get("takes_s", {}))
        return {"knows": world.knows, "takes_s": world.takes_s}

    @app.post("/v1/chat/completions")
    async def complete(body: dict[str, Any]) -> dict[str, Any]:
        model, asked = body["model"], str(body["messages"][-1]["content"])
        said = verdict(asked)
        if said is None:
            await asyncio.sleep(world.takes_s[model])
            said = world.answer(model, asked)
        usage = {"prompt_tokens": len(asked.split()), "completion_tokens": len(said.split())}
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return {
            "id": "chatcmpl-world",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [choice],
            "usage": usage | {"total_tokens": sum(usage.values())},
        }

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
