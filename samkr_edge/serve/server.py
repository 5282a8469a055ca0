"""The web server of `predict --serve`, in a thread of its own: it starts, says where, and ends with the command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from threading import Thread
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from samkr_edge.serve.address import Listening
from samkr_edge.serve.application import Viewers, application
from samkr_edge.serve.guard import new_token
from samkr_edge.serve.live import LivePictures

# Most open connections: a browser has up to six for a page.
CONNECTIONS = 64
# Bytes of a request's line and headers.
_LONGEST_REQUEST = 16 << 10
# Looks, and seconds between them, after which a connection that has not got on, to its end or to its next request, is
# cut. Longer than a request waits for a picture. Looks, not a clock: on a machine that stood still, nobody was late.
LOOKS = 20
_LOOK_S = 1.0
_END_S = 1
# At most so long the end waits for viewers between two requests: one may be gone.
_LINGER_S = 1.5
_JOIN_S = 5.0


class ImpatientConnection(H11Protocol):
    """A connection of uvicorn's that is cut where the other side sends its request by the byte, or reads no answer."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._answers = 0
        self._progress = (0, 0)
        self._patience = LOOKS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.abort()
        else:
            self._look()

    def on_response_complete(self) -> None:
        self._answers += 1
        super().on_response_complete()

    def _look(self) -> None:
        """Cut it after ``LOOKS`` without an answer completed, or more of one read; look again later."""
        progress = (self._answers, self.transport.get_write_buffer_size())
        if progress != self._progress:
            self._progress, self._patience = progress, LOOKS
        self._patience -= 1
        if self._patience < 0:
            self.transport.abort()
        elif self in self.connections:
            self.loop.call_later(_LOOK_S, self._look)


class PageServer:
    """A context manager around the server's thread.

    Attributes:
        token: of the link; None on the loopback.
    """

    def __init__(self, listening: Listening, live: LivePictures, facts: Mapping[str, Any]) -> None:
        self.token = None if listening.loopback else new_token()
        self.link = listening.link(self.token)
        self._listening = listening
        self._live = live
        self._viewers = Viewers()
        config = uvicorn.Config(
            application(live, facts, self._viewers, token=self.token, port=listening.port),
            http=ImpatientConnection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=_LONGEST_REQUEST,
            timeout_graceful_shutdown=_END_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = Thread(
            target=self._server.run, args=([listening.socket],), daemon=True, name="page-server"
        )

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Tell who watches that it has ended, then close every connection."""
        for stream in self._live.streams:
            stream.end()
        until = time.monotonic() + _LINGER_S
        while self._viewers.untold() and time.monotonic() < until:
            time.sleep(0.02)
        self._server.should_exit = True
        self._thread.join(_JOIN_S)
        self._listening.socket.close()
