"""Grade answers to questions that ask for no form: what is said first counts, and what follows may explain it.

As in `graders`: pure, tolerant of wording, never raising on an answer. References are checked by `references`.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from router_models.data.starter import answer_reading as reading

_FIRST_SENTENCES = 2
_LONGEST_OPENING_WORDS = 60
_FEWEST_WORDS, _LONGEST_EXPLANATION_WORDS = 4, 160
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)*]*\s+(?=[\"'“*(]*[A-Z0-9])|\n+")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.)])\s+(.*)$", re.MULTILINE)
_HEAD = re.compile(r"[:(–—]|\s-\s")
_NEGATIONS = (
    "not isn't aren't doesn't don't cannot can't didn't wasn't never neither nor false incorrect non-prime composite"
).split()


def states(reference: Mapping[str, Any], answer: str) -> bool:
    """Accept an answer whose first two sentences say one of `accepted` as whole words, and none of `rivals`."""
    opening = _opening(answer)
    if len(opening.split()) > _LONGEST_OPENING_WORDS:
        return False
    rivals = reference.get("rivals", ())
    return _says(opening, reference["accepted"]) and not _says(opening, rivals)


def says(reference: Mapping[str, Any], answer: str) -> bool:
    """Accept `text` alone, or as the first sentence, in any case and with any quotes and final marks around it."""
    want = _bare(reading.fold(reference["text"]))
    return want in (_bare(reading.fold(reading.unfenced(answer))), _bare(_opening(answer, 1)))


def answers_yes_no(reference: Mapping[str, Any], answer: str) -> bool:
    """Accept the right one of yes and no; without either, a statement about `about`, negated or not, says which."""
    first = _opening(answer, 1)
    if said := re.search(r"(?<!\w)(?:yes|no)(?!\w)", first):
        return bool(said.group() == reference["answer"])
    stated = sum(reading.names(first, about) is not None for about in reference["about"])
    if stated < min(2, len(reference["about"])):
        return False
    return bool(reference["answer"] == ("no" if _says(first, _NEGATIONS) else "yes"))


def listed(reference: Mapping[str, Any], answer: str) -> bool:
    """Accept a list of exactly `count` different `members`, as lines or in a sentence; a member is a list of forms."""
    members: Sequence[Sequence[str]] = reference["members"]
    items = [_bare(reading.fold(_HEAD.split(item)[0])) for item in _ITEM.findall(reading.unfenced(answer))]
    if not items:
        return bool(len(_members(_opening(answer), members)) == reference["count"])
    found = [_members(item, members) for item in items]
    return bool(len(items) == len(set(items)) == reference["count"] <= len(set().union(*found)) and all(found))


def explains(reference: Mapping[str, Any], answer: str) -> bool:
    """Accept finished sentences that name something of each of `groups`; what is named is how a word begins."""
    text = reading.unfenced(answer).strip()
    said = reading.fold(text)
    if not re.search(r"[.!?][\"'”*]*$", text) or not _FEWEST_WORDS <= len(said.split()) <= _LONGEST_EXPLANATION_WORDS:
        return False
    return all(
        any(re.search(rf"(?<!\w){re.escape(reading.fold(stem))}", said) for stem in group)
        for group in reference["groups"]
    )


def _opening(answer: str, sentences: int = _FIRST_SENTENCES) -> str:
    """Return the first sentences of an answer, folded; a line is at least a sentence."""
    parts = (part for part in _SENTENCE_END.split(reading.unfenced(answer)) if part and part.strip())
    return reading.fold(" ".join(islice(parts, sentences)))


def _bare(text: str) -> str:
    return text.strip(" \"'`*“”‘’«».!?,;:")


def _says(text: str, phrases: Sequence[str]) -> bool:
    return any(reading.names(text, phrase) is not None for phrase in phrases)


def _members(text: str, members: Sequence[Sequence[str]]) -> set[str]:
    """Return the members that a folded text names, by their first forms; C is not named where C++ is."""
    return {
        forms[0]
        for forms in members
        if any(re.search(rf"(?<!\w){re.escape(reading.fold(form))}(?![\w+#])", text) for form in forms)
    }
