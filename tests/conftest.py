"""What every run of pytest has in common. Fixtures that tests of several kinds share live in `tests/fixtures`."""

import functools
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from tests.fixtures.sampling import left_out

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
    "tests.fixtures.upstream",
    "tests.fixtures.outcomes",
    "tests.fixtures.registry",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--whole",
        action="store_true",
        help="run every test marked `sampled`, not one in five, and property tests with new examples",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--whole"):
        settings.load_profile("new examples")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--whole") or any("::" in given for given in config.args):
        return
    if left := set(left_out(items)):
        config.hook.pytest_deselected(items=list(left))
        items[:] = [item for item in items if item not in left]


def pytest_collection_finish() -> None:
    """Have Typer make the tree of commands once: at every call it reads the signatures of all of them again."""
    if typer := sys.modules.get("typer.main"):
        made_once = functools.cache(typer.get_command)
        typer.get_command = made_once  # type: ignore[attr-defined]
        if testing := sys.modules.get("typer.testing"):
            testing._get_command = made_once  # type: ignore[attr-defined]
