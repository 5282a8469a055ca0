"""TensorRT's two first objects, its builder and its runtime, or why TensorRT does not start on this GPU.

Where CUDA does not start for TensorRT, ``Builder`` returns nothing and ``Runtime`` may end the process. So what can be
known is checked before: a package made for a newer CUDA than the driver's is refused without being called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.machine.cuda_errors import CAUSES, FAILURE, OLD_DRIVER
from samkr_edge.machine.driver import cuda_version, load_driver
from samkr_edge.machine.tensorrt_module import MODULES, TITLES, Flavour, cuda_major
from samkr_edge.runtime.tensorrt_log import Messages


def require_fitting_driver(trt: Any, flavour: Flavour) -> None:
    """Raises SamkrError SE-V86 where the installed package names a newer CUDA than the driver knows."""
    if _is_newer(cuda_major(trt), _driver_cuda()):
        raise _old_driver(trt, flavour)


def start(make: Callable[[Any], Any], trt: Any, flavour: Flavour, messages: Messages) -> Any:
    """``make``, that is ``trt.Builder`` or ``trt.Runtime``, called with the logger.

    Raises:
        SamkrError: SE-V86 it returns nothing: the driver is too old for this TensorRT, or for a reason in the log.
    """
    raised: Exception | None = None
    made = None
    try:
        made = make(messages.logger)
    except (TypeError, RuntimeError) as error:  # pybind: "factory function returned nullptr"
        raised = error
    if made is not None:
        return made
    reasons = messages.reasons() or [reason_of(raised) if raised else "it gave none"]
    failures = [found for text in messages.texts() if (found := FAILURE.search(text))]
    code = int(failures[-1][1]) if failures else 0
    if code in OLD_DRIVER:
        raise _old_driver(trt, flavour, failures[-1][0]) from raised
    what, fix = CAUSES.get(
        code, ("it does not start on this GPU", "samkr-edge doctor   # then: update the NVIDIA driver")
    )
    raise SamkrError(
        "SE-V86", f"{TITLES[flavour]} was not used: {what}", {"reason": reasons}, fix=fix
    ) from raised


def _old_driver(trt: Any, flavour: Flavour, said: str | None = None) -> SamkrError:
    known, needed = _driver_cuda(), cuda_major(trt)
    package = f"{MODULES[flavour].replace('_', '-')}-cu"
    fix = "update the NVIDIA driver; on a Jetson use the TensorRT of its JetPack, not pip's"
    if _is_newer(needed, known):
        fix = f"update the NVIDIA driver, or: pip uninstall {package}{needed} && pip install {package}{_major(known)}"
    return SamkrError(
        "SE-V86",
        f"the NVIDIA driver is too old for {TITLES[flavour]} {trt.__version__}, so it was not used",
        {
            "driver": f"supports CUDA up to {known or 'an unknown version'}",
            "needed": f"CUDA {needed}: the package is {package}{needed}" if needed else "a newer one",
            "TensorRT": said,
        },
        fix=fix,
    )


def _is_newer(needed: int | None, known: str | None) -> bool:
    """A driver runs every release of the CUDA major versions that it knows."""
    return needed is not None and known is not None and _major(known) < needed


def _major(version: str | None) -> int:
    return int((version or "0").partition(".")[0])


def _driver_cuda() -> str | None:
    driver = load_driver()
    return None if driver is None else cuda_version(driver)
