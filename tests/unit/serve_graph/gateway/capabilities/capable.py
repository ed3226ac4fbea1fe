"""A service of fakes whose tiers take different kinds of requests."""

from collections.abc import Mapping
from typing import Any

from router_models.types import DecisionRecord, Query
from serve_graph.cascade.fakes import ListSink, fake_context
from serve_graph.cascade.steps import StreamTerms
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.gateway.sessions import Sessions
from serve_graph.protocol.requests import RequestOptions

TEXT_ONLY = frozenset({"text", "tools", "json_schema", "reasoning"})
EVERYTHING = TEXT_ONLY | {"image", "audio", "video", "file"}
LAST_CAN = {"cheap": TEXT_ONLY, "frontier": EVERYTHING}
BOTH_CAN = {"cheap": EVERYTHING, "frontier": EVERYTHING}


class Asked:
    """A service of fakes whose certificate promises 0.9, and what became of the requests to it."""

    def __init__(self, can: Mapping[str, frozenset[str]] = LAST_CAN, **fakes: Any) -> None:
        self.context = fake_context(**fakes)
        self.judge: Any = self.context.judge
        self.sink = ListSink()
        sessions = Sessions({"cheap": 60.0, "frontier": 60.0}, 10, lambda: 0.0)
        routing = RoutingContext(0.9, capabilities=can, sessions=sessions)
        self.service = Service(self.context, self.sink, StreamTerms(), routing=routing)

    def asked(self, tier: str) -> int:
        engine: Any = self.context.engines[tier]
        return len(engine.queries)

    async def ask(
        self,
        query: Query,
        model: str = "auto",
        stream: bool = False,
        mode: str | None = None,
        quality_floor: float | None = None,
        session: str | None = None,
    ) -> DecisionRecord:
        wanted = {"stream": mode, "quality_floor": quality_floor, "session": session}
        request = self.service.open(query, model, stream, RequestOptions.model_validate(wanted))
        if stream:
            assert [chunk async for chunk in self.service.stream(request)]
        else:
            await self.service.answer(request)
        return self.sink.records[-1]


WAYS: list[tuple[bool, str | None]] = [(False, None), (True, "verify"), (True, "prefix"), (True, "route")]
