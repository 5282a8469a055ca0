"""Fetch a published file over HTTP: resumed where it was cut off, and checked by its hash.

What has come is kept beside its final name when the connection breaks, the disk is full or somebody presses Ctrl-C; the
next call goes on from there. Proxies are taken from the environment, as ever.
"""

from __future__ import annotations

import errno
import os
import shutil
from base64 import b64encode
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, build_opener

from samkr_edge import __version__
from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.artefact import sha256_of, unwritable
from samkr_edge.fixes import quoted
from samkr_edge.progress import progress
from samkr_edge.stream_address import without_secrets
from samkr_edge.terminal import say
from training.ready.sources import places
from training.ready.table import ReadyNetwork

_BLOCK = 1 << 18
_PATIENCE_S = 30.0
# Times that a broken connection is made anew, as long as each brings something.
_TIMES = 5


def fetch(network: ReadyNetwork, folder: Path, source: str | None) -> Path:
    """The published file of a ready network: downloaded into ``folder``, or the user's own where one is named.

    Args:
        network: which.
        folder: where it is downloaded to; nobody else may be at it.
        source: see ``training.ready.sources.places``.

    Raises:
        SamkrError: SE-D30 it does not come, SE-A36 another file came, SE-D01 it cannot be written, SE-A23 what
            ``source`` names is not there.
    """
    found = places(network, source)
    if isinstance(found, Path):
        _require_hash(network, found, str(found), "was not used")
        return found
    whole = folder / network.file
    # It may have come, and not have been imported: the disk was full, or somebody pressed Ctrl-C.
    if whole.is_file() and sha256_of(whole).startswith(network.sha256):
        return whole
    part = folder / f"{network.file}.part"
    again = part.exists()  # what had come before may be of another file
    while True:
        address = _download(network, found, part)
        try:
            _require_hash(network, part, _shown(network, address), "was dropped")
        except SamkrError:
            part.unlink()
            if not again:
                raise
        else:
            return part.rename(whole)
        again = False
        say(f"what had come of {network.file} before does not fit what came now: it begins anew")


def size_of(address: str) -> int | None:
    """Bytes of a published file, as its server says; None if it does not answer."""
    try:
        with build_opener().open(_request(address, method="HEAD"), timeout=_PATIENCE_S) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, HTTPException, TypeError, ValueError):
        return None


def _download(network: ReadyNetwork, addresses: Sequence[str], part: Path) -> str:
    """Fill ``part`` from the first of the addresses that has the file, and return that."""
    for address in addresses:
        for left in reversed(range(_TIMES)):
            before = _bytes_in(part)
            try:
                _receive(network, address, part)
                return address
            except HTTPError as error:
                if error.code == 416 and before:  # the part is as long as the file, or longer
                    if error.headers.get("Content-Range", "").endswith(f"/{before}"):
                        return address
                    part.unlink()
                    continue
                # 403 is what S3 answers for a file that it does not have.
                if error.code in (403, 404) and address != addresses[-1]:
                    break
                reason = error.reason.partition("\n")[0]  # a redirection's has several lines
                raise _does_not_come(network, address, f"{error.code} {reason}", part) from error
            except (
                OSError,
                HTTPException,
                UnicodeError,
            ) as error:  # the last of a host that no name can have
                if isinstance(error, OSError) and error.filename:  # a connection has none
                    raise _full(part, error) from error
                if _bytes_in(part) <= before or not left:
                    raise _does_not_come(network, address, _in_words(error), part) from error
                say(f"the connection broke after {_bytes_in(part) / 1e6:.1f} MB, and is made anew")
    raise _does_not_come(network, addresses[-1], "its server takes back what it sent", part)


