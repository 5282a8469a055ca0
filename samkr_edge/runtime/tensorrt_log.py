"""TensorRT's messages, kept: its calls answer None or False, and the reason is in the log alone."""

from __future__ import annotations

from typing import Any

# A builder that works without a GPU says these all the same.
_HARMLESS = ("cudaerror 35", "thread context has not been set")


def make_logger(trt: Any, most: int = 200, keep_listing: bool = False) -> Any:
    """An ``ILogger`` whose ``messages`` are the last ``most`` warnings and errors as (is_error, text).

    With ``keep_listing`` its ``listing`` is what a builder that needs no GPU prints of the layers it made.
    """

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[bool, str]] = []
            self.listing: str | None = None

        def log(self, severity: Any, msg: str) -> None:
            is_error = severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
            if is_error or severity == trt.ILogger.Severity.WARNING:
                self.messages = [*self.messages[-most + 1 :], (is_error, msg)]
            elif keep_listing and "LayerType: " in msg:
                self.listing = f"{self.listing or ''}{msg}\n"

        def errors(self) -> list[str]:
            return [
                text
                for is_error, text in self.messages
                if is_error and not (keep_listing and any(one in text.lower() for one in _HARMLESS))
            ]

    return Logger()
