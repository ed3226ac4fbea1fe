"""Which slice a prompt belongs to."""

import pytest

from router_models.data.slices import SLICERS, slice_of, slices_of
from router_models.errors import DataError
from router_models.types import Prompts, Query


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?", "en"),
        ("Welche Farbe hat der Himmel und was ist das?", "de"),
        ("¿Cuál es la capital de Francia?", "es"),
        ("Quelle est la capitale du Japon et des autres ?", "fr"),
        ("東京はどこですか", "other"),
        ("", "other"),
    ],
)
def test_language_is_guessed_from_common_words(text: str, expected: str) -> None:
    assert slice_of("language", Query.from_prompt(text)) == expected


def test_a_stated_language_wins_over_the_guess() -> None:
    assert slice_of("language", Query.from_prompt("What is the time?", language="nl")) == "nl"


def test_length_slices_by_characters() -> None:
    prompts = Prompts(("a" * 99, "a" * 100, "a" * 400))
    assert slices_of("length", prompts) == ["short", "medium", "long"]


def test_domain_takes_the_first_column_that_is_there() -> None:
    prompts = Prompts(("a", "b"), metadata={"domain": ("law", ""), "family": ("x", "y")})
    assert slices_of("domain", prompts) == ["law", "y"]


@pytest.mark.parametrize("slicer", SLICERS)
def test_every_slicer_answers_for_a_bare_prompt(slicer: str) -> None:
    assert slice_of(slicer, Query.from_prompt("hello"))


def test_an_unknown_slicing_names_the_known_ones() -> None:
    with pytest.raises(DataError, match="language, length, domain, user_tier"):
        slice_of("colour", Query.from_prompt("hello"))
