"""Sessions of the console: a browser shows an admin key once, and from then on a signed cookie that holds none.

The cookie says who signed in and when; its signature is made with a secret that all ingress replicas of a graph share,
and with what the keyring stores of the key. So any replica can check it, and it ends with the key, with the graph, or
after LASTS_S, whichever is first. Browsers keep cookies by the name of a host, whatever the port: its own name has
something of that secret, so that graphs on one host sign nobody out of another. Whatever else answers on the host may
be sent the cookie as well; so a session is bound to a proof that the page to sign in on draws, and keeps where only
pages of its own port can read it: every form has to bring it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from serve_graph.access.keys import Keyring
from serve_graph.access.origins import is_local_page
from serve_graph.config.access import KeyConfig
from serve_graph.errors import AccessError

CONSOLE = "/console"
SIGN_IN = "/console/sign-in"
STATIC = "/console/static/"
COOKIE_PREFIX = "serve_graph_console_"
SECURE_PREFIX = "__Secure-"
"""What browsers take over encrypted connections alone. `__Host-` would send the cookie to every path of the host."""
PROOF_CHARS = 43
"""256 bits in base64url."""
LASTS_S = 8 * 3600
MOST_ENDED = 10_000
"""Sessions that were ended before their time, and are remembered for that; with more, the oldest are forgotten."""


class ConsoleSessions:
    """Signs and checks the console's cookies; `end` holds for this replica, the cookie's removal for the browser."""

    def __init__(self, secret: bytes, keyring: Keyring, clock: Callable[[], float] = time.time) -> None:
        self.secret = hmac.digest(secret, b"console", "sha256")
        self.cookie_name = COOKIE_PREFIX + hmac.digest(secret, b"console cookie", "sha256").hex()[:12]
        self.keyring = keyring
        self.clock = clock
        self._ended: dict[str, None] = {}

    def begin(self, key: KeyConfig, proof: str = "") -> str:
        """Return the cookie of a new session, whose forms have to bring the proof; '': a browser without scripts."""
        said = f"{key.name}.{int(self.clock())}.{secrets.token_urlsafe(16)}{_bound(proof)}"
        return f"{said}.{self._signed(said, key.sha256)}"

    def cookie_in(self, headers: Mapping[str, str]) -> str:
        """Return the value of the console's cookie; '' where there is none, or headers hold no cookies."""
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._name_at(headers.get("host", "")))
        except CookieError:
            return ""
        return "" if found is None else found.value

    def cookie_header(self, value: str, host: str, lasts_s: int = LASTS_S) -> str:
        """Return a `Set-Cookie`: for the console alone, out of reach of scripts and other sites, `Secure` off
        loopback.
        """
        name = self._name_at(host)
        secure = "; Secure" if name.startswith(SECURE_PREFIX) else ""
        return f"{name}={value}; Path={CONSOLE}; Max-Age={lasts_s}; HttpOnly; SameSite=Strict{secure}"

    def find(self, cookie: str) -> KeyConfig | None:
        """Return the key of a session, None where the cookie is forged, old or ended, or the key no longer there."""
        said, _, signature = cookie.rpartition(".")
        name, _, rest = said.partition(".")
        begun = rest.partition(".")[0]
        key = self.keyring.named(name)
        if key is None or not begun.isascii() or not begun.isdigit() or len(begun) > 12 or cookie in self._ended:
            return None
        if not hmac.compare_digest(self._signed(said, key.sha256).encode(), signature.encode("utf-8", "replace")):
            return None
        return key if int(begun) <= self.clock() < int(begun) + LASTS_S else None

    def end(self, cookie: str) -> None:
        """Accept a cookie no longer."""
        if self.find(cookie) is not None:
            self._ended[cookie] = None
            while len(self._ended) > MOST_ENDED:
                self._ended.pop(next(iter(self._ended)))

    def form_token(self, cookie: str) -> str:
        """Return what every form of a session sends back ('' for pages without one): another page cannot know it."""
        return self._signed(f"form {cookie}", "")

    def is_own_form(self, cookie: str, token: str, proof: str = "") -> bool:
        """Whether a form was made for this session, and sent by the browser that began it."""
        named = cookie.rpartition(".")[0].split(".")[3:]
        is_bound = not named or hmac.compare_digest(f".{named[0]}", _bound(proof))
        return is_bound and hmac.compare_digest(self.form_token(cookie).encode(), token.encode("utf-8", "replace"))

    def _name_at(self, host: str) -> str:
        return self.cookie_name if is_local_page(f"http://{host}") else SECURE_PREFIX + self.cookie_name

    def _signed(self, said: str, key_sha256: str) -> str:
        return hmac.new(self.secret, f"{said} {key_sha256}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _bound(proof: str) -> str:
    """Return what a cookie says of a proof: its hash, from which nobody makes it; '' of none, or of none of ours."""
    if len(proof) != PROOF_CHARS or not proof.isascii():
        return ""
    return f".{hashlib.sha256(proof.encode()).hexdigest()}"


def is_console(path: str) -> bool:
    """Whether a path is one of the console's."""
    return path == CONSOLE or path.startswith(f"{CONSOLE}/")


def needs_no_session(path: str) -> bool:
    """Whether a path of the console is shown to everybody: the page to sign in on, and what pages look like."""
    return path == SIGN_IN or path.startswith(STATIC)


def refuse_other_pages(method: str, headers: Mapping[str, str]) -> None:
    """Raise AccessError for what a page of another origin sends, or reads: the console's own pages alone may.

    Following a link to the console is none of that, unless it opens in a frame. `http.cors` changes nothing of it.
    """
    origin, host = headers.get("origin"), headers.get("host", "")
    site, mode = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode", "navigate")
    is_foreign = origin is not None and _netloc(origin) != host.lower()
    is_whole_page = headers.get("sec-fetch-dest", "document") == "document"
    follows_link = method in ("GET", "HEAD") and mode == "navigate" and is_whole_page
    if is_foreign or (site not in ("same-origin", "none") and not follows_link):
        raise AccessError("the console answers its own pages only", code="origin_not_allowed")


def way_to_sign_in(path: str, method: str, headers: Mapping[str, str]) -> str | None:
    """Return where a browser without a session goes; None where no browser asks for a page."""
    if method not in ("GET", "HEAD") or "text/html" not in headers.get("accept", ""):
        return None
    return SIGN_IN if path == CONSOLE else f"{SIGN_IN}?next={quote(path, safe='/')}"


def page_after(wanted: str) -> str:
    """Return a page of the console to go on to: the one that was wanted, if it is one, else the first."""
    is_ours = is_console(wanted) and not needs_no_session(wanted) and wanted.isprintable() and "\\" not in wanted
    return quote(wanted, safe="/?=&") if is_ours else CONSOLE


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
