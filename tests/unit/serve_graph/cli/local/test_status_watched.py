"""`status --watch` says what changes, and only that; a graph that is away is a state like others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from serve_graph.cli.local.status import watch_status
from serve_graph.config.graph import GraphConfig
from serve_graph.config.http import HttpConfig
from serve_graph.config.prices import PriceConfig
from serve_graph.config.tiers.kinds import EchoTierConfig
from tests.fixtures.local_graph import listening

READY = {"ready": True, "version": "none", "tiers": ["cheap"], "tiers_ready": {"cheap": True}, "promise": "none"}


class Told:
    """An application that says these states, one a look; of None nothing is said but an error."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = json.dumps(self.states.pop(0)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def told() -> Iterator[tuple[Told, GraphConfig]]:
    app = Told()
    with listening(app) as url:
        price = PriceConfig(input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(2))
        tier = EchoTierConfig(name="cheap", engine="echo", price=price)
        http = HttpConfig(port=httpx.URL(url).port or 0)
        yield app, GraphConfig.model_validate({"tiers": (tier,), "policy": {"safe_tier": "cheap"}, "http": http})


def watched(told: tuple[Told, GraphConfig], *states: dict[str, Any], **how: Any) -> list[float]:
    app, graph = told
    app.states, slept = list(states), list[float]()
    watch_status(graph, 5.0, looks=len(states), sleep=slept.append, **how)
    return slept


def test_what_stays_is_said_once(told: tuple[Told, GraphConfig], capsys: pytest.CaptureFixture[str]) -> None:
    away = READY | {"ready": False, "tiers_ready": {"cheap": False}}
    assert watched(told, READY, READY, away, away, READY) == [5.0] * 4
    said = [line for line in capsys.readouterr().out.splitlines() if "; tiers " in line]
    assert [("not ready" in line, "not answering: cheap" in line) for line in said] == [
        (False, False),
        (True, True),
        (False, False),
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_requests_that_are_counted_are_no_change(
    as_json: bool, told: tuple[Told, GraphConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    seen = [READY | {"coverage": {"requests": n, "uncovered": 1, "reasons": {"length": 1}}} for n in (10, 11, 12)]
    watched(told, *seen, seen[-1] | {"ready": False}, as_json=as_json)
    said = [line for line in capsys.readouterr().out.splitlines() if "ready" in line]
    assert len(said) == 2
    assert ("12" if as_json else "not ready") in said[1]


def test_json_is_an_object_a_line_with_its_time(
    told: tuple[Told, GraphConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    watched(told, READY, {"ready": False}, as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["ready"] for one in found] == [True, False]
    assert all("time" in one for one in found)


def test_a_graph_that_is_away_may_come_back(
    told: tuple[Told, GraphConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    watched(told, {"detail": "starting"}, READY)
    out = capsys.readouterr().out
    assert "does not say whether it is ready" in out
    assert "ready; tiers cheap" in out


def test_ctrl_c_ends_it_quietly(told: tuple[Told, GraphConfig]) -> None:
    app, graph = told
    app.states = [READY]

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    watch_status(graph, 1.0, sleep=interrupted)
    assert app.states == []
