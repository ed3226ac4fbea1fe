"""The console in headless Chromium: nothing is refused by its own policy, it fits a phone, and keys label answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from router_models.reports.plots import DEFERRAL_FILE
from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.risks import HARM_RISK
from serve_graph.access.console.sessions import PROOF_CHARS
from serve_graph.learning.alarm_table import Alarm, AlarmTable
from serve_graph.records.store import DecisionStore
from tests.fixtures.local_graph import listening
from tests.unit.serve_graph.api.console.browser import CHROMIUM, Browser
from tests.unit.serve_graph.api.console.certificate.test_deferral import CURVES
from tests.unit.serve_graph.api.console.conftest import NOW, ConsoleAt, console_over

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
PAGES = ("", "/sign-in", "/decisions", "/decisions/dec-1", "/labels?labeller=ann", "/certificate", "/signals")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture
def served(tmp_path: Path, a_record: Any) -> Iterator[tuple[ConsoleAt, str]]:
    """A console without keys on a loopback port, over a few decisions, and its address."""
    store = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    evidence = {"thresholds": {"cheap": {"route_at": 0.5, "accept_at": 0.6, "abstain_below": 0.05}}, "promised": 0.95}
    evidence |= {"promised_of": "accepted cheap answers"}
    records = [
        a_record(
            f"dec-{at}",
            created_at=(NOW - timedelta(hours=at)).isoformat(timespec="milliseconds"),
            evidence=evidence | {"answer": f"<script>alert({at})</script> " + "word " * 50},
            prompt="a" * 400 + " <img src=x onerror=alert(1)>",
            version="v" * 60,
        )
        for at in range(1, 5)
    ]

    async def fill() -> None:
        await store.open()
        await store.write_many(records)
        await AlarmTable(store).raise_all([Alarm("v" * 60, "drift", "overall", "2026-03-01", "why " * 40, True)])
        await store.close()

    asyncio.run(fill())
    certificate = Certificate(
        HARM_RISK, 0.05, 0.1, 0.1, 800, 300, 4, 0.03, 0.6, "human", NOW, NOW + timedelta(days=30), {"a": "b" * 64}
    )
    made = console_over(store, keys=False, label_share=1.0, keeps_answers=True)
    now = replace(made.parts.served(), certificate=certificate)
    (tmp_path / DEFERRAL_FILE).write_text(json.dumps(CURVES))
    made.parts = replace(made.parts, served=lambda: now, folder=lambda: tmp_path)
    with listening(made.app()) as url:
        yield made, f"{url}/console"


CONTRAST = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const paper = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll("main *, header *")) {
    const said = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!said || node.closest("svg") || node.disabled || !node.checkVisibility()) continue;
    const [one, other] = [light(rgb(getComputedStyle(node).color)), light(paper(node))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) bad.push(node.outerHTML.slice(0, 80));
  }
  return bad;
})()
"""
UNNAMED = """
[...document.querySelectorAll("input:not([type=hidden], [hidden]), select, button, main svg[role=img], main img")]
  .filter((node) => !(node.labels?.length || node.getAttribute("aria-label") || node.alt || node.textContent.trim()))
  .map((node) => node.outerHTML.slice(0, 80))
"""


def test_every_page_fits_is_readable_and_breaks_nothing_of_its_own_policy(
    served: tuple[ConsoleAt, str], browser: Browser
) -> None:
    _, url = served
    browser.complaints.clear()
    for width, scheme in ((1280, "light"), (390, "dark"), (390, "light"), (1280, "dark")):
        for path in PAGES:
            browser.show(f"{url}{path}", width, scheme)
            where = (path, width, scheme)
            assert browser.value("document.documentElement.scrollWidth <= innerWidth"), where
            assert browser.value(CONTRAST) == [], where
            assert browser.value(UNNAMED) == [], where
            assert browser.value("document.querySelectorAll('h1').length") == 1, where
    assert browser.complaints == []


def test_answers_are_labelled_by_keys_alone(served: tuple[ConsoleAt, str], browser: Browser) -> None:
    made, url = served
    browser.show(f"{url}/labels?labeller=ann", 1280, "light")
    shown = []
    for key in "rwsu":
        shown.append(browser.value("document.querySelector('input[name=decision]').value"))
        browser.until_loaded("Input.dispatchKeyEvent", type="keyDown", key=key, text=key)
    assert len(set(shown)) == 4
    said = [(one.decision, one.value) for one in made.written]
    assert said == [(shown[0], 1.0), (shown[1], 0.0), (shown[1], None)]
    assert browser.value("document.querySelector('input[name=decision]').value") == shown[1]


def test_the_first_key_of_a_page_leads_past_its_links(served: tuple[ConsoleAt, str], browser: Browser) -> None:
    _, url = served
    browser.show(url, 1280, "light")
    for key in ("Tab", "Enter"):
        browser.ask(
            "Input.dispatchKeyEvent",
            type="keyDown",
            key=key,
            code=key,
            windowsVirtualKeyCode=9 + 4 * (key == "Enter"),
            text="\r" if key == "Enter" else "",
        )
    assert browser.value("document.activeElement.id || document.activeElement.className") == "main"


def test_a_browser_binds_its_session_to_a_proof_of_its_own(browser: Browser, tmp_path: Path) -> None:
    store = DecisionStore(f"sqlite+aiosqlite:///{tmp_path / 'decisions.db'}")
    asyncio.run(_opened(store))
    with listening(console_over(store, keys=True).app()) as url:
        browser.show(f"{url}/console/sign-in", 1280, "light")
        browser.value("document.querySelector('#key').value = 'boss'")
        browser.until_loaded("Runtime.evaluate", expression="document.querySelector('main button').click()")
        assert browser.value("location.pathname") == "/console"
        (cookie,) = browser.ask("Network.getCookies", urls=[f"{url}/console"])["cookies"]
        assert len(cookie["value"].split(".")) == 5, "name, moment, a random word, the proof's hash, the signature"
        kept = browser.value("localStorage.getItem('serve-graph-proof')")
        assert len(kept) == PROOF_CHARS
        assert kept not in cookie["value"]
        browser.until_loaded("Runtime.evaluate", expression="document.querySelector('form.session button').click()")
        assert browser.value("location.pathname") == "/console/sign-in", "its own form was taken"


async def _opened(store: DecisionStore) -> None:
    await store.open()
    await store.close()
