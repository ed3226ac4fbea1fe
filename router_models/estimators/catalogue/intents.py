"""The file of a catalogue: intents with their examples, the tier that answers them, and a set of known-hard prompts.

    floor: 0.8                 # the cosine from which on a prompt has an intent that sets none of its own
    intents:
      - name: refunds
        tier: frontier         # or null: the router decides, and the intent is recorded
        floor: 0.85
        description: money back, cancelled orders
        examples: ["I want my money back", "How do I cancel my order?"]
    known_hard:                # resembles one of these: the last tier
      floor: 0.88
      examples: ["…"]

Whatever is wrong is said by key and value. Nothing here embeds or decides.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from router_models.data.formats.json_lines import is_encodable
from router_models.errors import DataError

FLOOR, HARD_FLOOR = 0.8, 0.88
"""The cosine from which on a prompt has an intent, or counts as a known-hard one, where the file sets none."""
CATALOGUE_BYTES = 1 << 20
MOST_INTENTS, MOST_EXAMPLES, LONGEST_EXAMPLE = 256, 2_000, 4_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
KNOWN_HARD = "known_hard"
"""The key of the known-hard set, and what it is called where intents are named."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Hold one intent: prompts that resemble one of its examples have it.

    Parameters
    ----------
    name : str
        Letters, digits, `_`, `.` and `-`; it is shown in headers and metrics.
    examples : tuple of str
        Prompts, at least one.
    tier : str, optional
        Who answers; None: the router decides.
    floor : float
        The cosine to an example from which on a prompt has the intent.
    description : str
        For people; it decides nothing.
    """

    name: str
    examples: tuple[str, ...]
    tier: str | None = None
    floor: float = FLOOR
    description: str = ""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Hold the intents of one file, and the known-hard set, an intent of the last tier that is asked first.

    Parameters
    ----------
    intents : tuple of Intent
        In the order of the file: of equal cosines the first intent counts.
    known_hard : Intent, optional
        Its tier is the last one.
    """

    intents: tuple[Intent, ...] = ()
    known_hard: Intent | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        rows = [[one.name, one.tier, one.floor, list(one.examples)] for one in self.every]
        text = json.dumps([rows, self.known_hard is not None], ensure_ascii=True)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @property
    def every(self) -> tuple[Intent, ...]:
        """Return every intent, the known-hard set first."""
        return self.intents if self.known_hard is None else (self.known_hard, *self.intents)

    @property
    def binding(self) -> str:
        """Return what a certificate is bound to: the digest, or '' where no intent names a tier."""
        return self.digest if any(one.tier is not None for one in self.every) else ""

    @property
    def examples(self) -> int:
        """Return how many examples there are."""
        return sum(len(one.examples) for one in self.every)


