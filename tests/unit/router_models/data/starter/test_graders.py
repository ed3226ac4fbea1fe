"""Graders: tolerant where a human marker would be, strict where the form is the task, and never raising."""

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.data.starter import Task, generate, grade
from router_models.data.starter.generate import typed
from router_models.data.starter.grade import without_question
from router_models.data.starter.graders import GRADERS

CAPITAL: Mapping[str, object] = {"accepted": ["Bogotá"]}
LOOKUP: Mapping[str, object] = {"accepted": ["Oslo"], "rivals": ["Lima"]}
SENTIMENT: Mapping[str, object] = {
    "answer": "positivo",
    "options": ["positivo", "negativo"],
    "aliases": {"positivo": ["positiva"], "negativo": ["negativa"]},
}
LABEL: Mapping[str, object] = {"answer": "positive", "options": ["positive", "negative"]}
BIGGER: Mapping[str, object] = {"answer": "mountain", "options": ["elephant", "mountain"]}
DAY: Mapping[str, object] = {"answer": "Monday", "options": ["Monday", "Tuesday", "Sunday"], "given": ["Sunday"]}
TWELVE: Mapping[str, object] = {"value": 12, "given": [5.0, 7.0]}
MINUTES: Mapping[str, object] = {"value": 120, "given": [2.0]}
WORD: Mapping[str, object] = {"text": "WINTER", "fold_case": False}
LETTER_B: Mapping[str, object] = {"answer": "B", "options": {"A": "a dog", "B": "a cat", "C": "a parrot"}}
ORDER: Mapping[str, object] = {"items": ["3", "10", "25"]}
PERSON: Mapping[str, object] = {"value": {"name": "Ann", "age": 42}, "loose": True}
RECORD: Mapping[str, object] = {"value": {"name": "Ann", "age": 42, "ok": True}}
COPY: Mapping[str, object] = {"text": "The old man waits."}
SPOKEN: Mapping[str, object] = {"words": "three hundred forty-two"}
SENTENCE: Mapping[str, object] = {"words": ["lamp", "honey"]}
FIELDS: Mapping[str, object] = {"fields": {"name": "Ann", "age": 42}}
INVOICE: Mapping[str, object] = {"fields": {"number": "A-17", "total": 1234.5, "paid": False}}
DATE: Mapping[str, object] = {"date": "2024-03-01"}
NOTE: Mapping[str, object] = {"accepted": ["white"], "rivals": []}

RIGHT = [
    ("mentions", CAPITAL, "Bogotá"),
    ("mentions", CAPITAL, "bogota."),
    ("mentions", CAPITAL, "The capital of Colombia is **Bogotá**.\n\nIt lies high in the Andes."),
    ("mentions", LOOKUP, "Anna lives in Oslo."),
    ("choice", SENTIMENT, "Positivo."),
    ("choice", SENTIMENT, "La reseña es positiva"),
    ("choice", SENTIMENT, '"positivo", no negativo'),
    ("choice", DAY, "The day after Sunday is Monday."),
    ("choice", DAY, "**Monday**"),
    ("choice", LABEL, "positive, not negative"),
    ("choice", BIGGER, "A mountain is usually bigger than an elephant."),
    ("number", TWELVE, "12"),
    ("number", TWELVE, " 12.\n"),
    ("number", TWELVE, "5 + 7 = 12"),
    ("number", TWELVE, "The answer is **12**."),
    ("number", TWELVE, "12 apples"),
    ("number", TWELVE, "12\n\nWe add 5 and 7."),
    ("number", TWELVE, "12.0"),
    ("number", TWELVE, "Twelve"),
    ("number", TWELVE, "The sum of 12 comes from 5 and 7."),
    ("number", MINUTES, "There are 120 minutes in 2 hours."),
    ("number", {"value": 9000}, "9,000"),
    ("number", {"value": -5}, "-5"),
    ("number", {"value": -5}, "It is −5 degrees."),
    ("number", {"value": 5}, "$5"),
    ("exact", WORD, "WINTER"),
    ("exact", WORD, '"WINTER".'),
    ("exact", WORD, "`WINTER`"),
    ("exact", WORD, "Answer: WINTER"),
    ("exact", WORD, 'The word "winter" in capitals is "WINTER".'),
    ("exact", {"text": "k", "fold_case": True}, "K"),
    ("exact", {"text": "Au", "fold_case": False}, "The symbol for gold is Au."),
    ("verbatim", COPY, "The old man waits.\n"),
    ("verbatim", COPY, '"The old man waits."'),
    ("letter", LETTER_B, "B"),
    ("letter", LETTER_B, "(B)"),
    ("letter", LETTER_B, "B) a cat"),
    ("letter", LETTER_B, "The answer is B."),
    ("letter", LETTER_B, "Answer: **B**"),
    ("letter", LETTER_B, "a cat"),
    ("letter", LETTER_B, "A cat."),
    ("sequence", ORDER, "3, 10, 25"),
    ("sequence", ORDER, "[3, 10, 25]"),
    ("sequence", ORDER, "3 10 25"),
    ("sequence", ORDER, "1. 3\n2. 10\n3. 25"),
    ("sequence", ORDER, "Sorted: 3, 10, 25."),
    ("sequence", ORDER, "The sorted list is 3, 10, and 25."),
    ("json", PERSON, 'Here you are:\n```json\n{"age": "42", "name": "ann"}\n```'),
    ("json", RECORD, '{"name": "Ann", "age": 42, "ok": true}'),
    ("number_words", SPOKEN, "Three hundred and forty two"),
    ("sentence", SENTENCE, "The lamp shone on a jar of honey."),
    ("sentence", SENTENCE, '"Honey dripped on both lamps. It was sweet."'),
    ("record", FIELDS, '{"Name": "ann", "age": "42", "note": "from the text"}'),
    ("fields", INVOICE, '{"number": " a-17", "total": "1234.50", "paid": false, "note": "more"}'),
    ("fields", INVOICE, 'Here it is:\n```json\n{"number": "A-17", "total": 1234.5, "paid": false}\n```'),
    ("fields", {**INVOICE, "at_least": 0.6}, '{"number": "A-17", "total": 1, "paid": false}'),
    ("fields", {"fields": {"lines": [{"n": 2}]}}, '{"lines": [{"n": 2.0}]}'),
    ("date", DATE, "2024-03-01"),
    ("date", DATE, "Ten days after 2024-02-20 it is 2024-03-01."),
]

