"""Each check finds its fault and leaves a good answer alone, in three languages."""

from __future__ import annotations

import math
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_models.estimators.verifiers.checks.checks import CHECK_COLUMNS, CHECKS, check_columns, checks
from router_models.estimators.verifiers.checks.phrases import opening_says
from router_models.types import Answers, Completion, Prompts, Query

PROSE = (
    "The Danube rises in the Black Forest and flows through ten countries before it reaches the Black Sea. "
    "It is the second longest river in Europe, after the Volga, and has been a trade route since Roman times."
)


def _fault(name: str, answer: str, prompt: str = "Tell me about rivers.", finish_reason: str = "stop") -> float:
    return CHECKS[name](prompt, answer, finish_reason)


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_a_good_answer_has_no_fault(name: str) -> None:
    assert _fault(name, PROSE) < 0.1


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot answer this question.",
        "I am unable to open links.",
        "As an AI language model, I don't have personal opinions.",
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Leider kann ich diese Frage nicht beantworten.",
        "Als KI-Sprachmodell habe ich keine Meinung dazu.",
        "Lo siento, pero no puedo ayudarte con eso.",
        "Lamentablemente, no puedo responder a esa pregunta.",
    ],
)
def test_a_refusal_is_recognised(answer: str) -> None:
    assert _fault("refusal", answer) == 1.0


@pytest.mark.parametrize(
    "answer",
    [
        "You can't divide by zero.",
        "I can help: the answer is 4.",
        "Sorry seems to be the hardest word.",
        "Ich kann das: die Antwort ist 4.",
        "No, Madrid es la capital de España.",
        "Das Verb steht nicht am Ende.",
    ],
)
def test_an_answer_that_only_sounds_negative_is_no_refusal(answer: str) -> None:
    assert _fault("refusal", answer) == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        "I think it is Paris, but I'm not sure.",
        "Vermutlich Paris, ich bin nicht ganz sicher.",
        "Creo que es París, tal vez.",
    ],
)
def test_hedging_is_counted(answer: str) -> None:
    assert _fault("hedging", answer) >= 0.5


def test_what_an_answers_opening_says_is_told_and_nothing_of_what_follows() -> None:
    assert opening_says("I'm sorry, I cannot help with that.") == {"refuses": True}
    assert opening_says("I think it is Paris.") == {"hedges": True}
    assert opening_says("It is Paris.") == {}
    assert opening_says("It is Paris. " * 40 + "I think. I cannot help with that.") == {}


def test_a_loop_scores_high_and_a_list_does_not() -> None:
    assert _fault("repetition", "the answer is the answer is " * 30) > 0.9
    assert _fault("repetition", "haha" * 60) > 0.9
    assert _fault("repetition", ", ".join(f"item{i}" for i in range(40))) < 0.1


def test_the_prompt_handed_back_is_an_echo() -> None:
    prompt = "Sort these words by their length and tell me which of them comes first of all"
    assert _fault("echo", prompt, prompt) == 1.0
    assert _fault("echo", "all", prompt) == 0.0


def test_a_stop_for_length_is_truncation_and_an_open_fence_is_cut_off() -> None:
    assert _fault("truncated", "The", finish_reason="length") == 1.0
    assert _fault("cut_off", PROSE + "\n```python\ndef f(x):\n    return x") == 1.0
    assert _fault("cut_off", PROSE[:-20]) == 1.0


def test_blank_answers_are_blank_unless_a_tool_was_called() -> None:
    for answer in ("", " \n", "\x00", "\u200b"):
        assert _fault("blank", answer) == 1.0
    assert _fault("blank", "", finish_reason="tool_calls") == 0.0


def test_garbage_and_foreign_scripts_are_seen() -> None:
    assert _fault("garbled", "\ufffd\ufffd\ufffd") == 1.0
    assert _fault("other_script", "Ответ сорок два") == 1.0
    assert _fault("other_script", "Größe", "Wie groß?") == 0.0


@given(st.text(st.characters() | st.sampled_from("ab \n\t\r\x00\ufffd\ue000Ж漢é")), st.text())
def test_texts_that_are_read_quickly_count_as_letter_by_letter(answer: str, prompt: str) -> None:
    bad = [c for c in answer if c == "\ufffd" or unicodedata.category(c) in ("Cc", "Co", "Cn", "Cs")]
    counted = sum(c not in "\n\r\t" for c in bad)
    assert _fault("garbled", answer) == min(1.0, 10.0 * counted / max(len(answer), 1))

    def script(c: str) -> str:
        return "LATIN" if ord(c) < 0x250 else unicodedata.name(c, "?").partition(" ")[0]

    for asked in (prompt, "What is it?", "1 + 1"):
        known, letters = {script(c) for c in asked if c.isalpha()}, [c for c in answer if c.isalpha()]
        foreign = sum(script(c) not in known for c in letters) / len(letters) if letters and known else 0.0
        assert _fault("other_script", answer, asked) == foreign


