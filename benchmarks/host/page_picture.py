"""A picture of the live page, for docs/predict.md, as a headless Chromium shows it.

    samkr-edge predict wide.onnx moving.mp4 --serve 8080 --loop --track --smooth --compare wide-int8.onnx
    python -m benchmarks.host.page_picture http://127.0.0.1:8080/ docs/live.webp

The models are those of docs/predict.md, the video is that of benchmarks/host/moving_people.py. Needs Chromium.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2

from benchmarks.host.chromium import Chromium
from samkr_edge.files.artefact import replacing

# After so many pictures the averages on the page are those of a running stream.
_PICTURES = 45
_QUALITY = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("link")
    parser.add_argument("out", type=Path, help="a .webp or .png")
    parser.add_argument("--width", type=int, default=1100)
    parser.add_argument("--height", type=int, default=640)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--view", choices=("first", "second", "beside", "wipe"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Chromium() as browser:
        tab = browser.open(given.link, width=given.width, height=given.height, dark=given.dark)
        tab.until("Number(document.body.dataset.pictures || 0) > 0")
        if given.view is not None:
            tab.value(f"document.querySelector('[data-view={given.view}]').click()")
        tab.until(f"Number(document.body.dataset.pictures || 0) > {_PICTURES}")
        tab.picture(Path(folder) / "page.png")
        picture = cv2.imread(str(Path(folder) / "page.png"))
        with replacing(given.out) as temporary:
            quality = [cv2.IMWRITE_WEBP_QUALITY, _QUALITY] if given.out.suffix == ".webp" else []
            coded = cv2.imencode(given.out.suffix, picture, quality)[1]
            temporary.write_bytes(coded.tobytes())
        for error in tab.errors():
            print(error)


if __name__ == "__main__":
    main()
