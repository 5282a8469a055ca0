"""What a TensorRT version can do: detected (``hasattr``) if it is installed, or by version for another device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from samkr_edge.machine.tensorrt_module import TITLES, Flavour
from targets.profile import version_tuple

OLDEST, NEWEST_MAJOR = (8, 5), 11
# TensorRT for RTX has its own version numbers. 1.7 has the API and the parser of TensorRT 11.
RTX_GENERATION, RTX_NEWEST = (11, 0), "1.7"
# Before it, builds use flags, fail with them on a machine without a GPU, and list layers in another format.
RTX_OLDEST = (1, 5)
# Before it, the builder refused INT8 convolutions.
RTX_INT8 = (1, 7)
# On these it runs INT8 in FP16; an engine that also serves other GPUs then runs in FP16 on all of them.
RTX_NO_INT8 = ("7.5",)
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


@dataclass(frozen=True)
class Features:
    """Parts of the Python API, and other features of a build, that only some versions have.

    Attributes:
        version: ``10.3.0``; of TensorRT for RTX ``1.7.1``.
        flavour: ``tensorrt``, or ``rtx`` for TensorRT for RTX.
        capabilities: compute capabilities that it builds for where no GPU is; empty where it builds for its own only.
        precision_flags: FP16 and INT8 as builder flags (weak typing); removed in 11.
        strongly_typed: networks that take every type from the ONNX; from 10.
        explicit_batch: the network flag exists; needed in 8.x.
        calibrators: implicit INT8; removed in 11.
        optimization_level: 0 to 5; from 8.6.
        progress_monitor: from 10.
        version_compatible: engines that newer versions load; from 8.6.
        hardware_compatibility: names of the levels; from 8.6.
        uint8: image bytes as an input, which is cast first.
        tensor_names: the only inference API that exists up to 11; from 8.5.
        onnx_package: the package onnx, which writes FP16 into a graph; assumed to be installed on another device.
    """

    version: str
    flavour: Flavour
    capabilities: tuple[str, ...]
    precision_flags: bool
    strongly_typed: bool
    explicit_batch: bool
    calibrators: bool
    optimization_level: bool
    progress_monitor: bool
    version_compatible: bool
    hardware_compatibility: tuple[str, ...]
    uint8: bool
    tensor_names: bool
    onnx_package: bool

    @property
    def number(self) -> tuple[int, ...]:
        """The TensorRT version that this one corresponds to."""
        return RTX_GENERATION if self.flavour == "rtx" else version_tuple(self.version)

    @property
    def title(self) -> str:
        """For people: ``TensorRT 10.3.0``, ``TensorRT for RTX 1.7``."""
        return f"{TITLES[self.flavour]} {self.version}"


def features_of(trt: Any, flavour: Flavour = "tensorrt") -> Features:
    """Features of an imported ``tensorrt`` or ``tensorrt_rtx`` module; looks at classes only, never at the GPU."""
    config, flags = trt.IBuilderConfig, trt.BuilderFlag
    levels = getattr(trt, "HardwareCompatibilityLevel", None)
    return Features(
        version=str(trt.__version__),
        flavour=flavour,
        capabilities=_capabilities(trt.ComputeCapability) if flavour == "rtx" else (),
        precision_flags=hasattr(flags, "FP16") and hasattr(flags, "INT8"),
        strongly_typed=hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"),
        explicit_batch=hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"),
        calibrators=hasattr(trt, "IInt8EntropyCalibrator2"),
        optimization_level=hasattr(config, "builder_optimization_level"),
        progress_monitor=hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor"),
        version_compatible=hasattr(flags, "VERSION_COMPATIBLE"),
        hardware_compatibility=tuple(
            name for name in ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY") if levels and hasattr(levels, name)
        ),
        uint8=hasattr(trt.DataType, "UINT8"),
        tensor_names=hasattr(trt.ICudaEngine, "num_io_tensors"),
        onnx_package=find_spec("onnx") is not None,
    )


def _capabilities(known: Any) -> tuple[str, ...]:
    """``SM89``, ``SM120`` -> ``8.9``, ``12.0``, from the members of an enum."""
    numbers = sorted(int(name[2:]) for name in dir(known) if name.startswith("SM") and name[2:].isdigit())
    return tuple(f"{number // 10}.{number % 10}" for number in numbers)


def features_for(version: str, flavour: Flavour = "tensorrt") -> Features:
    """Known features of a version, for plans of another device. Tests compare it with real bindings."""
    if flavour == "rtx":
        like = features_for(".".join(map(str, (*RTX_GENERATION, 0))))
        return replace(like, version=version, flavour=flavour, capabilities=RTX_CAPABILITIES)
    number = version_tuple(version)
    levels: tuple[str, ...] = ("AMPERE_PLUS",) if number >= (8, 6) else ()
    if number >= (10, 9):
        levels += ("SAME_COMPUTE_CAPABILITY",)
    return Features(
        version=version,
        flavour=flavour,
        capabilities=(),
        precision_flags=number < (11,),
        strongly_typed=number >= (10,),
        explicit_batch=number < (11,),
        calibrators=number < (11,),
        optimization_level=number >= (8, 6),
        progress_monitor=number >= (10,),
        version_compatible=number >= (8, 6),
        hardware_compatibility=levels,
        uint8=number >= (8, 5),
        tensor_names=number >= (8, 5),
        onnx_package=True,
    )
