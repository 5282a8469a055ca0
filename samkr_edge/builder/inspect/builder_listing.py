"""The layers of an engine as TensorRT for RTX's builder logs them, in the structure of the engine inspector's JSON.

The inspector needs a GPU; the builder does not. At ``Logger.VERBOSE`` and ``ProfilingVerbosity.DETAILED`` it ends every
build with one message: ``Layers:``, a line for each layer, an empty line and the network's inputs and outputs. A build
for several compute capabilities makes one engine and prints one listing for all of them.

The lines are not made for parsing: names of ONNX nodes and tensors appear unescaped, with their commas and brackets. So
a line is read from left to right against the fields that must follow, and one that does not fit is an error: a skipped
layer would make the counts wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samkr_edge.errors import SamkrError

# The message follows the logger's prefix.
_HEADER = re.compile(r"(?:^|.*[|\]:] ?)Layers:\s*")
_CAPABILITIES = re.compile(r"Number of target compute capabilities: (\d+)\s*$")
_START = re.compile(r", LayerType: ([\w .+-]+), Inputs: \[(?= \{ Name: |\], Constants: \[)")
_TENSOR = re.compile(
    r", Dimensions: \[(?P<dimensions>[-\d,]*)\], Strides: \[[-\d,]*\], StrideOrder: \[[\d,]*\], "
    r"Datatype: (?P<datatype>\w+), Format: (?P<format>[^{}]*?) ?\}(?=, \{ Name: |\], )"
)
_FIELD = re.compile(r", (?:Dimensions|Strides|StrideOrder): \[")
_END = re.compile(
    r", TacticName: (?P<tactic>[^,]*), StreamId: (?P<stream>\d+)(?:, \w+: [^,\[\]{}]*)*, Metadata: (?P<metadata>.*)"
)
_BINDING = re.compile(
    r" Name: (?P<name>.*), IOMode: (?P<mode>Input|Output), DataType: (?P<type>\w+), "
    r"Dimensions: \[(?P<dimensions>[-\d,]*)\], .*"
)


def listings_of_log(log: str) -> list[dict[str, Any]]:
    """All engines that a log lists, in order.

    Args:
        log: the messages of one or more builds, joined by line feeds; prefixes of a logger are allowed.

    Returns:
        Objects with ``Layers`` (``Name``, ``LayerType``, ``Inputs``, ``Constants``, ``Outputs``, ``TacticName``,
        ``StreamId``, ``Metadata``; a tensor has ``Name``, ``Dimensions``, ``Datatype`` and ``Format``;
        an open dimension is -1), ``I/O Tensors`` and, if the log has it, ``Number of Compute Capabilities``.

    Raises:
        SamkrError: SE-B62 a listing that is cut off, or in an unknown form.
    """
    # Not `splitlines`, which would also split at separators that metadata may contain.
    lines = log.replace("\r\n", "\n").split("\n")
    found = []
    capabilities: int | None = None
    for number, line in enumerate(lines):
        if match := _CAPABILITIES.search(line):
            capabilities = int(match[1])
        if _HEADER.fullmatch(line):
            found.append(_listing(lines, number + 1, capabilities))
            capabilities = None
    return found


def listing_of_log(log: str, capabilities: Sequence[str] = ()) -> dict[str, Any]:
    """The only engine that a build's log lists; ``capabilities`` (``SM89``, ...) are added to it.

    Raises:
        SamkrError: SE-B61 none is listed, or more than one; SE-B62 as ``listings_of_log``.
    """
    found = listings_of_log(log)
    if len(found) != 1:
        raise SamkrError(
            "SE-B61",
            "the builder's log lists no engine" if not found else "the builder's log lists several engines",
            {
                "listings": f"{len(found)}, in {len(log)} characters",
                "needed": "one",
            },
            fix="build it with profiling verbosity DETAILED, and a logger that keeps VERBOSE messages",
        )
    if capabilities:
        found[0]["Compute Capabilities"] = list(capabilities)
    return found[0]


def layers_text(listing: Mapping[str, Any]) -> str:
    """Text of ``ENGINE.layers.json``, which `samkr-edge inspect` reads without a GPU."""
    sections = [f"{json.dumps(key)}: {_rows(value)}" for key, value in listing.items()]
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _rows(value: Any) -> str:
    """JSON with one line per layer, so that two listings can be compared by eye."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in value) + "\n]"


