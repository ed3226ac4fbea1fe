"""The terminal of `label`: show an answer, read a key, keep the label. What is asked next is decided elsewhere."""

from __future__ import annotations

import math
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from router_models.errors import by_number

if TYPE_CHECKING:
    from router_models.training.labelling.plan import Question
    from router_models.training.labelling.session import LabelSession

KEYS_ARE = "r right, w wrong, s skip, u undo, q quit"
_TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
_LABEL = {"r": True, "w": False, "s": None}


class Keys:
    """Where keys come from: one at a time of a terminal, or the letters of a pipe, which end like `q`."""

    def __init__(self, read: Callable[[], str], *, patient: bool) -> None:
        self.read, self.patient = read, patient


def keys_of(stream: TextIO) -> Keys:
    """Read single keys of a terminal without Enter; of anything else, letters with any white space between them."""
    if stream.isatty():
        return Keys(_typed, patient=True)
    letters = _letters(stream)
    return Keys(lambda: next(letters, "q"), patient=False)


def run_session(session: LabelSession, path: Path, keys: Keys, now: Callable[[], str]) -> LabelSession:
    """Ask until it is proved, nothing is left, or `q`; every label is on the disk before the next question.

    Raises ServeGraphError for a letter of a pipe that is no key; what came before it is kept.
    """
    from router_models.training.labelling.records import append_line
    from serve_graph.errors import ServeGraphError

    while (asked := session.next_item()) is not None:
        show_text(question_text(session, *asked))
        key = keys.read().lower()
        if key == "q":
            return session
        if key == "u":
            before = session.undo()
            if before is None:
                show_text("nothing to undo")
                continue
            append_line(path, {"undo": session.labeller})
            session = before
        elif key in _LABEL:
            session = session.label(_LABEL[key], now())
            append_line(path, session.records[-1].to_json())
        elif keys.patient:
            show_text(f"{key!r} is no key: {KEYS_ARE}")
        else:
            raise ServeGraphError(f"{key!r} is no key ({KEYS_ARE}); the labels before it are kept in {path}")
    return session


def question_text(session: LabelSession, question: Question, tier: str) -> str:
    """One question as it is shown: how far it is, the prompt, and the answers without their tiers."""
    tiers = list(question.answers)
    lines = ["", "─" * 72, "disputed" if session.adjudicating else status_line(session.summary()), "", "PROMPT"]
    lines += [plain(question.prompt), ""]
    lines += [f"asked under: {plain(question.asked_under)}", ""] if question.asked_under else []
    for name, answer in question.answers.items():
        letter = f" {chr(ord('A') + tiers.index(name))}" if len(tiers) > 1 else ""
        lines += [f"ANSWER{letter}", plain(answer) or "(empty)", ""]
    which = f" Is answer {chr(ord('A') + tiers.index(tier))} right?" if len(tiers) > 1 else ""
    return "\n".join([*lines, f"{KEYS_ARE}.{which}"])


def status_line(summary: Mapping[str, Any]) -> str:
    """How many labels there are, what is proved, and how many more are likely to be needed, on one line."""
    against = f"{summary['against']} {by_number(summary['against'], 'counts', 'count')} against the promise"
    parts = [f"{summary['labelled']} labelled, {against}"]
    if proved := summary["proved"]:
        parts.append(f"proved for {proved['share']:.0%} of prompts")
    if at := summary["under_test"]:
        more = (
            "no answer is left"
            if not at["left"]
            else f"about {at['more']} more, {at['left']} {by_number(at['left'], 'is', 'are')} left"
        )
        if at["left"] and at["more"] is None:
            more = "more labels are not likely to prove it"
        parts.append(f"under test for {at['share']:.0%} of prompts: {more}")
    return "; ".join(parts)


def told(summary: Mapping[str, Any]) -> Iterator[str]:
    """What the session came to, in lines."""
    yield status_line(summary)
    if summary["skipped"] or summary["disputed"]:
        both = summary["skipped"] + summary["disputed"]
        yield (
            f"{summary['skipped']} skipped and {summary['disputed']} disputed {by_number(both, 'answer')} "
            f"{by_number(both, 'counts', 'count')} against the promise until somebody labels "
            f"{by_number(both, 'it', 'them')}, or --adjudicate settles {by_number(both, 'it', 'them')}"
        )
    for pair in summary["agreement"]:
        kappa = "not defined (both always say the same)" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
        first, second = pair["between"]
        yield f"{first} and {second} agree on {pair['agree']:.0%} of {pair['n']} answers, Cohen's kappa {kappa}"
    if summary["complete"]:
        yield "everything that was to be proved is proved: no more labels are needed"
    elif summary["proved"] and (summary["under_test"]["more"] or math.inf) > summary["under_test"]["left"]:
        yield "more is not likely to be proved; --to-the-end goes on nevertheless"


def plain(text: str) -> str:
    """A text without control characters other than line breaks and tabs: a model's answer moves no cursor."""
    return "".join(c if c in "\n\t" or not _controls(c) else "\ufffd" for c in text)


def _controls(character: str) -> bool:
    turns = unicodedata.bidirectional(character) in _TURNS
    return turns or unicodedata.category(character) in ("Cc", "Cs")


def show_text(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _typed() -> str:
    import click

    try:
        return click.getchar()
    except (KeyboardInterrupt, EOFError):
        return "q"


def _letters(stream: TextIO) -> Iterator[str]:
    while letter := stream.read(1):
        if not letter.isspace():
            yield letter
