"""One machine's state, backed up in use as docs/operate/backup.md says, and restored into an empty place."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from router_models.types import DecisionRecord
from serve_graph.access.keys import key_hash, read_keys
from serve_graph.cli import app
from serve_graph.config.graph import load_config
from serve_graph.policy.serving_version import serving_version
from serve_graph.records.spool.spooled_sink import SpooledSink
from serve_graph.records.store import DecisionStore
from tests.fixtures.registry import PRICE, registered_version

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[5]
PAGE = (ROOT / "docs" / "operate" / "backup.md").read_text(encoding="utf-8")
STEPS = dict(re.findall(r'```sh title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))


def take(step: str, refused: str | None = None, **folders: Path) -> None:
    """Run a block of the page in a shell; it fails with the words `refused`, where some are given."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    named = {name.upper(): str(folder) for name, folder in folders.items()}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", STEPS[step]], capture_output=True, text=True, timeout=200, check=False,
        env=os.environ | named | {"PATH": path, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode == 0) == (refused is None), done.stdout + done.stderr
    assert refused is None or refused in done.stdout


async def test_what_is_restored_serves_its_version_lets_its_keys_in_and_has_every_record_once(
    tmp_path: Path, a_record: Callable[..., DecisionRecord], new_registry: Callable[[Path], str]
) -> None:
    state, path, backup = tmp_path / "state", tmp_path / "graph.yaml", tmp_path / "backup"
    tiers = [{"name": name, "engine": "echo", "price": PRICE} for name in ("cheap", "frontier")]
    path.write_text(yaml.safe_dump({"tiers": tiers, "state_folder": str(state), "policy": {"version": "stable"}}))
    new_registry(state / "mlflow.db")
    config = load_config(path)
    await asyncio.to_thread(registered_version, config, tmp_path / "made", datetime.now(UTC), 0.7, "stable")
    words = ["keys", "new", "anna", "--config", str(path)]
    made = await asyncio.to_thread(CliRunner().invoke, app, words, catch_exceptions=False)
    [key] = [word for word in made.output.split() if key_hash(word) in (state / "keys.yaml").read_text()]
    store = DecisionStore(config.records_url)
    await store.open()
    await store.write_many([a_record("dec-stored")])
    sink = SpooledSink(store, state / "spool")
    sink.write(a_record("dec-spooled"))
    sink.write(a_record("dec-stored"))  # in both, as what moves while the backup is made
    await asyncio.to_thread(take, "backup", state=state, backup=backup)
    await store.write_many([a_record("dec-later")])
    refused = "is not empty: stop the graph"
    await asyncio.to_thread(take, "restore", refused, state=state, backup=backup, config=path)
    assert await store.get("dec-later") is not None, "what a graph has in use is left as it is"
    await store.close()
    sink.close()
    shutil.rmtree(state)

    await asyncio.to_thread(take, "restore", state=state, backup=backup, config=path)
    assert (await asyncio.to_thread(serving_version, config)).name == "serve-graph-router/1"
    assert [known.sha256 for known in read_keys(config.keys_file)] == [key_hash(key)]
    assert not any(file.stat().st_mode & 0o077 for file in (config.keys_file, state / "decisions.db"))
    store = DecisionStore(config.records_url)
    heir = SpooledSink(store, state / "spool")
    running = asyncio.create_task(heir.run())
    for _ in range(300):
        if await store.count() == 2:
            break
        await asyncio.sleep(0.1)
    assert [await store.get(name) for name in ("dec-stored", "dec-spooled")] == [
        a_record("dec-stored"), a_record("dec-spooled")
    ]  # fmt: skip
    assert await store.get("dec-later") is None, "what the backup cannot have"
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    heir.close()
    await store.close()
