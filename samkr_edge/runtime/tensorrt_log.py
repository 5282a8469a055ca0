"""TensorRT's messages, kept: its calls answer None or False, and the reason is in the log alone, often as a warning.

TensorRT takes a pointer to the logger that it is given, its plugin registry that of the first one, and both use it for
the life of the process. So a module has one logger, which is never freed, and whoever asks for something listens to
it meanwhile.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any
from weakref import WeakSet

# A builder that works without a GPU says these all the same.
_HARMLESS = ("cudaerror 35", "thread context has not been set")
# What TensorRT says when memory is short, lower case; 8.x writes "insuficient".
_MEMORY = (
    "tactic device request",
    "insufficient memory",
    "insuficient memory",
    "memory is insufficient",
    "out of memory",
    "outofmemory",
    "cudaerrormemoryallocation",
    "requested amount of gpu memory",
    "requested amount of memory",
    "user allocator error",
)
_LISTED = "LayerType: "
_MAKING = threading.Lock()


def is_about_memory(text: str) -> bool:
    """Whether a message of TensorRT's says that memory is short."""
    lower = text.lower()
    return any(part in lower for part in _MEMORY)


class Messages:
    """The last warnings and errors since ``listen``, for as long as this is held.

    TensorRT does not say whose a message is: two builds or loads at a time hear each other's.

    Attributes:
        logger: the module's ``ILogger``, to give to TensorRT.
        listing: with ``keep_listing`` what a builder that needs no GPU prints of the layers it made.
    """

    def __init__(self, logger: Any, most: int, keep_listing: bool) -> None:
        self.logger = logger
        self.listing: str | None = None
        self._most, self._keep_listing = most, keep_listing
        # Replaced and not changed, so that it can be read while others write.
        self._said: tuple[tuple[bool, str], ...] = ()

    def hear(self, severity: str, text: str) -> None:
        """One message, by the logger, under its lock."""
        is_error = severity in ("INTERNAL_ERROR", "ERROR")
        if is_error or severity == "WARNING":
            self._said = (*self._said[1 - self._most :], (is_error, text))
        elif self._keep_listing and _LISTED in text:
            self.listing = f"{self.listing or ''}{text}\n"

    def texts(self) -> list[str]:
        """Warnings and errors, in their order."""
        return [text for _, text in self.said()]

    def errors(self) -> list[str]:
        return [text for is_error, text in self.said() if is_error]

    def reasons(self) -> list[str]:
        """The last errors, else the last warnings, each on one line."""
        return [" ".join(text.split())[:200] for text in (self.errors() or self.texts())[-3:]]

    def said(self) -> list[tuple[bool, str]]:
        """(is it an error, text) of all of them, in their order."""
        if not self._keep_listing:
            return list(self._said)
        return [one for one in self._said if not any(part in one[1].lower() for part in _HARMLESS)]


def listen(trt: Any, *, most: int = 200, keep_listing: bool = False) -> Messages:
    """What ``trt``, an imported module of TensorRT, says from now on."""
    with _MAKING:  # of two made at a time the cache would let one go
        logger = _logger_of(trt)
    messages = Messages(logger, most, keep_listing)
    logger.add(messages)
    return messages


@cache
def _logger_of(trt: Any) -> Any:
    """The logger of a module, for the life of the process: see above."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            # A message may come from any thread, and within another: what is freed while the list of listeners is
            # gone through may be TensorRT's, and say so.
            self._lock = threading.RLock()
            self._listeners: WeakSet[Messages] = WeakSet()

        def add(self, messages: Messages) -> None:
            with self._lock:
                self._listeners.add(messages)

        def log(self, severity: Any, msg: str) -> None:
            if severity.name in ("INFO", "VERBOSE") and _LISTED not in msg:
                return
            with self._lock:
                for listener in list(self._listeners):
                    listener.hear(severity.name, msg)

    return Logger()
