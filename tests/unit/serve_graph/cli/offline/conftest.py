"""Offline commands keep what they note under the working directory: here that is a folder of the test's own.

The pictures of their reports are not drawn.
"""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_working_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, pictures_undrawn: None
) -> None:
    monkeypatch.chdir(Path(tmp_path_factory.mktemp("cwd")))
