"""TensorRT's messages, kept: its calls return None or False, and only the log has the reason, often as a warning.

TensorRT keeps a pointer to the logger that it is given, its plugin registry one to the first logger, and both use it
for the life of the process. So each TensorRT module has one logger, which is never freed; a caller listens to it for a
while.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any
from weakref import WeakSet

# A builder without a GPU prints these although it works.
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
    """Whether a message of TensorRT says that memory is short."""
    lower = text.lower()
    return any(part in lower for part in _MEMORY)


class Messages:
    """The last warnings and errors since ``listen``, for as long as this is held.

    TensorRT does not say what a message belongs to: two simultaneous builds or loads hear each other's.

    Attributes:
        logger: the module's ``ILogger``, to give to TensorRT.
        listing: with ``keep_listing`` the list of layers that a builder without a GPU prints.
    """

    def __init__(self, logger: Any, most: int, keep_listing: bool) -> None:
        self.logger = logger
        self.listing: str | None = None
        self._most, self._keep_listing = most, keep_listing
        # Replaced rather than mutated, so that it can be read while others write.
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
        """(is it an error, text) of all messages, in order."""
        if not self._keep_listing:
            return list(self._said)
        return [one for one in self._said if not any(part in one[1].lower() for part in _HARMLESS)]


def listen(trt: Any, *, most: int = 200, keep_listing: bool = False) -> Messages:
    """What ``trt``, an imported TensorRT module, logs from now on."""
    with _MAKING:  # two threads could make one each, and the cache would drop one
        logger = _logger_of(trt)
    messages = Messages(logger, most, keep_listing)
    logger.add(messages)
    return messages


@cache
def _logger_of(trt: Any) -> Any:
    """The logger of a module, for the life of the process."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            # A message may come from any thread, and while another is delivered: freeing an object of TensorRT
            # in this loop may log again.
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
