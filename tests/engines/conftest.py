import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
import yaml

from serve_graph.cli.local.launch import free_port
from serve_graph.config.graph import GraphConfig
from serve_graph.engines.weights.resolve import resolve_weights
from tests.engines.datasets import KEYS

ROOT = Path(__file__).parents[2]
STARTED = "serve-graph is up:"
UP_S = 1200.0
DOWN_S = 120.0


@contextmanager
def served(config: dict[str, Any], folder: Path) -> Iterator[str]:
    """`serve-graph up` in a process of its own, as a user runs it; yields the base URL; Ctrl-C ends it.

    Never inside pytest's process: Ray Serve reads its switches where it is first imported, which any test may do.
    """
    path = folder / "graph.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [str(Path(sys.executable).with_name("serve-graph")), "up", "--config", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        patience = Timer(UP_S, process.kill)
        patience.start()
        try:
            banner = next((line for line in process.stdout if STARTED in line), "")
            patience.cancel()
            assert banner, f"the graph did not come up; `{' '.join(command[1:])}` ended with {process.wait(DOWN_S)}"
            yield banner.partition(STARTED)[2].strip().removesuffix("/v1")
        finally:
            patience.cancel()
            process.send_signal(signal.SIGINT)
            try:
                ended = process.wait(DOWN_S)
            finally:
                process.kill()
    assert ended == 0


@pytest.fixture(scope="session")
def serving() -> Callable[[dict[str, Any], Path], AbstractContextManager[str]]:
    return served


@pytest.fixture(scope="session")
def local_graph(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a newcomer gets, with two keys, from nothing but the weights: its own registry, records, first version."""
    state = tmp_path_factory.mktemp("state")
    given: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "local.yaml").read_text())
    given |= {"state_folder": str(state), "http": {"port": free_port()}, "access": {"keys": KEYS}}
    for tier in GraphConfig.model_validate(given).tiers:
        resolve_weights(tier.weights, ROOT / ".serve_graph")  # type: ignore[union-attr]
    (state / "weights").symlink_to(ROOT / ".serve_graph" / "weights")
    return given
