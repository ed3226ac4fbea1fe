import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serve_graph.cli import app
from serve_graph.errors import StoreUnavailableError
from serve_graph.records.migrations.migrate import HEAD
from serve_graph.records.schema import DECISIONS, VERSION_TABLE

ECHO = (Path(__file__).parents[5] / "configs" / "echo.yaml").read_text()


def written(folder: Path, more: str) -> str:
    path = folder / "graph.yaml"
    path.write_text(ECHO + more)
    return str(path)


def test_migrate_makes_the_tables_of_this_release_and_again_changes_nothing(tmp_path: Path) -> None:
    database = tmp_path / "state" / "decisions.db"
    database.parent.mkdir()
    config = written(tmp_path, f"state_folder: {database.parent}\n")
    for _ in range(2):
        done = CliRunner().invoke(app, ["records", "migrate", "--config", config, "--json"], catch_exceptions=False)
        assert json.loads(done.stdout) == {"revision": HEAD}
    with sqlite3.connect(database) as connection:
        assert connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() == [(HEAD,)]
        assert connection.execute(f"SELECT count(*) FROM {DECISIONS.name}").fetchone() == (0,)


def test_migrate_says_that_nothing_answers_and_no_password(tmp_path: Path) -> None:
    config = written(tmp_path, "records: {url: 'postgresql://u:very-secret@127.0.0.1:9/x'}\n")
    done = CliRunner().invoke(app, ["records", "migrate", "--config", config])
    assert isinstance(done.exception, StoreUnavailableError)
    assert "cannot be reached" in str(done.exception)
    assert "very-secret" not in str(done.exception)


@pytest.mark.parametrize("words", [["records"], ["records", "--help"]])
def test_the_group_shows_its_commands(words: list[str]) -> None:
    assert "migrate" in CliRunner().invoke(app, words).output
