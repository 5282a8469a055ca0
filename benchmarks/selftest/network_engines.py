"""Engines of the carried networks, built as `samkr-edge build --target auto` does; kept for the stages that follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.selftest.carried import TRAINED, write_network
from benchmarks.selftest.stage import Rig
from samkr_edge.builder.tensorrt.build import BuiltEngine, build_tensorrt
from samkr_edge.builder.tensorrt.features import features_of
from samkr_edge.builder.tensorrt.plan import BuildPlan, make_plans
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.machine.device import running_device, target_of
from samkr_edge.machine.tensorrt_module import TITLES, Flavour, import_tensorrt
from samkr_edge.onnx_graph.onnx_facts import facts_of
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.passport import passport_path
from samkr_edge.runtime.cuda import free_bytes


@dataclass(frozen=True)
class Wanted:
    """An engine: of a carried network, in ``fp32``, ``fp16`` or ``int8``, by one flavour of TensorRT."""

    flavour: Flavour
    model: str
    precision: str
    decode_in: str = "host"
    batch: int = 1

    def __str__(self) -> str:
        parts = [f"{TITLES[self.flavour]}: {self.model} {self.precision.upper()}"]
        parts += ["decode: graph"] if self.decode_in == "graph" else []
        parts += [f"batch {self.batch}"] if self.batch > 1 else []
        return ", ".join(parts)

    @property
    def file(self) -> str:
        return f"{self.flavour}-{self.model}-{self.precision}-{self.decode_in}-{self.batch}.engine"


def network_file(
    rig: Rig, model: str = TRAINED, *, quantized: bool = False, decode_in: str = "host", batch: int = 1
) -> Path:
    """A carried network as an ONNX file, written once for all stages."""
    path = rig.shared / "networks" / f"{model}-{'int8' if quantized else 'float'}-{decode_in}-{batch}.onnx"
    if not path.is_file():
        write_network(path, model, quantized=quantized, decode_in=decode_in, batch=batch)
    return path


def source_of(rig: Rig, wanted: Wanted) -> Path:
    """The network that an engine is built from, with quantizers only if requested."""
    return network_file(
        rig,
        wanted.model,
        quantized=wanted.precision == "int8",
        decode_in=wanted.decode_in,
        batch=wanted.batch,
    )


def plans_for(
    source: Path, flavour: Flavour, precision: str | None, wishes: Wishes | None = None
) -> tuple[BuildPlan, ...]:
    """What the command line would plan on this device: one plan, or the two of ``best``.

    Raises:
        SamkrError: this version, or this GPU, cannot have that.
    """
    device = running_device()
    features = features_of(import_tensorrt(flavour), flavour)
    facts = facts_of(read_onnx(source))
    return make_plans(target_of(device), features, facts, wishes or Wishes(), precision, free_bytes(device))


def build(
    source: Path,
    out: Path,
    flavour: Flavour,
    precision: str | None,
    wishes: Wishes | None = None,
    calibration: Path | None = None,
) -> BuiltEngine:
    """Plan and build; raises SamkrError for what planning and building refuse."""
    wishes = replace(wishes or Wishes(), calibrate=calibration is not None)
    return build_tensorrt(source, out, plans_for(source, flavour, precision, wishes), calibration=calibration)


def built_engine(rig: Rig, wanted: Wanted) -> Path:
    """The engine, built unless an earlier stage has built it; raises as ``build``."""
    path = rig.shared / "engines" / wanted.file
    if not (path.is_file() and passport_path(path).is_file()):
        path.parent.mkdir(parents=True, exist_ok=True)
        build(source_of(rig, wanted), path, wanted.flavour, wanted.precision)
    return path
