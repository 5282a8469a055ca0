"""Our commands in child processes, where no file of the working directory is taken for a module.

Python puts the working directory first on the import path (``-m``, ``-c``), so a user's ``random.py`` would run and a
user's ``training.py`` would hide ours. ``python -m`` imports from there before any code of ours runs, ``-P`` came with
Python 3.11, and ``-I`` loses PYTHONPATH and the user's site-packages. So this file is started by its path, which no
folder can hide: Python then puts the file's own folder first, which is removed before anything else is imported.
``os`` and ``sys`` are always loaded by then; this file imports nothing else at its top.
"""

import os
import sys

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
# The folder of our five packages: a checkout, or site-packages.
HOME = os.path.dirname(_PACKAGE)
NAMES = ("samkr_edge", "targets", "training", "calibration", "benchmarks")


def command(*arguments: str) -> list[str]:
    """The command line of ``samkr-edge ARGUMENTS``, with this Python and the code next to this file."""
    return module("samkr_edge", *arguments)


def module(name: str, *arguments: str) -> list[str]:
    """The command line of one of our modules, which runs as under ``python -m NAME ARGUMENTS``."""
    return [sys.executable, os.path.abspath(__file__), name, *arguments]


def code(text: str) -> list[str]:
    """The command line of a few lines of Python, for measuring a fresh process: nothing of ours is imported yet."""
    return [sys.executable, os.path.abspath(__file__), "-c", text]


def leave_working_folder() -> None:
    """Take the working directory off the import path, unless our packages are in it.

    Under any name: an empty entry as in ``PYTHONPATH=:/more`` means it too. What a virtual environment or an editable
    installation has added stays; it comes after the standard library and hides nothing.
    """
    try:
        here = os.getcwd()
    except OSError:  # it was deleted: nothing is imported from it
        return
    if os.path.realpath(here) != os.path.realpath(HOME):
        _drop(here)


def protect_children() -> None:
    """Make `multiprocessing` start its helpers without the working directory, too.

    They run ``python -c``, and import ``random`` and ``types`` before they get this process's import path. Only the
    command line calls this: the environment of a user's own program is the user's.
    """
    if sys.version_info >= (3, 11):
        os.environ.setdefault("PYTHONSAFEPATH", "1")
        return
    # Python 3.10 has no public way. Isolated, they still get PYTHONPATH and the rest with the import path.
    import importlib

    helpers = importlib.import_module("multiprocessing.util")
    flags = helpers._args_from_interpreter_flags
    helpers._args_from_interpreter_flags = lambda: ["-I", *flags()]  # type: ignore[attr-defined]


def _drop(folder: str) -> None:
    """Take a folder off the part of the import path that comes before the standard library."""
    library = os.path.dirname(os.__file__)
    end = sys.path.index(library) if library in sys.path else len(sys.path)
    place = os.path.realpath(folder)
    sys.path[:end] = [entry for entry in sys.path[:end] if os.path.realpath(entry) != place]


def find_ours() -> None:
    """Put ``HOME`` before the first entry of the import path that holds another package of one of our names.

    It comes first if no entry holds `samkr_edge`. Nowhere else: site-packages first could hide the standard library.
    """
    home = os.path.realpath(HOME)
    for index, entry in enumerate(sys.path):
        if os.path.realpath(entry) == home:
            return
        if any(_holds(entry, name) for name in NAMES):
            sys.path.insert(index, HOME)
            return
    sys.path.insert(0, HOME)


def _holds(folder: str, name: str) -> bool:
    place = os.path.join(folder, name)
    return os.path.isfile(place + ".py") or os.path.isfile(os.path.join(place, "__init__.py"))


def _start() -> None:
    _drop(_PACKAGE)
    leave_working_folder()
    find_ours()
    name = sys.argv.pop(1)
    if name == "-c":
        exec(sys.argv.pop(1), {"__name__": "__main__"})
        return
    import runpy

    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _start()
