"""What a request needs beyond text is found wherever it stands and however it is written."""

from typing import Any

import pytest

from router_models.types import Query
from serve_graph.gateway.capabilities import Needs, needs_of
from tests.unit.serve_graph.gateway.capabilities.parts import CALL, KINDS, PNG, POSITIONS, query_of, user


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(("kind", "part"), KINDS)
def test_a_part_that_is_no_text_is_found_wherever_it_is(position: str, kind: str, part: dict[str, Any]) -> None:
    needs = needs_of(query_of(POSITIONS[position](part)))
    assert needs.unseen == (kind,)
    assert needs.capabilities - {"tools"} == ({kind} if kind != "unknown" else set())


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([user("say it")], {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}),
        ([user("say it")], {"modalities": ["audio"]}),
        ([user("say it")], {"modalities": "audio"}),
        ([user("say it")], {"audio": {"voice": "alloy"}}),
        ([user("draw it")], {"modalities": ["image", "text"]}),
        ([user("smell it")], {"modalities": ["text", "scent"]}),
        ([user("hi"), {"role": "assistant", "content": None, "audio": {"id": "audio_1"}}, user("again")], {}),
        ([user("hi"), {"role": "assistant", "content": "x", "images": [{"image_url": PNG}]}, user("again")], {}),
        ([user(f"what is ![this]({PNG})?")], {}),
        ([user([{"type": "text", "text": PNG}])], {}),
        ([user("look"), {"role": "tool", "tool_call_id": "c1", "content": f'{{"screenshot": "{PNG}"}}'}], {}),
        (
            [user("x"), {"role": "tool", "tool_call_id": "c", "content": '{"data": "iVBO", "mimeType": "image/png"}'}],
            {},
        ),
        ([user({"type": "image_url", "image_url": {"url": PNG}})], {}),
    ],
)
def test_what_is_wanted_back_and_what_is_hidden_in_text_count_too(
    messages: list[dict[str, Any]], fields: dict[str, Any]
) -> None:
    assert needs_of(Query((), {}, {"messages": messages, **fields})).unmeasured is not None


DATA = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"


@pytest.mark.parametrize(
    "text",
    [
        f"DATA:IMAGE/PNG;BASE64,{DATA}",
        f"data:image\\/png;base64,{DATA}",
        f"data:image/png;base64,\n{DATA}",
        f"data:image/png;base64%2C{DATA}",
        f"data:image/png;name=a b.png;base64,{DATA}",
        f"data:;base64,{DATA}",
        f"data:application/vnd.openxmlformats-officedocument.presentationml.presentation;base64,{DATA}",
        f"data:text/csv;base64,{DATA}",
        f"<img src=data:image/webp;base64,{DATA}>",
    ],
)
def test_encoded_media_are_found_however_they_are_written(text: str) -> None:
    assert needs_of(Query.from_prompt(f"see {text}")).unseen == ("embedded",)
    assert needs_of(query_of([user([{"type": "text", "text": text}])])).unseen == ("embedded",)


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize(
    "result",
    [
        '{"mimeType":"image/png","data":"iVBO"}',
        '[{"type": "image", "source": {"media_type" : "image/png", "data": "iVBO"}}]',
        "[{'type': 'image', 'mimeType': 'image/png', 'data': 'iVBO'}]",
        '"{\\"mimeType\\": \\"audio/wav\\"}"',
        '{"resource": {"mimeType": "application/pdf", "blob": "JVBE"}}',
        '{"mimeType": "image\\/png"}',
    ],
)
def test_media_in_the_text_of_a_tools_result_are_found(result: str, in_parts: bool) -> None:
    content = [{"type": "text", "text": result}] if in_parts else result
    told = {"role": "tool", "tool_call_id": "c1", "content": content}
    messages = [user("look"), {"role": "assistant", "content": None, "tool_calls": [CALL]}, told]
    assert needs_of(query_of(messages)).unseen == ("embedded",)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": []},
        {"tools": [{"type": "function", "function": {"name": "look"}}], "tool_choice": "none"},
        {"response_format": {"type": "text"}},
        {"reasoning_effort": "none"},
        {"thinking": {"type": "disabled"}},
        {"modalities": ["text"]},
    ],
)
def test_what_asks_for_nothing_needs_nothing(fields: dict[str, Any]) -> None:
    assert needs_of(Query((), {}, {"messages": [user("look")], **fields})) == Needs()
