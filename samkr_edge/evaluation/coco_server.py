"""The file that COCO's evaluation server takes for test images, whose labels are not public.

A JSON list of results in a zip of the same name, ``[type]_[testset]_[alg]_results``: here ``person_keypoints``, one of
the three test sets below and a name for the algorithm (cocodataset.org/#guidelines, as quoted by those who upload;
hyperpose and PoseDet write the same name). The server runs COCO's own code (mscoco.org/dataset), that is pycocotools.
``loadRes`` refuses images of another split and an empty list; the order is free. ``COCOeval`` counts the 20 best people
of an image, ignores a joint's third number, and counts people on images missing from the file as missed. To keep files
small, COCO advises rounding boxes to a tenth of a pixel and keypoints to whole pixels; the latter would cost small
people some OKS, so a tenth is kept here.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from samkr_edge.evaluation.ap import MAX_DETECTIONS
from samkr_edge.evaluation.predictions import Predictions
from samkr_edge.files.artefact import replacing_together

_PERSON = 1  # COCO's category, whatever our data set calls it
_TAKEN = re.compile(r"person_keypoints_(val2017|test-dev2017|test-challenge2017)_[A-Za-z0-9-]+_results\.json")


def results_name(split: str, *words: str) -> str:
    """``person_keypoints_test-dev2017_samkr-edge-dekr-w32-final-flip_results.json``: the words name the algorithm."""
    algorithm = re.sub(r"[^A-Za-z0-9]+", "-", " ".join(("samkr-edge", *words))).strip("-")
    return f"person_keypoints_{split}2017_{algorithm}_results.json"


def places_of(path: Path) -> tuple[Path, Path]:
    """The JSON and the zip next to it; ``path`` names either, or their common stem."""
    stem = path.name.removesuffix(path.suffix) if path.suffix in (".json", ".zip") else path.name
    return path.with_name(f"{stem}.json"), path.with_name(f"{stem}.zip")


def write_results(results: Predictions, path: Path) -> int:
    """Write the JSON and the zip that ``places_of`` says; returns the number of people in them.

    One entry a line, images in the order of the split, people of an image best first. One image is held in memory
    at a time.

    Raises:
        SamkrError: SE-D01 they cannot be written.
    """
    as_json, as_zip = places_of(path)
    people = 0
    with replacing_together(as_json, as_zip) as (listed, packed):
        with listed.open("w", encoding="utf-8") as stream:
            stream.write("[")
            for entry in _entries(results):
                stream.write(("," if people else "") + "\n" + json.dumps(entry))
                people += 1
            stream.write("\n]\n")
        # A device whose clock has no battery may be in 1970, which zip cannot store.
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
            archive.write(listed, as_json.name)
    return people


def doubts(as_json: Path, images: int, of: int) -> list[str]:
    """Warnings: what the server would refuse, or score in an unexpected way."""
    found = []
    if _TAKEN.fullmatch(as_json.name) is None:
        wanted = "person_keypoints_test-dev2017_NAME_results.json, NAME of letters, digits and hyphens"
        found.append(f"server: it knows files by their names, and {as_json.name} is not like {wanted}")
    if images < of:
        found.append(f"server: only {images} of {of} images; everybody on the others counts as missed")
    return found


def _entries(results: Predictions) -> Iterator[dict[str, Any]]:
    for image_id, poses in results.images():
        best = poses.best(MAX_DETECTIONS)
        yield from replace(best, keypoints=best.keypoints.round(1)).to_coco(image_id, _PERSON)
