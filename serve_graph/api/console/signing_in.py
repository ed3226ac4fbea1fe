"""Signing in to the console: a key with the scope `admin`, shown once in a form, for a session; and signing out."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import Request, Response
from starlette.responses import RedirectResponse

from serve_graph.access.caller import CALLER
from serve_graph.access.console.sessions import SIGN_IN, page_after
from serve_graph.api.console.pages import PageReply, page
from serve_graph.api.console.parts import ConsoleParts
from serve_graph.api.transport.connection import read_body
from serve_graph.errors import AccessError, RequestError
from serve_graph.records.audit import AuditEntry

MOST_FORM_BYTES = 16 * 1024
FORM_WITHIN_S = 10.0
NOT_A_KEY = "This is no key with the scope admin."
FORM_TOKEN, PROOF = "form", "proof"


async def read_form(request: Request, parts: ConsoleParts, *, has_session: bool = True) -> dict[str, str]:
    """Return a form's fields.

    Raises RequestError for what is no form, AccessError for one that no page of this session has sent,
    RateLimitedError for one without a session where many more are sent.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise RequestError("a form is expected here")
    if has_session:
        body, codings = await read_body(request, MOST_FORM_BYTES, FORM_WITHIN_S)
    else:
        async with parts.open_forms.place() as within_s:
            body, codings = await read_body(request, MOST_FORM_BYTES, within_s)
    if codings:
        raise RequestError("a form is not compressed")
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20))
    except ValueError:
        raise RequestError("this is no form that a page of the console sends") from None
    cookie = parts.sessions.cookie_in(request.headers) if has_session else ""
    if not parts.sessions.is_own_form(cookie, fields.get(FORM_TOKEN, ""), fields.get(PROOF, "")):
        raise AccessError("this form is not of your session: go back, reload the page and send it again")
    return fields


def form_values(request: Request, parts: ConsoleParts) -> dict[str, object]:
    """Return what every page needs for its forms: their token, and whose session it is."""
    return {
        "form_token": parts.sessions.form_token(parts.sessions.cookie_in(request.headers)),
        "who": CALLER.get().name,
    }


def sign_in_page(parts: ConsoleParts, wanted: str, said: str | None = None) -> PageReply:
    """Return the page to sign in on, with what was wrong."""
    values = {"who": None, "form_token": parts.sessions.form_token(""), "wanted": wanted, "said": said}
    return PageReply(page("sign_in", SIGN_IN, **values), 401 if said else 200)


async def sign_in(request: Request, parts: ConsoleParts) -> Response:
    """Begin a session for whoever shows a key with the scope `admin`; a wrong one waits as any wrong key does."""
    fields = await read_form(request, parts, has_session=False)
    wanted = page_after(fields.get("next", ""))
    key = parts.sessions.keyring.find(fields.get("key", "").strip())
    if key is None or "admin" not in key.scopes:
        parts.service.refuse(401)
        await parts.refusals.hold("")
        return sign_in_page(parts, wanted, NOT_A_KEY)
    if parts.audit is not None:
        await parts.audit.write([AuditEntry(f"key:{key.name}", "console.sign_in", "console")])
    cookie = parts.sessions.begin(key, fields.get(PROOF, ""))
    return _sent(wanted, parts.sessions.cookie_header(cookie, request.headers.get("host", "")))


async def sign_out(request: Request, parts: ConsoleParts) -> Response:
    """End a session, here and in the browser."""
    await read_form(request, parts)
    parts.sessions.end(parts.sessions.cookie_in(request.headers))
    if parts.audit is not None and CALLER.get().name is not None:
        await parts.audit.write([AuditEntry(f"key:{CALLER.get().name}", "console.sign_out", "console")])
    return _sent(SIGN_IN, parts.sessions.cookie_header("", request.headers.get("host", ""), 0))


def _sent(to: str, cookie: str) -> Response:
    reply = RedirectResponse(to, 303)
    reply.headers["set-cookie"] = cookie
    reply.headers["cache-control"] = "no-store"
    return reply
