"""Fixtures that tests of several kinds share live in `tests/fixtures`."""

from hypothesis import HealthCheck, settings

# No example has to be quick: on a busy machine any may be slow, and what must be quick has a test that says so.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

pytest_plugins = ("tests.fixtures.serving", "tests.fixtures.outcomes")
