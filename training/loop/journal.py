"""The record of a run: log.jsonl always, TensorBoard scalars where tensorboard is installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import replacing

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"


class Journal:
    """Lines of ``out / log.jsonl``: ``step``, and what was measured there.

    Opening it drops what the log says about steps after ``step``: they are about to be repeated.
    """

    def __init__(self, out: Path, step: int) -> None:
        self.path = out / LOG
        with self._writing():
            _forget_after(self.path, step)
            self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
            self._board = _tensorboard(out / TENSORBOARD, step)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Add a line and a scalar for every number; SamkrError SE-D72 if the disk refuses."""
        with self._writing():
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()
            if self._board is not None:
                for name, value in values.items():
                    if isinstance(value, (int, float)):
                        self._board.add_scalar(name, value, step)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SamkrError(
                "SE-D72",
                f"the record of the run in {self.path.parent} could not be written, so training stopped",
                {"reason": error.strerror or error},
                fix="free some space there, and repeat the command with --resume",
            ) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            with suppress(OSError):  # the log has every number
                self._board.close()


def _forget_after(log: Path, step: int) -> None:
    """Drop lines about later steps, and lines that are cut off or damaged."""
    if not log.is_file():
        return
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("}\n") and _is_until(step, line)]
    with replacing(log) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def _is_until(step: int, line: str) -> bool:
    try:
        return bool(json.loads(line)["step"] <= step)
    except (ValueError, KeyError, TypeError):
        return False


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer of scalars, or None without tensorboard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