def layers_path(engine: Path) -> Path:
    """``model.engine`` -> ``model.engine.layers.json``."""
    return engine.with_name(engine.name + ".layers.json")


def _listing(lines: Sequence[str], start: int, capabilities: int | None) -> dict[str, Any]:
    """The listing whose first layer is at ``start``."""
    end = _empty_line(lines, start)
    if end == len(lines):
        raise _unreadable(end, "the log ends within the layers", lines[-1])
    if end == start:
        raise _unreadable(start, "no layer follows `Layers:`", "")
    if lines[end + 1 : end + 2] != ["I/O Tensors:"]:
        raise _unreadable(
            end + 1, "`I/O Tensors:` should follow the layers", "".join(lines[end + 1 : end + 2])
        )
    listing: dict[str, Any] = {
        "Layers": [_layer(lines[number], number) for number in range(start, end)],
        "I/O Tensors": [
            _binding(lines[number], number) for number in range(end + 2, _empty_line(lines, end + 2))
        ],
    }
    if capabilities is not None:
        listing["Number of Compute Capabilities"] = capabilities
    return listing


def _empty_line(lines: Sequence[str], start: int) -> int:
    return next((number for number in range(start, len(lines)) if not lines[number]), len(lines))


def _layer(line: str, number: int) -> dict[str, Any]:
    start = _START.search(line)
    if start is None or not line.startswith("Name: "):
        raise _unreadable(number, "`Name: ..., LayerType: ..., Inputs: [` should begin it", line)
    inputs, place = _tensors(line, start.end(), number)
    constants, place = _tensors(line, _behind(", Constants: [", line, place, number), number)
    outputs, place = _tensors(line, _behind(", Outputs: [", line, place, number), number)
    end = _END.fullmatch(line, place)
    if end is None:
        raise _unreadable(number, "`TacticName`, `StreamId` and `Metadata` should end it", line[place:])
    return {
        "Name": line[len("Name: ") : start.start()],
        "LayerType": start[1],
        "Inputs": inputs,
        "Constants": constants,
        "Outputs": outputs,
        "TacticName": end["tactic"],
        "StreamId": int(end["stream"]),
        "Metadata": end["metadata"],
    }


def _tensors(line: str, place: int, number: int) -> tuple[list[Mapping[str, Any]], int]:
    """The tensors of a list whose opening bracket is before ``place``, and the place after its closing bracket."""
    found: list[Mapping[str, Any]] = []
    if line.startswith("]", place):
        return found, place + 1
    while True:
        name = _behind(" { Name: ", line, place, number)
        rest = _TENSOR.search(line, name)
        if rest is None or _FIELD.search(line, name, rest.start()):
            # A field within the name means that a tensor before this one may have been swallowed.
            raise _unreadable(
                number, "a tensor's dimensions, strides, type and format should follow", line[name:]
            )
        found.append(
            {
                "Name": line[name : rest.start()],
                "Dimensions": _integers(rest["dimensions"]),
                "Datatype": rest["datatype"],
                "Format": rest["format"],
            }
        )
        place = rest.end() + 1  # the pattern has checked that a comma or the closing bracket follows
        if line[rest.end()] == "]":
            return found, place


def _behind(expected: str, line: str, place: int, number: int) -> int:
    if not line.startswith(expected, place):
        raise _unreadable(number, f"`{expected.strip(', ')}` should follow", line[place:])
    return place + len(expected)


def _binding(line: str, number: int) -> dict[str, Any]:
    match = _BINDING.fullmatch(line)
    if match is None:
        raise _unreadable(number, "`Name`, `IOMode`, `DataType` and `Dimensions` should be there", line)
    return {
        "Name": match["name"],
        "IOMode": match["mode"],
        "DataType": match["type"],
        "Dimensions": _integers(match["dimensions"]),
    }


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")] if text else []


def _unreadable(number: int, why: str, there: str) -> SamkrError:
    return SamkrError(
        "SE-B62",
        "the builder's list of layers is cut off or in an unknown form",
        {"line": number + 1, "reason": why, "there": there[:120] or "nothing"},
        fix="samkr-edge doctor   # and report what it prints: this TensorRT writes its lists in another form",
    )