@pytest.mark.parametrize(
    ("prompt", "good", "bad"),
    [
        ("What is 3 + 4? Answer with only the number.", "7", "Seven, I would say"),
        ("Wie viel ist 3 + 4? Nur die Zahl.", "7", "Das Ergebnis ist sieben"),
        ("¿Cuántas patas tiene una araña? Solo el número.", "8", "ocho patas"),
        ("Return the record as JSON.", '{"a": 1}', "a = 1"),
        ("Gib das Ergebnis als JSON zurück.", '```json\n{"a": 1}\n```', "{'a': 1,"),
        (
            "Write a Python function that adds.",
            "```python\ndef add(a, b):\n    return a + b\n```",
            "def add(a, b) return",
        ),
        ("Yes or no: is ice cold?", "Yes.", "It depends on the ice"),
        ("Name the capital of France in one word.", "Paris", "It is the city of Paris"),
        ("Give the date as YYYY-MM-DD.", "2024-02-29", "February 29"),
        ("Which?\nA. red\nB. blue\nC. green", "B", "It is clearly the colour"),
        ("Sort: b, a. Comma-separated.", "a, b", "a then b"),
    ],
)
def test_the_requested_shape_is_checked(prompt: str, good: str, bad: str) -> None:
    assert _fault("shape_broken", good, prompt) == 0.0
    assert _fault("shape_broken", bad, prompt) == 1.0


def test_free_text_has_no_shape_to_break() -> None:
    assert _fault("shape_broken", PROSE, "Why is the sky blue?") == 0.0


def _schema_query(schema: object) -> Query:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return Query(Query.from_prompt("A person, please.").messages, parameters={"response_format": wanted})


PERSON = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [('{"age": 3}', 0.0), ('{"age": "3"}', 1.0), ("{}", 1.0), ("not json", 1.0), ("", 1.0), ("[" * 100_000, 1.0)],
)
def test_a_reply_is_checked_against_its_schema(answer: str, fault: float) -> None:
    assert checks(_schema_query(PERSON), Completion(answer))["schema_fault"] == fault


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "https://example.invalid/x"}, None, 7])
def test_a_schema_that_cannot_be_used_is_not_the_answers_fault(schema: object) -> None:
    assert checks(_schema_query(schema), Completion('{"age": 3}'))["schema_fault"] == 0.0


def test_a_request_without_declarations_has_nothing_to_check() -> None:
    found = checks(Query.from_prompt("Hello"), Completion("Hi"))
    assert math.isnan(found["schema_fault"])
    assert math.isnan(found["tool_fault"])


TOOLS = [{"type": "function", "function": {"name": "age_of", "parameters": PERSON}}]


def _tool_fault(arguments: str, name: str = "age_of", choice: str = "auto") -> float:
    query = Query(Query.from_prompt("Age?").messages, parameters={"tools": TOOLS, "tool_choice": choice})
    calls = [{"type": "function", "function": {"name": name, "arguments": arguments}}] if name else []
    payload = {"choices": [{"message": {"tool_calls": calls}}]}
    return checks(query, Completion("", "tool_calls", payload=payload))["tool_fault"]


def test_tool_calls_must_name_a_tool_parse_and_match() -> None:
    assert _tool_fault('{"age": 3}') == 0.0
    assert _tool_fault('{"age": "three"}') == 1.0
    assert _tool_fault('{"age": 3') == 1.0
    assert _tool_fault("[]") == 1.0
    assert _tool_fault('{"age": 3}', name="other") == 1.0
    assert _tool_fault("", name="") == 0.0
    assert _tool_fault("", name="", choice="required") == 1.0


@given(
    prompt=st.text(max_size=300),
    answer=st.text(max_size=300),
    why=st.sampled_from(["stop", "length", "tool_calls", "?"]),
)
@settings(max_examples=150, deadline=None)
def test_every_check_of_any_text_lies_between_zero_and_one(prompt: str, answer: str, why: str) -> None:
    for name, check in CHECKS.items():
        assert 0.0 <= check(prompt, answer, why) <= 1.0, name


def test_columns_are_finite_and_named() -> None:
    X = Answers(Prompts(("a", "b?", "")), ("", "x" * 1000, "7"), ("stop", "length", "stop"))
    columns = check_columns(X)
    assert columns.shape == (3, len(CHECK_COLUMNS))
    assert len(set(CHECK_COLUMNS)) == len(CHECK_COLUMNS)
    assert np.isfinite(columns).all()


@pytest.mark.parametrize("unit", ["a", "word ", "B) x\n", "i'm sorry ", "{", "write a function ", "1,", "no sé "])
def test_a_hundred_thousand_characters_are_checked_within_a_second(unit: str) -> None:
    text = (unit * 100_000)[:100_000]
    start = time.process_time()
    check_columns(Answers(Prompts((text,)), (text,), ("stop",)))
    assert time.process_time() - start < 3.0
