"""Write tests/data/nvinfer_properties.json: the keys that Gst-nvinfer reads, by DeepStream release.

From ``sources/gst-plugins/gst-nvinfer/gstnvinfer_property_parser.h`` of an installed DeepStream, or of a copy of its
sources. Only names are kept, none of NVIDIA's text. To make the file anew, with one folder a release:

    python tests/samkr_edge/nvinfer_properties.py /opt/nvidia/deepstream/deepstream-*
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

PROPERTIES = Path(__file__).parents[1] / "data" / "nvinfer_properties.json"
_HEADER = "sources/gst-plugins/gst-nvinfer/gstnvinfer_property_parser.h"
_KEY = re.compile(r'#define CONFIG_GROUP_INFER_(?!CLASS_ATTRS)\w+ "([\w-]+)"')


def read_release(folder: Path) -> list[str]:
    """Keys of the group ``property`` that this release knows, sorted."""
    return sorted(set(_KEY.findall((folder / _HEADER).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    releases = {
        Path(name).name.removeprefix("deepstream-"): read_release(Path(name)) for name in sys.argv[1:]
    }
    PROPERTIES.write_text(
        json.dumps({"source": _HEADER, "releases": releases}, indent=1) + "\n", encoding="utf-8"
    )
