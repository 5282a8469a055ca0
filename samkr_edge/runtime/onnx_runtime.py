"""ONNX Runtime on the CPU: every ONNX we export and every model built for target ``cpu``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.errors import SamkrError, reason_of, words_of
from samkr_edge.machine.onnx_runtime_module import import_onnxruntime
from samkr_edge.model_card import TARGET_KEY, ModelCard
from samkr_edge.model_card_check import check_first_outputs
from samkr_edge.onnx_graph.bias_range import clips_biases
from samkr_edge.onnx_graph.onnx_card import card_of
from samkr_edge.onnx_graph.onnx_file import DTYPES, OnnxFile
from samkr_edge.onnx_graph.onnx_reading import decoded
from samkr_edge.passport import is_built, read_passport
from samkr_edge.preflight import admit
from samkr_edge.runtime.runner import Runner
from targets.profile import version_tuple

# From this version on QuantizeLinear rounds where its scale is FP16; before, it truncates (run: 1.19.2 to 1.29.0 lose
# half a step of INT8 in every tensor, 1.30.0 to 1.32.0 agree with FP32 scales).
ROUNDS_BY_HALF_SCALES = "1.30"
_EXPORT = "export the model again: samkr-edge export CHECKPOINT -o model.onnx"


def session_options(threads: int, optimise: bool = True) -> Any:
    """Options every session of ours uses: sequential, all optimisations, threads that sleep when idle."""
    onnxruntime = import_onnxruntime()

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    options.log_severity_level = 4  # errors are raised as well; no need to log them
    # Spinning threads would take cores from what decodes or reads images meanwhile.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


# Turns biases into int32, in steps of the product of two scales. FP16 rounds that product to almost nothing, and where
# the step is too fine the bias is clipped, both silently (run: 1.32.0). Without it such convolutions run in float.
BIASES_AS_INTEGERS = "WeightBiasQuantization"
# Optimisations that are correct for INT8 and wrong for FP8. The first drops ReLUs before quantizers (run: 1.32.0);
# the last turns FP8 convolutions into integer ones, and the model is then refused (run: 1.22.0, 1.23.2).
WRONG_FOR_FP8 = ("ReluQuantRewrite", BIASES_AS_INTEGERS, "QDQSelectorActionTransformer")


class OnnxRunner(Runner):
    """An ONNX model of ours in ONNX Runtime.

    Args:
        data: the bytes of ``path``, if they were read already: then exactly what was checked is opened.
        model: ``data`` decoded, if that was done already.
        optimise: False computes the graph node by node as written: slow, for checking the graph itself.
        outputs: tensors to give instead of the card's.

    Raises:
        SamkrError: SE-A21 and SE-A27 not a model of ours, SE-B87 truncated or not ONNX, SE-A26 in two files,
            SE-A22 ONNX Runtime refuses it.
    """

    kind = "onnx"

    def __init__(
        self,
        path: str | Path,
        threads: int = 1,
        *,
        data: bytes | None = None,
        model: OnnxFile | None = None,
        optimise: bool = True,
        outputs: Sequence[str] | None = None,
    ) -> None:
        if data is None:
            data = Path(path).read_bytes()
        model = model or decoded(data, Path(path))
        self._path = path
        self.target: str | None = model.metadata.get(TARGET_KEY)
        self.card = card_of(model, path)
        without = wrong_optimisations(model, self.card) if optimise else ()
        self._session = _open_session(path, data, session_options(threads, optimise), without)
        self._batch = model.inputs[0].shape[0] or 1  # a graph may leave the batch open
        # A graph prepared for an old TensorRT takes the image's bytes as floats.
        self._dtype = DTYPES[model.inputs[0].elem_type]
        # `build` and `export` compare maps, which the card does not name as outputs.
        self._outputs = list(outputs or self.card.outputs)
        self._checked = False  # a graph may leave the outputs' shapes open

    @property
    def batch(self) -> int:
        """Images per inference."""
        return self._batch

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        """The maps (N, C, h, w), or what ``Runner`` says, of a batch uint8 (N, H, W, 3).

        The batch is cut and padded to the size the graph was exported for.

        Raises:
            SamkrError: SE-A35 ONNX Runtime cannot run what it has opened, SE-A27 the outputs are not the card's.
        """
        session, size = self._session, self._batch
        if session is None:
            raise ValueError("this model is closed")
        if len(batch) == size:
            return self._run(session, batch)
        parts = []
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            if len(part) < size:
                part = np.concatenate([part, np.zeros((size - len(part), *part.shape[1:]), part.dtype)])
            parts.append(self._run(session, part))
        return tuple(np.concatenate(arrays)[: len(batch)] for arrays in zip(*parts, strict=True))

    def _run(self, session: Any, images: np.ndarray) -> tuple[np.ndarray, ...]:
        try:
            found = session.run(self._outputs, {"image": images.astype(self._dtype, copy=False)})
        except Exception as error:  # ONNX Runtime's own classes
            raise SamkrError(
                "SE-A35",
                f"ONNX Runtime opens {self._path} but cannot run it, so there are no poses",
                {
                    "input": f"{'x'.join(map(str, images.shape))}, as its graph declares it",
                    "reason": words_of(error, 400),
                },
                fix=_EXPORT,
            ) from error
        if not self._checked:
            shapes = {name: array.shape for name, array in zip(self._outputs, found, strict=True)}
            check_first_outputs(str(self._path), self.card, shapes, fix=_EXPORT)
            self._checked = True
        return tuple(found)

    def close(self) -> None:
        """See ``Runner``; a run in another thread keeps the session until it is done."""
        self._session = None


def _open_session(path: str | Path, data: bytes, options: Any, without: Sequence[str]) -> Any:
    onnxruntime = import_onnxruntime()

    try:
        return onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without)
        )
    except Exception as error:  # ONNX Runtime raises a dozen classes of its own
        raise SamkrError(
            "SE-A22",
            f"ONNX Runtime cannot load {path}",
            {"reason": reason_of(error), "size": f"{len(data)} bytes"},
            fix=_EXPORT,
        ) from error


def wrong_optimisations(model: OnnxFile, card: ModelCard) -> tuple[str, ...]:
    """Names of ONNX Runtime's optimisations that would change what this graph computes."""
    if card.precision == "fp8":
        return WRONG_FOR_FP8
    half = card.provenance.get("floats") == "fp16"
    return (BIASES_AS_INTEGERS,) if card.precision == "int8" and (half or clips_biases(model)) else ()


