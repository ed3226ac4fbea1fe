"""Cut a prompt into overlapping parts, so that what is hidden in it can be scored by itself.

Five easy questions before a hard one make an easy text on average. The hard one alone is still hard, and one of the
parts holds most of it, wherever it stands and however it is joined to the rest.
"""

from __future__ import annotations

import hashlib
import math

from router_models.types.conditions import SYSTEM_ROLES
from router_models.types.exchange import Message

MOST_PARTS = 12
"""Parts of one prompt at most: of a longer one they are longer, so that what scoring them costs is bounded."""
WORD = 16
"""Characters by which a part's ends move so that it holds whole words."""
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
