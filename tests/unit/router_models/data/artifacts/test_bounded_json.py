import os
import tracemalloc
from pathlib import Path

import pytest

from router_models.data.artifacts.bounded_json import MOST_DEPTH, read_json_file
from router_models.errors import ArtifactError


def nested(levels: int) -> str:
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"a": 1, "a": 2}', "a key is given twice"),
        (nested(MOST_DEPTH + 2), "nested more than"),
        (nested(100_000), "nested too deeply"),
        ("[" + "1" * 5_000 + "]", "not JSON"),
        (" " * 2_000, "more than 1000 bytes"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_json_of_ours_is_refused_by_the_files_name(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(ArtifactError) as caught:
        read_json_file(file, 1_000 if said.startswith("more") else 1 << 20)
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)


def test_a_file_without_end_is_not_read_to_it(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    os.truncate(tmp_path / "x.json", 1 << 40)
    with pytest.raises(ArtifactError, match="more than"):
        read_json_file(tmp_path / "x.json", 1 << 20)


def test_a_small_file_takes_little_memory_whatever_might_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    tracemalloc.start()
    read_json_file(tmp_path / "x.json")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(ArtifactError, match="not a regular file"):
        read_json_file(tmp_path / "x.json")


def test_values_come_back_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": [1, 2.5, null, "ü", true], "b": ' + nested(MOST_DEPTH - 1) + "}")
    assert read_json_file(tmp_path / "x.json")["a"] == [1, 2.5, None, "ü", True]
