"""420 ways of writing the same question otherwise, as people and programs do without meaning anything by it.

Unlike `versions.covering.perturbations`, which an attacker writes, none of these is aimed at a router: typing errors,
case, white space, letters that look alike, polite words before and after, wordings of "answer this", punctuation.
What is drawn is drawn from the text and a number, so that a run can be repeated.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from types import MappingProxyType

RewrittenBy = Callable[[str], str]
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
TYPOS, AMOUNTS = ("swapped", "dropped", "doubled", "neighbouring", "wrong"), ("1", "2", "3", "2%", "5%")
GREETINGS = (
    "Hi", "Hello", "Hello there", "Good morning", "Good evening", "Hey", "Dear assistant", "Greetings", "Hi there",
    "Excuse me",
)  # fmt: skip
ASKS = (
    "I have a question.", "can you help me?", "quick question.", "I would like to know this.", "please help.",
    "one more thing.",
)  # fmt: skip
THANKS = (
    "Thanks", "Thank you", "Thanks in advance", "Many thanks", "Cheers", "Thank you very much", "Much appreciated",
    "Best regards", "Thanks a lot", "Kind regards",
)  # fmt: skip
ENDINGS = (".", "!", " for your help.", " for your time.", " and have a nice day.", " :)")
ASKED_TO = ("answer", "solve", "work out", "respond to", "help me with", "deal with", "look at", "take care of")
FRAMES = (
    "Please {verb} this: {q}",
    "Could you {verb} the following? {q}",
    "Can you {verb} this for me: {q}",
    "I need you to {verb} this.\n\n{q}",
    "{q}\n\nPlease {verb} the above.",
    "Your task is to {verb} the following.\n{q}",
    "I want to {verb} this, so tell me: {q}",
    "Would you {verb} this one? {q}",
    "Try to {verb} this question: {q}",
    "{q}\n(Kindly {verb} it.)",
)
LOOK_ALIKE = {"a": "а", "c": "с", "e": "е", "i": "і", "j": "ј", "o": "о", "p": "р", "s": "ѕ", "x": "х", "y": "у"}
WRAPS = {
    "in double quotes": '"{q}"',
    "in single quotes": "'{q}'",
    "in curly quotes": "“{q}”",
    "in angle quotes": "«{q}»",
    "in round brackets": "({q})",
    "in square brackets": "[{q}]",
    "in bold": "**{q}**",
    "in italics": "_{q}_",
    "as a quotation": "> {q}",
    "as a list item": "- {q}",
    "as a starred item": "* {q}",
    "numbered": "1. {q}",
    "numbered otherwise": "1) {q}",
    "lettered": "a) {q}",
    "as a heading": "# {q}",
    "behind Q": "Q: {q}",
    "behind Question": "Question: {q}",
    "behind Task": "Task: {q}",
    "behind Prompt": "Prompt: {q}",
    "behind Input": "Input: {q}",
    "before Answer": "{q}\nAnswer:",
    "before A": "{q}\nA:",
    "before Response": "{q}\nResponse:",
    "between rules": "---\n{q}\n---",
    "behind a rule": "---\n{q}",
    "with a final stop": "{q}.",
    "with a final mark": "{q}?",
    "with two final marks": "{q}??",
    "with a final exclamation": "{q}!",
    "with final dots": "{q}...",
    "with a final colon": "{q}:",
    "with a final dash": "{q} -",
    "with a final smile": "{q} 🙂",
    "with a thumb": "{q} 👍",
    "behind an arrow": "→ {q}",
    "behind dots": "... {q}",
    "with a final tilde": "{q} ~",
    "with a final hash": "{q} #",
}


@dataclass(frozen=True, slots=True)
class PromptEdit:
    """Hold one way of writing a question otherwise: its kind, and what rewrites a text."""

    kind: str
    rewrite: RewrittenBy


def _drawn(text: str, seed: int) -> random.Random:
    return random.Random(f"{seed} {text}")


def _mistyped(text: str, how: str, amount: str, seed: int) -> str:
    """A text with a number, or a share, of its letters mistyped."""
    rng, letters = _drawn(text, seed), [i for i, c in enumerate(text) if c.isascii() and c.isalpha()]
    wanted = max(1, round(len(letters) * int(amount[:-1]) / 100)) if amount.endswith("%") else int(amount)
    out = list(text)
    for i in sorted(rng.sample(letters, min(wanted, len(letters)))):
        if how == "swapped":
            other = min(i + 1, len(out) - 1)
            out[i], out[other] = out[other], out[i]
        else:
            out[i] = _mistyped_at(text[i], how, rng)
    return "".join(out)


def _mistyped_at(letter: str, how: str, rng: random.Random) -> str:
    if how == "dropped":
        return ""
    if how == "doubled":
        return letter * 2
    row = next((keys for keys in KEYS if letter.lower() in keys), KEYS[0])
    at = max(row.find(letter.lower()), 0)
    other = row[at - 1 if at and rng.random() < 0.5 else min(at + 1, len(row) - 1)]
    other = rng.choice("".join(KEYS)) if how == "wrong" else other
    return other.upper() if letter.isupper() else other


def _cased(text: str, share: float, seed: int) -> str:
    rng = _drawn(text, seed)
    return "".join(c.swapcase() if rng.random() < share else c for c in text)


def _at_one(text: str, where: str, put: RewrittenBy, seed: int) -> str:
    """A text with one occurrence of `where` replaced by what `put` makes of it; without any, the text with it last."""
    places = [i for i in range(len(text)) if text.startswith(where, i)]
    if not places:
        return text + put(where)
    at = _drawn(text, seed).choice(places)
    return text[:at] + put(where) + text[at + len(where) :]


def _one_word_loud(text: str, seed: int) -> str:
    words = text.split(" ")
    at = _drawn(text, seed).randrange(len(words))
    return " ".join([*words[:at], words[at].upper(), *words[at + 1 :]])


def _inserted(text: str, what: str, seed: int) -> str:
    at = _drawn(text, seed).randint(0, len(text))
    return text[:at] + what + text[at:]


def _framed(text: str, frame: str, verb: str = "") -> str:
    return frame.replace("{verb}", verb).replace("{q}", text)


def _every() -> Iterator[tuple[str, PromptEdit]]:
    for how, amount, seed in product(TYPOS, AMOUNTS, range(4)):
        yield f"{how} letters, {amount} ({seed})", _edit("typos", _mistyped, how=how, amount=amount, seed=seed)
    for name, write in _CASES.items():
        yield name, PromptEdit("case", write)
    for share, seed in product((0.05, 0.1, 0.2), range(4)):
        yield f"random case, {share:.0%} ({seed})", _edit("case", _cased, share=share, seed=seed)
    for seed in range(6):
        yield f"one word in capitals ({seed})", _edit("case", _one_word_loud, seed=seed)
    for name, write in _SPACES.items():
        yield name, PromptEdit("white space", write)
    for (name, put), seed in product(
        {"two spaces": "  ", "a tab": "\t", "a no-break space": "\u00a0"}.items(), range(4)
    ):
        yield f"{name} for one ({seed})", _edit("white space", _at_one, where=" ", put=_always(put), seed=seed)
    for name, write in _FORMS.items():
        yield name, PromptEdit("look-alikes", write)
    for letter, other in LOOK_ALIKE.items():
        yield f"one Cyrillic {letter}", _edit("look-alikes", _at_one, where=letter, put=_always(other), seed=0)
    for (name, what), seed in product({"a zero-width space": "\u200b", "a soft hyphen": "\u00ad"}.items(), range(5)):
        yield f"{name} somewhere ({seed})", _edit("look-alikes", _inserted, what=what, seed=seed)
    for greeting, ask in product(GREETINGS, ASKS):
        yield f"before: {greeting}, {ask}", _edit("before", _framed, frame=f"{greeting}, {ask} {{q}}")
    for thanks, ending in product(THANKS, ENDINGS):
        yield f"after: {thanks}{ending}", _edit("after", _framed, frame=f"{{q}} {thanks}{ending}")
    for i, frame in enumerate(FRAMES):
        for verb in ASKED_TO:
            yield f"wording {i + 1}: {verb}", _edit("wordings", _framed, frame=frame, verb=verb)
    for name, frame in WRAPS.items():
        yield name, _edit("marks", _framed, frame=frame)
    yield "without a final mark", PromptEdit("marks", lambda q: q.rstrip(" .?!:"))
    yield "without commas", PromptEdit("marks", lambda q: q.replace(",", ""))


def _edit(kind: str, write: Callable[..., str], **fixed: object) -> PromptEdit:
    return PromptEdit(kind, partial(write, **fixed))


def _always(what: str) -> RewrittenBy:
    return lambda _: what


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:]


_CASES: Mapping[str, RewrittenBy] = {
    "all capitals": str.upper,
    "no capitals": str.lower,
    "title case": str.title,
    "swapped case": str.swapcase,
    "one capital": str.capitalize,
    "a small first letter": _first_lower,
}
_SPACES: Mapping[str, RewrittenBy] = {
    "a space before": lambda q: f" {q}",
    "a space after": lambda q: f"{q} ",
    "spaces around": lambda q: f"   {q}   ",
    "a line before": lambda q: f"\n{q}",
    "a line after": lambda q: f"{q}\n",
    "lines around": lambda q: f"\n\n{q}\n\n",
    "a tab before": lambda q: f"\t{q}",
    "tabs after": lambda q: f"{q}\t\t",
    "double spaces": lambda q: q.replace(" ", "  "),
    "no-break spaces": lambda q: q.replace(" ", "\u00a0"),
    "spaces before marks": lambda q: q.replace("?", " ?").replace(",", " ,"),
    "no spaces behind commas": lambda q: q.replace(", ", ","),
    "lines of Windows": lambda q: q.replace("\n", "\r\n") + "\r\n",
    "a line between sentences": lambda q: q.replace(". ", ".\n"),
}
_FORMS: Mapping[str, RewrittenBy] = {
    "curly quotes": lambda q: q.replace("'", "’").replace('"', "”"),
    "straight quotes": lambda q: q.replace("’", "'").replace("”", '"').replace("“", '"'),
    "en dashes": lambda q: q.replace("-", "–"),
    "one ellipsis": lambda q: f"{q}…",
    "decomposed": partial(unicodedata.normalize, "NFKD"),
    "composed": partial(unicodedata.normalize, "NFKC"),
    "full-width marks": lambda q: q.replace("?", "？").replace("!", "！").replace(",", "，"),
    "full-width digits": lambda q: q.translate({ord("0") + i: 0xFF10 + i for i in range(10)}),
    "ligatures": lambda q: q.replace("fi", "ﬁ").replace("fl", "ﬂ"),
    "a byte-order mark before": lambda q: f"\ufeff{q}",
}
PROMPT_EDITS: Mapping[str, PromptEdit] = MappingProxyType(dict(_every()))
EDIT_KINDS: Sequence[str] = tuple(dict.fromkeys(edit.kind for edit in PROMPT_EDITS.values()))
