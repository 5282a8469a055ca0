"""Files for DeepStream's Gst-nvinfer: its configuration, the network with an input that it can fill, and the table.

What nvinfer does is read from its sources (DeepStream 6.0 to 7.1, nvdsinfer_context_impl.cpp and
nvdsinfer_model_builder.cpp): it scales a frame, writes it as float planes, and knows no engine whose input is bytes; it
sets the precision of what it builds by flags, and INT8 only with a calibration table. So the graph takes float planes
here, and whatever is not FP32 is built by trtexec. Nothing here has run in DeepStream yet.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from samkr_edge import __version__
from samkr_edge.builder.tensorrt.image_input import cast_first, float_input, planar_input
from samkr_edge.deploy.served_model import UNTRIED, Port, ServedModel, refuse_others, table_of
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import json_text
from samkr_edge.files.one_file import refuse_replacing
from samkr_edge.fixes import quoted
from samkr_edge.model_card import PREPARED_KEY
from samkr_edge.onnx_graph.onnx_file import FLOAT, UINT8
from samkr_edge.passport import is_built
from samkr_edge.printable import one_line

# NvDsInferNetworkMode and NvDsInferNetworkType, nvdsinfer_context.h
_MODES = {"fp32": (0, "fp32"), "int8": (1, "int8"), "fp16": (2, "fp16"), "fp8": (2, "fp16")}
_OTHER_NETWORK = 100


def deepstream_files(model: ServedModel, folder: Path, *, force: bool = False) -> dict[Path, bytes]:
    """``config_infer_NAME.txt``, ``NAME.onnx``, ``NAME.json`` and ``NAME.md``: what is to be written, in this order.

    Args:
        model: an exported ONNX, or one that ``build --prepared`` wrote for a device.
        folder: may hold other models, too.
        force: replace files of these names, whatever they are.

    Raises:
        SamkrError: SE-U54 nvinfer could not run it, SE-D05 and SE-D07 another model has this name, SE-U51 it would
            replace the model itself.
    """
    ready = _with_planes(model)
    names = (f"config_infer_{model.name}.txt", f"{model.name}.onnx", f"{model.name}.json", f"{model.name}.md")
    config, network, table, readme = (folder / name for name in names)
    facts = {**table_of(ready), "engine": engine_name(ready)}
    files = {
        config: config_of(ready).encode(),
        network: ready.data,
        table: json_text(facts).encode(),
        readme: _readme(ready).encode("utf-8", "replace"),
    }
    refuse_replacing(model.path, network, "--deepstream OTHER_DIR")
    refuse_others(folder, model.name, files, table, facts, force)
    return files


def config_of(model: ServedModel) -> str:
    """The text of nvinfer's configuration; a GLib key file, whose paths are relative to its own folder.

    There are no offsets, and the scale is 1: the network normalises, each channel by its own deviation, which nvinfer
    with its one factor could not.
    """
    _, _, height, width = model.image.shape
    keys = {
        "gie-unique-id": 1,
        "gpu-id": 0,
        "process-mode": 1,
        "interval": 0,
        "onnx-file": f"{model.name}.onnx",
        "model-engine-file": engine_name(model),
        "network-mode": _MODES[_mode(model)][0],
        "batch-size": _batch(model),
        "infer-dims": f"3;{height};{width}",
        "network-input-order": 0,
        "model-color-format": 0,
        "net-scale-factor": 1.0,
        "maintain-aspect-ratio": 1,
        "symmetric-padding": 1,
        "scaling-filter": 1,
        "network-type": _OTHER_NETWORK,
        "output-tensor-meta": 1,
    }
    head = [
        f"# {UNTRIED.format(version=__version__)}",
        f"# {one_line(model.card.title)}. {model.name}.md says more.",
    ]
    return "\n".join([*head, "[property]", *(f"{key}={value}" for key, value in keys.items())]) + "\n"


def engine_name(model: ServedModel) -> str:
    """Of the engine beside the ONNX: the name that nvinfer gives to what it builds, so that it finds that again."""
    return f"{model.name}.onnx_b{_batch(model)}_gpu0_{_MODES[_mode(model)][1]}.engine"


def _mode(model: ServedModel) -> str:
    """A key of ``_MODES``. Of a float network FP32: with FP16 as a flag, TensorRT would round where joints are."""
    precision = model.card.precision
    return "fp32" if precision not in ("int8", "fp8") and not _is_half(model) else precision


def _is_half(model: ServedModel) -> bool:
    return model.card.precision == "fp16" or model.card.provenance.get("floats") == "fp16"


def _batch(model: ServedModel) -> int:
    return model.image.shape[0] or 1


def _is_prepared(model: ServedModel) -> bool:
    return model.graph is not None and PREPARED_KEY in model.graph.metadata


def _with_planes(model: ServedModel) -> ServedModel:
    """The same with the image as float planes (N, 3, H, W), 0 to 255.

    Exact: bytes become the floats that the graph makes of them itself.

    Raises:
        SamkrError: SE-U54 it is built, is not FP32 and not prepared, or does not begin as our exports do.
    """
    if model.graph is None or is_built(model.path):
        raise _not_for_deepstream(
            model,
            "nvinfer writes floats into the network's input, and a built model takes bytes, or runs on a CPU",
            "samkr-edge bundle MODEL.onnx --deepstream DIR   # what it was built from",
        )
    if (model.card.quantized or _is_half(model)) and not _is_prepared(model):
        raise _not_for_deepstream(
            model,
            f"nvinfer cannot build {model.card.precision} as this graph means it, and trtexec wants it prepared",
            f"samkr-edge build {quoted(model.path)} --target TARGET --prepared {quoted(model.name + '.trt.onnx')}   "
            "# and bundle that",
        )
    if _batch(model) > 1 and not _is_prepared(model):
        raise _not_for_deepstream(
            model,
            f"it takes {_batch(model)} images at a time, and nvinfer builds what takes fewer, too",
            "samkr-edge export CHECKPOINT --batch 1 -o model.onnx",
        )
    graph = model.graph.copy()
    cast_first(graph)
    if graph.inputs[0].elem_type == UINT8:
        float_input(graph)
    if graph.inputs[0].elem_type != FLOAT or not planar_input(graph):
        raise _not_for_deepstream(
            model,
            "its input is not read as export has it: the bytes of an image, cast and transposed",
            "samkr-edge export CHECKPOINT -o model.onnx",
        )
    image = Port(model.image.name, "float32", graph.inputs[0].shape)
    return replace(model, data=graph.encode(), graph=graph, image=image)


def _not_for_deepstream(model: ServedModel, reason: str, fix: str) -> SamkrError:
    return SamkrError(
        "SE-U54",
        f"{model.path.name} is not for DeepStream, so nothing was written",
        {"reason": reason},
        fix=fix,
    )


def _readme(model: ServedModel) -> str:
    card = model.card
    shapes = {one.name: [size or 1 for size in one.shape[1:]] for one in model.outputs}
    return f"""# {model.name} for DeepStream

