"""A catalogue of intents: what is wrong with a file is said by key, and which intent a prompt has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from router_models.errors import DataError
from router_models.estimators.catalogue.intents import (
    CATALOGUE_BYTES,
    HARD_FLOOR,
    LONGEST_EXAMPLE,
    MOST_EXAMPLES,
    MOST_INTENTS,
    catalogue_of,
    read_catalogue,
)
from router_models.estimators.catalogue.nearest_example import CatalogueIndex

TIERS = ("cheap", "frontier")
REFUNDS = {"name": "refunds", "tier": "frontier", "examples": ["refund"]}


def intents(*listed: Any) -> dict[str, Any]:
    return {"intents": list(listed)}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "the file: a mapping"),
        ({}, "no intents and no known_hard"),
        ({"intent": []}, "unknown key.s. 'intent'"),
        (intents("refunds"), r"intents\[0\]: a mapping"),
        (intents({**REFUNDS, "name": "re funds"}), r"intents\[0\].name"),
        (intents({**REFUNDS, "name": 5}), r"intents\[0\].name"),
        (intents({**REFUNDS, "name": "known_hard"}), "take another name"),
        (intents({**REFUNDS, "tier": "gpt"}), "intents.refunds.tier: there is no tier 'gpt'; tiers: cheap, frontier"),
        (intents({"name": "a", "examples": ["x"]}), "intents.a.tier: name one of cheap, frontier, or null"),
        (intents({**REFUNDS, "examples": []}), "intents.refunds.examples: a list of at least one prompt"),
        (intents({**REFUNDS, "examples": "refund"}), "intents.refunds.examples: a list"),
        (intents({**REFUNDS, "examples": ["  "]}), r"intents.refunds.examples\[0\]: a prompt as text"),
        (intents({**REFUNDS, "examples": [12]}), r"intents.refunds.examples\[0\]: a prompt as text"),
        (intents({**REFUNDS, "examples": ["x" * (LONGEST_EXAMPLE + 1)]}), "4001 characters"),
        (intents({**REFUNDS, "floor": 1.2}), "intents.refunds.floor: a cosine above 0 and up to 1, found 1.2"),
        (intents({**REFUNDS, "floor": 0}), "intents.refunds.floor"),
        (intents({**REFUNDS, "floor": True}), "intents.refunds.floor"),
        ({**intents(REFUNDS), "floor": float("nan")}, "floor: a cosine"),
        (intents({**REFUNDS, "threshold": 0.5}), "unknown key.s. 'threshold'"),
        (intents(REFUNDS, {**REFUNDS, "examples": ["other"]}), "two of them are called 'refunds'"),
        (
            intents(REFUNDS, {**REFUNDS, "name": "b", "examples": ["ok", " Refund"]}),
            "' Refund' stands in refunds and in b",
        ),
        ({**intents(REFUNDS), "known_hard": {"examples": ["refund"]}}, "stands in known_hard and in refunds"),
        ({"known_hard": {"examples": ["x"], "tier": "cheap"}}, "known_hard: unknown key.s. 'tier'"),
        (intents(*[{**REFUNDS, "name": f"n{i}"} for i in range(MOST_INTENTS + 1)]), "257, and at most 256"),
        (intents({**REFUNDS, "examples": [str(i) for i in range(MOST_EXAMPLES + 1)]}), "2001 examples"),
    ],
)
def test_what_is_wrong_is_said_by_its_key(data: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        catalogue_of(data, TIERS)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"intents: [", "is not YAML"),
        (b"\xff\xfe\xfa", "is not YAML"),
        (b"[" * 2000, "is not YAML"),
        (b"# " + b"x" * CATALOGUE_BYTES, "larger than 1 MiB"),
        (b"just words", "a mapping with"),
        (None, "cannot read the catalogue"),
    ],
)
def test_what_is_no_catalogue_is_named_with_its_file(written: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "intents.yaml"
    if written is not None:
        path.write_bytes(written)
    with pytest.raises(DataError, match=said) as raised:
        read_catalogue(path, TIERS)
    assert str(path) in str(raised.value)


class Letters:
    """Embeds a text as how often it has each of three letters, as a unit row; counts the texts."""

    digest = "letters"

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.read += texts
        counts = np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=np.float32)
        return np.asarray(counts / np.linalg.norm(counts, axis=1, keepdims=True), dtype=np.float32)


CATALOGUE = {
    "floor": 0.9,
    "intents": [
        {"name": "a", "tier": "cheap", "examples": ["a", "aaab"]},
        {"name": "b", "tier": None, "examples": ["b"], "floor": 0.7},
        {"name": "also-b", "tier": "frontier", "examples": ["bb"], "floor": 0.7},
    ],
    "known_hard": {"examples": ["c"]},
}


def test_half_a_character_in_an_example_is_named(tmp_path: Path) -> None:
    for data in (
        intents({**REFUNDS, "examples": ["fine", "cut \ud83d"]}),
        {"known_hard": {"examples": ["x", "\udc00"]}},
    ):
        with pytest.raises(DataError, match=r"examples\[1\] holds half a character"):
            catalogue_of(data, TIERS)
    path = tmp_path / "intents.yaml"
    path.write_text('intents: [{name: refunds, tier: frontier, examples: ["cut \\ud83d"]}]')
    with pytest.raises(DataError, match=r"Unicode character escape|half a character"):
        read_catalogue(path, TIERS)


def test_the_nearest_example_decides_where_it_reaches_its_own_floor() -> None:
    encoder = Letters()
    index = CatalogueIndex.of(catalogue_of(CATALOGUE, TIERS), encoder)
    found = index.match(encoder.encode(["aa", "aaaabb", "abc", "bbb", "ccca", "cb"]))
    assert [(one.layer, one.intent, one.tier) for one in found] == [
        ("semantic", "a", "cheap"),
        ("semantic", "a", "cheap"),  # nearer to its second example
        ("router", None, None),  # .58 to each
        ("semantic", "b", None),  # as near to also-b, which stands after it
        ("known-hard", "known_hard", "frontier"),  # .95
        ("semantic", "b", None),  # .71 is no known-hard prompt
    ]
    assert found[0].cosine == pytest.approx(1.0)
    assert (found[0].floor, found[4].floor) == (0.9, HARD_FLOOR)
    with pytest.raises(DataError, match="width 2"):
        index.match(np.ones((1, 2)))


def test_a_known_hard_prompt_is_one_before_it_has_an_intent() -> None:
    encoder = Letters()
    data = {"intents": [{"name": "c", "tier": "cheap", "examples": ["cccb"]}], "known_hard": {"examples": ["c"]}}
    index = CatalogueIndex.of(catalogue_of(data, TIERS), encoder)
    assert [one.intent for one in index.match(encoder.encode(["cccb"]))] == ["known_hard"]


def test_an_edit_embeds_only_new_examples_and_only_what_decides_is_bound() -> None:
    encoder = Letters()
    catalogue = catalogue_of(CATALOGUE, TIERS)
    index = CatalogueIndex.of(catalogue, encoder)
    edited = {**CATALOGUE, "intents": [{**CATALOGUE["intents"][0], "examples": ["a", "ab"], "description": "new"}]}  # type: ignore[index]
    encoder.read.clear()
    again = CatalogueIndex.of(catalogue_of(edited, TIERS), encoder, index)
    assert encoder.read == ["ab"]
    assert again.vectors.tolist() == CatalogueIndex.of(catalogue_of(edited, TIERS), Letters()).vectors.tolist()
    assert again.catalogue.digest != catalogue.digest

    described = {**CATALOGUE, "intents": [{**one, "description": "words"} for one in CATALOGUE["intents"]]}  # type: ignore[union-attr]
    assert catalogue_of(described, TIERS).digest == catalogue.digest
    assert catalogue.binding == catalogue.digest
    labels = intents({**REFUNDS, "tier": None})
    assert catalogue_of(labels, TIERS).binding == "", "what sends nothing anywhere voids nothing"
