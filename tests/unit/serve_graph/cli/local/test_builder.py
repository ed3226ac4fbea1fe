"""The process that builds a graph: what it does, and how it ends."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from serve_graph.cli.local import builder as module
from serve_graph.cli.local.builder import Builder, _portable
from serve_graph.config.graph import GraphConfig, load_config
from serve_graph.errors import ConfigError, EngineRequestError, ServeGraphError

ECHO = Path(__file__).parents[5] / "configs" / "echo.yaml"


@pytest.fixture
def config(tmp_path: Path) -> GraphConfig:
    return load_config(ECHO).model_copy(update={"state_folder": tmp_path})


def builders() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_it_does_what_it_is_asked_for_one_after_the_other_and_ends(config: GraphConfig) -> None:
    with Builder(config) as builder:
        assert builder.first_version(pytest.fail) is None
        [process] = builders()
        builder.load_ahead({"SOMETHING": "for Ray Serve"})
        report = builder.own_report()
        assert (report["ready"], report["tiers"]) == (True, ["cheap", "frontier"])
        assert builders() == [process], "it is one process until then"
    assert builders() == []
    assert "SOMETHING" not in os.environ


def test_what_it_meets_is_raised_here_and_it_ends(config: GraphConfig, tmp_path: Path) -> None:
    """No cluster listens there; what it says of it is the command's one sentence."""
    missing = config.model_copy(update={"policy": config.policy.model_copy(update={"version": "canary"})})
    with Builder(missing) as builder:
        assert "no such version" in str(builder.first_version(lambda _: None))
    registry = tmp_path / "mlflow.db"
    registry.write_text("this is no database")
    broken = missing.model_copy(update={"tracking_uri": f"sqlite:///{registry}"})
    with Builder(broken) as builder, pytest.raises(Exception, match=r"database|registry"):
        builder.first_version(lambda _: None)
    assert builders() == []


def test_one_that_is_killed_is_named(config: GraphConfig) -> None:
    with Builder(config) as builder:
        builder.load_ahead({})
        [process] = builders()
        process.kill()
        with pytest.raises(ServeGraphError, match="ended with exit code -9 before it was done"):
            builder.own_report()
    assert builders() == []


def test_a_stop_meanwhile_ends_it(config: GraphConfig) -> None:
    stop = threading.Event()
    with Builder(config) as builder:
        builder.load_ahead({})
        stop.set()
        with pytest.raises(ServeGraphError, match="stopped while starting"):
            builder.deploy("127.0.0.1:1", stop=stop)
    assert builders() == []


def test_a_result_that_nobody_waits_for_any_more_is_no_fault(config: GraphConfig) -> None:
    """As where Ctrl-C comes as the graph is ready."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=module.work, args=(config, theirs))
    process.start()
    theirs.close()
    ours.send(("load ahead", ({},)))
    ours.close()
    process.join(60)
    assert process.exitcode == 0


def test_nothing_goes_on_for_a_process_that_was_killed(tmp_path: Path) -> None:
    """It would fit versions, or deploy them, for nobody."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from serve_graph.cli.local.builder import Builder\n"
        "from serve_graph.config.graph import load_config\n"
        "if __name__ == '__main__':\n"
        f"    builder = Builder(load_config(Path({str(ECHO)!r})))\n"
        "    builder.load_ahead({})\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"
    )
    (tmp_path / "starts.py").write_text(code)
    with psutil.Popen([sys.executable, str(tmp_path / "starts.py")], stdout=-1, env=dict(os.environ)) as starts:
        assert starts.stdout.readline() == b"begun\n"
        [builds] = [child for child in starts.children() if "spawn_main" in " ".join(child.cmdline())]
        starts.send_signal(signal.SIGKILL)
        starts.wait(10)
    until = time.monotonic() + 30
    while builds.is_running() and builds.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
        time.sleep(0.1)
    assert not builds.is_running() or builds.status() == psutil.STATUS_ZOMBIE


def test_an_error_that_cannot_be_sent_is_told_in_its_words() -> None:
    plain = ConfigError("http.port is taken")
    assert _portable(plain) is plain

    class TwoWordsError(EngineRequestError):
        def __init__(self, what: str, why: str) -> None:
            super().__init__(f"{what}: {why}")

    told = _portable(TwoWordsError("this", "for that"))
    assert type(told) is ServeGraphError
    assert str(told) == "this: for that"


def test_every_task_has_a_method_that_asks_for_it() -> None:
    asked = {name.replace("_", " ") for name in vars(Builder) if not name.startswith("_")} - {"close"}
    assert asked == set(module.TASKS)
