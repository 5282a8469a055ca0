"""Out of memory, as each library reports it: the words differ, and some blame the file instead."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from samkr_edge.errors import SamkrError, reason_of

# Python, also quoted by others; C++ and ONNX Runtime; the dynamic linker; OpenCV; protobuf; the system and torch;
# Python's threads, which take a stack each. Not CUDA's: GPU memory errors are handled where the GPU is used.
_WORDS = re.compile(
    r"\bMemoryError|bad_alloc|failed to allocate|failed to map segment|insufficient memory|failed to serialize proto"
    r"|(can't|cannot) allocate memory|not enough memory|can't start new thread",
    re.IGNORECASE,
)
_MESSAGE = "this process ran out of memory, so it stopped"


def short_of_memory(error: BaseException) -> SamkrError | None:
    """SE-V52 if an exception, or one that led to it, says that this process got no more memory; else None."""
    if isinstance(error, SamkrError) and "memory" in error.message:
        return None  # it already says more
    said = next(filter(None, map(_said, _and_causes(error))), None)
    if said is None:
        return None
    facts = {"reason": said}
    fix = "free -m   # close other programs, or use a smaller input size, batch or cache"
    try:
        import resource
    except ImportError:  # Windows
        return SamkrError("SE-V52", _MESSAGE, facts, fix=fix)
    facts["used"] = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most"
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        facts["allowed"] = f"{limit / 2**20:.0f} MiB of addresses (ulimit -v)"
        fix = "ulimit -v unlimited"
    return SamkrError("SE-V52", _MESSAGE, facts, fix=fix)


def _said(error: BaseException) -> str | None:
    """Its line about memory; None if it has none."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return reason_of(error)
    if isinstance(error, SamkrError):
        return None
    found = _WORDS.search(str(error))
    if found is None:
        return None
    # Such texts are long, with the reason at the end.
    around = found.string[max(0, found.start() - 100) : found.end() + 40]
    return next(line.strip() for line in around.splitlines() if found[0] in line)


def _and_causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it was raised from or while handling."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__
