"""The console's routes: every page for administrators alone, every error as a page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response

from serve_graph.access.caller import CALLER
from serve_graph.access.console.sessions import SIGN_IN, page_after
from serve_graph.api.console.certificate.proof import show_certificate, show_picture
from serve_graph.api.console.explorer import show_decision, show_decisions
from serve_graph.api.console.label_queue import LABELS_PAGE, show_labels, take_label
from serve_graph.api.console.overview import overview
from serve_graph.api.console.pages import MEDIA_TYPES, PageReply, StaticReply, page
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.console.signals import show_signals
from serve_graph.api.console.signing_in import form_values, sign_in, sign_in_page, sign_out
from serve_graph.api.console.traffic import WINDOWS
from serve_graph.errors import NotFoundError, RequestError, ServeGraphError, retry_after, status_of

Maker = Callable[[Request, ConsoleParts], Awaitable[Response]]


def add_console(app: FastAPI, parts: ConsoleParts) -> None:
    """Add the console's pages to an application; they are in no API description."""
    pages: dict[str, Maker] = {
        "/console": show_overview,
        "/console/decisions": show_decisions,
        "/console/decisions/{decision_id}": show_decision,
        "/console/certificate": show_certificate,
        "/console/certificate/{picture}": show_picture,
        "/console/signals": show_signals,
    }
    forms: dict[str, Maker] = {"/console/sign-out": sign_out}
    if parts.feedback is not None:
        pages[LABELS_PAGE], forms[LABELS_PAGE] = show_labels, take_label
    for path, make in pages.items():
        app.add_api_route(path, _guarded(make, parts), methods=["GET"], include_in_schema=False)
    for path, make in forms.items():
        app.add_api_route(path, _guarded(make, parts), methods=["POST"], include_in_schema=False)
    app.add_api_route(SIGN_IN, _guarded(_sign_in_form, parts, is_open=True), methods=["GET"], include_in_schema=False)
    app.add_api_route(SIGN_IN, _guarded(sign_in, parts, is_open=True), methods=["POST"], include_in_schema=False)

    async def static(name: str) -> Response:
        if name not in MEDIA_TYPES:
            raise NotFoundError("no such file")
        return StaticReply(name)

    app.add_api_route("/console/static/{name}", static, methods=["GET"], include_in_schema=False)


async def show_overview(request: Request, parts: ConsoleParts) -> Response:
    """The first page, of the window that `window` names."""
    name = request.query_params.get("window", "24h")
    if name not in WINDOWS:
        raise RequestError(f"window is one of {', '.join(WINDOWS)}", "window")
    found = await overview(parts, WINDOWS[name])
    return PageReply(page("overview", "/console", found=found, windows=WINDOWS, **form_values(request, parts)))


async def _sign_in_form(request: Request, parts: ConsoleParts) -> Response:
    return sign_in_page(parts, page_after(request.query_params.get("next", "")))


def _guarded(make: Maker, parts: ConsoleParts, *, is_open: bool = False) -> Callable[[Request], Awaitable[Response]]:
    async def shown(request: Request) -> Response:
        try:
            if not is_open:
                CALLER.get().require("admin", "the console")
            return await make(request, parts)
        except ServeGraphError as error:
            status = status_of(error)[0]
            if isinstance(error, RequestError):
                parts.service.refuse(status)
                if (name := CALLER.get().name) is not None:
                    await parts.refusals.hold(name)
            wait = retry_after(error)
            values = {"status": status, "said": str(error), **form_values(request, parts)}
            if is_open:
                values["who"] = None
            text = page("error", "", **values)
            return PageReply(text, status, {} if wait is None else {"retry-after": wait})

    return shown
