"""The poses of a pass over a data set, kept on disk: a pass over any number of images needs memory for a few."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.files.artefact import replacing
from samkr_edge.files.temporary import no_temporary_room, temporary_file
from samkr_edge.pose.poses import Poses


class Predictions:
    """Iterates over COCO results entries, in the order in which they were added.

    They are in a temporary file without a name, deleted with this object.

    Args:
        joints: K, of each pose.
        category_id: of each entry.
    """

    def __init__(self, joints: int, category_id: int = 1) -> None:
        self.category_id = category_id
        self._row = np.dtype(
            [
                ("keypoints", np.float32, (joints, 2)),
                ("joint_scores", np.float32, joints),
                ("score", np.float32),
            ]
        )
        self._file = temporary_file()  # it lives as long as this object
        weakref.finalize(self, self._file.close)
        self._places: dict[int, tuple[int, int]] = {}  # image id -> (first row, rows)
        self._rows = 0

    def add(self, image_id: int, poses: Poses) -> None:
        """The poses of one more image, in its pixels.

        Raises:
            SamkrError: SE-D09 there is no room for them.
        """
        rows = np.empty(len(poses), self._row)
        rows["keypoints"], rows["joint_scores"], rows["score"] = (
            poses.keypoints,
            poses.joint_scores,
            poses.scores,
        )
        try:
            self._file.seek(self._rows * self._row.itemsize)
            self._file.write(rows.tobytes())
            self._file.flush()
        except OSError as error:
            raise no_temporary_room(error) from error
        self._places[image_id] = (self._rows, len(poses))
        self._rows += len(poses)

    def of(self, image_ids: Iterable[int]) -> list[dict[str, Any]]:
        """The entries of these images; an image that was not evaluated has none."""
        return [entry for image_id in image_ids for entry in self._entries(image_id)]

    def images(self) -> Iterator[tuple[int, Poses]]:
        """The id and the poses of each image, in the order in which they were added."""
        for image_id in self._places:
            yield image_id, self.poses(image_id)

    def _entries(self, image_id: int) -> list[dict[str, Any]]:
        return self.poses(image_id).to_coco(image_id, self.category_id)

    def poses(self, image_id: int) -> Poses:
        """Of one image; nobody where it was not evaluated."""
        first, count = self._places.get(image_id, (0, 0))
        self._file.seek(first * self._row.itemsize)
        rows = np.frombuffer(self._file.read(count * self._row.itemsize), self._row)
        return Poses(rows["keypoints"], rows["joint_scores"], rows["score"])

    def write(self, path: str | Path) -> None:
        """COCO results JSON, one entry a line."""
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            stream.write("[")
            for number, entry in enumerate(self):
                stream.write(("," if number else "") + "\n" + json.dumps(entry))
            stream.write("\n]\n")

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for image_id in self._places:
            yield from self._entries(image_id)
