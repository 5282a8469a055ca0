"""What CUDA's error numbers mean where TensorRT does not start; standard library only, for `doctor`."""

from __future__ import annotations

import re

# "CUDA initialization failure with error: 35. Please check your CUDA installation", as a warning in 8.5 and 8.6 and as
# an error in others.
FAILURE = re.compile(r"CUDA initialization failure with error:? (\d+)", re.IGNORECASE)
OLD_DRIVER = (35, 222)  # cudaErrorInsufficientDriver, cudaErrorUnsupportedPtxVersion
# cudaError -> (what happened, what to do)
CAUSES = {
    2: ("the GPU is out of memory", "close other programs that use the GPU"),
    46: ("another program uses the GPU exclusively", "close it, or: sudo nvidia-smi -c DEFAULT"),
    100: ("CUDA finds no GPU", "check CUDA_VISIBLE_DEVICES, and which GPUs the container was given"),
    101: ("CUDA finds no such GPU", "check CUDA_VISIBLE_DEVICES"),
    802: ("the driver is not ready", "restart the machine"),
    803: ("parts of two NVIDIA drivers are mixed, as after an update", "restart the machine"),
}
