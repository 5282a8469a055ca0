"""`predict --jsonl`: one line of JSON a frame, as it happens."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TextIO

from samkr_edge.cli.video_options import STDOUT
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.frames.recording import as_line
from samkr_edge.pose.poses import Poses
from samkr_edge.terminal import put


class JsonLines:
    """A context manager; writes nothing without a place.

    Attributes:
        closed: whether the reader of stdout has left (`| head`), who has seen enough.

    Raises:
        SamkrError: SE-D98 the file cannot be written, SE-D06 stdout cannot.
    """

    def __init__(self, place: Path | None) -> None:
        self.place = place
        self.closed = False
        self._file: TextIO | None = None

    def __enter__(self) -> JsonLines:
        if self.place is not None and self.place != STDOUT:
            try:
                self.place.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.place.open("w", encoding="utf-8")
            except OSError as error:
                raise self._refused(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as failure:
                if kind is None and not self.closed:
                    raise self._refused(failure) from failure

    def write(self, source: str, index: int, seconds: float | None, poses: Poses) -> None:
        """One frame, or an image, whose time is None."""
        if self.place is None or self.closed:
            return
        line = {"source": source, **as_line(index, seconds, poses)}
        text = json.dumps(line).replace("\x7f", "\\u007f") + "\n"
        if self._file is None:
            self.closed = not put(text)
            return
        try:
            self._file.write(text)
            self._file.flush()
        except BrokenPipeError:  # a pipe with a name
            self.closed = True
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> SamkrError:
        return SamkrError(
            "SE-D98",
            f"{self.place} cannot hold more lines",
            {"reason": error.strerror or error},
            fix=f"free some space, or choose another place with --jsonl; now: df -h {quoted(self.place or STDOUT)}",
        )
