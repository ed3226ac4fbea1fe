"""Answers to questions that ask for no form: what is said first counts, whatever explains it afterwards."""

import json
from collections.abc import Mapping

import pytest

from router_models.data.starter.grade import without_question
from router_models.data.starter.graders import GRADERS

OHM: Mapping[str, object] = {"accepted": ["Ohm"], "rivals": ["Volta"]}
PRIME: Mapping[str, object] = {"answer": "yes", "options": ["yes", "no"], "about": ["17", "prime", "number"]}
FISH: Mapping[str, object] = {"answer": "no", "options": ["yes", "no"], "about": ["whale", "fish"]}
FRUITS: Mapping[str, object] = {
    "members": [["apple", "apples"], ["pear"], ["fig"], ["lime"], ["C"], ["C++"]],
    "count": 3,
}
ISLAND: Mapping[str, object] = {"groups": [["land"], ["water", "sea", "ocean"]]}
SAID: Mapping[str, object] = {"text": "this is a test"}

RIGHT = [
    ("states", OHM, "Ohm."),
    ("states", OHM, "It was Georg Ohm, a physicist. He wrote much more. He knew Volta."),
    ("states", OHM, "Sure! The law is named after **Ohm**."),
    ("yes_no", PRIME, "Yes."),
    ("yes_no", PRIME, "17 is a prime number. It has no other factors."),
    ("yes_no", PRIME, "The answer is yes: it has no divisors."),
    ("yes_no", FISH, "No, it is a mammal, and yes, it swims."),
    ("yes_no", FISH, "A whale isn't a fish."),
    ("listed", FRUITS, "1. Apple\n2. Pear\n3. Fig"),
    ("listed", FRUITS, "Three fruits are apples, a pear and a fig."),
    ("listed", FRUITS, "Here are three:\n\n- **Apple**: often made into cider with a pear\n- Fig\n- Lime"),
    ("listed", {**FRUITS, "count": 2}, "C and C++"),
    ("explains", ISLAND, "An island is a piece of land that is surrounded by water."),
    ("explains", ISLAND, "It is land in the middle of the oceans."),
    ("says", SAID, "This is a test."),
    ("says", SAID, '"this is a test"'),
    ("says", SAID, "This is a test! How may I help you today?"),
]
WRONG = [
    ("states", OHM, "It was Volta, or Ohm."),
    ("states", OHM, "It was someone. A German. Perhaps Ohm."),
    ("states", OHM, " ".join(["so"] * 70) + " Ohm."),
    ("states", OHM, ""),
    ("yes_no", PRIME, "No, 17 is a prime number."),
    ("yes_no", PRIME, "17 is not a prime number."),
    ("yes_no", PRIME, "That depends."),
    ("yes_no", FISH, "A whale is a fish."),
    ("yes_no", FISH, "A stone is not a mammal."),
    ("listed", FRUITS, "1. Apple\n2. Pear"),
    ("listed", FRUITS, "1. Apple\n2. Pear\n3. Fig\n4. Lime"),
    ("listed", FRUITS, "1. Apple\n2. Apple\n3. Fig"),
    ("listed", FRUITS, "1. Apple\n2. Stone\n3. Fig"),
    ("listed", {**FRUITS, "count": 2}, "C++"),
    ("explains", ISLAND, "An island is a piece of land."),
    ("explains", ISLAND, "An island is a piece of land in the water that"),
    ("explains", ISLAND, "Landwater."),
    ("says", SAID, "this is a test is what you want me to say"),
    ("says", SAID, "This is."),
]


@pytest.mark.parametrize(("grader", "reference", "answer"), RIGHT)
def test_a_right_answer_is_right_however_it_is_put(grader: str, reference: dict[str, object], answer: str) -> None:
    assert GRADERS[grader](reference, answer)


@pytest.mark.parametrize(("grader", "reference", "answer"), WRONG)
def test_a_wrong_or_hedged_answer_is_wrong(grader: str, reference: dict[str, object], answer: str) -> None:
    assert not GRADERS[grader](reference, answer)


def test_repeating_a_question_of_yes_or_no_answers_nothing() -> None:
    question = "Is a whale a fish?"
    assert not GRADERS["yes_no"](FISH, without_question(question, question))


def test_the_least_share_of_fields_is_met_by_exactly_that_many() -> None:
    """.55 of 20 are 11, and 11.000000000000002 in floats."""
    reference = {"fields": {str(n): n for n in range(20)}, "at_least": 0.55}
    for right, accepted in ((11, True), (10, False)):
        answer = json.dumps({str(n): n if n < right else -1 for n in range(20)})
        assert GRADERS["fields"](reference, answer) is accepted
