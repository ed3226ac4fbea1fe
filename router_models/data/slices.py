"""Divide traffic into slices that can be certified one by one: by language, length, domain or user tier.

A slicer reads what is known before an answer: the prompt's text and the request's metadata. Metadata takes precedence
over detection; an empty string in a metadata column counts as unknown.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from router_models.errors import DataError
from router_models.types import Prompts, Query
from router_models.types.condition_cells import HASHED, PLAIN_WORDS

UNKNOWN = "unknown"
MAX_SLICES = 60
_STOPWORDS: Mapping[str, frozenset[str]] = {
    "en": frozenset("the is are what of and in to a for with which how that this you".split()),
    "de": frozenset("der die das ist und ein eine was welche wie mit nicht nur den im zu auf für".split()),
    "es": frozenset("el la los las es un una qué cuál de que con en por para cómo solo y".split()),
    "fr": frozenset("le la les est un une des que quel quelle avec dans pour et du au comment".split()),
}
_DOMAIN_KEYS = ("domain", "category", "task", "family", "qset")


def language(text: str, metadata: Mapping[str, str]) -> str:
    """Return the stated language, else en, de, es or fr by their commonest words, else `other`."""
    if metadata.get("language"):
        return metadata["language"]
    words = re.findall(r"[^\W\d_]+", text.casefold())
    counts = {name: sum(word in common for word in words) for name, common in _STOPWORDS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] > 0 else "other"


def length(text: str, metadata: Mapping[str, str]) -> str:
    """Return short (under 100 characters), medium (under 400) or long."""
    return "short" if len(text) < 100 else "medium" if len(text) < 400 else "long"


def domain(text: str, metadata: Mapping[str, str]) -> str:
    """Return the stated domain, category, task, family or question set."""
    return next((metadata[key] for key in _DOMAIN_KEYS if metadata.get(key)), UNKNOWN)


def user_tier(text: str, metadata: Mapping[str, str]) -> str:
    """Return the stated user tier."""
    return metadata.get("user_tier") or UNKNOWN


SLICERS: Mapping[str, Callable[[str, Mapping[str, str]], str]] = MappingProxyType(
    {
        "language": language,
        "detected_language": lambda text, _: language(text, {}),
        "length": length,
        "domain": domain,
        "user_tier": user_tier,
    }
)

LABELS_OF: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "language": ("language",),
        "detected_language": (),
        "length": (),
        "domain": _DOMAIN_KEYS,
        "user_tier": ("user_tier",),
    }
)
"""The metadata that names a slice, the first of them that is there."""
DETECTED = frozenset({"language", "detected_language", "length"})
"""What is found in the prompt where no metadata names it."""


def is_stated(slicer: str, prompts: Prompts) -> bool:
    """Return whether any of the prompts states its slice in its metadata.

    Parameters
    ----------
    slicer : str
        A key of `SLICERS`.
    prompts : Prompts
        n prompts.

    Returns
    -------
    bool
    """
    return any(any(prompts.metadata.get(name, ())) for name in LABELS_OF[slicer])


def slice_of(slicer: str, query: Query) -> str:
    """Return the slice of one query.

    Parameters
    ----------
    slicer : str
        A key of `SLICERS`.
    query : Query
        The request.

    Returns
    -------
    str

    Raises
    ------
    DataError
        For an unknown slicer.
    """
    return _slicer(slicer)(query.text, query.metadata)


def slices_of(slicer: str, prompts: Prompts) -> list[str]:
    """Return the slice of every prompt.

    Parameters
    ----------
    slicer : str
        A key of `SLICERS`.
    prompts : Prompts
        n prompts.

    Returns
    -------
    list of str
        n slices, in order.

    Raises
    ------
    DataError
        For an unknown slicer.
    """
    slice_name = _slicer(slicer)
    rows = ({name: column[i] for name, column in prompts.metadata.items()} for i in range(len(prompts)))
    return [slice_name(text, row) for text, row in zip(prompts.texts, rows, strict=True)]


def _slicer(name: str) -> Callable[[str, Mapping[str, str]], str]:
    if name not in SLICERS:
        raise DataError(f"unknown slicing {name!r}; known: {', '.join(SLICERS)}")
    return SLICERS[name]


def slice_columns(prompts: Prompts) -> dict[str, tuple[str, ...]]:
    """Return the columns that a report breaks results down by.

    Parameters
    ----------
    prompts : Prompts
        n prompts.

    Returns
    -------
    dict of str to tuple of str
        Metadata columns of 2 to `MAX_SLICES` distinct values, and the thirds of prompt length. What prompts were
        asked under is in words.
    """
    found = {
        name: values
        for name, values in ((name, _in_words(name, column, prompts)) for name, column in prompts.metadata.items())
        if 2 <= len(set(values)) <= min(MAX_SLICES, len(prompts.texts) // 10)
    }
    lengths = np.array([len(text) for text in prompts.texts])
    low, high = np.quantile(lengths, [1 / 3, 2 / 3])
    names = (f"up to {low:.0f} characters", f"{low:.0f} to {high:.0f}", f"over {high:.0f}")
    thirds = np.digitize(lengths, [low, high], right=True)
    return {**found, "prompt length": tuple(names[i] for i in thirds)}


def asked_columns(prompts: Prompts) -> dict[str, tuple[str, ...]]:
    """Return what prompts were asked under, in words, where they differ in it.

    Parameters
    ----------
    prompts : Prompts
        n prompts.

    Returns
    -------
    dict of str to tuple of str
        n words by column of conditions; the lengths that were permitted are left out, as they follow from the tasks.
    """
    words = {
        name: _in_words(name, column, prompts)
        for name, column in prompts.metadata.items()
        if name in PLAIN_WORDS and name != "max_tokens"
    }
    return {name: column for name, column in words.items() if len(set(column)) > 1}


_SHOWN_WORDS = 40
_MOST_LINES = 200


def _in_words(name: str, column: tuple[str, ...], prompts: Prompts) -> tuple[str, ...]:
    """Return a column of conditions as a report shows it; any other as it stands."""
    if name not in PLAIN_WORDS:
        return column
    known = {"": PLAIN_WORDS[name]}
    if name == "system_prompt":
        first = {value: prompts.texts[i] for i, value in reversed(list(enumerate(column)))}
        known = {value: system_prompt_name(value, text) for value, text in first.items() if value} | known
    elif name in HASHED:
        known = {value: value[:12] for value in column if value} | known
    return tuple(known.get(value, value) for value in column)


def system_prompt_name(digest: str, text: str) -> str:
    """Return how a report names a system prompt: its first words, where the text of a prompt begins with it.

    Parameters
    ----------
    digest : str
        sha256 of the system prompt, in hex.
    text : str
        The routed text of a prompt that was asked under it.

    Returns
    -------
    str
        The first words and the beginning of the hash; the latter alone where the text does not begin with it.
    """
    end = -1
    for _ in range(_MOST_LINES):
        end = text.find("\n", end + 1)
        if end < 0:
            break
        if hashlib.sha256(text[:end].encode("utf-8", "surrogatepass")).hexdigest() == digest:
            words = " ".join(text[:end].split())
            return f"{words[:_SHOWN_WORDS].rstrip()}{'…' if len(words) > _SHOWN_WORDS else ''} ({digest[:8]})"
    return digest[:12]
