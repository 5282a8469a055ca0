"""A model repository for NVIDIA's Triton Inference Server: ``DIR/NAME/config.pbtxt`` and ``DIR/NAME/1/model.onnx``.

The configuration is Triton's ``ModelConfig`` (model_config.proto) in protobuf's text format, written without the
protobuf package; the tests parse it by that very definition. Nothing here has run in Triton yet.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from samkr_edge import __version__
from samkr_edge.deploy.served_model import UNTRIED, Port, ServedModel, refuse_others, table_of
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import json_text
from samkr_edge.files.one_file import refuse_replacing
from samkr_edge.fixes import quoted
from samkr_edge.model_card import PREPARED_KEY
from samkr_edge.printable import one_line
from samkr_edge.runtime.onnx_runtime import wrong_optimisations

TYPES = {
    "uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "float16": "TYPE_FP16",
    "int8": "TYPE_INT8", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
}  # fmt: skip
# Most images of one inference, where a graph leaves their number open.
LARGEST_BATCH = 8
_PLAN, _ONNX = "model.plan", "model.onnx"


def triton_files(model: ServedModel, folder: Path, *, force: bool = False) -> dict[Path, bytes]:
    """``folder/NAME/`` as a model repository has it: what is to be written, the configuration first.

    Args:
        model: what is served; a built one only on the machine that it was built for.
        folder: the repository; other models in it stay as they are.
        force: replace a model of this name, whatever it is.

    Raises:
        SamkrError: SE-U54 Triton would not run it or not rightly, SE-D05 and SE-D07 another model has this name,
            SE-U51 it would replace the model itself.
    """
    _refuse(model)
    home = folder / model.name
    table = table_of(model)
    weights = home / "1" / (_PLAN if model.kind == "engine" else _ONNX)
    files = {
        home / "config.pbtxt": config_of(model).encode(),
        weights: model.data,
        home / "model.json": json_text(table).encode(),
        home / "README.md": _readme(model, folder).encode("utf-8", "replace"),
    }
    refuse_replacing(model.path, weights, "--triton OTHER_DIR")
    refuse_others(folder, model.name, files, home / "model.json", table, force)
    return files


def config_of(model: ServedModel) -> str:
    """The text of ``config.pbtxt``.

    A graph with a fixed batch takes exactly that many images: ``max_batch_size`` is 0 and every shape has its batch.
    """
    is_engine, is_open = model.kind == "engine", model.image.shape[0] is None
    kind = "KIND_CPU" if model.kind == "cpu" else "KIND_GPU"
    warm = _shape(model.image, is_open)
    lines = [
        f"# {UNTRIED.format(version=__version__)}",
        f"name: {_text(model.name)}",
        f"platform: {_text('tensorrt_plan' if is_engine else 'onnxruntime_onnx')}",
        f"backend: {_text('tensorrt' if is_engine else 'onnxruntime')}",
        f"default_model_filename: {_text(_PLAN if is_engine else _ONNX)}",
        f"max_batch_size: {LARGEST_BATCH if is_open else 0}",
        f"input {{ {_port(model.image, is_open)} }}",
        *(f"output {{ {_port(one, is_open)} }}" for one in model.outputs),
        *(["dynamic_batching { }"] if is_open else []),
        f"instance_group {{ count: 1 kind: {kind} }}",
        "version_policy { latest { num_versions: 1 } }",
        "model_warmup {",
        f"  name: {_text('black image')} batch_size: 1",
        f"  inputs {{ key: {_text(model.image.name)} value {{ data_type: {TYPES[model.image.dtype]} "
        f"dims: {warm} zero_data: true }} }}",
        "}",
        *(_parameter(key, value) for key, value in _facts(model).items()),
    ]
    return "\n".join(lines) + "\n"


def _facts(model: ServedModel) -> dict[str, Any]:
    """The card's facts as parameters, which a client reads from the server's ``v2/models/NAME/config``."""
    card = model.card
    return {
        "model": card.title,
        "input_size": list(card.input_size),
        "colours": "RGB",
        "normalisation": "in the network: it takes 0 to 255",
        "stride": card.stride,
        "keypoints": list(card.skeleton.keypoints),
        "skeleton": [list(edge) for edge in card.skeleton.edges],
        "decoding": card.decoding,
        "decode_in": card.decode_in,
        "decode": asdict(card.grouping or card.decode),
        "runs_on": model.runs_on,
        "written_by": f"samkr-edge {__version__}",
    }


def _refuse(model: ServedModel) -> None:
    """What Triton's backends cannot run as we do."""
    if model.passport is not None and model.passport.runtime == "rtx":
        raise _not_for_triton(
            model,
            "it is an engine of TensorRT for RTX, and Triton's backend is TensorRT",
            "serve the ONNX: samkr-edge bundle MODEL.onnx --triton DIR",
        )
    if model.graph is not None and (target := model.graph.metadata.get(PREPARED_KEY)):
        raise _not_for_triton(
            model,
            f"it is prepared for TensorRT on {target}, and ONNX Runtime would run it",
            "serve what it was prepared from: samkr-edge bundle MODEL.onnx --triton DIR",
        )
    for one in (model.image, *model.outputs):
        if one.dtype not in TYPES:
            raise _not_for_triton(
                model,
                f"{one.name} is of {one.dtype}, which export writes nowhere",
                "samkr-edge export CHECKPOINT -o model.onnx",
            )
    if model.graph is not None and (wrong := wrong_optimisations(model.graph, model.card)):
        half = model.card.precision == "fp8" or model.card.provenance.get("floats") == "fp16"
        raise _not_for_triton(
            model,
            f"ONNX Runtime's {wrong[0]} would change what it computes, and Triton cannot switch that off",
            f"samkr-edge build {quoted(model.path)} --target auto   # and serve that, an engine"
            if half
            else f"samkr-edge build {quoted(model.path)} --target cpu   # and serve that",
        )


