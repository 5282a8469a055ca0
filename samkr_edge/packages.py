"""Our five packages are the folders next to this one; "module:attribute" strings are looked up only in them.

A user's project may have a `training` or `targets` too. A script's own folder, PYTHONPATH and `sys.modules` come before
ours, which does no harm until ours is needed: then it is one clear error.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

from samkr_edge import child_process
from samkr_edge.errors import SamkrError, files_of, reason_of

PACKAGES = child_process.NAMES

# The folder they are in, as the import path has it and with symbolic links followed.
_HOMES = (child_process.HOME, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def resolve(target: str) -> Any:
    """What "module:attribute" names. Strings are used where an import would run upward, or load what few need.

    Raises:
        SamkrError: SE-U91 another package has the name of the one that is needed.
        ImportError: and whatever else importing the module raises.
    """
    module, _, attribute = target.partition(":")
    error = _foreign(module.partition(".")[0])
    if error is not None:
        raise error
    return getattr(importlib.import_module(module), attribute)


def foreign_behind(error: BaseException) -> SamkrError | None:
    """SE-U91 if an exception comes from a package that hides one of ours, else None.

    For plain import statements, such as those of `targets`: the exception names what it could not import, or was
    raised in the other package's own code.
    """
    wanted = (getattr(error, "name", None) or "").partition(".")[0] if isinstance(error, ImportError) else ""
    ran = files_of(error)
    for name in PACKAGES:
        place = _place(name)
        if place is None or _is_ours(name, place):
            continue
        if name == wanted or any(file == place or file.startswith(place + os.sep) for file in ran):
            return _foreign(name)
    return None


def _foreign(name: str) -> SamkrError | None:
    place = _place(name)
    if name not in PACKAGES or place is None or _is_ours(name, place):
        return None
    return SamkrError(
        "SE-U91",
        f"another `{name}` hides the package `{name}` of samkr-edge, which is needed here",
        {"found": place, "expected": os.path.join(_HOMES[0], name)},
        fix="rename the other one, take its folder off PYTHONPATH, or use the `samkr-edge` command, which does not "
        "look into the folder it runs in",
    )


def not_installed(what: str, package: str, fix: str) -> SamkrError:
    """SE-U70: ``what`` needs a package that is not installed."""
    return SamkrError(
        "SE-U70",
        f"{what} needs the package {package}, which is not installed here",
        {"python": sys.executable},
        fix=fix,
    )


def does_not_import(
    error: ImportError, fix: str = "samkr-edge doctor   # says which, and how to fix it"
) -> SamkrError:
    """SE-U99: a package is installed and raises when it is imported."""
    return SamkrError(
        "SE-U99",
        "a package that is installed here does not import",
        {"reason": reason_of(error), "raised in": files_of(error)[-1], "python": sys.executable},
        fix=fix or "samkr-edge doctor   # says which, and how to fix it",
    )


def _place(name: str) -> str | None:
    """The folder or file of the package that Python has imported or would import; None if there is none."""
    module = sys.modules.get(name)
    if module is not None:
        folders, file = getattr(module, "__path__", None), getattr(module, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
        if spec is None:
            return None
        folders, file = spec.submodule_search_locations, spec.origin
    return next(iter(folders or ()), None) or file or f"a module {name} made by the program itself"


def _is_ours(name: str, place: str) -> bool:
    return any(os.path.realpath(place) == os.path.realpath(os.path.join(home, name)) for home in _HOMES)
