"""`--system-prompt` and `--decoding`: one way for every task, drawn alike in every run; faults before any question."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from router_models.data.starter import Task, generate
from router_models.types.conditions import conditions_of
from serve_graph.cli import app
from serve_graph.cli.client.asked_under import asked_under, read_decodings, read_system_prompts
from serve_graph.cli.client.task_choice import Asked, tasks_of
from serve_graph.config.graph import load_config
from serve_graph.errors import ServeGraphError

ROOT = Path(__file__).parents[5]
TASKS = generate(300, seed=1)
HOT = {"temperature": 0.7, "top_p": 1}


def test_every_task_is_asked_one_way_and_every_way_is_used() -> None:
    asked = asked_under(TASKS, [None, "Be brief.", "Be kind."], [{}, HOT])
    assert [task.question for task in asked] == [task.prompt for task in TASKS]
    ways = Counter((len(task.chat), task.chat[0]["content"][:5] * (len(task.chat) > 1), bool(task.parameters))
                   for task in asked)  # fmt: skip
    assert len(ways) == 6
    assert min(ways.values()) >= 30
    assert len({task.prompt_id for task in asked}) == len(TASKS)


def test_the_draw_goes_by_the_task_alone() -> None:
    ways: tuple[list[str | None], list[dict[str, Any]]] = ([None, "Be brief."], [{}, HOT])
    shuffled = random.Random(0).sample(TASKS, len(TASKS))
    again = {task.id: task for task in asked_under(shuffled[:150], *ways)}
    assert all(again.get(task.id, task) == task for task in asked_under(TASKS, *ways))


def test_nothing_given_changes_nothing_and_what_a_task_brings_it_keeps() -> None:
    assert asked_under(TASKS, [], []) == TASKS
    chat = ({"role": "developer", "content": "Mine."}, {"role": "user", "content": "Why?"})
    own = replace(TASKS[0], messages=chat, parameters={"temperature": 0.1})
    assert asked_under([own], ["Be brief."], [HOT]) == [own]
    tools = replace(TASKS[0], parameters={"tools": [{"type": "function", "function": {"name": "f"}}]})
    assert asked_under([tools], [], [HOT])[0].parameters == {**tools.parameters, **HOT}


def test_a_system_prompt_is_the_file_without_its_last_line_break(tmp_path: Path) -> None:
    path = tmp_path / "company.txt"
    path.write_bytes("\ufeffBe brief.\r\n\r\nBe kind.\r\n".encode())
    assert read_system_prompts([str(path), "none"]) == ["Be brief.\r\n\r\nBe kind.", None]


DECODINGS: list[tuple[str, dict[str, Any]]] = [
    ("default", {}),
    ("temperature=0.7,top_p=1", {"temperature": 0.7, "top_p": 1}),
    (" temperature = 0 ", {"temperature": 0}),
    ("stop=END,top_k=20", {"stop": "END", "top_k": 20}),
    ('{"stop": ["a", "b"], "temperature": 1}', {"stop": ["a", "b"], "temperature": 1}),
    ("ignore_eos=true", {"ignore_eos": True}),
]


@pytest.mark.parametrize(("text", "settings"), DECODINGS)
def test_decodings_are_read(text: str, settings: dict[str, Any]) -> None:
    assert read_decodings([text]) == [settings]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("temperature", "'temperature' is not name=value"),
        ("temperature=", "'temperature=' is not name=value"),
        ("", "'' is not name=value"),
        ("temperature=hot", "temperature: Input should be a valid number"),
        ("temperature=3", "temperature: Input should be less than or equal to 2"),
        ("temperature=NaN", "not valid JSON"),
        ("top_p=0", "top_p: Input should be greater than 0"),
        ("heat=1", "'heat' is no sampling setting: there are temperature, top_p"),
        ("max_tokens=9", "'max_tokens' is no sampling setting: a task's own 'max_tokens' says that"),
        ("seed=1", "'seed' is no sampling setting"),
        ("temperature=1,temperature=0", "'temperature' stands twice"),
        ("{", "Expecting"),
        ("[1]", "is not name=value"),
    ],
)
def test_a_decoding_that_cannot_be_asked_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(
        ServeGraphError, match=f"--decoding {text!r}".replace("[", r"\[").replace("{", r"\{")
    ) as caught:
        read_decodings([text])
    assert message in str(caught.value)


def test_system_prompts_that_cannot_be_asked_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    for given, message in [
        (["missing.txt"], "--system-prompt: missing.txt"),
        ([str(empty)], "holds no text; `--system-prompt none`|empty.txt: holds no rows|empty.txt"),
        (["none", "none"], "--system-prompt: 2 values, and two are the same"),
    ]:
        with pytest.raises(ServeGraphError, match=message):
            read_system_prompts(given)


def test_sources_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    config = load_config(ROOT / "configs" / "echo.yaml", state_folder=tmp_path)
    for asked, message in [
        (Asked(tasks=tmp_path / "t.jsonl", from_decisions=True), "two sources of tasks"),
        (Asked(decisions="x.db"), "--decisions says which store"),
    ]:
        with pytest.raises(ServeGraphError, match=message):
            tasks_of(asked, config, lambda text: None)


def test_starter_tasks_are_varied_by_themselves_unless_told_how(tmp_path: Path) -> None:
    config = load_config(ROOT / "configs" / "echo.yaml", state_folder=tmp_path)
    alone = tasks_of(Asked(starter=34), config, lambda text: None)
    assert len(alone) == 34 + 6 + 9, "plain, varied, typed"
    told = tasks_of(Asked(starter=34, decodings=("top_p=0.9",)), config, lambda text: None)
    assert {conditions_of(task.query).decoding for task in told} == {'{"top_p":0.9}'}
    assert len(told) == 34


def test_a_task_that_keeps_its_own_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    path, prompt = tmp_path / "t.jsonl", tmp_path / "p.txt"
    prompt.write_text("Be brief.")
    own: dict[str, Any] = TASKS[0].to_json() | {"decoding": {"temperature": 0.1}}
    del own["prompt"]
    own["messages"] = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Why?"}]
    import json

    path.write_text(json.dumps(own))
    config = load_config(ROOT / "configs" / "echo.yaml", state_folder=tmp_path)
    asked = Asked(tasks=path, system_prompts=(str(prompt),), decodings=("top_p=0.9",))
    assert [isinstance(task, Task) for task in tasks_of(asked, config, said.append)] == [True]
    assert said == ["1 task(s) keep the system prompt of their own", "1 task(s) keep the decoding of their own"]


def test_a_bad_flag_ends_the_command_before_anything_is_asked(tmp_path: Path) -> None:
    out = tmp_path / "o.parquet"
    done = CliRunner().invoke(
        app, ["collect", "--config", str(ROOT / "configs" / "echo.yaml"), "--url", "http://127.0.0.1:9", "--decoding",
              "temperature=9", "--out", str(out)])  # fmt: skip
    assert isinstance(done.exception, ServeGraphError)
    assert "--decoding 'temperature=9'" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