def _receive(network: ReadyNetwork, address: str, part: Path) -> None:
    """One connection: the rest of the file, or all of it where the server does not resume."""
    begun = _bytes_in(part)
    with build_opener().open(_request(address, begun), timeout=_PATIENCE_S) as answer:
        if not (
            answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {begun}-")
        ):
            begun = 0
        first = answer.read(_BLOCK)
        _refuse_page(network, address, answer, b"" if begun else first)
        length = answer.headers.get("Content-Length")
        total = begun + int(length) if length else None
        if total and shutil.disk_usage(part.parent).free < total - begun:
            raise _full(part, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        if not begun:  # nothing has come yet, or the server does not resume
            part.unlink(missing_ok=True)
        megabytes = total and total / 1e6
        with open(part, "ab") as stream, progress(network.name, megabytes, unit="MB") as advance:
            advance(begun / 1e6)
            while first:
                try:
                    stream.write(first)
                    stream.flush()
                except OSError as error:
                    raise _full(part, error) from error
                advance(len(first) / 1e6)
                first = answer.read(_BLOCK)
    if total and _bytes_in(part) < total:
        raise ConnectionError(f"the connection was closed after {_bytes_in(part)} of {total} bytes")


def _request(address: str, begun: int = 0, method: str = "GET") -> Request:
    """A user and a password in the address go to its server, and to none that it points to."""
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    written = quote(
        parts.path, safe="/%:@!$&'()*+,;=~"
    )  # a link may hold letters and spaces as they are read
    request = Request(parts._replace(netloc=host, path=written).geturl(), method=method)
    request.add_header("User-Agent", f"samkr-edge/{__version__}")
    if begun:
        request.add_header("Range", f"bytes={begun}-")
    if at:
        request.add_unredirected_header(
            "Authorization", f"Basic {b64encode(unquote(user).encode()).decode()}"
        )
    return request


def _refuse_page(network: ReadyNetwork, address: str, answer: HTTPResponse, first: bytes) -> None:
    """A proxy's or a portal's page comes with code 200, too."""
    if answer.headers.get_content_type() == "text/html" or first.lstrip()[:1] == b"<":
        raise _other_file(
            network, _shown(network, address), "was not kept", "a web page: of a proxy, or a log-in"
        )


def _require_hash(network: ReadyNetwork, file: Path, origin: str, so: str) -> None:
    found = sha256_of(file)
    if not found.startswith(network.sha256):
        begin = found[: max(8, len(network.sha256))]
        raise _other_file(network, origin, so, f"{begin}..., {file.stat().st_size} bytes")


def _other_file(network: ReadyNetwork, origin: str, so: str, found: str) -> SamkrError:
    return SamkrError(
        "SE-A36",
        f"{origin} is not the file that {network.by} published as {network.name}, so it {so}",
        {"expected": f"a sha256 that begins with {network.sha256}", "found": found},
        fix=f"samkr-edge zoo get {quoted(network.name)} --from ADDRESS   # of another mirror, or a file",
    )


def _does_not_come(network: ReadyNetwork, address: str, reason: str, part: Path) -> SamkrError:
    kept = _bytes_in(part)
    return SamkrError(
        "SE-D30",
        f"the file of {network.name} could not be downloaded",
        {
            "from": _shown(network, address),
            "reason": reason,
            "kept": f"{kept / 1e6:.1f} MB; the same command goes on from there" if kept else None,
        },
        fix=f"samkr-edge zoo get {quoted(network.name)} --from {quoted(network.file)}   # once you have copied it here "
        f"from {network.address}",
    )


def _shown(network: ReadyNetwork, address: str) -> str:
    """An address without what may be secret in a mirror's; the publisher's is known."""
    return address if address == network.address else without_secrets(address)


def _in_words(error: OSError | HTTPException | UnicodeError) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    return reason_of(reason) if isinstance(reason, BaseException) else str(reason)


def _full(part: Path, error: OSError) -> SamkrError:
    return unwritable(
        part, error, "the download stopped; what has come is kept, and the next call goes on from there"
    )


def _bytes_in(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
