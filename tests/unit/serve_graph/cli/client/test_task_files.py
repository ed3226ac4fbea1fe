"""Files of tasks: all lines are checked before the first question, and every fault is listed with its line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.outcomes import prompt_id
from router_models.data.starter import Task
from router_models.data.starter.task import UNGRADED
from router_models.types.conditions import conditions_of
from serve_graph.cli.client.task_files import SHOWN, read_tasks
from serve_graph.errors import ServeGraphError

CASES = Path(__file__).parents[4] / "fixtures" / "cases"


def task(i: int) -> Task:
    return Task(f"t{i}", f"What is the colour of the cat number {i}?", "notes", 1, "en", "mentions",
                {"accepted": ["brown"]}, "brown", 8)  # fmt: skip


TASKS = [task(i) for i in range(4)]


def written(folder: Path, *records: Any) -> Path:
    path = folder / "tasks.jsonl"
    path.write_bytes("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records).encode())
    return path


@pytest.mark.parametrize(
    "dress",
    [
        lambda text: text.encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: b"\n\n" + text.encode() + b"\n\n",
    ],
    ids=["UTF-8", "byte order mark", "UTF-16", "CR LF", "blank lines"],
)
def test_tasks_are_read_however_their_file_is_written(tmp_path: Path, dress: Any) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(dress("\n".join(json.dumps(t.to_json()) for t in TASKS)))
    assert read_tasks(path) == TASKS


RECORD = TASKS[0].to_json()
USER = {"role": "user", "content": "Which colour?"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {
    "role": "assistant",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "brown"}
REFUSED = {
    "not JSON": ("{", "line 1: not JSON"),
    "no object": ("[1]", "line 1: a JSON object is needed"),
    "no fields": ({"id": 1}, "line 1: task 1: 'id' must be a string"),
    "no reference": (RECORD | {"reference": None}, "line 1: task 't0': 'reference' must be an object"),
    "a reference and no grader": (RECORD | {"grader": None}, "line 1: task 't0': a 'reference' needs a 'grader'"),
    "an unknown grader": (RECORD | {"grader": "regex"}, "line 1: unknown grader 'regex'; there are: mentions"),
    "a reference of another shape": (RECORD | {"reference": {"accepted": "x"}}, "line 1: the reference of grader"),
    "a word for a number": (RECORD | {"max_tokens": "8"}, "line 1: task 't0': 'max_tokens' must be an integer"),
    "no tokens": (RECORD | {"max_tokens": 0}, "line 1: 'max_tokens' must be 1 or more"),
    "an empty prompt": (RECORD | {"prompt": "  "}, "line 1: 'prompt' holds no text"),
    "half a character": (RECORD | {"prompt": "cut \ud83d"}, "line 1: column 'prompt' holds half a character"),
    "half a character in a key": (RECORD | {"a\udc00": 1}, r"line 1: column 'a\\udc00' holds half a character"),
    "a chat with an image": (
        RECORD | {"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
        "line 1: a part of type 'image_url' is no text",
    ),
    "a chat of nothing": (RECORD | {"prompt": []}, "line 1: the conversation holds no text"),
    **{
        name: ({key: RECORD[key] for key in RECORD if key != "prompt"} | change, f"line 1: {message}")
        for name, change, message in [
            ("messages and a prompt", {"messages": [USER], "prompt": "Why?"}, "give 'prompt' or 'messages', not both"),
            ("messages that are a text", {"messages": "Why?"}, "'messages' must be a list"),
            ("no messages", {"messages": []}, "the conversation holds no text"),
            ("nobody asks", {"messages": [USER | {"role": "system"}]}, "no message is of the role user"),
            (
                "a role that there is not",
                {"messages": [USER | {"role": "boss"}]},
                "a chat message is an object with a role",
            ),
            (
                "a result of no call",
                {"messages": [USER, RESULT]},
                "a tool's result for the call 'c1', which nobody made",
            ),
            ("calls without results", {"messages": [USER, CALL]}, "the last message calls tools"),
            ("no tools in the list", {"messages": [USER], "tools": []}, "'tools' is empty"),
            ("tools of no form", {"messages": [USER], "tools": [{"name": "f"}]}, 'a tool is {"type": "function"'),
            ("tools that are a text", {"messages": [USER], "tools": "f"}, "tools: Input should be a valid list"),
            ("a tool twice", {"messages": [USER], "tools": [TOOL, TOOL]}, "the tool 'f' is declared twice"),
            ("a choice of nothing", {"messages": [USER], "tool_choice": "auto"}, "'tool_choice' without 'tools'"),
            (
                "a choice that there is not",
                {"messages": [USER], "tools": [TOOL], "tool_choice": "any"},
                "'tool_choice' is none, auto, required or names a function, got 'any'",
            ),
            (
                "a choice of another tool",
                {"messages": [USER], "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
                "'tool_choice' names 'g'",
            ),
            (
                "a format that there is not",
                {"messages": [USER], "response_format": {"type": "xml"}},
                "'response_format' is of the type text, json_object, json_schema, got 'xml'",
            ),
            (
                "a schema that is missing",
                {"messages": [USER], "response_format": {"type": "json_schema"}},
                "'response_format' of the type json_schema needs",
            ),
            ("a decoding that is a text", {"messages": [USER], "decoding": "hot"}, "'decoding' must be an object"),
            (
                "a setting that there is not",
                {"messages": [USER], "decoding": {"heat": 1}},
                "'heat' is no sampling setting",
            ),
            (
                "a length among the settings",
                {"messages": [USER], "decoding": {"max_tokens": 1}},
                "'max_tokens' is no sampl",
            ),
            (
                "a value out of range",
                {"messages": [USER], "decoding": {"temperature": 3}},
                "temperature: Input should be less",
            ),
            (
                "a setting beside decoding",
                {"messages": [USER], "top_p": 0.9},
                "'top_p' is a sampling setting: put it into",
            ),
        ]
    },
    "a key twice": ('{"id": "a", "id": "b"}', "line 1: key 'id' stands twice"),
    "nothing": ("", "holds no task"),
}


@pytest.mark.parametrize(("record", "message"), REFUSED.values(), ids=REFUSED)
def test_a_task_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, record: Any, message: str) -> None:
    with pytest.raises(ServeGraphError) as caught:
        read_tasks(written(tmp_path, record))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("22-unknown-grader.jsonl", "line 1: unknown grader 'regex'"),
        ("23-same-prompt-twice.jsonl", "line 2: the same prompt as line 1"),
        ("25-surrogate.jsonl", "line 1: column 'prompt' holds half a character"),
    ],
)
def test_what_people_sent_is_refused_with_its_line(name: str, message: str) -> None:
    with pytest.raises(ServeGraphError, match=message):
        read_tasks(CASES / name)


def test_every_fault_is_listed_up_to_a_bound(tmp_path: Path) -> None:
    records = [t.to_json() for t in TASKS]
    path = written(tmp_path, records[0], "{", records[1], records[0], records[2] | {"grader": "x"})
    with pytest.raises(ServeGraphError, match="3 of 5 tasks cannot be used; nothing was asked") as caught:
        read_tasks(path)
    listed = str(caught.value).splitlines()[1:]
    assert [line.split(":")[0].strip() for line in listed] == ["line 2", "line 4", "line 5"]
    with pytest.raises(ServeGraphError) as caught:
        read_tasks(written(tmp_path, *["{"] * 100))
    assert str(caught.value).splitlines()[-1].strip() == f"and {100 - SHOWN} more"
    assert len(str(caught.value).splitlines()) == SHOWN + 2


@pytest.mark.parametrize("content", [None, b"\xb6\xff", b"a\0b", b"PAR1"], ids=["missing", "bytes", "NUL", "parquet"])
def test_a_file_of_tasks_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tasks.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ServeGraphError, match=r"tasks\.jsonl: "):
        read_tasks(path)


def test_line_separators_inside_a_text_do_not_end_its_line(tmp_path: Path) -> None:
    odd = replace(TASKS[0], prompt="one\u2028two\x85three")
    assert read_tasks(written(tmp_path, json.dumps(odd.to_json(), ensure_ascii=False))) == [odd]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_conversation_is_kept_as_the_chat_to_send(tmp_path: Path, as_text: bool) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which colour?"}]
    (found,) = read_tasks(written(tmp_path, RECORD | {"prompt": json.dumps(chat) if as_text else chat}))
    assert list(found.messages) == chat
    assert found.prompt == "Be brief.\nWhich colour?"
    assert Task.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_what_a_request_carries_is_part_of_the_task(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, USER, CALL, RESULT]
    carried = {"tools": [TOOL], "tool_choice": "auto", "response_format": {"type": "json_object"}}
    record = RECORD | {"messages": chat, **carried, "decoding": {"temperature": 0.7}, "max_tokens": None}
    (found,) = read_tasks(written(tmp_path, {key: value for key, value in record.items() if key != "prompt"}))
    assert found.chat == chat
    assert found.carried == {**carried, "temperature": 0.7}
    assert found.question == "Which colour?"
    assert Task.from_json(json.loads(json.dumps(found.to_json()))) == found
    said = conditions_of(found.query)
    assert (said.decoding, said.tools, said.response_format) == ('{"temperature":0.7}', True, "json_object")
    assert (said.tool_loop, said.max_tokens, said.turns) == (True, None, 1)


def test_a_task_without_a_grader_is_asked_and_not_graded(tmp_path: Path) -> None:
    record = {key: value for key, value in RECORD.items() if key not in ("grader", "reference", "solution")}
    (found,) = read_tasks(written(tmp_path, record))
    assert found.grader == UNGRADED


def test_one_question_under_two_conditions_is_two_tasks_and_twice_under_one_is_refused(tmp_path: Path) -> None:
    asked = [{}, {"decoding": {"temperature": 0.7}}, {"decoding": {"temperature": 0.9}}, {"tools": [TOOL]},
             {"response_format": {"type": "json_object"}}]  # fmt: skip
    plain = read_tasks(written(tmp_path, *(RECORD | change for change in asked)))
    chats = [[{"role": "system", "content": text}, USER] for text in ("Be brief.", "BE BRIEF.")]
    chats += [[USER, USER], [USER, USER | {"role": "assistant"}], [USER | {"content": "Which colour?\nWhich colour?"}]]
    spoken = [{key: value for key, value in RECORD.items() if key != "prompt"} | {"messages": chat} for chat in chats]
    ids = [task.prompt_id for task in (*plain, *read_tasks(written(tmp_path, *spoken)))]
    assert len(set(ids)) == len(asked) + len(chats)
    assert ids[0] == prompt_id(TASKS[0].prompt)
    with pytest.raises(ServeGraphError, match="line 2: the same prompt as line 1"):
        read_tasks(written(tmp_path, RECORD | asked[1], RECORD | asked[1] | {"prompt": TASKS[0].prompt.upper()}))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


FIELDS = ("messages", "tools", "tool_choice", "response_format", "decoding", "temperature")


@given(st.lists(st.dictionaries(st.sampled_from([*RECORD, *FIELDS]), ANYTHING), max_size=3), st.booleans())
def test_any_records_are_tasks_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[dict[str, Any]], good: bool
) -> None:
    records = [RECORD | change for change in changes] + ([RECORD] if good else [])
    path = written(tmp_path_factory.getbasetemp(), *records)
    try:
        found = read_tasks(path)
    except ServeGraphError:
        return
    assert len(found) == len(records)


@given(st.binary(max_size=120))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.jsonl"
    path.write_bytes(content)
    with pytest.raises(ServeGraphError):
        read_tasks(path)
