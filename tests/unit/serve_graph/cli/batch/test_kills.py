"""`batch run`, killed at random times: no row is lost, and none is asked twice beyond what was under way."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router_models.types import Query
from serve_graph.cascade.fakes import FakeEngine
from tests.fixtures.local_graph import listening

KILLS, ROWS, AT_ONCE = 10, 3000, 8


@pytest.mark.full
@pytest.mark.timeout(900)
def test_killed_ten_times_no_row_is_lost_or_paid_twice(endpoint: Callable[..., Any], tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    class Counting(FakeEngine):
        async def generate(self, query: Query, left_s: float = 9.0) -> Any:
            asked[query.text] += 1
            return await super().generate(query, left_s)

    at = endpoint(cheap=Counting("x", slow_s=0.05))
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"question {n}"}) + "\n" for n in range(ROWS)))
    with listening(at.app) as url:
        words = ["batch", "run", str(source), "--out", str(out), "--url", url, "--concurrency", str(AT_ONCE)]
        command = [sys.executable, "-c", "from serve_graph.cli import main; main()", *words]
        draw = random.Random(7)
        for _ in range(KILLS):
            before = sum(asked.values())
            process = subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.DEVNULL)
            while sum(asked.values()) == before and process.poll() is None:
                time.sleep(0.01)
            time.sleep(draw.uniform(0.05, 1.0))
            process.kill()
            process.wait(30)
        subprocess.run(command, check=True, timeout=600)
    found = [json.loads(row) for row in out.read_text().splitlines()]
    assert [row["prompt"] for row in found] == [f"question {n}" for n in range(ROWS)]
    assert all(row["answer"] == "x" for row in found)
    twice = sum(asked.values()) - ROWS
    print(f"{KILLS} kills: {twice} of {ROWS} rows asked twice, at most {KILLS * AT_ONCE} were under way")
    assert twice <= KILLS * AT_ONCE
