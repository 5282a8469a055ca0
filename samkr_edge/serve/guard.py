"""Who may see the page: every request is asked, before anything answers it.

On the loopback no token is needed, but a web site that the user has open must not reach the page through the user's
browser: a name that its owner points at 127.0.0.1 (DNS rebinding) is refused by the Host header, and what another
site's page fetches by the headers Origin and Sec-Fetch-Site. Elsewhere the token decides; the link carries it once, and
the cookie that is set from it is checked on every request that follows.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The page loads its own three files and its pictures, and nothing else.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_READING = ("GET", "HEAD")


def new_token() -> str:
    """A secret of 128 bits, as it stands in a link."""
    return secrets.token_urlsafe(16)


class Guard:
    """ASGI middleware: answers what is refused, passes on the rest, and adds ``HEADERS`` to every answer.

    Args:
        token: None on the loopback.
        port: a cookie belongs to a host, whatever its port: its name tells two pages of one machine apart.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, port: int) -> None:
        self._app = app
        self._token = token
        self._cookie = f"samkr_edge_{port}"
        # Browsers ignore it for http elsewhere, and say so in the console.
        opener = {"Cross-Origin-Opener-Policy": "same-origin"} if token is None else {}
        self._headers = {**HEADERS, **opener}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        if scope["type"] != "http":
            return
        answer = self._refusal(Request(scope))
        await (answer or self._app)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if request.method not in _READING:
            return PlainTextResponse("only GET", 405, {"Allow": ", ".join(_READING)})
        host = request.headers.get("host", "")
        if self._token is None and not _is_loopback(host):
            return PlainTextResponse("ask for this page as localhost or 127.0.0.1", 403)
        if _from_another_site(request, host):
            return PlainTextResponse("asked by the page of another site", 403)
        return None if self._token is None else self._without_token(request, self._token)

    def _without_token(self, request: Request, token: str) -> Response | None:
        """None for a request that has the token in its cookie."""
        if _same(request.cookies.get(self._cookie, ""), token):
            return None
        if request.url.path == "/" and _same(request.query_params.get("token", ""), token):
            # The token is in no later address: not in the history, and not in what a user copies.
            answer = RedirectResponse("/", 303)
            # `lax`: the link may be clicked in a mail. Nothing can be changed by a request anyway.
            answer.set_cookie(self._cookie, token, httponly=True, samesite="lax", path="/")
            return answer
        return PlainTextResponse("open the link that the command has printed: it ends with a token", 401)


def _same(given: str, token: str) -> bool:
    return secrets.compare_digest(given.encode(), token.encode())


def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine itself, at any port: an ssh tunnel may begin at another."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _from_another_site(request: Request, host: str) -> bool:
    """Whether a browser says that another site's page sends this; following a link to the page itself may be."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host:
        return True
    site = request.headers.get("sec-fetch-site", "none")
    return request.url.path != "/" and site not in ("same-origin", "none")
