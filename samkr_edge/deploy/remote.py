"""Run a command on the device: copy its files there, run ``samkr-edge``, copy the results back.

Each run has its own folder there, removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samkr_edge.deploy.ssh import Host, Remote
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import behind
from samkr_edge.files.named import missing_file, one_name
from samkr_edge.passport import passport_path
from samkr_edge.printable import counted
from samkr_edge.terminal import say

if TYPE_CHECKING:
    import typer

# Prefix of a path that is already on the device and not copied.
THERE = "remote:"
# The parameter of a command's output path.
_OUT = "out"


def run_there(on: str, context: typer.Context, inputs: Sequence[str]) -> int:
    """Run the current command on a device instead of here; called by commands with ``--on``.

    The command line is rebuilt from the parsed parameters. Inputs are copied, a built model with its passport, and what
    the command writes into its folder there is copied back: next to ``--out`` if that is given, else next to the first
    input.

    Args:
        on: the device's address.
        context: of the command, with its parsed parameters.
        inputs: names of the command's parameters that are paths to copy; a path that begins with ``remote:`` is
            already on the device. All other paths are the device's.

    Returns:
        The exit code of the command there.
    """
    host = Host.parse(on)
    paths = [path for name in inputs for path in _paths(context.params.get(name))]
    local = [path for path in paths if not str(path).startswith(THERE)]
    carried = _with_passports(local)
    wanted = context.params.get(_OUT)
    arguments = [str(context.info_name).split()[-1], *_arguments(context, {*inputs, _OUT})]
    with Remote(host) as remote:
        say(f"connecting to {host.address}")
        device = remote.probe()
        try:
            say(f"copying {counted(len(carried), 'file')} to the device")
            if carried:
                remote.push(carried, device)
            say(f"on the device: samkr-edge {shlex.join(arguments)}")
            code = remote.run(device, arguments)
            made = sorted(set(remote.listing(device)) - {path.name for path in carried})
            if made:
                folder = Path(wanted or (local[0] if local else ".")).parent
                remote.pull(made, device, folder)
                say(f"copied back: {', '.join(str(folder / name) for name in made)}")
        finally:
            with contextlib.suppress(SamkrError):  # it must not hide why the run failed
                remote.remove(device)
    return code


def _arguments(context: typer.Context, carried: set[str]) -> list[str]:
    """The command line from its parsed parameters: without defaults and ``--on``, paths by their last part."""
    words: list[str] = []
    positional: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        value = context.params.get(name)
        source = context.get_parameter_source(name)
        if name == "on" or value is None or source is None or source.name != "COMMANDLINE":
            continue
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        values = [item.value if isinstance(item, Enum) else item for item in values]
        if name in carried:
            values = [_there(item) for item in values]
        if parameter.param_type_name == "argument":
            positional += [str(item) for item in values]
        elif isinstance(value, bool):
            words.append(parameter.opts[-1] if value else parameter.secondary_opts[-1])
        else:
            words += [word for item in values for word in (parameter.opts[-1], str(item))]
    return [*positional, *words]


def _there(path: Any) -> str:
    """A path for the command there, relative to the run's folder."""
    text = str(path)
    if text.startswith(THERE):
        return text[len(THERE) :]
    name = behind(Path(os.path.abspath(text))).name
    return f"./{name}" if name.startswith("-") else name


def _paths(value: Any) -> list[Path]:
    if value is None:
        return []
    return [Path(item) for item in value] if isinstance(value, (list, tuple)) else [Path(value)]


def _with_passports(paths: Sequence[Path]) -> list[Path]:
    """The paths, and the passports next to built models.

    Raises:
        SamkrError: SE-A23 one is missing, x the same name.
    """
    found: list[Path] = []
    for path in dict.fromkeys(behind(Path(os.path.abspath(path))) for path in paths):
        if not path.exists():
            raise missing_file(path, "file or folder")
        passport = passport_path(path)
        found += [path, passport] if path.is_file() and passport.is_file() else [path]
    names = [path.name for path in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise one_name([path for path in found if path.name == twice[0]])
    return found