def open_onnx(path: Path, threads: int) -> OnnxRunner:
    """Open an ONNX file; one that was built for a target is first compared with its passport.

    Raises:
        SamkrError: SE-A98 INT8 next to FP16, which this ONNX Runtime computes wrongly; what ``OnnxRunner``
            refuses.
    """
    data = admit(path)[1] if is_built(path) else None
    runner = OnnxRunner(path, threads, data=data)
    if runner.card.precision == "int8" and runner.card.provenance.get("floats") == "fp16":
        _require_rounding(path)
    if runner.target is not None and not is_built(path):
        read_passport(path)  # renamed, and without its passport: raises
    return runner


def rounds_by_half_scales(version: str) -> bool:
    """Whether this ONNX Runtime quantizes rightly where the scales are FP16."""
    return version_tuple(version) >= version_tuple(ROUNDS_BY_HALF_SCALES)


def _require_rounding(path: Path) -> None:
    onnxruntime = import_onnxruntime()

    if rounds_by_half_scales(onnxruntime.__version__):
        return
    raise SamkrError(
        "SE-A98",
        f"{path.name} is INT8 with FP16, which this ONNX Runtime would round wrongly, so it was not loaded",
        {
            "found": f"onnxruntime {onnxruntime.__version__}",
            "expected": f"{ROUNDS_BY_HALF_SCALES} or later, which needs Python 3.11",
            "instead": "export without --precision fp16; that form is for strongly typed TensorRT",
        },
        fix=f'pip install "onnxruntime>={ROUNDS_BY_HALF_SCALES}"',
    )
