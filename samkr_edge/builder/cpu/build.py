"""Build for target ``cpu``: an ONNX Runtime model in the form that is fastest on this CPU, with its passport."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge import __version__
from samkr_edge.builder.check.agreement import Agreement, judge
from samkr_edge.builder.check.candidates import NO_PEAK
from samkr_edge.builder.check.maps import opened, run_maps
from samkr_edge.builder.check.probe import PROBE_KEY
from samkr_edge.builder.check.reference import reference_of
from samkr_edge.builder.cpu.centers_alone import AT_CENTERS, compute_offsets_at_centers
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import behind, require_writable
from samkr_edge.machine.cpu import cpu_device
from samkr_edge.machine.onnx_runtime_module import import_onnxruntime
from samkr_edge.model_card import PREPARED_KEY, TARGET_KEY, ModelCard
from samkr_edge.onnx_graph.bias_range import fit_biases
from samkr_edge.onnx_graph.float_biases import float_biases
from samkr_edge.onnx_graph.foreign import refuse_other_tools
from samkr_edge.onnx_graph.graph import Graph
from samkr_edge.onnx_graph.onnx_card import card_of
from samkr_edge.onnx_graph.onnx_file import OnnxFile
from samkr_edge.onnx_graph.onnx_reading import decode_onnx, decoded, not_whole, read_bytes
from samkr_edge.passport import Passport, passport_path, write_built

# Input pixels, and scores: what a build with offsets at centres alone may differ from the one with maps.
_SAME_PLACE, _SAME_SCORE = 0.05, 1e-4


@dataclass(frozen=True)
class Built:
    """A built model: where it is, its passport, and how close it is to its source."""

    path: Path
    passport: Passport
    agreement: Agreement


def build_cpu(source: Path, out: Path) -> Built:
    """Build ``source`` for this machine's CPU.

    On x86 the graph is retargeted (``retarget``). On ARM the kernels want the signed Q/DQ as exported: only channels
    whose biases would be clipped are changed, and offsets that are read at centres alone are computed there alone.

    Raises:
        SamkrError: SE-A23 no such file, SE-B87 not ONNX or cut off, SE-A21 and SE-A27 not a samkr-edge model, SE-A26 in
            two files, SE-B52 already built, SE-B53 the built graph does not compute what the source does, SE-B54 FP8,
            or FP16 beside INT8, SE-B56 and SE-B57 changed by other tools.
    """
    import onnx

    onnxruntime = import_onnxruntime()

    data = read_bytes(source)
    graph = decoded(data, source)
    card = card_of(graph, source)
    _refuse_unbuildable(graph, card, source)
    edited = graph.copy()
    exported = edited.encode() if float_biases(edited) else data
    model = parse_onnx(exported, source)
    require_writable(out)
    built, settings = _for_this_cpu(model)
    whole = built
    if settings.get(
        AT_CENTERS
    ):  # it has no maps to be judged by, and is compared with the build that has them
        whole, _ = _for_this_cpu(parse_onnx(exported, source), leave_out=AT_CENTERS)
    reference, images = reference_of(graph, card)
    agreement = judge(reference, run_maps(decode_onnx(whole), images), card, card.precision)
    facts: dict[str, Any] = {} if agreement.holds else agreement.facts()
    if agreement.holds and whole is not built:
        facts |= _other_people(built, whole, images, card)
    if facts:
        raise SamkrError(
            "SE-B53",
            "the built model does not compute what its source does, so it was not written",
            facts,
            fix="use the exported ONNX as it is: predict, eval and bench take it; and report this graph",
        )
    passport = Passport(
        target="cpu",
        card=card.to_dict(),
        sha256=hashlib.sha256(built).hexdigest(),
        source=source.name,
        source_sha256=hashlib.sha256(data).hexdigest(),
        device=cpu_device(),
        versions={
            "samkr_edge": __version__,
            "onnxruntime": onnxruntime.__version__,
            "onnx": onnx.__version__,
        },
        settings=settings,
        measured={"agreement": agreement.to_dict()},
    )
    write_built(out, built, passport)
    return Built(out, passport, agreement)


def _refuse_unbuildable(graph: OnnxFile, card: ModelCard, source: Path) -> None:
    """Refuse graphs that are not for a CPU or were built already."""
    if card.precision == "fp8":
        raise _no_fp8(source)
    if card.quantized and card.provenance.get("floats") == "fp16":
        raise _no_half_beside_int8(source)
    if passport_path(behind(source)).exists() or {TARGET_KEY, PREPARED_KEY} & graph.metadata.keys():
        raise SamkrError(
            "SE-B52",
            f"{source} is already built or prepared, so nothing was done",
            fix="start from the exported ONNX: samkr-edge export CHECKPOINT -o model.onnx",
        )
    refuse_other_tools(graph, source, "the CPU")


def _for_this_cpu(model: Any, leave_out: str = "") -> tuple[bytes, dict[str, Any]]:
    """The built ``ModelProto``, serialized, and the settings of its passport; without the pass of that field."""
    from samkr_edge.builder.cpu.retarget import retarget

    settings: dict[str, Any] = {"retargeted": False, "activations": "signed, as exported"}
    if platform.machine() in ("x86_64", "AMD64"):
        model, done = retarget(model, leave_out)
        settings = {"retargeted": True, "activations": "unsigned", **done}
    else:
        signed = Graph(model)
        done = {
            AT_CENTERS: 0 if leave_out == AT_CENTERS else compute_offsets_at_centers(signed),
            "widened_channels": fit_biases(signed),
        }
        if any(done.values()):
            model = signed.write()
            settings |= {field: count for field, count in done.items() if count}
    _drop_probe(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = TARGET_KEY, "cpu"
    return model.SerializeToString(), settings


def parse_onnx(data: bytes, path: Path) -> Any:
    """The model as a checked ``ModelProto`` of the onnx package; raises SamkrError SE-B87."""
    import onnx

    try:
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's own classes
        raise not_whole(path, data, error) from error
    return model


def _drop_probe(model: Any) -> None:
    """The probe images are not needed once the build has been judged."""
    kept = [entry for entry in model.metadata_props if entry.key != PROBE_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)


def _no_fp8(path: Path) -> SamkrError:
    return SamkrError(
        "SE-B54",
        f"{path.name} is FP8, which no CPU supports, so nothing was built",
        {"on a CPU": "ONNX Runtime emulates it: eval and predict take the exported ONNX, slower than FP32"},
        fix="samkr-edge quantize CHECKPOINT --data DIR -o int8.pt && samkr-edge export int8.pt -o int8.onnx",
    )


def _no_half_beside_int8(path: Path) -> SamkrError:
    return SamkrError(
        "SE-B54",
        f"{path.name} mixes INT8 with FP16, which is for TensorRT, so nothing was built",
        {"on a CPU": "INT8 kernels read and write FP32"},
        fix="samkr-edge export CHECKPOINT -o model.onnx   # without --precision fp16",
    )


def _other_people(built: bytes, whole: bytes, images: np.ndarray, card: ModelCard) -> dict[str, str]:
    """How far the candidates of two builds of one graph lie apart, where that is more than sums in another order do."""
    found = []
    for data in (built, whole):
        with opened(decode_onnx(data), card.outputs) as runner:
            found.append(runner.run(images))
    (poses, scores, *_), (expected, expected_scores, *_) = found
    peaks = expected_scores > NO_PEAK
    moved = float(np.abs(poses[..., :2] - expected[..., :2])[peaks].max(initial=0.0))
    changed = float(np.abs(scores - expected_scores)[peaks].max(initial=0.0))
    if moved <= _SAME_PLACE and changed <= _SAME_SCORE:  # neither holds for NaN
        return {}
    return {"offsets at centres alone": f"joints {moved:.3g} px apart, scores {changed:.3g}"}
