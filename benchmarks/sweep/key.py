"""What a cell's results depend on, as a key: if it is unchanged, they are not measured again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.sweep.suite import Cell, Suite
from benchmarks.where_measured import what_computes
from samkr_edge import __version__
from samkr_edge.files.artefact import sha256_of


@dataclass(frozen=True)
class Pictures:
    """Identifies the images that an entry is scored and calibrated on; None without any."""

    scored: str | None = None
    calibrated: str | None = None


def pictures_of(data: Path | None, split: str, limit: int | None, calibrates: bool) -> Pictures:
    """Scored images by their bytes; the training split, perhaps a hundred times as large, by file sizes and times."""
    if data is None:
        return Pictures()
    from benchmarks.measure.accuracy import dataset_facts
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from samkr_edge.dataset.picture_digests import disk_state

    facts = dataset_facts(open_dataset(data, split), limit)
    scored = f"{facts.annotations_sha256} {facts.images_digest}"
    if not calibrates:
        return Pictures(scored)
    train = open_dataset(data, "train")
    files = (image.path for image in train.images)
    return Pictures(scored, f"{sha256_of(train.annotation_path)} {disk_state(files)}")


def cell_key(suite: Suite, cell: Cell, pictures: Pictures) -> str:
    """Hash of everything the cell's results depend on."""
    if cell.entry.network is None:
        models: list[str] = [sha256_of(path) for path in cell.entry.files]
    else:
        origin = "untrained" if cell.entry.checkpoint is None else sha256_of(cell.entry.checkpoint)
        models = [cell.entry.network, origin, *cell.entry.precisions, str(suite.calibration_images)]
    rescoring = None if cell.entry.rescore is None else sha256_of(cell.entry.rescore)
    measured = [suite.seconds, suite.power, suite.memory, suite.anyway, rescoring]
    return digest(__version__, here(), models, asdict(pictures), cell.axes(), measured)


def here() -> dict[str, Any]:
    """This machine and its runtimes."""
    from samkr_edge.doctor.environment import environment

    return what_computes(environment())


def digest(*parts: Any) -> str:
    """SHA-256 of plain JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
