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
    except ImportError as error:
        raise _missing("is not installed here", error) from error
    except Exception as error:
        raise _missing("is installed here and does not load", error) from error
    if not hasattr(tensorrt, "__version__"):
        # Python takes any folder of that name for a package, one of models in the working directory for example.
        where = ", ".join(getattr(tensorrt, "__path__", ())) or "an empty module"
        raise _missing("is not installed here", ImportError(f"`tensorrt` is {where}, not NVIDIA's package"))
    return tensorrt


def _missing(what: str, error: Exception) -> SamkrError:
    return SamkrError(
        "SE-V91",
        f"TensorRT {what}, so no engine was built or loaded",
        [f"reason     {reason_of(error)}"],
        fix='pip install "samkr-edge[tensorrt]"   # on a Jetson: a venv with --system-site-packages',
    )
