import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from router_models.risk_control.certificates.certificate import Certificate
from router_models.risk_control.certificates.promise import Promise
from router_models.risk_control.certificates.risks import HARM_RISK
from router_models.types import OperatingPoint
from router_models.versions.policy import Policy
from serve_graph.api.console.certificate.proof import axis_top, risk_bands
from serve_graph.api.console.label_queue import LabelNeed
from tests.unit.serve_graph.api.console.conftest import NOW, ConsoleAt

Consoles = Callable[..., Awaitable[ConsoleAt]]
SLICES = {
    "fr": Promise(HARM_RISK, 0.05, 0.05, 60, 9, 0.24),
    "en": Promise(HARM_RISK, 0.05, 0.05, 200, 2, 0.03, 0.6),
    "empty": Promise(HARM_RISK, 0.05, 0.05, 0, 0, 1.0),
}
CERTIFICATE = Certificate(
    HARM_RISK,
    0.05,
    0.1,
    0.1,
    800,
    300,
    4,
    0.03,
    0.6,
    "human",
    NOW,
    NOW + timedelta(days=30),
    {"cheap.weights": "ab" * 32},
    slices=SLICES,
)


async def served(console: Consoles, certificate: Certificate | None = CERTIFICATE, **settings: object) -> ConsoleAt:
    made = await console(**settings)
    policy = Policy(("cheap", "frontier"), {"cheap": OperatingPoint(math.inf, 0.6)})
    now = replace(made.parts.served(), certificate=certificate, harm=True, policy=policy)
    made.parts = replace(made.parts, served=lambda: now)
    return made


async def test_without_a_certificate_the_page_says_that_nothing_is_promised(console: Consoles) -> None:
    page = await (await console()).shown("/console/certificate")
    assert "Nothing: nothing: for tests" in page


async def test_the_proof_its_counts_slices_thresholds_and_what_it_depends_on_are_shown(console: Consoles) -> None:
    page = await (await served(console)).shown("/console/certificate")
    for said in ("5.0 %", "4 of 300", "0.1", "one a prompt", "cheap.weights", "abababababababab", "never", "0.600"):
        assert said in page, said
    assert "whose files are not on this replica" in page
    rows = re.findall(r'<th scope="row">(certificate|en|fr|empty)</th>(.*?)</tr>', page)
    assert [(name, "nothing" in row) for name, row in rows] == [("certificate", False), ("en", False), ("fr", True)]


async def test_a_certificate_that_does_not_hold_is_said_to_be_not_in_force(console: Consoles) -> None:
    made = await served(console, state={"void": {"answers": "it expired <b>yesterday</b>"}})
    page = await made.shown("/console/certificate")
    assert "Not in force" in page
    assert "&lt;b&gt;yesterday" in page


async def test_pictures_of_the_report_are_shown_and_no_other_file_of_the_version(
    console: Consoles, tmp_path: Path
) -> None:
    for name in ("deferral.png", "certificate.json", "secret.png"):
        (tmp_path / name).write_bytes(b"\x89PNG")
    made = await served(console, folder=lambda: tmp_path)
    page = await made.shown("/console/certificate")
    assert re.findall(r'<img class="picture" src="([^"]+)"', page) == ["/console/certificate/deferral.png"]
    async with made.browser() as browser:
        key = {"x-api-key": "boss"}
        picture = await browser.get("/console/certificate/deferral.png", headers=key)
        assert (picture.headers["content-type"], picture.content) == ("image/png", b"\x89PNG")
        assert "default-src 'none'" in picture.headers["content-security-policy"]
        for name in ("certificate.json", "secret.png", "acceptance.png", "..%2fdecisions.db"):
            assert (await browser.get(f"/console/certificate/{name}", headers=key)).status_code == 404
        assert (await browser.get("/console/certificate/deferral.png")).status_code == 303


def test_labels_since_it_is_served_stand_beside_the_certificates_counts_with_an_interval() -> None:
    bands = risk_bands(CERTIFICATE, LabelNeed(90, 10, None))
    assert [band.name for band in bands] == ["certificate", "en", "fr", "labels since"]
    assert (bands[-1].risk, bands[-1].n) == (0.1, 100)
    assert bands[-1].low < 0.1 < bands[-1].upper
    assert [band.name for band in risk_bands(CERTIFICATE, LabelNeed(0, 0, None))] == ["certificate", "en", "fr"]


@pytest.mark.parametrize("accepted", [0, 1, 300])
def test_the_axis_holds_every_figure(accepted: int) -> None:
    certificate = replace(CERTIFICATE, accepted_n=accepted, errors=min(accepted, 4), slices={})
    bands = risk_bands(certificate, None)
    top = axis_top(bands)
    assert 0 < top <= 1
    assert all(min(band.upper, 1.0) <= top and band.risk <= top for band in bands)
