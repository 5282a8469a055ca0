"""The package ``tensorrt``, or one clear error: a place of its own, since it can be missing in many ways."""

from __future__ import annotations

from typing import Any

from samkr_edge.errors import SamkrError, reason_of


def import_tensorrt() -> Any:
    """The module ``tensorrt``.

    Raises:
        SamkrError: SE-V91 it is not installed, or does not load here: its libraries or the driver's are missing
            (ImportError, OSError), it refuses this Python or machine (RuntimeError), or the name is a folder's.
    """
    try:
        import tensorrt
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "tensorrt":
            raise _missing(error) from error
        raise SamkrError(
            "SE-V91",
            "TensorRT is installed here and does not load, so no engine was built or loaded",
            [f"reason     {reason_of(error)}"],
            fix="samkr-edge doctor   # then: update the NVIDIA driver, or install the TensorRT that fits it",
        ) from error
    if not hasattr(tensorrt, "__version__"):
        # Python takes any folder of that name for a package, one of models in the working directory for example.
        where = ", ".join(getattr(tensorrt, "__path__", ())) or "an empty module"
        raise _missing(ImportError(f"`tensorrt` is {where}, not NVIDIA's package"))
    return tensorrt


def _missing(error: Exception) -> SamkrError:
    return SamkrError(
        "SE-V91",
        "TensorRT is not installed here, so no engine was built or loaded",
        [f"reason     {reason_of(error)}"],
        fix='pip install "samkr-edge[tensorrt]"   # on a Jetson: a venv with --system-site-packages',
    )