def _not_for_triton(model: ServedModel, reason: str, fix: str) -> SamkrError:
    return SamkrError(
        "SE-U54", f"{model.path.name} is not for Triton, so nothing was written", {"reason": reason}, fix=fix
    )


def _port(tensor: Port, is_open: bool) -> str:
    return f"name: {_text(tensor.name)} data_type: {TYPES[tensor.dtype]} dims: {_shape(tensor, is_open)}"


def _shape(tensor: Port, is_open: bool) -> str:
    """Its sizes; of a batch that Triton makes, those of one image."""
    sizes = tensor.shape[1:] if is_open else tensor.shape
    return f"[ {', '.join(str(-1 if size is None else size) for size in sizes)} ]"


def _parameter(key: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"parameters {{ key: {_text(f'pose.{key}')} value {{ string_value: {_text(text)} }} }}"


def _text(value: str) -> str:
    """A string literal of protobuf's text format: UTF-8, what is not plain ASCII as octal bytes."""
    quotes = {ord('"'): '\\"', ord("\\"): "\\\\"}
    data = value.encode("utf-8", "replace")
    letters = (quotes.get(byte, chr(byte)) if 0x20 <= byte < 0x7F else f"\\{byte:03o}" for byte in data)
    return f'"{"".join(letters)}"'


def _readme(model: ServedModel, folder: Path) -> str:
    card, batch = model.card, model.image.shape[0]
    shape = f"({'N' if batch is None else batch}, {card.input_size[0]}, {card.input_size[1]}, 3)"
    images = f"up to {LARGEST_BATCH} images, batched by Triton" if batch is None else f"{batch} at a time"
    client = CLIENT.format(
        name=model.name,
        type=TYPES[model.image.dtype].removeprefix("TYPE_"),
        dtype=model.image.dtype,
        batch=batch or 1,
    )
    return f"""# {model.name} for Triton Inference Server

{UNTRIED.format(version=__version__)}
That its configurations have the form that Triton defines is tested.

- Model: {one_line(card.title)}
- Runs on: {one_line(model.runs_on)}
- Input: `{model.image.name}`, {model.image.dtype} {shape}, RGB, 0 to 255, the whole image fitted and centred; {images}
- Outputs: {", ".join(f"`{one.name}`" for one in model.outputs)}; `model.json` says what they mean
{_kind_note(model)}
```sh
tritonserver --model-repository={quoted(folder)}
```

A client in Python, with samkr-edge and tritonclient:

```python
{client}```
"""


def _kind_note(model: ServedModel) -> str:
    if model.kind == "engine":
        return "- Triton must bring the TensorRT that built this plan: each of its releases has one.\n"
    if model.kind == "cpu":
        return "- It runs on the CPU: `instance_group` says so.\n"
    return "- Without a GPU, serve what `samkr-edge build --target cpu` makes, or write KIND_CPU in `instance_group`.\n"


CLIENT = """import json
import cv2
import numpy as np
import tritonclient.http
from samkr_edge.decoding import people_in_image
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.geometry import Fit, fit_matrix, warp

table = json.load(open("model.json"))
card = ModelCard.from_dict(table["card"])
image = cv2.cvtColor(cv2.imread("people.jpg"), cv2.COLOR_BGR2RGB)
size = image.shape[:2]
fit = Fit(fit_matrix(size, card.input_size), size)
images = np.stack({batch} * [warp(image, fit.matrix, card.input_size)]).astype("{dtype}")
asked = tritonclient.http.InferInput("image", list(images.shape), "{type}")
asked.set_data_from_numpy(images)
answer = tritonclient.http.InferenceServerClient("localhost:8000").infer("{name}", [asked])
outputs = [answer.as_numpy(name)[0] for name in card.outputs]
people = people_in_image(outputs, card, fit).above(table["sure_person"])
print(people.scores, people.keypoints)  # (P,) and (P, K, 2), pixels of the image
"""


def describe_triton(model: ServedModel, folder: Path) -> str:
    """For people."""
    batch = model.image.shape[0]
    return "\n".join(
        [
            f"{folder / model.name}: for Triton, written to the specification, not yet run there",
            f"  model        {model.card.title}",
            f"  runs on      {model.runs_on}",
            f"  batch        {f'up to {LARGEST_BATCH}, by Triton' if batch is None else batch}",
            f"  serve        tritonserver --model-repository={quoted(folder)}",
        ]
    )
