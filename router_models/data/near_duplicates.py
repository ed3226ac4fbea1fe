"""Find prompts of one set that nearly repeat prompts of another.

Benchmarks share questions under other wordings, with options added or removed; a router trained on one and tested on
the other would be tested on its training data. Two criteria are used: shared runs of words, and sentence embeddings
that almost coincide. What many prompts have in common is a template, an instruction or a form of asking: it makes no
two of them the same question, and counts for neither.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from router_models.types import BoolArray

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
"""A word; of scripts that leave no space between words (Thai, Lao, Burmese, Khmer, Japanese, Chinese), a character."""
RUN = 6
SHARED = 0.4
COSINE = 0.92
MANY = 20
"""Different texts that share a run of words from which on they follow a template. Of fewer, a question that is asked
with other options or spellings cannot be told from an instruction that is."""
NEAR = 5
"""Different texts of both sets whose embeddings almost coincide from which on they follow a template: of wordings
embeddings say less. So a question that the sets ask in that many ways passes for one, and is found by words alone."""
Words = tuple[str, ...]


def near_duplicates_of(
    texts: Sequence[str],
    others: Sequence[str],
    embeddings: NDArray[np.float32] | None = None,
    other_embeddings: NDArray[np.float32] | None = None,
    *,
    shared: float = SHARED,
    cosine: float = COSINE,
) -> BoolArray:
    """Return which texts nearly repeat one of the others.

    Words are left out that stand in a run of six which `MANY` different texts have. A text repeats another when they
    are equal, or when at least the share `shared` of its runs of six words, or of the other's, occurs in that one
    other text; of a text that is nothing else, the words are not left out of either. With embeddings of both, also
    when a cosine reaches `cosine`; but not where it does so for `NEAR` different texts, or where half of a text
    or more was left out: there it says that both follow the same template. Nor where both texts hold numbers of their
    own: embeddings hardly tell numbers apart.

    Parameters
    ----------
    texts, others : sequence of str
        The n texts to test, and the m texts to compare them with.
    embeddings, other_embeddings : array of float32, (n, d) and (m, d), optional
        Unit rows.
    shared : float
        A share in (0, 1].
    cosine : float
        A similarity in [-1, 1].

    Returns
    -------
    array of bool, (n,)
    """
    words, other_words = [_words(text) for text in texts], [_words(text) for text in others]
    frequent = _templates({*words, *other_words})
    left, other_left = ([_own(one, frequent) for one in part] for part in (words, other_words))
    own = [mine or one for mine, one in zip(left, words, strict=True)]
    other_own = [mine or one for mine, one in zip(other_left, other_words, strict=True)]
    found = _by_words(own, other_own, shared)
    if bare := [i for i, mine in enumerate(left) if not mine]:
        # all of it is what many others have: what these add to it must not hide it
        found[bare] |= _by_words([words[i] for i in bare], other_words, shared)
    equal = set(other_words)
    found |= np.array([one in equal for one in words], dtype=np.bool_)
    if embeddings is not None and other_embeddings is not None:
        free = np.array([2 * len(mine) > len(one) for mine, one in zip(own, words, strict=True)], dtype=np.bool_)
        found |= free & _by_embeddings(words, other_words, embeddings, other_embeddings, cosine)
    return found


def _by_embeddings(
    texts: Sequence[Words],
    others: Sequence[Words],
    embeddings: NDArray[np.float32],
    other_embeddings: NDArray[np.float32],
    cosine: float,
) -> BoolArray:
    # Copies of one text are one: they are no template.
    where, mine = _first_of_each(others), _first_of_each(texts)
    memory, beside = other_embeddings[where], embeddings[mine]
    numbers, other_numbers = ([_numbers(one) for one in part] for part in (texts, others))
    found = np.zeros(len(texts), dtype=np.bool_)
    for start in range(0, len(texts), 512):
        part = embeddings[start : start + 512]
        near = part @ memory.T >= cosine
        # Its own set's texts as well, itself included, which is none of NEAR others.
        around = near.sum(axis=1) + (part @ beside.T >= cosine).sum(axis=1) - 1
        for i in np.flatnonzero(near.any(axis=1) & (around < NEAR)):
            own = numbers[start + i]
            found[start + i] = any(
                own <= other_numbers[where[j]] or other_numbers[where[j]] <= own for j in np.flatnonzero(near[i])
            )
    return found


def _first_of_each(texts: Sequence[Words]) -> list[int]:
    """Return where each different text occurs first, in order."""
    return sorted({one: i for i, one in reversed(list(enumerate(texts)))}.values())


def _numbers(words: Words) -> frozenset[str]:
    return frozenset(word for word in words if word[0].isdigit())


def _by_words(texts: Sequence[Words], others: Sequence[Words], shared: float) -> BoolArray:
    where: dict[int, list[int]] = {}
    sizes = []
    for i, words in enumerate(others):
        runs = set(_runs(words))
        sizes.append(len(runs))
        for run in runs:
            where.setdefault(run, []).append(i)
    found = np.zeros(len(texts), dtype=np.bool_)
    for k, words in enumerate(texts):
        runs = set(_runs(words))
        hits: dict[int, int] = {}
        for run in runs:
            for i in where.get(run, ()):
                hits[i] = hits.get(i, 0) + 1
        found[k] = any(n >= shared * min(len(runs), sizes[i]) for i, n in hits.items())
    return found


def _words(text: str) -> Words:
    return tuple(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _templates(texts: set[Words]) -> set[int]:
    """Return hashes of the runs that `MANY` different texts have."""
    counts = Counter(run for words in texts if len(words) > RUN for run in set(_runs(words)))
    return {run for run, n in counts.items() if n >= MANY}


def _own(words: Words, frequent: set[int]) -> Words:
    """Return the words of no frequent run."""
    if len(words) <= RUN or not frequent:
        return words
    taken = np.zeros(len(words), dtype=np.bool_)
    for start, run in enumerate(_runs(words)):
        if run in frequent:
            taken[start : start + RUN] = True
    return tuple(word for word, gone in zip(words, taken, strict=True) if not gone)


def _runs(words: Words) -> Iterator[int]:
    """Return hashes of all runs of RUN words, in order; a shorter text is one run."""
    if len(words) <= RUN:
        yield hash(words)
        return
    for i in range(len(words) - RUN + 1):
        yield hash(words[i : i + RUN])
