"""Logs as one JSON object a line: time, level, logger, message, where it was said, and the decision it was said of.

Nothing that a caller wrote gets into a line. Exceptions are told by their types and places, without their messages,
which may quote a prompt; of asyncio's reports and Python's warnings, which show exceptions and values, the first line
is kept, and of a callback its name without its arguments.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import MemoryHandler
from types import MappingProxyType, TracebackType
from typing import TextIO

from serve_graph.config.records import LoggingConfig
from serve_graph.engines.telemetry.call_context import CALL

OUR_LOGGERS = ("serve_graph", "router_models")
OTHERS = ("ray", "ray.serve")
"""Loggers with handlers of their own, which are made to write the same lines."""
QUIET = ("httpx", "httpcore", "openai")
"""They would show a line for every request, and openai's client, at DEBUG, its body."""
REPORTS = ("asyncio", "py.warnings")
"""Loggers of Python's own, whose messages show values of ours."""
ARGUMENTS = re.compile(r"\(.+\)")
MOST_FRAMES = 12


class JsonFormatter(logging.Formatter):
    """Format a log record as one line of JSON; `place` is said in each: process, deployment, replica."""

    def __init__(self, place: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__()
        self.place = dict(place)

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.name in REPORTS:
            message = message.partition("\n")[0]
        if message.startswith("Exception in callback "):
            message = ARGUMENTS.sub("(…)", message)
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
            **self.place,
        }
        context = CALL.get()
        if context is not None and context.decision is not None:
            line["decision"] = context.decision
        if context is not None and context.traceparent is not None:
            line["trace"] = context.traceparent.split("-")[1]
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = exception_told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=True, default=str)


def exception_told(error: BaseException) -> dict[str, object]:
    """An exception without its message: its type, where it was raised, outermost first, and what it came from."""
    told: dict[str, object] = {"type": type(error).__name__, "at": places(error.__traceback__)}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        told["from"] = type(cause).__name__
    return told


def places(trace: TracebackType | None) -> list[str]:
    """The innermost places of a traceback as `file:line function`."""
    frames = traceback.StackSummary.extract(traceback.walk_tb(trace), lookup_lines=False)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-MOST_FRAMES:]]


def set_up_logs(config: LoggingConfig, place: Mapping[str, str], stream: TextIO | None = None) -> None:
    """Have this process log as the configuration says; `text` leaves everything as it is.

    Parameters
    ----------
    config : LoggingConfig
        Format and level. The level is that of our own loggers: other libraries' stay at warnings.
    place : mapping
        What is said in every line of this process.
    stream : text file, optional
        Where to; None: this process's stderr, which is not `sys.stderr` in a replica: that is a logger of Ray Serve's
        there, which buffers.
    """
    if config.format == "text":
        return
    formatter = JsonFormatter(place)
    handler = logging.StreamHandler(stream or sys.__stderr__ or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(config.level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in OTHERS:
        for other in logging.getLogger(name).handlers:
            write_as(formatter, other)


def write_as(formatter: logging.Formatter, handler: logging.Handler) -> None:
    """Have a handler write that format, or the one that it buffers for."""
    target = handler.target if isinstance(handler, MemoryHandler) else handler
    if target is not None:
        target.setFormatter(formatter)
