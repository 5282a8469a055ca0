"""The environment that a result records: this machine and its packages, looked up without importing them."""

from __future__ import annotations

import os
import platform
from typing import Any

from samkr_edge import __version__
from samkr_edge.doctor.opencv_install import opencv_version
from samkr_edge.doctor.tensorrt_install import MODULES, distribution_version, tensorrt_install
from samkr_edge.machine.cpu import cpu_features, cpu_name
from samkr_edge.machine.device import jetson_release, total_memory
from samkr_edge.machine.driver import cuda_version, gpu_count, load_driver

# Distribution -> the module whose import shows that it works: the one with the compiled part, or the one that we use.
# None: only looked up. For `opencv` any will do, pip's or the system's.
PACKAGES: dict[str, str | None] = {
    "numpy": "numpy",
    "opencv": "cv2",
    "onnxruntime": "onnxruntime",
    "pycocotools": "pycocotools.mask",
    "scipy": "scipy.optimize",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "typer": "typer",
    "rich": "rich",
    "onnx": "onnx",
    "torch": "torch",
    "nvidia-modelopt": "modelopt.torch.quantization",
    "jinja2": "jinja2",
    "av": "av",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
    "pycuda": None,
}


def environment() -> dict[str, Any]:
    """Facts about this machine, for results and passports: plain JSON."""
    memory, driver = total_memory(), load_driver()
    return {
        "samkr_edge": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cpu_features": cpu_features(),
        "cores": os.cpu_count(),
        "memory_gb": None if memory is None else round(memory / 1024**3, 1),
        "jetson": jetson_release(),
        "gpus": gpu_count(),
        "cuda": None if driver is None else cuda_version(driver),
        "packages": {name: version for name in PACKAGES if (version := installed(name)) is not None},
    }


def installed(distribution: str) -> str | None:
    """Version of an installed distribution, None if it is missing."""
    if distribution in MODULES:
        return tensorrt_install(distribution).version
    if distribution == "opencv":
        return opencv_version()
    return distribution_version(distribution)