WRONG = [
    ("mentions", CAPITAL, "Bogotano"),
    ("mentions", CAPITAL, "Medellín"),
    ("mentions", CAPITAL, "Lima, Quito, Bogotá, Caracas"),
    ("mentions", CAPITAL, "word " * 60 + "Bogotá"),
    ("mentions", LOOKUP, "Oslo or Lima"),
    ("choice", SENTIMENT, "ni positivo ni negativo"),
    ("choice", SENTIMENT, "negativo, no positivo"),
    ("choice", DAY, "Sunday"),
    ("choice", LABEL, "The customer is happy, but not positive."),
    ("choice", BIGGER, "An elephant is bigger than a mountain."),
    ("choice", DAY, "Sunday, Tuesday, Monday"),
    ("number", TWELVE, "5 + 7 = 13"),
    ("number", TWELVE, "112"),
    ("number", TWELVE, "12.5"),
    ("number", TWELVE, "12, 13, 14"),
    ("number", TWELVE, "13\n\nor perhaps 12"),
    ("number", MINUTES, "There are 60 minutes in 2 hours."),
    ("number", {"value": -5}, "5"),
    ("exact", WORD, "winter"),
    ("exact", WORD, "W I N T E R"),
    ("exact", WORD, "WINTER SUMMER"),
    ("verbatim", COPY, "The old man waits"),
    ("verbatim", COPY, "the old man waits."),
    ("verbatim", COPY, "The old man waits. He is tired."),
    ("letter", LETTER_B, "A"),
    ("letter", LETTER_B, "C) a cat"),
    ("letter", LETTER_B, "a dog or a cat"),
    ("sequence", ORDER, "25, 10, 3"),
    ("sequence", ORDER, "3, 10"),
    ("json", PERSON, '{"name": "Ann"}'),
    ("json", RECORD, 'json.dumps({"name": "Ann", "age": 42, "ok": True})'),
    ("json", PERSON, 'print(json.dumps({"name": "Ann", "age": 42}))'),
    ("json", PERSON, "name: Ann, age: 42"),
    ("json", RECORD, '{"name": "Ann", "age": "42", "ok": true}'),
    ("json", RECORD, '{"name": "Ann", "age": 42, "ok": 1}'),
    ("number_words", SPOKEN, "three hundred forty-three"),
    ("sentence", SENTENCE, "The lamp shone on a jar of jam."),
    ("sentence", SENTENCE, "lamp honey"),
    ("sentence", SENTENCE, "The lamp shone on a jar of honey. " * 5),
    ("sentence", SENTENCE, "The lamp shone on a jar of honey and then the"),
    ("record", FIELDS, '{"name": "Ann"}'),
    ("fields", INVOICE, '{"number": "A-17", "total": 1234.0, "paid": false}'),
    ("fields", INVOICE, '{"number": "A-17", "total": "1.234,50", "paid": false}'),
    ("fields", INVOICE, '{"Number": "A-17", "total": 1234.5, "paid": false}'),
    ("fields", INVOICE, '{"number": "A-17", "total": 1234.5, "paid": 0}'),
    ("fields", INVOICE, '[{"number": "A-17", "total": 1234.5, "paid": false}]'),
    ("fields", {**INVOICE, "at_least": 0.7}, '{"number": "A-17", "total": 1}'),
    ("record", FIELDS, '[{"name": "Ann", "age": 42}]'),
    ("date", DATE, "1 March 2024"),
]


@pytest.mark.parametrize(("grader", "reference", "answer"), RIGHT)
def test_answer_a_human_marker_would_accept_is_right(
    grader: str, reference: Mapping[str, object], answer: str
) -> None:
    assert GRADERS[grader](reference, answer)


