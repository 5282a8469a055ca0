"""What the page of `predict --serve` asks for: its three files, facts that do not change, and the newest pictures."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from samkr_edge.serve.guard import Guard
from samkr_edge.serve.live import LivePictures, LiveStream

# Most viewers; the next one is told so.
VIEWERS = 8
# Seconds after which a viewer who asks for nothing has left.
_LEFT_S = 15.0
# Who asked last so long ago may be drawing a picture, and asks again.
_RECENTLY_S = 1.5
# Seconds that a request waits for a newer picture; then the viewer asks again.
_WAIT_S = 8.0
_VIEWER = re.compile(r"[A-Za-z0-9]{8,32}")
_AFTER = re.compile(r"(?:\d{1,12}|-)(?:,(?:\d{1,12}|-))*")
_PAGE = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


class Viewers:
    """Who watches: each page has drawn a name, and counts until it has asked for nothing for a while."""

    def __init__(self, most: int = VIEWERS) -> None:
        self._most = most
        self._seen: dict[str, float] = {}
        self._told: set[str] = set()

    def admit(self, name: str) -> bool:
        """Whether this viewer may watch; it is noted as there."""
        now = time.monotonic()
        self._seen = {one: at for one, at in self._seen.items() if now - at < _LEFT_S}
        if name not in self._seen and len(self._seen) >= self._most:
            return False
        self._seen[name] = now
        return True

    def tell(self, name: str) -> None:
        """This viewer's answer says that all is over: it asks for nothing more."""
        self._told.add(name)

    def untold(self) -> bool:
        """Whether a viewer that has just asked, and will ask again, does not know yet that all is over."""
        since = time.monotonic() - _RECENTLY_S
        return any(at > since and name not in self._told for name, at in list(self._seen.items()))


class News:
    """Wakes the requests that wait for a picture; made in any thread, used in the server's."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event: asyncio.Event | None = None

    def came(self) -> None:
        """From any thread: something is newer."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None

    def here(self) -> None:
        """In the server's thread, before looking whether something is newer."""
        self._loop = asyncio.get_running_loop()

    async def wait(self, seconds: float) -> None:
        """Until something is newer, at most so long."""
        if self._event is None:
            self._event = asyncio.Event()
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            return


class LivePage:
    """The answers. ``facts`` are sent as they are: see ``samkr_edge.serve.facts``."""

    def __init__(self, live: LivePictures, facts: Mapping[str, Any], viewers: Viewers) -> None:
        self._live = live
        self._facts = facts
        self._viewers = viewers
        self._news = News()
        live.on_news = self._news.came
        self._files = {
            path: (files(__package__) / "page" / name).read_bytes() for path, name in _PAGE.items()
        }

    async def file(self, request: Request) -> Response:
        """One of the three files, which were read at the start: no name of a file comes from a request."""
        path = request.url.path
        return Response(self._files[path], media_type=_TYPES[_PAGE[path].rpartition(".")[2]])

    async def facts(self, request: Request) -> Response:
        """Models, device, streams, and how to draw."""
        return JSONResponse(self._facts)

    async def pictures(self, request: Request) -> Response:
        """The newest picture of every stream that has one newer than ``after``, as soon as one has.

        ``after`` is a number for each stream, ``-`` for one that is not watched: ``after=12,-,3``. Once all are over
        the answer has the last picture of these too.
        """
        viewer, after = request.query_params.get("viewer", ""), request.query_params.get("after", "")
        streams = self._live.streams
        numbers = after.split(",")
        if not (_VIEWER.fullmatch(viewer) and _AFTER.fullmatch(after) and len(numbers) == len(streams)):
            return PlainTextResponse("not what the page asks for", 400)
        if not self._viewers.admit(viewer):
            return PlainTextResponse(f"{VIEWERS} viewers are watching already", 503, {"Retry-After": "5"})
        wanted = {index: int(number) for index, number in enumerate(numbers) if number != "-"}
        await self._newer({streams[index]: number for index, number in wanted.items()})
        if self._over():  # who watches only some learns that there is nothing else to wait for
            self._viewers.tell(viewer)
            wanted = {index: wanted.get(index, 0) for index in range(len(streams))}
        parts = [
            index.to_bytes(4, "big") + streams[index].body
            for index, number in wanted.items()
            if streams[index].number > number
        ]
        return Response(b"".join(parts), 200 if parts else 204, media_type="application/octet-stream")

    def _over(self) -> bool:
        return all(stream.over for stream in self._live.streams)

    async def _newer(self, wanted: Mapping[LiveStream, int]) -> None:
        """Wait until one of the streams has a picture of a higher number; while waiting, they encode."""
        self._news.here()
        until = time.monotonic() + _WAIT_S
        for stream in wanted:
            stream.waiting += 1
        try:
            while not self._over() and not any(stream.number > number for stream, number in wanted.items()):
                left = until - time.monotonic()
                if left <= 0:
                    return
                await self._news.wait(left)
        finally:
            for stream in wanted:
                stream.waiting -= 1


def application(
    live: LivePictures, facts: Mapping[str, Any], viewers: Viewers, *, token: str | None, port: int
) -> ASGIApp:
    """The page as an ASGI application, guarded."""
    page = LivePage(live, facts, viewers)
    routes = [
        *(Route(path, page.file, methods=["GET"]) for path in _PAGE),
        Route("/facts", page.facts, methods=["GET"]),
        Route("/pictures", page.pictures, methods=["GET"]),
    ]
    starlette = Starlette(routes=routes)
    starlette.router.redirect_slashes = False
    return Guard(starlette, token=token, port=port)
