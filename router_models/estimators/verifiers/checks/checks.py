"""Rule-based checks of an answer: named pure functions, and their columns for a verifier.

Each check reads (prompt, answer, finish_reason) and returns how much is wrong, from 0.0 (nothing) to 1.0. They are
evidence, not verdicts: a verifier learns what each is worth. All are linear in the text and read a bounded part of it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from router_models.data.text_cache import cached_by_text
from router_models.estimators.verifiers.checks.formats import schema_fault, tool_call_fault
from router_models.estimators.verifiers.checks.phrases import hedges, refuses
from router_models.estimators.verifiers.checks.shape import SHAPES, asked_shape, has_shape
from router_models.types import Answers, Completion, FloatArray, Query

CHECK_CHARS = 20_000

CHECKS_VERSION = 1
"""Raise it when a check or a column below changes its meaning: stored verifiers then refuse to load."""

Check = Callable[[str, str, str], float]

_TOKEN = re.compile(r"\w+|[^\w\s]")


def blank(prompt: str, answer: str, finish_reason: str) -> float:
    """Return 1 where the answer has no visible text and calls no tool."""
    return float(not answer.strip("\x00 \t\r\n\u200b\ufeff") and finish_reason != "tool_calls")


def truncated(prompt: str, answer: str, finish_reason: str) -> float:
    """Return 1 where generation ended for length or a content filter."""
    return float(finish_reason in ("length", "content_filter"))


def cut_off(prompt: str, answer: str, finish_reason: str) -> float:
    """Return 1 where a long answer ends in the middle: no final punctuation, an open fence or bracket."""
    text = answer[-CHECK_CHARS:].rstrip()
    if len(text) < 80:
        return 0.0
    return float(text[-1].isalnum() or text[-1] in ",;:([{-" or answer.count("```") % 2 == 1)


def refusal(prompt: str, answer: str, finish_reason: str) -> float:
    """Return 1 where the answer's opening declines the task (English, German, Spanish)."""
    return float(refuses(answer))


def hedging(prompt: str, answer: str, finish_reason: str) -> float:
    """Return the number of hedging phrases, saturating: 0, .5, .67, … of 1."""
    count = hedges(answer)
    return count / (1.0 + count)


def repetition(prompt: str, answer: str, finish_reason: str) -> float:
    """Return the share of 4-grams that occurred before: loops score near 1, prose near 0, short answers 0."""
    text = answer[:CHECK_CHARS]
    tokens: list[str] = _TOKEN.findall(text)
    if len(tokens) < 16:
        tokens = list(text) if len(text) >= 64 else []
    if len(tokens) < 16:
        return 0.0
    grams = list(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False))
    return 1.0 - len(set(grams)) / len(grams)


def echo(prompt: str, answer: str, finish_reason: str) -> float:
    """Return the share of the answer's word triples that are the prompt's: 1 = the question is repeated."""
    words = answer[:CHECK_CHARS].lower().split()
    if len(words) < 6:
        return 0.0
    question = prompt[:CHECK_CHARS].lower().split()
    in_prompt = set(zip(question, question[1:], question[2:], strict=False))
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return sum(triple in in_prompt for triple in triples) / len(triples)


def shape_broken(prompt: str, answer: str, finish_reason: str) -> float:
    """Return 1 where the prompt asks for a shape (a number, JSON, code, one word, …) and the answer has another."""
    return float(not has_shape(asked_shape(prompt), answer))


def garbled(prompt: str, answer: str, finish_reason: str) -> float:
    """Return the share of control, private-use and replacement characters, times ten, at most 1."""
    text = answer[:CHECK_CHARS]
    shown = text.replace("\n", "").replace("\r", "").replace("\t", "")
    if shown.isprintable() and "\ufffd" not in shown:  # so that none is: most texts, 20 times as quickly
        return 0.0
    bad = sum(
        c == "\ufffd" or (unicodedata.category(c) in ("Cc", "Co", "Cn", "Cs") and c not in "\n\r\t") for c in text
    )
    return min(1.0, 10.0 * bad / max(len(text), 1))


