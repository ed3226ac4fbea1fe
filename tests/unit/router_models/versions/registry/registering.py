"""What registers a version in tests."""

from collections.abc import Callable

from router_models.versions.registry import (
    RegisteredVersion,
)

MODEL = "test-router"
Register = Callable[..., RegisteredVersion]
