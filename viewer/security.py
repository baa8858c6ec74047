"""Which requests the server accepts: those of its page on this machine."""

from __future__ import annotations

import hmac
import re
import secrets
from http.cookies import SimpleCookie

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 64 * 1024  # bytes
FILES = re.compile(r"/api/(files|runs/[^/]+/cameras)")  # takes any body, bit by bit, and has a limit of its own
COOKIE = "splatdistill"
TOKEN_HEADER = "x-splatdistill-token"  # noqa: S105  (a name, not a secret)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
# Spark compiles WebAssembly that it carries as a data URL, and sorts in workers that it makes of blobs.
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self' data: blob:; "
    "img-src 'self' data: blob:; media-src 'self'; worker-src blob:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """Refuses requests under a foreign name (400), from foreign pages (403) and without the token (403).

    POST needs our own Origin, the token and JSON; bodies end at MAX_BODY, but for FILES. private: reached from other
    machines, under any name, so that reading needs the token too: `/?token=...` turns it into a cookie. Otherwise only
    names of this machine are answered, against DNS rebinding.
    """

    def __init__(self, app: ASGIApp, *, private: bool) -> None:
        self.app = app
        self.private = private
        self.token = secrets.token_urlsafe(24)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = {**HEADERS, "cache-control": "no-store" if scope["path"].startswith("/api") else "no-cache"}
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in extra.items())]
            await send(message)

        request = Request(scope)
        answer = self._refusal(request) or self._welcome(request)
        if answer is None and request.method == "POST" and not FILES.fullmatch(scope["path"]):
            body, answer = await _body(receive)
            receive = _replay(body)
        await (answer or self.app)(scope, receive, protected)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        # Not starlette's TrustedHostMiddleware: that of 0.40, which we allow, cuts [::1]:8017 at its first colon.
        if not self.private and host not in LOOPBACK and host.rpartition(":")[0] not in LOOPBACK:
            return _no(400, "This server does not answer under that host name.")
        if request.method not in ("GET", "HEAD", "POST"):
            return _no(403, "Only GET, HEAD and POST are answered.")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return _no(403, "Requests from other pages are refused.")
        if request.method == "POST":
            if request.headers.get("origin") != f"http://{host}":
                return _no(403, "The request does not come from this server's page.")
            if not self._same(request.headers.get(TOKEN_HEADER, "")):
                return _no(403, "The token is missing or wrong.")
            wanted = "application/octet-stream" if FILES.fullmatch(request.url.path) else "application/json"
            if request.headers.get("content-type", "").partition(";")[0].strip() != wanted:
                return _no(400, f"The body must be {wanted}.")
        if self.private and request.url.path != "/" and not self._same(_cookie(request)):
            return _no(403, "Open the address with the token that the server printed.")
        return None

    def _welcome(self, request: Request) -> Response | None:
        """The way in from another machine: the token of the address becomes a cookie."""
        if not self.private or request.url.path != "/" or self._same(_cookie(request)):
            return None
        if not self._same(request.query_params.get("token", "")):
            return _no(403, "Open the address with the token that the server printed.")
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
        return answer

    def _same(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


def _cookie(request: Request) -> str:
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(request.headers.get("cookie", ""))
    except Exception:  # http.cookies raises a class of its own on odd names
        return ""
    return jar[COOKIE].value if COOKIE in jar else ""


def _no(status: int, sentence: str) -> Response:
    return PlainTextResponse(sentence + "\n", status_code=status)


async def _body(receive: Receive) -> tuple[bytes, Response | None]:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"", _no(400, "The body was cut.")
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return b"", _no(400, f"The body is longer than {MAX_BODY} bytes.")
        if not message.get("more_body"):
            return body, None


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
