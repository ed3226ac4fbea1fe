"""Detect refusals and hedging in English, German and Spanish: tables of patterns and two pure checks.

Patterns are matched on folded text (lower case, straight apostrophes, single blanks). A language is a row of the
tables below; no other module knows which languages there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

PHRASE_CHARS = 4000
"""How much of an answer's opening is searched; a refusal does not hide behind page two."""

REFUSALS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "en": (
            r"\bi(?:'m| am)?(?: really| truly| very)? (?:sorry|afraid)\b.{0,40}"
            r"\b(?:can't|cannot|can not|unable|not able|won't|don't)\b",
            r"\bi (?:can't|cannot|can not|won't|will not) (?:help|assist|answer|provide|do|fulfill|comply|complete"
            r"|create|write|generate|give|discuss|support|access|share)\b",
            r"\bi(?:'m| am) (?:unable|not able|not allowed|not permitted) to\b",
            r"\bas an? (?:ai|large language|language|artificial intelligence)\b.{0,60}"
            r"\bi(?:'m| am)? (?:can't|cannot|don't|do not|not|unable)\b",
            r"\bi (?:must|have to|need to) (?:respectfully )?decline\b",
            r"\b(?:against|violates?) (?:my|the|our) (?:guidelines|polic(?:y|ies)|programming)\b",
            r"\bi don't have (?:access to|the ability to|enough (?:information|context))\b",
        ),
        "de": (
            r"\b(?:es )?tut mir leid\b.{0,60}\b(?:nicht|kein\w*)\b",
            r"\bleider kann ich\b.{0,60}\b(?:nicht|kein\w*)\b",
            r"\bich kann (?:dir|ihnen|das|dies\w*|dabei|diese\w*|leider|hierbei)\b.{0,60}\b(?:nicht|kein\w*)\b",
            r"\bich (?:darf|möchte|werde)\b.{0,40}\bnicht (?:helfen|beantworten|antworten|unterstützen)\b",
            r"\bals (?:ki|künstliche intelligenz|sprachmodell|ki-\w+)\b.{0,60}\b(?:nicht|kein\w*)\b",
            r"\bnicht in der lage\b",
        ),
        "es": (
            r"\blo siento\b.{0,60}\bno (?:puedo|me es posible|tengo|estoy)\b",
            r"\bno (?:puedo|podré|me es posible) (?:ayudar|responder|proporcionar|hacer|cumplir|asistir|ofrecer)",
            r"\bno estoy (?:autorizad[oa]|capacitad[oa])\b",
            r"\bcomo (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje|asistente)\b.{0,60}\bno\b",
            r"\blamentablemente,? no puedo\b",
            r"\bdebo (?:rechazar|declinar)\b",
        ),
    }
)

HEDGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "en": (
            r"\bi(?:'m| am) not (?:entirely |completely |quite |really |100% )?(?:sure|certain)\b",
            r"\bi (?:don't|do not) know\b",
            r"\bi (?:think|believe|guess|suppose|assume)\b",
            r"\bit(?:'s| is) (?:possible|likely|unclear|difficult to say|hard to say|not clear)\b",
            r"\b(?:probably|possibly|perhaps|maybe|presumably)\b",
            r"\b(?:might|may|could) be\b",
            r"\bif i (?:recall|remember) correctly\b",
            r"\bit depends\b",
            r"\bthere is no (?:definitive|clear|single) answer\b",
        ),
        "de": (
            r"\bich bin (?:mir )?nicht (?:ganz |völlig |hundertprozentig )?sicher\b",
            r"\bich weiß (?:es |das )?(?:leider )?nicht\b",
            r"\bich (?:glaube|denke|vermute|nehme an)\b",
            r"\b(?:wahrscheinlich|vermutlich|vielleicht|möglicherweise|eventuell)\b",
            r"\bkönnte(?:n)? .{0,30}\bsein\b",
            r"\bes kommt darauf an\b",
            r"\bwenn ich mich (?:richtig|recht) erinnere\b",
        ),
        "es": (
            r"\bno estoy (?:del todo |completamente |totalmente )?segur[oa]\b",
            r"\bno (?:lo )?sé\b",
            r"\b(?:creo|pienso|supongo|imagino) que\b",
            r"\b(?:probablemente|posiblemente|quizás?|tal vez|a lo mejor)\b",
            r"\bpodrían? ser\b",
            r"\bdepende de\b",
            r"\bsi (?:no )?recuerdo (?:bien|mal)\b",
        ),
    }
)


def _compiled(table: Mapping[str, tuple[str, ...]]) -> Mapping[str, re.Pattern[str]]:
    return MappingProxyType({language: re.compile("|".join(patterns)) for language, patterns in table.items()})


_REFUSALS = _compiled(REFUSALS)
_HEDGES = _compiled(HEDGES)


OPENING_CHARS = 400
"""What counts as an answer's opening."""


def opening_says(answer: str) -> dict[str, bool]:
    """Return `refuses` and `hedges`, as true, where an answer's opening does; in microseconds, and nothing is kept."""
    found = {"refuses": refuses(answer), "hedges": hedges(answer[:OPENING_CHARS]) > 0}
    return {name: True for name, is_so in found.items() if is_so}


def refuses(answer: str) -> bool:
    """Return whether the answer's opening declines the task, in any of the languages above."""
    opening = folded(answer)[:OPENING_CHARS]
    return any(pattern.search(opening) for pattern in _REFUSALS.values())


def hedges(answer: str) -> int:
    """Return how many hedging phrases the answer has, over all languages."""
    text = folded(answer)
    return sum(len(pattern.findall(text)) for pattern in _HEDGES.values())


def folded(text: str) -> str:
    """Return the first `PHRASE_CHARS` characters in lower case, with straight apostrophes and single blanks."""
    return " ".join(text[:PHRASE_CHARS].lower().replace("’", "'").split())
