"""Addresses of cameras and streams: what one is, and what of it may be shown.

Users and passwords stand before an @, in the path (``/user=admin_password=..._channel=1``), in the query or, of a
pipeline, in the properties of an element. Which part of an address is a secret is known to nobody but its camera, so
only what cannot be one is shown: in messages, results and the names of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):/{1,2}", re.IGNORECASE)
_STREAMED = {"rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt"}
# Their paths and queries hold the key to a channel.
_KEYED = {"rtmp", "rtmps", "srt"}
_NO_SCHEME = re.compile(r"[^/\\:@\s]+:.*@", re.DOTALL)
_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^:\[\]]*)(:\d{1,5})?", re.IGNORECASE)
_MAY_TELL = re.compile(
    r"[@=&;%:,]|user|usr|login|pass|pwd|token|key|auth|secret|sign|session|cred", re.IGNORECASE
)
_HIDDEN = "..."


def is_stream_address(source: str) -> bool:
    """Whether a source is the address of a stream, in small letters or capitals."""
    scheme = _SCHEME.match(source)
    return (
        scheme is not None
        and source[scheme.end() - 2 : scheme.end()] == "//"
        and scheme[1].lower() in _STREAMED
    )


def in_small_letters(source: str) -> str:
    """An address with its scheme as FFmpeg knows it; whatever else comes back as it is."""
    scheme, colon, rest = source.partition(":")
    return scheme.lower() + colon + rest if is_stream_address(source) else source


def without_secrets(source: str) -> str:
    """A source as it may be shown; what is no address and no pipeline comes back as it is, and so do ssh's own."""
    if " ! " in source:
        return " ! ".join((element.split() or [_HIDDEN])[0] for element in source.split(" ! "))
    matched = _SCHEME.match(source)
    if matched is None and not _NO_SCHEME.match(source):
        return source
    scheme = matched[1].lower() if matched else ""
    if scheme == "ssh":
        return source
    shown = f"{scheme}://" if scheme else ""
    authority, slash, rest = _split(source[matched.end() if matched else 0 :])
    host = authority.rpartition("@")[2]
    if "@" in rest or not _HOST.fullmatch(host):
        # An @ behind a slash: of a path, or of a password with a slash in it.
        return shown + _HIDDEN
    path: list[str] = []
    for part in re.split(r"/", re.split(r"[?#]", rest)[0]) if slash == "/" else []:
        if scheme in _KEYED or _MAY_TELL.search(part):
            path.append(_HIDDEN)
            break
        path.append(part)
    return shown + "/".join([host, *path])


def _split(text: str) -> tuple[str, str, str]:
    """User, host and port; the character that ends them; and the rest."""
    end = re.search(r"[/?#]", text)
    return (text[: end.start()], end[0], text[end.end() :]) if end else (text, "", "")


def hide_secrets(text: str, sources: Iterable[str]) -> str:
    """A text without the secrets of the sources in it, also where one was taken for a path, which loses a slash."""
    for source in sources:
        shown = without_secrets(source)
        if shown != source:
            text = text.replace(source, shown)
            for place in (Path(source), *Path(source).parents):  # folders are named in fixes
                text = text.replace(str(place), shown) if "@" in str(place) else text
    return text
