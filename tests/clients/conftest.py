import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from serve_graph.access.keys import key_hash
from serve_graph.config.access import KeyConfig
from tests.clients.exchanges import Where
from tests.fixtures.local_graph import LocalGraph, ScriptedApi, listening

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # what the package holds, nothing fetched


@pytest.fixture
def served(endpoint: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Serve an Endpoint of fakes on a loopback port of its own; the Endpoint comes back with `url` (…/v1)."""
    with ExitStack() as running:

        def start(**settings: Any) -> Any:
            at = endpoint(**settings)
            at.url = f"{running.enter_context(listening(at.app))}/v1"
            return at

        yield start


@pytest.fixture(scope="session")
def graph() -> Iterator[Any]:
    """A graph of an echo tier and a hosted one, on a loopback port; `api` is the scripted API behind the latter.

    `at(model)` is where to ask for a model, with the only key there is.
    """
    key, api = "sg-clients", ScriptedApi()
    with listening(api) as api_url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-upstream")
        made = LocalGraph(api_url, [KeyConfig(name="clients", sha256=key_hash(key), scopes=("use", "force"))])
        with listening(made.app) as url:
            yield SimpleNamespace(api=api, at=lambda model: Where(f"{url}/v1", key, model))