def other_script(prompt: str, answer: str, finish_reason: str) -> float:
    """Return the share of the answer's letters in a script (Latin, Cyrillic, Han, …) that the prompt does not use."""
    if answer[:2000].isascii() and prompt[:CHECK_CHARS].isascii():  # Latin letters, if any
        return 0.0
    scripts = {_script(c) for c in prompt[:CHECK_CHARS] if c.isalpha()}
    letters = [c for c in answer[:2000] if c.isalpha()]
    if not letters or not scripts:
        return 0.0
    return sum(_script(c) not in scripts for c in letters) / len(letters)


def _script(c: str) -> str:
    return "LATIN" if ord(c) < 0x250 else unicodedata.name(c, "?").partition(" ")[0]


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        check.__name__: check
        for check in (
            blank, truncated, cut_off, refusal, hedging, repetition, echo, shape_broken, garbled, other_script,
        )
    }
)  # fmt: skip

_HARD = ("blank", "truncated", "refusal", "repetition", "shape_broken", "garbled")

CHECK_COLUMNS = (
    *CHECKS,
    "faults",
    "log_answer_chars",
    "log_answer_to_prompt",
    "answer_lines",
    "answer_digit_share",
    "answer_is_prompt_word",
    *(f"asks_{name}" for name in SHAPES),
    *(f"breaks_{name}" for name in SHAPES),
)


def checks(query: Query, completion: Completion) -> dict[str, float]:
    """Run every check on one exchange.

    In addition to the text checks: `schema_fault` (the reply against the JSON schema in `response_format`) and
    `tool_fault` (the calls against the declared `tools`).

    Parameters
    ----------
    query : Query
        The request.
    completion : Completion
        The answer.

    Returns
    -------
    dict of str to float
        How much is wrong by the check's name, in [0, 1]; NaN = nothing to check.
    """
    text = query.text
    found = {name: check(text, completion.text, completion.finish_reason) for name, check in CHECKS.items()}
    return found | request_signals(query, completion)


def request_signals(query: Query, completion: Completion) -> dict[str, float]:
    """Return the checks of the request's declarations, as signals for `Answers`; NaN where nothing was declared."""
    return {"schema_fault": schema_fault(query, completion), "tool_fault": tool_call_fault(query, completion)}


def check_columns(X: Answers) -> FloatArray:
    """Return all text checks and further measures of a batch.

    Parameters
    ----------
    X : Answers
        n completions.

    Returns
    -------
    array of float, (n, len(CHECK_COLUMNS))
        Finite.
    """
    answered = list(zip(X.prompts.texts, X.texts, X.finish_reasons, strict=True))
    rows = cached_by_text("checks of answers", answered, lambda new: [_row(*one) for one in new])
    return np.array(rows, dtype=np.float64).reshape(len(X), len(CHECK_COLUMNS))


def _row(prompt: str, answer: str, finish_reason: str) -> list[float]:
    shape = asked_shape(prompt)
    found = {
        name: check(prompt, answer, finish_reason)
        if check is not shape_broken
        else float(not has_shape(shape, answer))
        for name, check in CHECKS.items()
    }
    head = answer[:CHECK_CHARS].strip()
    return [
        *found.values(),
        # A fault that the training data did not hold still counts through the sum of all faults.
        sum(found[name] for name in _HARD),
        math.log1p(len(answer)),
        math.log1p(len(answer)) - math.log1p(len(prompt)),
        math.log1p(answer.count("\n")),
        sum(map(str.isdigit, head)) / max(len(head), 1),
        float(0 < len(head) <= 60 and head.strip(".'\"").lower() in prompt.lower()),
        *(float(shape == name) for name in SHAPES),
        *(float(shape == name and found["shape_broken"] > 0) for name in SHAPES),
    ]
