"""What every run of pytest has in common. Fixtures that tests of several kinds share live in `tests/fixtures`."""

import copy
import functools
import gc
import inspect
import os
import sys
from collections.abc import Iterator
from typing import Any

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


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """Leave what importing and collecting makes out of every garbage collection: it stays to the end of the run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_finish() -> None:
    """Have libraries do once what they otherwise do in nearly every test, as far as something imported them."""
    for name, once in (
        ("typer.main", _commands_once),
        ("fastapi.routing", _routes_once),
        ("httpx", _certificates_once),
    ):
        if module := sys.modules.get(name):
            once(module)


def _commands_once(typer: Any) -> None:
    """Make the tree of commands once: Typer reads the signatures of all of them at every call of one."""
    typer.get_command = functools.cache(typer.get_command)
    if testing := sys.modules.get("typer.testing"):
        testing._get_command = typer.get_command  # type: ignore[attr-defined]


def _routes_once(routing: Any) -> None:
    """Read the signature of a route's handler once, not again for every application that a test makes."""
    read, field, known = routing.get_dependant, functools.cache(routing.create_model_field), dict[object, Any]()

    def get_dependant(*, path: str, call: Any, scope: Any = None) -> Any:
        if not inspect.isfunction(call) or call.__defaults__ or call.__kwdefaults__:
            return read(path=path, call=call, scope=scope)
        key = (path, scope, call.__code__, *call.__annotations__.items())
        if key not in known:
            known[key] = read(path=path, call=call, scope=scope)
        found = copy.copy(known[key])
        found.call = call
        found.dependencies = list(found.dependencies)
        found.__dict__.pop("cache_key", None)
        return found

    routing.get_dependant, routing.create_model_field = get_dependant, field


def _certificates_once(httpx: Any) -> None:
    """Read the authorities' certificates once (20 ms), unless the variables that say where they are change."""
    default = sys.modules["httpx._transports.default"]
    made = functools.cache(lambda where, *given, **named: read(*given, **named))
    read = httpx.create_ssl_context

    def create_ssl_context(*given: Any, **named: Any) -> Any:
        return made(tuple(map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))), *given, **named)

    httpx.create_ssl_context = default.create_ssl_context = create_ssl_context  # type: ignore[attr-defined]
