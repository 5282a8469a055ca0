"""The package ``tensorrt`` or ``tensorrt_rtx``, or one clear error for all the ways in which they can be missing.

TensorRT has two flavours with one API. **TensorRT** builds an engine on the GPU that will run it, by timing kernels
there. **TensorRT for RTX** builds on any machine, even without a GPU, for given compute capabilities; the card finishes
the kernels when it first loads the engine.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from samkr_edge.errors import SamkrError, reason_of

Flavour = Literal["tensorrt", "rtx"]
TITLES: dict[Flavour, str] = {"tensorrt": "TensorRT", "rtx": "TensorRT for RTX"}
MODULES: dict[Flavour, str] = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
_INSTALL: dict[Flavour, str] = {
    "tensorrt": 'pip install "samkr-edge[tensorrt]"   # on a Jetson: a venv with --system-site-packages',
    "rtx": 'pip install "samkr-edge[rtx]"',
}


def import_tensorrt(flavour: Flavour = "tensorrt") -> Any:
    """The module of a flavour.

    Raises:
        SamkrError: SE-V91 it is not installed, or does not load here: its libraries or the driver's are missing
            (ImportError, OSError), it refuses this Python or machine (RuntimeError), or the name belongs to a folder.
    """
    name, title = MODULES[flavour], TITLES[flavour]
    try:
        module = import_module(name)
    except Exception as error:
        if _was_interrupted(error):
            raise KeyboardInterrupt from error
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise _missing(flavour, error) from error
        raise SamkrError(
            "SE-V91",
            f"{title} is installed here but does not load, so no engine was built or loaded",
            {"reason": reason_of(error)},
            fix=f"samkr-edge doctor   # then: update the NVIDIA driver, or install the {title} that fits it",
        ) from error
    if not hasattr(module, "__version__"):
        # Python takes any folder of that name for a package, for example one with models in the working directory.
        where = ", ".join(getattr(module, "__path__", ())) or "an empty module"
        raise _missing(flavour, ImportError(f"`{name}` is {where}, not NVIDIA's package"))
    return module


def is_importable(flavour: Flavour) -> bool:
    """Whether ``import_tensorrt`` succeeds."""
    try:
        import_tensorrt(flavour)
    except SamkrError:
        return False
    return True


def tensorrt_version(flavour: Flavour = "tensorrt") -> str:
    """The installed version; raises SamkrError SE-V91 without one."""
    return str(import_tensorrt(flavour).__version__)


def cuda_major(module: Any) -> int | None:
    """The CUDA that an imported TensorRT is made for, by the package that it was installed as: ``tensorrt-cu13`` -> 13.

    None if the name does not say, as JetPack's, or if packages for two are in one folder.
    """
    if getattr(module, "__file__", None) is None:
        return None
    folder = Path(module.__file__).parents[1]
    names = (path.name for path in folder.glob(f"{module.__name__}_cu*.dist-info"))
    majors = {int(found[1]) for name in names if (found := re.match(rf"{module.__name__}_cu(\d+)[-_]", name))}
    return majors.pop() if len(majors) == 1 else None


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error comes from Ctrl-C, which during a compiled module's import becomes an ImportError."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _missing(flavour: Flavour, error: Exception) -> SamkrError:
    return SamkrError(
        "SE-V91",
        f"{TITLES[flavour]} is not installed here, so no engine was built or loaded",
        {"reason": reason_of(error)},
        fix=_INSTALL[flavour],
    )
