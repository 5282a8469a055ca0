"""Addresses of cameras and streams: what one is, and what of it may be shown.

Users and passwords stand before an @, in the path (``/user=admin_password=..._channel=1``), in the query or, of a
pipeline, in the properties of an element. Which part of an address is a secret is known to nobody but its camera, so
only what cannot be one is shown: in messages, results and the names of files.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):/{1,2}", re.IGNORECASE)
_STREAMED = {"rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt"}
# Their paths and queries hold the key to a channel.
_KEYED = {"rtmp", "rtmps", "srt"}
_NO_SCHEME = re.compile(r"[^/\\:@\s]+:.*@", re.DOTALL)
# What begins as an address does, its colon mistyped or forgotten.
_MISTYPED = re.compile(rf"(?:{'|'.join(sorted(_STREAMED, reverse=True))})[^\w\s]?//", re.IGNORECASE)
# Of a path that begins as one does, a colon and an @ are a time and a size: /clips/12:30:05/a@2x.png.
_PASSWORD = re.compile(r"(?!/[^/]|\.{1,2}/|~).*:.*@", re.DOTALL)
_HOST = re.compile(r"(\[[0-9a-f:.%]+\]|[^:\[\]]*)(:\d{1,5})?", re.IGNORECASE)
_MAY_TELL = re.compile(
    r"[@=&;%:,]|user|usr|login|admin|pass|pwd|token|key|auth|secret|sign|session|cred", re.IGNORECASE
)
# A part of a path that reads as words and numbers (ch1, Streaming, 101, axis-media, walk.mp4), as no token of a
# camera does.
_WORD = r"(?:[A-Za-z]?[a-z]{0,11}\d{0,4}|[A-Z]{1,4}\d{0,4})"
_WORDS = re.compile(rf"{_WORD}(?:[._-]{_WORD})*")
_LONGEST_WORDS = 40
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


def is_like_address(text: str) -> bool:
    """Whether a text is an address of any kind, holds one, or has what may be a user and a password before an @."""
    text = text.strip()
    found = (_SCHEME.match(text), _MISTYPED.match(text), _PASSWORD.match(text))
    return any(found) or "://" in text


def without_secrets(source: str) -> str:
    """A source as it may be shown; what is no address and no pipeline comes back as it is, and so do ssh's own."""
    text = source.strip()
    matched = _SCHEME.match(text)
    scheme = matched[1].lower() if matched else ""
    if scheme == "ssh" and not _PASSWORD.match(text[len("ssh:") :]):
        return source
    if matched is None and not _NO_SCHEME.match(text):
        if " ! " in text or ("!" in text and "=" in text):
            names = (re.match(r"[A-Za-z][\w/-]*", element.strip()) for element in text.split("!"))
            return " ! ".join(name[0] if name else _HIDDEN for name in names)
        mistyped = _MISTYPED.match(text)
        return (mistyped[0] if mistyped else "") + _HIDDEN if is_like_address(text) else source
    shown = f"{scheme}://" if scheme else ""
    authority, slash, rest = _split(text[matched.end() if matched else 0 :])
    host = authority.rpartition("@")[2]
    if "@" in rest or not _HOST.fullmatch(host):
        # An @ behind a slash: of a path, or of a password with a slash in it.
        return shown + _HIDDEN
    path: list[str] = []
    for part in re.split(r"/", re.split(r"[?#]", rest)[0]) if slash == "/" else []:
        if scheme in _KEYED or _MAY_TELL.search(part) or not _reads_as_words(part):
            path.append(_HIDDEN)
            break
        path.append(part)
    return shown + "/".join([host, *path])


def _reads_as_words(part: str) -> bool:
    return len(part) <= _LONGEST_WORDS and _WORDS.fullmatch(part) is not None


def _split(text: str) -> tuple[str, str, str]:
    """User, host and port; the character that ends them; and the rest."""
    end = re.search(r"[/?#]", text)
    return (text[: end.start()], end[0], text[end.end() :]) if end else (text, "", "")


def hide_secrets(text: str, words: Iterable[str]) -> str:
    """A text without the secrets of the words of a command line in it.

    Also where an option holds an address (``--on=ssh://...``), and where one was taken for a path, which loses a slash.
    """
    for word in words:
        value = re.search(r"=(.*)|[a-z][a-z0-9+]*://.*", word, re.DOTALL) if word.startswith("-") else None
        source = word if value is None else value[1] or value[0]
        shown = without_secrets(source)
        if shown == source:
            continue
        # Folders are named in fixes.
        for place in (source, source.strip(), Path(source), *Path(source).parents):
            name = str(place)
            if without_secrets(name) != name:
                for form in (name, shlex.quote(name), repr(name)[1:-1], shlex.quote(name)[1:-1]):
                    text = text.replace(form, shown)
    return text
