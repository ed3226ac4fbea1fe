"""A collector of OTLP over HTTP: it parses what an exporter posts, and shows spans as trees."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

CANCELLED = "cancelled"


@dataclass
class CollectedSpan:
    """One span, in Python's types. `children` are in the order in which they began."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    begun: int
    ended: int
    status: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]
    children: list[CollectedSpan] = field(default_factory=list)

    def shape(self) -> Any:
        """The tree below this span by names alone."""
        return [child.name for child in self.children]

    def child(self, name: str) -> CollectedSpan:
        [found] = [child for child in self.children if child.name == name]
        return found


@dataclass
class Collector:
    """What was posted so far."""

    url: str
    spans: list[CollectedSpan] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def take(self, path: str, body: bytes) -> None:
        sent = ExportTraceServiceRequest.FromString(body)
        self.paths.append(path)
        self.bodies.append(body)
        for of_resource in sent.resource_spans:
            resource = plain(of_resource.resource.attributes)
            for span in (span for scope in of_resource.scope_spans for span in scope.spans):
                events = [(event.name, plain(event.attributes)) for event in span.events]
                self.spans.append(
                    CollectedSpan(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        span.kind,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code,
                        plain(span.attributes),
                        events,
                        resource,
                    )
                )

    def trees(self) -> list[CollectedSpan]:
        """The spans without a parent among those collected, oldest first, each with its children."""
        known = {span.id: span for span in self.spans}
        for span in self.spans:
            span.children = sorted((s for s in self.spans if s.parent == span.id), key=lambda s: s.begun)
        return sorted((span for span in self.spans if span.parent not in known), key=lambda span: span.begun)

    def tree_of(
        self, decision: str, flush: Callable[[], object] = lambda: None, seconds: float = 20.0
    ) -> CollectedSpan:
        """The tree of one request, as soon as its root has come; `flush` has what is over sent at once."""
        until = time.monotonic() + seconds
        while True:
            flush()
            found = [tree for tree in self.trees() if tree.attributes.get("serve_graph.decision") == decision]
            if found or time.monotonic() > until:
                [tree] = found
                return tree
            time.sleep(0.05)


def plain(attributes: Any) -> dict[str, Any]:
    """OTLP's attributes as a dict."""
    return {one.key: value_of(one.value) for one in attributes}


def value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [value_of(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a loopback port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            collector.take(self.path, body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
