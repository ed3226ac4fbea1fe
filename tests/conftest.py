"""What every run of pytest has in common. Fixtures that tests of several kinds share live in `tests/fixtures`."""

import functools
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from tests.fixtures.sampling import dear_tests, left_out, others_turn, turn_of

if "PYTEST_XDIST_WORKER" in os.environ:  # before numpy is imported: more threads than cores make every worker slower
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(threads, "1")

# No example has to be quick: on a busy machine any may be slow, and what must be quick has a test that says so.
settings.register_profile("new examples", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples in every run, so that a change alone makes a test fail; `--whole` draws new ones,
# twice as many.
settings.register_profile("same examples", settings.get_profile("new examples"), derandomize=True, max_examples=50)
settings.load_profile("same examples")

pytest_plugins = (
    "tests.fixtures.serving",
    "tests.fixtures.servers.stores",
    "tests.fixtures.servers.apis",
    "tests.fixtures.upstream",
    "tests.fixtures.outcomes",
    "tests.fixtures.registry",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole",
        action="store_true",
        help="run all of what each commit runs another part of, and property tests with new examples",
    )
    parser.addoption(
        "--turn",
        type=int,
        metavar="N",
        help="which part of the tests that are sampled: a run prints its own; by default the commit's",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--whole"):
        settings.load_profile("new examples")
    elif config.option.turn is None:  # before workers start: they are given the options of this process
        config.option.turn = turn_of(config.rootpath)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which sample ran: a header would not be shown with -q."""
    if _samples(config):
        terminalreporter.write_line(f"sampled at --turn {config.option.turn}; a test that is named runs, --whole all")


def _samples(config: pytest.Config) -> bool:
    return not (config.getoption("--whole") or any("::" in given for given in config.args))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not _samples(config):
        return
    turn, named = config.option.turn, {config.invocation_params.dir / given for given in config.args}
    dear = {
        name: place for name, place in dear_tests().items() if config.rootpath / name.partition("::")[0] not in named
    }
    others = set(others_turn(items, turn, dear))
    if left := others | set(left_out([item for item in items if item not in others], turn)):
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Have records moved to their store at once, not five times a second, where a test is not about that."""
    if spool := sys.modules.get("serve_graph.records.spool.spooled_sink"):
        apart_s = _own_setting("MOVES_APART_S")
        spool.MOVES_APART_S = apart_s if item.path.name == "test_spool.py" else apart_s / 20  # type: ignore[attr-defined]


@functools.cache
def _own_setting(name: str) -> float:
    return float(getattr(sys.modules["serve_graph.records.spool.spooled_sink"], name))


def pytest_collection_finish() -> None:
    """Have Typer make the tree of commands once: at every call it reads the signatures of all of them again."""
    if typer := sys.modules.get("typer.main"):
        made_once = functools.cache(typer.get_command)
        typer.get_command = made_once  # type: ignore[attr-defined]
        if testing := sys.modules.get("typer.testing"):
            testing._get_command = made_once  # type: ignore[attr-defined]
