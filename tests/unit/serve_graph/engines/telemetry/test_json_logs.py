"""Lines of JSON: one an event, with the decision, and never what a caller wrote."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from logging.handlers import MemoryHandler
from typing import Any

import pytest
from pydantic import BaseModel

from serve_graph.cli.output import progress_of
from serve_graph.config.records import LoggingConfig
from serve_graph.engines.telemetry.call_context import CALL, CallContext
from serve_graph.engines.telemetry.json_logs import JsonFormatter, set_up_logs, write_as

MARKER = "zebra-crossing-4711"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Loggers are the process's own: they are left as they were found."""
    names = ["", "ray", "ray.serve", "serve_graph", "router_models", "httpx", "httpcore", "openai", "py.warnings"]
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    formats = [(h, h.formatter) for logger in loggers for h in logger.handlers]
    token = CALL.set(None)
    yield
    CALL.reset(token)
    logging.captureWarnings(False)
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers = handlers
    for handler, formatter in formats:
        handler.setFormatter(formatter)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


@pytest.fixture
def written() -> io.StringIO:
    stream = io.StringIO()
    set_up_logs(LoggingConfig(format="json"), {"deployment": "ingress", "replica": "abc"}, stream)
    return stream


def test_a_line_says_when_where_what_and_of_which_decision(written: io.StringIO) -> None:
    CALL.set(CallContext("dec-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01"))
    logging.getLogger("serve_graph.gateway.handler").warning("%s ended with %d", "dec-1", 503)
    [line] = lines(written)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING", "logger": "serve_graph.gateway.handler", "message": "dec-1 ended with 503",
        "deployment": "ingress", "replica": "abc", "decision": "dec-1", "trace": "a" * 32,
    }  # fmt: skip


def test_work_for_nobody_has_no_decision(written: io.StringIO) -> None:
    logging.getLogger("serve_graph.policy").info("a look")
    assert "decision" not in lines(written)[0]


def test_one_line_whatever_the_message_holds(written: io.StringIO) -> None:
    logging.getLogger("serve_graph").error("first\nsecond \u2028 third \x85 \ud800")
    [line] = lines(written)
    assert line["message"] == "first\nsecond \u2028 third \x85 \ud800"
    assert written.getvalue().isascii()


def test_an_exception_is_told_without_its_message(written: io.StringIO) -> None:
    try:
        try:
            raise KeyError(MARKER)
        except KeyError as error:
            raise ValueError(f"cannot read {MARKER}") from error
    except ValueError:
        logging.getLogger("serve_graph").exception("unexpected error")
    [line] = lines(written)
    assert line["exception"]["type"] == "ValueError"
    assert line["exception"]["from"] == "KeyError"
    assert "test_json_logs.py" in line["exception"]["at"][-1]
    assert MARKER not in written.getvalue()


def test_of_asyncios_reports_the_first_line_stays() -> None:
    record = logging.LogRecord("asyncio", 40, "", 0, f"never retrieved\nfuture: ValueError('{MARKER}')", (), None)
    assert json.loads(JsonFormatter().format(record))["message"] == "never retrieved"


def test_a_callback_that_fails_is_told_without_its_arguments(written: io.StringIO) -> None:
    def kept(text: str) -> None:
        raise ValueError(text)

    async def fail() -> None:
        asyncio.get_running_loop().call_soon(kept, MARKER)
        await asyncio.sleep(0)

    asyncio.run(fail())
    [line] = lines(written)
    assert line["message"].startswith("Exception in callback ")
    assert ".kept(…) at " in line["message"]
    assert MARKER not in written.getvalue()


def test_of_a_warning_that_shows_values_the_first_line_stays(written: io.StringIO) -> None:
    class Count(BaseModel):
        n: int = 1

    wrong = Count.model_construct(n=MARKER)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        wrong.model_dump()
    [line] = lines(written)
    assert line["message"].endswith("UserWarning: Pydantic serializer warnings:")
    assert MARKER not in written.getvalue()


def test_other_libraries_are_shown_from_warnings_on(written: io.StringIO) -> None:
    logging.getLogger("openai").debug("Request options: %s", MARKER)
    logging.getLogger("httpx").info("HTTP Request")
    logging.getLogger("somebody").info("chat")
    logging.getLogger("somebody").warning("matters")
    assert [line["message"] for line in lines(written)] == ["matters"]


def test_debug_is_for_our_own_loggers(written: io.StringIO) -> None:
    set_up_logs(LoggingConfig(format="json", level="DEBUG"), {}, written)
    logging.getLogger("openai").debug("Request options: %s", MARKER)
    logging.getLogger("serve_graph.x").debug("ours")
    assert [line["message"] for line in lines(written)] == ["ours"]


def test_a_handler_that_buffers_for_another_has_that_one_write_json() -> None:
    target = logging.StreamHandler(io.StringIO())
    buffering = MemoryHandler(10, target=target)
    formatter = JsonFormatter()
    write_as(formatter, buffering)
    assert target.formatter is formatter


def test_text_leaves_the_process_as_it_is() -> None:
    before = list(logging.getLogger().handlers)
    set_up_logs(LoggingConfig(), {})
    assert logging.getLogger().handlers == before


def test_up_shows_its_progress_as_lines_of_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    progress_of(LoggingConfig(format="json"))("waiting for ingress")
    [line] = [json.loads(text) for text in capfd.readouterr().err.splitlines()]
    assert (line["deployment"], line["message"], line["level"]) == ("up", "waiting for ingress", "INFO")
