"""Write a network as ONNX: image bytes in, maps or people out, the model card in the metadata, checked against torch.

A fake-quantized network becomes Q/DQ nodes with float weights in front: the form every TensorRT from 8.5 on and ONNX
Runtime accept. Opset 17 by the classic exporter: ModelOpt's fake quantizers do not pass the newer one, and from opset
20 on TensorRT silently samples GridSample at the nearest pixel.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samkr_edge.builder.check.agreement import Agreement, Reference, judge, relative_error
from samkr_edge.builder.check.maps import Maps
from samkr_edge.builder.check.people import clear_people, refuse_blind
from samkr_edge.builder.check.probe import PROBE_KEY, Probe, probe_batch
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import replacing
from samkr_edge.input_size import is_possible, nearest
from samkr_edge.model_card import METADATA_KEY, ModelCard
from samkr_edge.model_card_check import require_offsets
from training import fp8_nodes
from training.checkpoint import refuse_broken_weights
from training.data.rendered.probe import rendered_probe
from training.models.decode_graph import DecodeGraph, DeployPoses
from training.models.deploy import DeployNet
from training.models.fold import fold_batch_norms
from training.models.pose_net import PoseNet

OPSET = 17
# Input pixels allowed between a joint decoded in the graph and on the host, from the same maps.
DECODE_TOLERANCE = 1e-3
# Relative L2 error between torch and ONNX Runtime that rounding explains in a float network.
FLOAT_TOLERANCE = 1e-4
# In a fake-quantized network a value on the edge of a step may round to either side, and every flip changes the layers
# after it: changing weights by a millionth moves the outputs about as far as quantization does. A wrong graph is off by
# 1 or more.
QUANTIZATION_NOISES, LARGEST_TOLERANCE = 1.5, 0.5


def export_onnx(
    network: PoseNet,
    card: ModelCard,
    path: str | Path,
    *,
    opset: int = OPSET,
    batch: int = 1,
    size: tuple[int, int] | None = None,
    half: bool = False,
    decode: str = "host",
    probe: Probe | None = None,
) -> tuple[ModelCard, Agreement]:
    """Export to ``path`` atomically and check the file against torch on its probe images.

    Args:
        network: float or fake-quantized, eval mode. A float one is exported with its batch norms folded.
        card: its card; ``size`` (H, W), if given, replaces ``input_size``.
        opset: 16 to 19; FP8 needs 19.
        batch: static batch size.
        half: FP16 next to INT8 or FP8, or in place of FP32 (``builder.tensorrt.half``); INT8 then needs opset 19.
        decode: ``host``: the file gives maps; ``graph``: it finds the candidates itself, by the card's settings.
        probe: pictures that travel with the file; rendered people where none are given.

    Returns:
        The card as written, and how close ONNX Runtime is to torch.

    Raises:
        SamkrError: SE-U03 size or SE-U02 opset impossible, SE-A05 ONNX and torch disagree, SE-A34 NaN weights, SE-A83
            fewer than 8 bits, SE-A97 decoding in the graph and on the host disagree, SE-A28 the maps are the same
            for every picture, SE-U48 decoding in the graph of a network without offsets.
    """
    _refuse_few_bits(card)
    if decode == "graph":
        require_offsets(
            card, "its graph cannot decode, and nothing was exported", "export with --decode host"
        )
    size = size or card.input_size
    check_request(size, opset, batch, card.precision)
    refuse_broken_weights(network)
    quantized = card.quantized
    maps = DeployNet(network if quantized else fold_batch_norms(network)).eval().cpu()
    card = replace(card, input_size=size, decode_in=decode)
    card = card.with_provenance(weights_sha256=weights_digest(network), opset=opset)
    if half:
        card = replace(card, precision=card.precision if quantized else "fp16").with_provenance(floats="fp16")
    deployed: nn.Module = maps
    names: tuple[str, ...] = card.maps
    if decode == "graph":
        map_size = (size[0] // card.stride, size[1] // card.stride)
        deployed = DeployPoses(maps, DecodeGraph(card.decode, len(card.skeleton), card.stride, map_size))
        names = (*card.maps, *card.outputs)
    probe = probe or rendered_probe()
    images = probe_batch(probe, size)
    with replacing(path) as temporary, torch.no_grad():
        _export(deployed, noise_image(batch, size), temporary, opset, names)
        _finish(temporary, card, half, probe)
        agreement = _compare(maps, images, temporary, card, half, str(probe))
        if decode == "graph":
            _compare_decoding(images, temporary, card)
            _keep_outputs(temporary, card.outputs)
    return card, agreement


def noise_image(batch: int, size: tuple[int, int]) -> Tensor:
    """A fixed uint8 image (N, H, W, 3) of smooth blobs and noise, to trace the network with."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((batch, 3, size[0] // 16, size[1] // 16), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    noise = torch.rand((batch, 3, *size), generator=generator)
    return ((0.8 * smooth + 0.2 * noise) * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def weights_digest(network: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _refuse_few_bits(card: ModelCard) -> None:
    bits = [int(card.provenance.get(name, 8)) for name in ("bits", "activation_bits")]
    if min(bits) < 8:
        raise SamkrError(
            "SE-A83",
            "fewer than 8 bits are for analysis: no engine supports them, and nothing was exported",
            {"weights": f"{bits[0]} bits", "activations": f"{bits[1]} bits"},
            fix="samkr-edge quantize FP32.pt --data DIR -o ptq.pt   # without --bits",
        )


def check_request(size: tuple[int, int], opset: int, batch: int, precision: str) -> None:
    """Raise SamkrError SE-U03 or SE-U02 where no network is exported like this."""
    if not is_possible(size) or batch < 1:
        height, width = nearest(size)
        raise SamkrError(
            "SE-U03",
            "this input shape cannot be exported",
            {
                "needed": "height and width multiples of 32, batch at least 1",
                "asked": f"{size[0]}x{size[1]}, {batch}",
            },
            fix=f"run the same command with --size {height}x{width} --batch {max(batch, 1)}",
        )
    if not 16 <= opset <= 19:
        raise SamkrError(
            "SE-U02",
            f"opset {opset} is not supported",
            {"needed": "16 to 19: GridSample begins at 16, and from 20 on TensorRT samples it as nearest"},
            fix="samkr-edge export CHECKPOINT -o model.onnx --opset 17",
        )
    if precision == "fp8" and opset < fp8_nodes.OPSET:
        raise SamkrError(
            "SE-U02",
            f"opset {opset} has no FP8, so nothing was exported",
            {"needed": fp8_nodes.OPSET},
            fix="samkr-edge export CHECKPOINT -o model.onnx   # FP8 gets opset 19",
        )


def _export(network: nn.Module, image: Tensor, path: Path, opset: int, outputs: tuple[str, ...]) -> None:
    # The classic exporter is deprecated in name, prints to stdout, and alone takes ModelOpt's quantizers. It opens no
    # file whose name is not UTF-8.
    written: Any = io.BytesIO()  # which it accepts, despite its type hints
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (image,),
            written,
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=list(outputs),
            do_constant_folding=True,
            # ModelOpt's functions have symbols of their own. Traced inside as well, each was copied once for every
            # level of modules above it: a third of the time, for the same bytes.
            autograd_inlining=False,
        )
    path.write_bytes(written.getbuffer())


def _finish(path: Path, card: ModelCard, half: bool, probe: Probe) -> None:
    """Remove the exporter's no-op casts and identities, name the producer, put card and probe into the metadata."""
    import onnx

    from samkr_edge.builder.tensorrt.half import to_half

    model = onnx.load(path, format="protobuf")  # which the package would guess by the file's name
    fp8_nodes.standardise_fp8(model)
    _bypass_no_ops(model)
    if half:
        model = to_half(model)
    model.producer_name = "samkr-edge"
    for key, value in ((METADATA_KEY, card.to_json()), (PROBE_KEY, probe.to_text())):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(model)
    onnx.save(model, path, format="protobuf")


def _bypass_no_ops(model: Any) -> None:
    """Casts float -> float and identities, which the exporter leaves around quantizers, hide fusions from runtimes."""
    from onnx import TensorProto, shape_inference

    graph = model.graph
    inferred = shape_inference.infer_shapes(model).graph
    kinds = {
        v.name: v.type.tensor_type.elem_type
        for v in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    outputs = {output.name for output in graph.output}
    renamed: dict[str, str] = {}
    kept = []
    for node in graph.node:
        source = node.input[0] if node.input else ""
        same = node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT == kinds.get(source)
        if (same or node.op_type == "Identity") and node.output[0] not in outputs:
            renamed[node.output[0]] = renamed.get(source, source)
        else:
            kept.append(node)
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


def _compare(
    network: nn.Module, images: np.ndarray, path: Path, card: ModelCard, half: bool, probe: str
) -> Agreement:
    from samkr_edge.runtime.onnx_runtime import OnnxRunner

    quantized = card.quantized
    expected = torch_maps(network, images)
    refuse_blind(expected, card, probe)
    unquantized = None
    if quantized:
        with _quantizers_off(network):
            unquantized = torch_maps(network, images)
    found = Maps(*OnnxRunner(path, optimise=not quantized, outputs=card.maps).run(images))
    reference = Reference(expected, unquantized, clear_people(expected, card), (), probe)
    agreement = judge(reference, found, card, card.precision)
    if not (quantized and half):
        # Stricter than for builds: the same arithmetic in the same order. FP16 between quantizers counts as a build.
        agreement = replace(agreement, allowed=_exact(agreement, expected, unquantized))
    if not agreement.holds:
        raise SamkrError(
            "SE-A05",
            "the exported ONNX does not compute what the checkpoint does, so it was not written",
            agreement.facts(),
            fix="leave --precision and --opset out; if that fails too, report it: it is a bug in samkr-edge",
        )
    return agreement


def _exact(agreement: Agreement, expected: Maps, unquantized: Maps | None) -> tuple[float, float]:
    """The bounds of both maps if only rounding is allowed."""
    heatmap, association = agreement.allowed
    if agreement.precision == "fp32":
        return min(heatmap, FLOAT_TOLERANCE), min(association, FLOAT_TOLERANCE)
    if unquantized is None:
        return heatmap, association
    noises = (relative_error(a, b) for a, b in zip(expected, unquantized, strict=True))
    of_heatmap, of_other = (FLOAT_TOLERANCE + QUANTIZATION_NOISES * noise for noise in noises)
    return min(heatmap, of_heatmap, LARGEST_TOLERANCE), min(association, of_other, LARGEST_TOLERANCE)


def torch_maps(network: nn.Module, images: np.ndarray) -> Maps:
    """Maps of a ``DeployNet`` on the CPU, for images uint8 (N, H, W, 3).

    Image by image, since the samples of an adaptive convolution take much memory.
    """
    found = [network(torch.from_numpy(image[None])) for image in images]
    return Maps(*(torch.cat(parts).numpy() for parts in zip(*found, strict=True)))


@contextlib.contextmanager
def _quantizers_off(network: nn.Module) -> Iterator[None]:
    """The network as float inside ``with``. Quantizers are recognised by their switch, without importing ModelOpt."""
    quantizers: list[Any] = [m for m in network.modules() if hasattr(m, "disable_quant") and m.is_enabled]
    for quantizer in quantizers:
        quantizer.disable_quant()
    try:
        yield
    finally:
        for quantizer in quantizers:
            quantizer.enable_quant()


def _compare_decoding(images: np.ndarray, path: Path, card: ModelCard) -> None:
    """Compare the graph's candidates, finished on the host, with host decoding of the same maps."""
    from samkr_edge.pose.decode import decode
    from samkr_edge.pose.proposals import select
    from samkr_edge.runtime.onnx_runtime import OnnxRunner

    found = OnnxRunner(path, outputs=(*card.maps, *card.outputs)).run(images)
    for heatmap, offset, *candidates in zip(*found, strict=True):
        on_host = decode(heatmap, offset, card.decode, card.stride)
        poses, scores, *proposals = candidates
        in_graph = select(poses, scores, card.decode, *proposals)
        same = len(on_host) == len(in_graph)
        apart = float(np.abs(on_host.keypoints - in_graph.keypoints).max(initial=0.0)) if same else np.inf
        if not apart <= DECODE_TOLERANCE:
            raise SamkrError(
                "SE-A97",
                "decoding in the graph does not find what decoding on the host does, so nothing was written",
                {
                    "people": f"host {len(on_host)}, graph {len(in_graph)}",
                    "joints": f"up to {apart:.2e} input pixels apart, allowed {DECODE_TOLERANCE:.0e}",
                },
                fix="export with --decode host",
            )


def _keep_outputs(path: Path, names: tuple[str, ...]) -> None:
    """Drop all other outputs; the tensors keep their names inside the graph."""
    import onnx

    model = onnx.load(path, format="protobuf")
    kept = [output for output in model.graph.output if output.name in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, path, format="protobuf")