@pytest.mark.parametrize(("grader", "reference", "answer"), WRONG)
def test_answer_a_human_marker_would_refuse_is_wrong(
    grader: str, reference: Mapping[str, object], answer: str
) -> None:
    assert not GRADERS[grader](reference, answer)


TASKS = [*generate(800, seed=2), *typed(200, seed=2)]
PURE = {task.grader: task for task in TASKS if task.grader != "program"}
PURE["fields"] = replace(PURE["record"], grader="fields", solution='{"name": "Ann", "age": 42}', reference=FIELDS)
TEXTS = st.text() | st.text(alphabet="0123456789.,-−$+ \n") | st.text(alphabet="`{}[]\":,AB()' \n*")


def test_every_grader_but_the_program_grader_is_covered_below() -> None:
    assert set(PURE) == set(GRADERS) - {"program"}


@pytest.mark.parametrize("grader", sorted(PURE))
@settings(database=None, deadline=None, max_examples=150)
@given(answer=TEXTS)
def test_grader_never_raises_on_any_text(grader: str, answer: str) -> None:
    assert grade(PURE[grader], answer) in (True, False)


@pytest.mark.parametrize("grader", sorted(PURE))
@pytest.mark.parametrize(
    "answer", ["1" * 5000, "[" * 50_000, '{"a":' * 5000, "9" * 400 + ".5", "1e999", "\ud800", "\x00", "word " * 20_000]
)
def test_grader_survives_extreme_answers(grader: str, answer: str) -> None:
    assert grade(PURE[grader], answer) is False


@pytest.mark.parametrize("grader", sorted(PURE))
@given(lead=st.sampled_from(["", " ", "\n"]), tail=st.sampled_from(["", " ", "\n", "\n\n"]))
@settings(database=None, deadline=None, max_examples=12)
def test_white_space_around_an_answer_changes_nothing(grader: str, lead: str, tail: str) -> None:
    task = PURE[grader]
    assert grade(task, lead + task.solution + tail)


ECHOES = ("{}", "echo cheap: {}", "> {}", "{} {}", "Q: {}\nA:", "« {} »", "{}\n\nI do not know.")


@pytest.mark.parametrize("echo", ECHOES)
def test_a_question_given_back_is_no_answer(echo: str) -> None:
    tasks = [task for task in generate(800, seed=2) if task.grader != "program"]
    assert [task.prompt for task in tasks if grade(task, echo.replace("{}", task.prompt))] == []


@pytest.mark.parametrize("lead", ["Q: {}\nA: ", "{} ", "You asked: {}\n\n"])
def test_a_right_answer_behind_the_repeated_question_keeps_what_it_earned(lead: str) -> None:
    task = Task("t", "Marco has a white scarf. What color is it?", "notes", 1, "en", "mentions", NOTE, "white", 8)
    assert grade(task, lead.replace("{}", task.prompt) + "It is white.")


def test_only_whole_questions_of_some_length_are_taken_out_of_an_answer() -> None:
    question = "What color is the scarf?"
    assert without_question(f"You ask: WHAT COLOR, is the scarf: {question} white", question) == "You ask: white"
    assert without_question("What color is it? White.", question) == "What color is it? White."
    told = "I cannot say what color is the scarf."
    assert without_question(told, question) == told
    assert without_question("Two plus two is four", "Two plus two?") == "Two plus two is four"


@pytest.mark.parametrize("text", ["\n", " \n", ":", ": ", "`", "“", "[\n", "What color is "])
def test_a_long_answer_is_read_in_a_moment(text: str) -> None:
    """50,000 characters: where reading is quadratic they take many seconds."""
    task = Task("t", "What color is the scarf?", "notes", 1, "en", "json", PERSON, "{}", 8)
    for grader, reference in (("json", PERSON), ("exact", WORD), ("record", FIELDS)):
        start = time.process_time()
        assert not GRADERS[grader](reference, text * (50_000 // len(text)))
        assert time.process_time() - start < 2.0
    start = time.process_time()
    assert not grade(task, text * (50_000 // len(text)))
    assert time.process_time() - start < 2.0


def test_unknown_grader_is_refused_with_the_known_ones() -> None:
    task = next(iter(PURE.values()))
    record = type(task).from_json(task.to_json() | {"grader": "vibes"})
    with pytest.raises(ValueError, match=r"no grader 'vibes'.*mentions"):
        grade(record, "yes")


@pytest.mark.parametrize("grader", sorted(set(GRADERS) - {"json"}))  # any JSON value is a reference
def test_reference_of_the_wrong_shape_is_the_authors_mistake(grader: str) -> None:
    keys = ("value", "accepted", "answer", "text", "items", "date", "words", "options", "function", "cases", "fields",
            "members", "count", "groups", "about")  # fmt: skip
    answer = "5" if grader in {task.grader for task in generate(800, seed=2)} else "It is five, so they say."
    with pytest.raises((TypeError, AttributeError)):
        GRADERS[grader](dict.fromkeys(keys), answer)
