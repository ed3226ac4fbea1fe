"""Methods of deployments' handles: Ray Serve's own handle, over a router that only notes what it is given."""

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from serve_graph.cascade.fakes import FakeHandle


class NotingRouter:
    """Where a handle sends its calls."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, tuple[Any, ...]]] = []

    def assign_request(self, metadata: Any, *args: Any, **_: Any) -> None:
        self.sent.append((metadata, args))


@pytest.fixture
def router() -> NotingRouter:
    return NotingRouter()


@pytest.fixture
def handle(router: NotingRouter) -> Any:
    from ray.serve.handle import DeploymentHandle

    return DeploymentHandle(
        "cheap", "serve-graph", _create_router=lambda **_: router,  # type: ignore[arg-type,return-value]
        _request_counter=SimpleNamespace(inc=lambda **_: None),  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_method_is_looked_up_once_and_its_calls_are_plain_pickles(handle: Any, router: NotingRouter) -> None:
    from serve_graph.cluster.replicas.handle_methods import HandleMethods

    methods = HandleMethods(handle)
    found = methods.of("generate")
    assert methods.of("generate") is found
    assert methods.of("stream", stream=True) is not methods.of("stream")
    found.remote({"messages": []})
    methods.of("stream", stream=True).remote({})
    (whole, args), (streamed, _) = router.sent
    assert (whole.call_method, whole.is_streaming, args) == ("generate", False, ({"messages": []},))
    assert (streamed.call_method, streamed.is_streaming) == ("stream", True)
    for metadata in (whole, streamed):
        assert (metadata.request_serialization, metadata.response_serialization) == ("pickle", "pickle")
    assert whole.internal_request_id != streamed.internal_request_id, "each call is one of its own"


def test_a_model_that_a_handle_was_set_to_stays_with_its_methods(handle: Any, router: NotingRouter) -> None:
    from serve_graph.cluster.replicas.handle_methods import HandleMethods

    HandleMethods(handle.options(multiplexed_model_id="cheap:poet")).of("generate").remote({})
    assert router.sent[0][0].multiplexed_model_id == "cheap:poet"


def test_what_stands_for_a_handle_is_asked_as_ever() -> None:
    from serve_graph.cluster.replicas.handle_methods import HandleMethods

    fake = FakeHandle({"choices": []})
    HandleMethods(fake).of("generate").remote({"a": 1})
    HandleMethods(fake).of("stream", stream=True).remote({"b": 2})
    assert fake.asked == [({"a": 1},), ({"b": 2},)]


def test_what_is_asked_and_answered_is_plain_data() -> None:
    from router_models.types import Action, Completion, Decision, Query, Verdict
    from serve_graph.protocol.requests import EngineBody

    said = (
        EngineBody({"messages": [{"role": "user", "content": "why?"}]}),
        Query.from_prompt("why?"),
        Completion("because", token_logprobs=(-0.5,), payload={"choices": []}),
        Decision("cheap", "tried", 0.9),
        Verdict(Action.ACCEPTED, "good", 0.9),
    )
    for one in said:
        assert pickle.loads(pickle.dumps(one)) == one
