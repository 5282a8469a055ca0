"""What TensorRT for RTX 1.7.1 logged of samkr_tiny's builds, cut to the layers: recorded, as it came."""

import gzip
import json
from pathlib import Path

from samkr_edge.builder.inspect.builder_listing import listing_of_log

DATA = Path(__file__).parents[1] / "data"
# FP32, FP16 and INT8 (per-channel weight scales, FP16 beside it) for SM89; the same INT8 for SM75.
BUILDS = ("fp32", "fp16", "int8", "int8_sm75")


def builder_log(build: str) -> str:
    return gzip.decompress((DATA / f"rtx_build_{build}.log.gz").read_bytes()).decode()


def builder_layers(build: str) -> str:
    """The same as the JSON that lies beside an engine."""
    return json.dumps(listing_of_log(builder_log(build)))
