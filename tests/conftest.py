"""Fixtures that tests of several kinds share live in `tests/fixtures`."""

pytest_plugins = ("tests.fixtures.serving", "tests.fixtures.outcomes")
