"""TensorRT's messages, kept: its calls answer None or False, and the reason is in the log alone."""

from __future__ import annotations

from typing import Any


def make_logger(trt: Any, most: int = 200) -> Any:
    """An ``ILogger`` whose ``messages`` are the last ``most`` warnings and errors as (is_error, text)."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[tuple[bool, str]] = []

        def log(self, severity: Any, msg: str) -> None:
            is_error = severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)
            if is_error or severity == trt.ILogger.Severity.WARNING:
                self.messages = [*self.messages[-most + 1 :], (is_error, msg)]

        def errors(self) -> list[str]:
            return [text for is_error, text in self.messages if is_error]

    return Logger()
