"""A graph of fakes over a real socket, for runs over datasets."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.fixtures.local_graph import listening


@pytest.fixture
def served(endpoint: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Serve an Endpoint of fakes; it comes back with its `url`."""
    with ExitStack() as running:

        def start(**settings: Any) -> Any:
            at = endpoint(**settings)
            at.url = running.enter_context(listening(at.app))
            return at

        yield start
