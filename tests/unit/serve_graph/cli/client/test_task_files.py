"""Files of tasks: all lines are checked before the first question, and every fault is listed with its line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_models.data.starter import Task
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
REFUSED = {
    "not JSON": ("{", "line 1: not JSON"),
    "no object": ("[1]", "line 1: a JSON object is needed"),
    "no fields": ({"id": 1}, "line 1: task 1: 'reference' must be an object"),
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


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from(sorted(RECORD)), ANYTHING), max_size=3), st.booleans())
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
