"""Where the page of `predict --serve` is served: what `[HOST:]PORT` means, a bound socket, and the link to print."""

from __future__ import annotations

import contextlib
import errno
import getpass
import ipaddress
import os
import re
import socket
import sys
from dataclasses import dataclass

from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted

_WORD = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:\s/]+):)?(?P<port>[0-9]{1,5})")
_LOOPBACK = "127.0.0.1"
_BACKLOG = 64
# A documentation address (RFC 5737): a datagram socket that connects to it sends nothing, and knows from which address
# it would.
_ELSEWHERE = ("192.0.2.1", 9)


@dataclass(frozen=True)
class Listening:
    """A socket that listens, and how to get there.

    Attributes:
        host: as it stands in the link; an IPv6 address in brackets.
        loopback: whether only this machine reaches it.
    """

    socket: socket.socket
    host: str
    port: int
    loopback: bool

    def link(self, token: str | None) -> str:
        return f"http://{self.host}:{self.port}/" + (f"?token={token}" if token else "")


def listen(word: str) -> Listening:
    """Listen at ``PORT``, of the loopback, or at ``HOST:PORT``; port 0 is any free one.

    Raises:
        SamkrError: SE-U37 not such a word, SE-V62 this machine does not give the address or the port.
    """
    host, port = _parts(word)
    opened: socket.socket | None = None
    try:
        family, _, _, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, socket.SOCK_STREAM)
        if os.name == "posix":  # else a port is in use for a minute after the command has ended
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `[::]` means every address of this machine, IPv4 included.
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(place[0] != "::"))
        opened.bind(place)
        opened.listen(_BACKLOG)
    except (OSError, UnicodeError, OverflowError) as error:
        if opened is not None:
            opened.close()
        raise _refused(word, host, port, error) from error
    address = ipaddress.ip_address(str(place[0]).partition("%")[0])
    shown = _own_address() if address.is_unspecified else str(place[0])
    return Listening(
        opened, f"[{shown}]" if ":" in shown else shown, opened.getsockname()[1], address.is_loopback
    )


def way_in(listening: Listening) -> str | None:
    """For a loopback that is not in front of the user: how to get there by ssh; None where there is a screen."""
    over_ssh = os.environ.get("SSH_CONNECTION", "").split()
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not listening.loopback or (sys.platform != "linux") or (screen and not over_ssh):
        return None
    host = over_ssh[2] if len(over_ssh) == 4 else socket.gethostname()
    with contextlib.suppress(OSError, KeyError):
        host = f"{getpass.getuser()}@{host}"
    port = listening.port
    ends = f"{port}:{listening.host}:{port}"
    return (
        f"  on another computer, open http://localhost:{port}/ after\n  ssh -L {quoted(ends)} {quoted(host)}"
    )


def _parts(word: str) -> tuple[str, int]:
    found = _WORD.fullmatch(word)
    if found is None or int(found["port"]) > 65535:
        raise SamkrError(
            "SE-U37",
            f"--serve {word[:80]!r} is no place to serve a page at, so nothing was done",
            {
                "expected": "PORT from 0 to 65535, or HOST:PORT; an IPv6 address in brackets",
                "as in": "8080, 0.0.0.0:8080, [::1]:8080; port 0 is any free one",
            },
            fix="--serve 8080",
        )
    host = (found["host"] or _LOOPBACK).strip("[]")
    return (_LOOPBACK if host.lower() == "localhost" else host), int(found["port"])


def _refused(word: str, host: str, port: int, error: Exception) -> SamkrError:
    number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    reason, fix = getattr(error, "strerror", None) or str(error), "--serve 8080"
    usual = None
    if number == errno.EADDRINUSE:
        usual = "another program listens there, perhaps an earlier `samkr-edge predict --serve`"
        fix = f"ss -ltnp sport = :{port}   # which program; or choose another port"
    elif number in (errno.EACCES, errno.EPERM):
        usual = "ports below 1024 are the system's"
    elif number == errno.EADDRNOTAVAIL:
        usual = f"{host} is not an address of this machine; 0.0.0.0 means all that it has"
    elif isinstance(error, (socket.gaierror, UnicodeError)):
        usual = f"{host} is not the name or address of a machine"
    return SamkrError(
        "SE-V62",
        f"the page cannot be served at {word[:80]}, so nothing was done",
        {"reason": reason, "usual": usual},
        fix=fix,
    )


def _own_address() -> str:
    """The address under which others most likely reach this machine; its name if it has no network."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            asked.connect(_ELSEWHERE)
            return str(asked.getsockname()[0])
    except OSError:
        return socket.gethostname()
