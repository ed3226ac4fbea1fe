"""`audit` lists what `keys` and others did."""

import json
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from serve_graph.cli import app


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tier = {"name": "frontier", "engine": "echo", "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1}}
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump({"tiers": [tier], "state_folder": str(tmp_path / "state")}))
    return path


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--config", str(config)])


def test_who_made_and_revoked_keys_is_listed_without_the_keys(config: Path) -> None:
    assert run(config, "audit").exit_code == 1, "there is no store yet"
    secret = run(
        config, "keys", "new", "team-a", "--usd-per-day", "5", "--reason", "a\x1b[31m new team"
    ).stdout.strip()
    assert run(config, "keys", "revoke", "team-a", "--reason", "it leaked").exit_code == 0
    assert run(config, "keys", "revoke", "team-a").exit_code == 1
    revoked, made = json.loads(run(config, "audit", "--json").stdout)
    assert (made["action"], made["target"], made["reason"]) == ("keys.create", "team-a", "a\x1b[31m new team")
    assert made["actor"].startswith("os:")
    assert made["detail"]["usd_per_day"] == "5"
    assert (revoked["action"], revoked["reason"]) == ("keys.revoke", "it leaked")
    shown = run(config, "audit", "--action", "keys.create").stdout
    assert "usd_per_day=5" in shown
    assert "it leaked" not in shown
    assert "\x1b" not in shown
    assert secret not in shown + json.dumps(made)
    assert run(config, "audit", "--actor", "key:nobody").stdout == "no entries\n"
    assert run(config, "audit", "--since", "2999-01-01").stdout == "no entries\n"
    assert run(config, "audit", "--since", "soon").exit_code == 2
    assert "sha256" not in json.dumps(made)


def test_every_action_that_the_code_notes_is_in_the_guides_table() -> None:
    root = Path(__file__).parents[4]
    source = "".join(path.read_text() for path in (root / "serve_graph").rglob("*.py"))
    written = re.compile(
        r"""(?:record|AuditEntry|_note|note_reading)\(\s*(?:[\w.()]+,\s*)*(?:"graph",\s*)?["']([a-z]+\.[a-z_]+)["']"""
    )
    found = set(written.findall(source)) | set(re.findall(r'"(versions\.[a-z]+)"', source))
    assert len(found) >= 8
    table = (root / "docs" / "guides" / "keys-and-limits.md").read_text().partition("## Audit log")[2]
    assert {action for action in found if f"`{action}`" not in table} == set()