def read_catalogue(path: Path, tiers: Sequence[str]) -> Catalogue:
    """Read a catalogue's file.

    Parameters
    ----------
    path : Path
        YAML, of at most a mebibyte.
    tiers : sequence of str
        The tiers that intents may name, cheapest first; the last one answers known-hard prompts.

    Raises
    ------
    DataError
        Where it cannot be read, or something in it is wrong: the file, the key and what to write.
    """
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(CATALOGUE_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read the catalogue {path}: {error.strerror}") from error
    if len(data) > CATALOGUE_BYTES:
        raise DataError(
            f"the catalogue {path} is larger than {CATALOGUE_BYTES >> 20} MiB: keep a few examples an intent"
        )
    try:
        found = _safely(data.decode("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or a date as 2026-13-45
        raise DataError(f"the catalogue {path} is not YAML: {error!s:.300}") from error
    try:
        return catalogue_of(found, tiers)
    except DataError as error:
        raise DataError(f"the catalogue {path}: {error}") from None


def _safely(text: str) -> Any:
    """What `yaml.safe_load` gives, many times as fast where there is libyaml: requests do not wait for an edit."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def catalogue_of(data: Any, tiers: Sequence[str]) -> Catalogue:
    """Return the catalogue that a file's contents describe; DataError says what is wrong with them."""
    found = _mapping("the file", data, ("floor", "intents", KNOWN_HARD))
    floor = _floor("floor", found.get("floor", FLOOR))
    listed = found.get("intents") or []
    if not isinstance(listed, list):
        raise DataError(f"intents: a list of intents, found {_shown(listed)}")
    if len(listed) > MOST_INTENTS:
        raise DataError(f"intents: {len(listed)}, and at most {MOST_INTENTS} are read")
    intents = tuple(_intent(f"intents[{i}]", one, tiers, floor) for i, one in enumerate(listed))
    hard = found.get(KNOWN_HARD)
    known_hard = None if hard is None else _known_hard(hard, tiers[-1])
    made = Catalogue(intents, known_hard)
    if not made.every:
        raise DataError("it has no intents and no known_hard: leave policy.catalogue out instead")
    if made.examples > MOST_EXAMPLES:
        raise DataError(f"{made.examples} examples, and at most {MOST_EXAMPLES} are read")
    _check_distinct(made)
    return made


def _intent(where: str, data: Any, tiers: Sequence[str], floor: float) -> Intent:
    found = _mapping(where, data, ("name", "examples", "tier", "floor", "description"))
    name = found.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DataError(f"{where}.name: 1 to 64 letters, digits, '_', '.' or '-', found {_shown(name)}")
    if name == KNOWN_HARD:
        raise DataError(f"{where}.name: {KNOWN_HARD} is the set of that key; take another name")
    where = f"intents.{name}"
    tier = found.get("tier")
    if "tier" not in found:
        raise DataError(f"{where}.tier: name one of {', '.join(tiers)}, or null to let the router decide")
    if tier is not None and tier not in tiers:
        raise DataError(f"{where}.tier: there is no tier {_shown(tier)}; tiers: {', '.join(tiers)}, or null")
    said = found.get("description") or ""
    if not isinstance(said, str):
        raise DataError(f"{where}.description: a text, found {_shown(said)}")
    own = _floor(f"{where}.floor", floor if found.get("floor") is None else found["floor"])
    return Intent(name, _examples(where, found.get("examples")), tier, own, said)


def _known_hard(data: Any, top: str) -> Intent:
    found = _mapping(KNOWN_HARD, data, ("floor", "examples", "description"))
    floor = _floor(f"{KNOWN_HARD}.floor", HARD_FLOOR if found.get("floor") is None else found["floor"])
    return Intent(KNOWN_HARD, _examples(KNOWN_HARD, found.get("examples")), top, floor)


def _mapping(where: str, data: Any, keys: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise DataError(f"{where}: a mapping with {', '.join(keys)}, found {_shown(data)}")
    if unknown := [key for key in data if key not in keys]:
        raise DataError(f"{where}: unknown key(s) {', '.join(map(_shown, unknown))}; known: {', '.join(keys)}")
    return data


def _floor(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise DataError(f"{where}: a cosine above 0 and up to 1, found {_shown(value)}")
    return float(value)


def _examples(where: str, data: Any) -> tuple[str, ...]:
    if not isinstance(data, list) or not data:
        raise DataError(f"{where}.examples: a list of at least one prompt, found {_shown(data)}")
    for i, one in enumerate(data):
        if not isinstance(one, str) or not one.strip():
            raise DataError(f"{where}.examples[{i}]: a prompt as text (in quotes), found {_shown(one)}")
        if not is_encodable(one):
            raise DataError(
                f"{where}.examples[{i}] holds half a character (a lone surrogate, as in a text cut inside an emoji): "
                f"write the whole character or drop it, found {_shown(one)}"
            )
        if len(one) > LONGEST_EXAMPLE:
            raise DataError(f"{where}.examples[{i}]: {len(one)} characters, and at most {LONGEST_EXAMPLE} are read")
    return tuple(dict.fromkeys(data))


def _check_distinct(made: Catalogue) -> None:
    """Raise DataError for names that two intents share, and for examples that stand in two of them."""
    names: set[str] = set()
    stands: dict[str, str] = {}
    for one in made.every:
        if one.name in names:
            raise DataError(f"intents: two of them are called {one.name!r}")
        names.add(one.name)
        for example in one.examples:
            other = stands.setdefault(_plain(example), one.name)
            if other != one.name:
                raise DataError(f"the example {_shown(example)} stands in {other} and in {one.name}")


def _plain(text: str) -> str:
    """A text without what no reader would tell apart: case, white space, forms of Unicode."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
