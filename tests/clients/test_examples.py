"""The example that uses somebody else's client, against an endpoint of fakes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_openai", reason="langchain-openai is not installed (the clients environment has it)")
EXAMPLE = Path(__file__).parents[2] / "examples" / "langchain_client" / "chat.py"


def test_the_langchain_example_prints_the_answer(served: Callable[..., Any]) -> None:
    at = served()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(EXAMPLE), "hello"],
        env=os.environ | {"BASE_URL": at.url}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "cheap says"
    assert "total_tokens" in done.stdout
