"""Cut a prompt into overlapping parts, so that what is hidden in it can be scored by itself.

Five easy questions before a hard one make an easy text on average. The hard one alone is still hard, and one of the
parts holds most of it, wherever it stands and however it is joined to the rest. Of a short text, cut where sentences
end, one of the pieces is the hard question itself, also where it was split around the easy one.
"""

from __future__ import annotations

import hashlib
import math
import re
from itertools import pairwise

from router_models.types.conditions import SYSTEM_ROLES
from router_models.types.exchange import Message

MOST_PARTS = 12
"""Parts of one prompt at most: of a longer one they are longer, so that what scoring them costs is bounded."""
WORD = 16
"""Characters by which a part's ends move so that it holds whole words."""
MOST_CUTS = 7
"""Places at which a short text is cut; of a text with more sentences some are left together."""
SHORT_TEXT, MOST_CUT_CHARS = 8, 2000
"""Texts of up to so many parts' lengths, and characters, are cut: in a longer one the windows see what is hidden."""
LEAST_PIECE = 24
_ENDS = re.compile(r"[.?!…][\"')\]*_`>-]{0,3}\s+|[。？！]|\n+")
_MOST_LINES = 200


def overlapping_parts(text: str, size: int) -> list[str]:
    """Return overlapping parts that cover a text, about `size` characters each; the text itself where it is short.

    Parameters
    ----------
    text : str
        Of any length; white space counts as one blank.
    size : int
        At least 1.

    Returns
    -------
    list of str
        At most `MOST_PARTS`, none empty but that of an empty text.
    """
    plain = " ".join(text.split())
    n = len(plain)
    if n <= size + size // 4:
        return [plain]
    count = min(MOST_PARTS, math.ceil(2 * (n - size) / size) + 1)
    length = max(size, math.ceil(2 * n / (count + 1)))
    starts = [round(i * (n - length) / (count - 1)) for i in range(count)]
    return [plain[_word(plain, start) : _word(plain, start + length)].strip() for start in starts]


def pieces_of_sentences(text: str, size: int) -> dict[str, tuple[str, ...]]:
    """Return what is left of a short text without what stands before, behind, or between the ends of its sentences.

    Commas are no ends: what a prompt is without a clause of its own differs much, and little would be unusual.

    Parameters
    ----------
    text : str
        Of any length.
    size : int
        The length of parts; texts of more than `SHORT_TEXT` of them, or `MOST_CUT_CHARS`, have no pieces.

    Returns
    -------
    dict of str to tuple of str
        Less than 3 · `MOST_CUTS` pieces, each of `LEAST_PIECE` characters or more, with the sentences, or runs of
        them, that each consists of; none for a text of one sentence.
    """
    if not LEAST_PIECE < len(text) <= min(SHORT_TEXT * size, MOST_CUT_CHARS):
        return {}
    plain = text.strip()
    cuts = [found.end() for found in _ENDS.finditer(plain) if found.end() < len(plain)]
    if len(cuts) > MOST_CUTS:
        cuts = [cuts[round(i * (len(cuts) - 1) / (MOST_CUTS - 1))] for i in range(MOST_CUTS)]
    runs = [" ".join(plain[begin:end].split()) for begin, end in pairwise([0, *cuts, len(plain)])]
    kept = [part for cut in range(1, len(runs)) for part in (runs[:cut], runs[cut:])]
    kept += [[*runs[:out], *runs[out + 1 :]] for out in range(1, len(runs) - 1)]
    found = {" ".join(filter(None, part)): tuple(filter(None, part)) for part in kept}
    return {piece: part for piece, part in found.items() if len(piece) >= LEAST_PIECE}


def _word(text: str, at: int) -> int:
    """Return where the word at a place ends, if it ends soon, else the place itself."""
    if at <= 0 or at >= len(text):
        return max(0, min(at, len(text)))
    blank = text.find(" ", at - 1, at + WORD)
    return at if blank < 0 else blank + 1


def conversation_of(messages: tuple[Message, ...]) -> str:
    """Return what is routed of a conversation without the system prompt that it begins with."""
    talk = next((i for i, message in enumerate(messages) if message.role not in SYSTEM_ROLES), len(messages))
    late = any(message.role in SYSTEM_ROLES for message in messages[talk:])
    return "\n".join(message.content for message in (messages if late else messages[talk:]))


def without_system_prompt(text: str, digest: str) -> str:
    """Return a row's text as `conversation_of` does, where it begins with the system prompt of this sha256."""
    end = -1
    for _ in range(_MOST_LINES if digest else 0):
        end = text.find("\n", end + 1)
        if end < 0:
            break
        if hashlib.sha256(text[:end].encode("utf-8", "surrogatepass")).hexdigest() == digest:
            return text[end + 1 :]
    return text
