"""A prompt's parts cover it, are few, and none is the whole; its spelling is told from what was never seen."""

import base64
import codecs
import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.errors import ArtifactError
from router_models.estimators.prompt_parts import (
    LEAST_PIECE,
    MOST_CUTS,
    MOST_PARTS,
    conversation_of,
    overlapping_parts,
    pieces_of_sentences,
    without_system_prompt,
)
from router_models.estimators.spelling import Spelling
from router_models.types import Message

SEEN = [f"What is the capital of country number {i}, and how far is it from the sea?" for i in range(40)]


@given(st.integers(0, 800), st.integers(40, 300), st.sampled_from([" ", "\n", "  \t"]))
def test_parts_are_few_and_every_word_stands_whole_in_one_of_them(n: int, size: int, between: str) -> None:
    words = [f"word{i}." for i in range(n)]
    parts = overlapping_parts(between.join(words), size)
    assert 1 <= len(parts) <= MOST_PARTS
    assert all(any(word in part for part in parts) for word in words)
    assert all(parts) or n == 0


@given(st.text(max_size=500), st.integers(1, 100))
def test_any_text_has_parts(text: str, size: int) -> None:
    parts = overlapping_parts(text, size)
    assert 1 <= len(parts) <= MOST_PARTS
    assert all(part in " ".join(text.split()) for part in parts)


@pytest.mark.parametrize(
    "joined", ["{easy} {hard}", "{hard}\n{easy}", "{easy} {hard} {easy}", "{easy}, and then {hard}"]
)
def test_one_part_is_mostly_the_hard_question_wherever_it_stands(joined: str) -> None:
    hard = "prove the parallel postulate " * 4
    text = joined.format(easy="what is one and one " * 6, hard=hard)
    most = max(overlapping_parts(text, len(hard)), key=lambda part: part.count("postulate") - part.count("one"))
    assert most.count("postulate") >= 3
    assert most.count("one") <= 2


HARD = "Prove that every even number is the sum of two primes"
EASY = "What is one and one?"


@pytest.mark.parametrize(
    "text",
    [
        f"{EASY} {HARD}.",
        f"{HARD}. {EASY}",
        f"{EASY}\n{HARD}.",
        f"Prove that every even number\n{EASY}\nis the sum of two primes",
        f"> {EASY}\n\n{HARD}",
        f"```\n{EASY}\n```\n{HARD}.",
        f"一加一是多少？{HARD}",
    ],
)
def test_of_a_short_text_one_piece_is_the_hard_question_itself(text: str) -> None:
    pieces = list(pieces_of_sentences(text, 75))
    whole = [piece for piece in pieces if {"Prove", "primes"} <= {word.strip(".") for word in piece.split()}]
    assert min(map(len, whole)) < len(HARD) + 14, pieces


@given(st.text(max_size=400) | st.text(alphabet="ab .,?\n", max_size=900), st.integers(1, 100))
def test_pieces_are_few_and_hold_nothing_that_the_text_does_not(text: str, size: int) -> None:
    found = pieces_of_sentences(text, size)
    pieces = list(found)
    assert all(" ".join(sentences) == piece for piece, sentences in found.items())
    assert len(pieces) < 3 * MOST_CUTS
    assert len(set(pieces)) == len(pieces)
    assert all(LEAST_PIECE <= len(piece) <= len(text) for piece in pieces)
    assert all("".join(piece.split()) and set(piece) <= {*text, " "} for piece in pieces)


def test_the_system_prompt_is_no_part_of_the_conversation_on_a_row_as_on_a_request() -> None:
    told, asked = Message("system", "Be brief.\nBe kind."), Message("user", "Why?\nHow?")
    digest = hashlib.sha256(told.content.encode()).hexdigest()
    assert conversation_of((told, asked)) == "Why?\nHow?"
    assert without_system_prompt(f"{told.content}\n{asked.content}", digest) == "Why?\nHow?"
    assert conversation_of((asked, told)) == "Why?\nHow?\nBe brief.\nBe kind."
    assert without_system_prompt(asked.content, digest) == asked.content


@pytest.mark.parametrize(
    "disguise",
    [
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: codecs.encode(text, "rot13"),
        lambda text: text[::-1],
        lambda text: "\u200b".join(text),
        lambda text: text.translate(str.maketrans("aceo", "асео")),
        lambda text: text.encode().hex(" "),
    ],
)
def test_what_is_spelled_like_no_training_prompt_is_unfamiliar(disguise: object) -> None:
    spelling = Spelling().fit(SEEN)
    plain, other = spelling.unfamiliar(["What is the sea, and how far is a country?", disguise(SEEN[0])])  # type: ignore[operator]
    assert plain < 0.3 < 0.6 < other


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_the_training_prompts_are_familiar_whatever_they_hold_and_after_loading(texts: list[str]) -> None:
    spelling = Spelling().fit(texts)
    assert (
        spelling.unfamiliar([text.upper().lower() for text in texts if text.upper().lower() == text.lower()]).sum()
        == 0
    )
    loaded = Spelling.from_state(spelling.state())
    np.testing.assert_array_equal(loaded.unfamiliar(["zq€ rt", ""]), spelling.unfamiliar(["zq€ rt", ""]))


def test_a_damaged_state_is_refused() -> None:
    state = Spelling().state()
    state.arrays["known"] = state.arrays["known"][1:]  # type: ignore[index]
    with pytest.raises(ArtifactError, match="runs of letters"):
        Spelling.from_state(state)
