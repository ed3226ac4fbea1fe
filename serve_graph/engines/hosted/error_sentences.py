"""What a caller is told of a hosted API's error, and what stays in the tier's log.

An API's words are passed on where they name nothing of the tier's own: no account, organisation, key, address or path.
Everything else, and whatever is the fault of the tier's set-up, is said in a sentence of ours.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

from serve_graph.engines.error_meanings import ErrorFault
from serve_graph.engines.hosted.deployment_error import REFUSED
from serve_graph.engines.hosted.error_bodies import NO_REASON, ApiError, clean

logger = logging.getLogger(__name__)
SENTENCES: Mapping[ErrorFault, str] = MappingProxyType(
    {
        ErrorFault.REQUEST: "it refuses the request, in words that name something of the tier's own",
        ErrorFault.SETUP: REFUSED,
        ErrorFault.BUSY: "it is at a limit that passes by itself",
        ErrorFault.TIMEOUT: "it did not answer in time",
        ErrorFault.UNAVAILABLE: "it is unavailable or failed; its reason is in the tier's log",
    }
)
LINK = re.compile(r"\b[a-z][a-z0-9+.-]{1,15}://[^\s\"'<>)\]]{1,500}", re.IGNORECASE)
OWN = re.compile(
    "|".join(
        (
            r"[\w-]{0,40}\*{3,}[\w-]{0,40}",  # a key that `clean` or the API itself has masked
            r"\b(?:account|organi[sz]ation|tenant|subscription|workspace|billing|credential)s?\b.{0,60}",
            r"\b(?:api|access|secret|private)[ _-]?(?:key|token)s?\b.{0,60}",
            r"\b(?:org|proj|project|acct|team|user|cust|customer|ws|deployment|key|req)[-_](?=[\w-]{0,80}\d)[\w-]{5,80}",
            r"\b(?:project|team|customer)\b[ :=#]{1,3}[\"'`]?[\w-]{0,60}\d[\w-]{2,60}",
            r"\b(?:sk|pk|rk|gsk|xai|hf|pplx|nvapi|AIza|AKIA|ghp|eyJ)[-_A-Z0-9][\w*.-]{5,200}",
            r"[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]{1,64}",
            r"\barn:[\w:/.-]{4,200}|\bprojects/[\w-]{1,80}|(?<![\d.,])\d{12}(?![\d.,])",
            r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
            r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])(?::\d{1,5})?|\[?[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){4,7}\]?",
            r"\b[\w.-]{1,200}\.(?:internal|local|localdomain|corp|lan|intranet|svc|cluster|private|consul)\b(?::\d+)?",
            r"\b(?:localhost|[a-z][\w.-]{0,200}):\d{2,5}\b",
            r"(?<![\w/.])/(?:home|root|var|usr|opt|mnt|srv|etc|tmp|app|data|models?|run|Users|workspace)/[^\s\"']{1,200}",
            r"\b[A-Za-z]:\\[^\s\"']{1,200}",
        )
    ),
    re.IGNORECASE,
)
"""What names something of the tier's own."""


def sentence_of(said: ApiError, fault: ErrorFault, status: int | None, url: str) -> str:
    """Return what the caller is told; what is not passed on goes to the log, unless it may quote the prompt.

    What an API says of a request may: of such words only the names are logged that they are withheld for.
    """
    message = LINK.sub("[link]", said.message) or NO_REASON
    names = _own(said.message)
    if fault is not ErrorFault.SETUP and not names:
        return message
    logged = f"words about {'; '.join(names)}" if fault is ErrorFault.REQUEST else said.message or NO_REASON
    logger.warning("%s returned %s: %s", url, status or "an error", logged)
    return SENTENCES[fault]


def open_word(word: str | None) -> str | None:
    """Return an API's own word (a code, a type, a parameter); None where it names something of the tier's own."""
    return None if word is None or _own(word) else word


def unreadable_sentence(text: str) -> str:
    """Return what is said of a reply that is no JSON; it may be an answer, so that names alone are logged."""
    said = clean(text)
    if not (names := _own(said)):
        return f"the hosted API's reply could not be parsed: {LINK.sub('[link]', said) or 'empty'}"
    logger.warning("a reply that could not be parsed names %s", "; ".join(names))
    return f"the hosted API's reply could not be parsed: {len(text)} characters that are no JSON"


def _own(text: str) -> list[str]:
    """The first few names of the tier's own in a text; addresses count where they are of a private network."""
    links = [link[0] for link in LINK.finditer(text) if not _is_public(link[0])]
    return [*links, *(found[0] for found in OWN.finditer(LINK.sub(" ", text)))][:5]


def _is_public(link: str) -> bool:
    """Whether a link leads to a public host by its usual port, as one to an API's documentation does."""
    try:
        parts = urlsplit(link)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return False
    return "." in host and port is None and parts.username is None and not OWN.search(host)
