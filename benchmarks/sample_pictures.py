"""The schema of ``samples.json``, next to a results file: sample predictions of every model on a few images."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.artefact import read_json
from samkr_edge.fixes import quoted

FOLDER = "samples"
INDEX = "samples.json"


class SamplePerson(BaseModel):
    """One predicted person: K joints (x, y, score) in pixels of the saved image."""

    model_config = ConfigDict(extra="forbid")
    score: float
    joints: list[tuple[float, float, float]]


class SampleImage(BaseModel):
    """One saved image and each model's predictions."""

    model_config = ConfigDict(extra="forbid")
    file: str
    width: int
    height: int
    people: dict[str, list[SamplePerson]]


class Samples(BaseModel):
    """The index of a samples folder. ``grouped``: the models whose people are found by grouping."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int = 1
    grouped: list[str] = []
    edges: list[tuple[int, int]]
    sigmas: list[float]
    keypoints: list[str]
    images: list[SampleImage]


def read_samples(folder: Path) -> Samples | None:
    """The samples next to a results file; None if there are none, for example because only the JSON was copied.

    Raises:
        SamkrError: SE-A63 the index is damaged.
    """
    path = folder / INDEX
    if not path.is_file():
        return None
    content = read_json(path, "samples index")
    try:
        samples = Samples.model_validate(content)
    except ValueError as error:
        raise SamkrError(
            "SE-A63",
            f"{path} is not an index of samples that this version can read",
            {"reason": reason_of(error)},
            fix=f"measure again, or remove {quoted(folder)} for a report without pictures",
        ) from error
    return samples.model_copy(
        update={"images": [image for image in samples.images if (folder / image.file).is_file()]}
    )
