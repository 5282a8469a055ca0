"""One inference of a just-built engine without a passport, for tests of engines of one operation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.machine.tensorrt_module import TITLES, Flavour, import_tensorrt
from samkr_edge.runtime.cuda import open_cuda
from samkr_edge.runtime.tensorrt import Lane
from samkr_edge.runtime.tensorrt_log import listen
from samkr_edge.runtime.tensorrt_start import start


def run_once(
    data: bytes, inputs: Mapping[str, np.ndarray], flavour: Flavour = "tensorrt"
) -> dict[str, np.ndarray]:
    """Outputs by name, of any shape, for inputs by name with the engine's shapes and types.

    Args:
        data: built by this process, since the bytes are deserialised unchecked.

    Raises:
        SamkrError: SE-B81 TensorRT does not load it, SE-V83 a CUDA call fails.
    """
    trt = import_tensorrt(flavour)
    cuda = open_cuda()
    try:
        with cuda.bound():
            messages = listen(trt)
            runtime = start(trt.Runtime, trt, flavour, messages)
            engine = runtime.deserialize_cuda_engine(data)
            if engine is None:
                raise SamkrError(
                    "SE-B81",
                    f"{TITLES[flavour]} does not load an engine that it just built",
                    {"reason": messages.reasons()},
                    fix="samkr-edge doctor",
                )
            lane = Lane(trt, engine, cuda, batch=None)
            try:
                for name, values in inputs.items():
                    lane.inputs[name][...] = values
                lane.run()
                found = {name: np.array(values) for name, values in lane.outputs.items()}
            finally:
                lane.close()
            del engine, runtime  # children before their parents, and both before the context
            return found
    finally:
        cuda.close()
