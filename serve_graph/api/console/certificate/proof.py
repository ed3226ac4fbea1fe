"""The served version's certificate: what was proved, how far the counts are from the bound, slice by slice."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fastapi import Request, Response

from router_models.metrics.intervals import Interval
from router_models.risk_control.certificates.certificate import Certificate
from serve_graph.api.console.certificate.deferral import deferral_chart
from serve_graph.api.console.label_queue import LabelNeed, label_need
from serve_graph.api.console.pages import HEADERS, PageReply, page
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.console.savings import LabelledShare
from serve_graph.api.console.signing_in import form_values
from serve_graph.errors import NotFoundError

DEFERRAL = "deferral.png"
PICTURES = MappingProxyType(
    {
        DEFERRAL: "Deferral curve: the share of right answers by the share that the last tier answers, for each "
        "way of ranking requests; the star is the certified operating point",
        "acceptance.png": "Risk and share of accepted answers by the acceptance threshold, with the certified one",
        "reliability.png": "Reliability: how often answers are right by what router and verifier estimated",
    }
)
"""What of a version's report is shown as a picture, with what each shows."""


@dataclass(frozen=True, slots=True)
class RiskBand:
    """A risk on one axis: what was measured, its upper bound, and what is promised; `n` is what it was counted on.

    `name` says of what: all answers, a slice, or labels of what was served. `upper` and `low` are the ends of what the
    counts leave open; `bound` is None where nothing is promised.
    """

    name: str
    errors: int
    n: int
    low: float
    upper: float
    bound: float | None

    @property
    def risk(self) -> float:
        """The measured share."""
        return self.errors / self.n if self.n else math.nan


def risk_bands(certificate: Certificate, live: LabelNeed | None) -> list[RiskBand]:
    """Return the certificate's counts beside its bound, then each slice's, then those of labels since it is served."""
    whole = certificate.errors, certificate.accepted_n, 0.0, certificate.upper
    found = [RiskBand("certificate", *whole, certificate.promised_risk)] if certificate.accepted_n else []
    found += [
        RiskBand(name, made.errors, made.trials, 0.0, made.upper, made.bound if made.certified else None)
        for name, made in sorted(certificate.slices.items())
        if made.trials
    ]
    if live is not None and live.right + live.wrong:
        n = live.right + live.wrong
        right: Interval = LabelledShare("", live.right, n).share
        found.append(RiskBand("labels since", live.wrong, n, 1 - right.high, 1 - right.low, certificate.promised_risk))
    return found


def axis_top(bands: list[RiskBand]) -> float:
    """Return where the axis ends: a round number beyond every bound and measured risk."""
    most = max([0.01, *(max(min(band.upper, 1.0), band.bound or 0.0, band.risk) for band in bands)])
    step = 10 ** math.floor(math.log10(most))
    return min(1.0, float(math.ceil(most / step * 2) / 2 * step))


async def show_certificate(request: Request, parts: ConsoleParts) -> Response:
    """The certificate of what is served, its deferral curve, and its report's pictures, where these are here."""
    served = parts.served()
    certificate = served.certificate
    live = None if certificate is None else await label_need(parts.store, served.name, certificate)
    bands = [] if certificate is None else risk_bands(certificate, live)
    state, folder = await parts.readiness(), await asyncio.to_thread(parts.folder)
    chart = await asyncio.to_thread(deferral_chart, folder, certificate)
    pictures = await asyncio.to_thread(_pictures, folder)
    values = {
        "served": served,
        "certificate": certificate,
        "bands": bands,
        "top": axis_top(bands),
        "points": served.policy.points,
        "ladder": served.policy.tiers,
        "void": state.get("void", {}),
        "valid_until": state.get("valid_until"),
        "pictures": {name: words for name, words in pictures.items() if chart is None or name != DEFERRAL},
        "deferral": chart,
        "never": math.inf,
    }
    return PageReply(page("certificate", "/console/certificate", **values, **form_values(request, parts)))


async def show_picture(request: Request, parts: ConsoleParts) -> Response:
    """One picture of the served version's report."""
    name, folder = request.path_params["picture"], await asyncio.to_thread(parts.folder)
    if name not in _pictures(folder) or folder is None:
        raise NotFoundError("no such picture of the served version is here", "picture")
    content = await asyncio.to_thread((folder / name).read_bytes)
    return Response(content, 200, {**HEADERS, "cache-control": "no-store"}, "image/png")


def _pictures(folder: Path | None) -> dict[str, str]:
    return {name: words for name, words in PICTURES.items() if folder is not None and (folder / name).is_file()}