{UNTRIED.format(version=__version__)}
nvinfer's part was read from its sources, DeepStream 6.0 to 7.1.

- Model: {one_line(card.title)}
- Element: `nvinfer config-file-path=config_infer_{model.name}.txt`, after `nvstreammux`
- Frames: scaled, centred and padded by nvinfer as `samkr-edge predict` does, but to whole pixels, so that joints may
  be off by up to a pixel of the network's input
- Outputs: {", ".join(f"`{one.name}`" for one in model.outputs)}, as metadata of each frame
- Table: `{model.name}.json`, which says what they mean

{_engine_note(model)}

A probe in Python, with samkr-edge and pyds, on the source pad of nvinfer:

```python
{PROBE.format(name=model.name, shapes=shapes)}```
"""


def _engine_note(model: ServedModel) -> str:
    name = engine_name(model)
    if _is_prepared(model):
        return f"""nvinfer cannot build this graph. On the device run the `trtexec` command that `build --prepared`
printed, with `--onnx={model.name}.onnx` and `--saveEngine={name}`."""
    return f"""nvinfer builds `{name}` at its first start, in FP32; it does not switch TF32 off. For FP16,
which TensorRT must not choose where coordinates are computed, `samkr-edge build MODEL.onnx --target TARGET --prepared
trt.onnx` prints a `trtexec` command; then `samkr-edge bundle trt.onnx --deepstream DIR`."""


PROBE = """import ctypes
import json
import numpy as np
import pyds
from samkr_edge.decoding import people_in_image
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.geometry import Fit, fit_matrix

SIZE = (1080, 1920)  # height and width of nvstreammux
table = json.load(open("{name}.json"))
card = ModelCard.from_dict(table["card"])
shapes = {shapes}
fit = Fit(fit_matrix(SIZE, card.input_size), SIZE)


def items(node, cast):
    while node is not None:
        yield cast(node.data)
        node = node.next


def tensor(meta, index):
    layer = pyds.get_nvds_LayerInfo(meta, index)
    floats = ctypes.cast(pyds.get_ptr(layer.buffer), ctypes.POINTER(ctypes.c_float))
    return layer.layerName, np.ctypeslib.as_array(floats, shape=shapes[layer.layerName]).copy()


def probe(pad, info, _):
    batch = pyds.gst_buffer_get_nvds_batch_meta(hash(info.get_buffer()))
    for frame in items(batch.frame_meta_list, pyds.NvDsFrameMeta.cast):
        for user in items(frame.frame_user_meta_list, pyds.NvDsUserMeta.cast):
            if user.base_meta.meta_type != pyds.NvDsMetaType.NVDSINFER_TENSOR_OUTPUT_META:
                continue
            meta = pyds.NvDsInferTensorMeta.cast(user.user_meta_data)
            found = dict(tensor(meta, index) for index in range(meta.num_output_layers))
            outputs = [found[name] for name in card.outputs]
            people = people_in_image(outputs, card, fit).above(table["sure_person"])
            print(frame.frame_num, people.scores, people.keypoints)  # (P,) and (P, K, 2), pixels of the frame
    return 1  # Gst.PadProbeReturn.OK
"""


def describe_deepstream(model: ServedModel, folder: Path) -> str:
    """For people."""
    config = folder / f"config_infer_{model.name}.txt"
    lines = [
        f"{config}: for DeepStream, written to the specification, not yet run there",
        f"  model        {model.card.title}",
        f"  use          nvinfer config-file-path={quoted(config)}",
    ]
    if _is_prepared(model):
        lines.append(f"  first        trtexec on the device: {model.name}.md says how")
    return "\n".join(lines)
