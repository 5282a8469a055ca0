"""Whether a split can be used: checked before training, evaluation and calibration start, and by `data check`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from samkr_edge.dataset.annotations import LEFT_OUT, TOLD, Annotation, ImageRecord, found_line, listed
from samkr_edge.dataset.exif import orientation_of
from samkr_edge.dataset.keypoint_dataset import (
    KeypointDataset,
    annotation_place,
    available_splits,
    open_dataset,
    unlabelled_splits,
)
from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted
from samkr_edge.pose.oks import is_ignored, is_labelled_person
from samkr_edge.printable import counted

# With fewer images that show people, ranges measured on them are an accident.
FEWEST_CALIBRATION_IMAGES = 8

Purpose: TypeAlias = Literal["train", "eval", "quantize"]

# DEKR: people of COCO with an area below this squared (source pixels) get no centre and no offsets. COCO's photographs
# are 640 pixels long; for smaller images the limit shrinks with their short side, so that it means the same people.
_SMALLEST_COCO_PERSON = 32.0
_COCO_SHORT_SIDE = 400
_LOOKED_AT = 2000  # images whose EXIF data is read before a run; `data check` reads all


def smallest_area(record: ImageRecord, kind: str, smallest_person: float | None = None) -> float:
    """Smallest area, in pixels of the image, of a person to whom training gives a centre.

    Args:
        smallest_person: its square root in images of any size; None: 32, and less where the image is small.
    """
    if kind != "coco":
        return 0.0
    share = min(1.0, min(record.height, record.width) / _COCO_SHORT_SIDE)
    side = _SMALLEST_COCO_PERSON * share if smallest_person is None else smallest_person
    return side**2


@dataclass(frozen=True)
class AnnotatedPeople:
    """Annotations of some images, by what can be done with them.

    Attributes:
        annotations: all.
        labelled: those with a labelled keypoint that are not a crowd.
        uncounted: of these, the ones whose ``num_keypoints`` is 0, whom evaluation and training ignore.
        small: of the others, the ones too small for a centre.
        outside: of the rest, the ones whose centre, the mean of their labelled keypoints, is outside the image in
            either orientation.
        unsized: labelled, without an area: no pose can match them by OKS.
        counted: people whom evaluation counts.
    """

    annotations: int = 0
    labelled: tuple[Annotation, ...] = ()
    uncounted: tuple[Annotation, ...] = ()
    small: tuple[Annotation, ...] = ()
    outside: tuple[Annotation, ...] = ()
    unsized: tuple[Annotation, ...] = ()
    counted: int = 0

    @classmethod
    def of(
        cls,
        dataset: KeypointDataset,
        images: Sequence[ImageRecord] | None = None,
        *,
        smallest_person: float | None = None,
    ) -> AnnotatedPeople:
        """Count them in ``images``, by default all of the split; the limit as ``smallest_area`` takes it."""
        count = counted = 0
        labelled, uncounted, small, outside, unsized = [], [], [], [], []
        for record in dataset.images if images is None else images:
            smallest = smallest_area(record, dataset.kind, smallest_person)
            for person in dataset.annotations.get(record.id, ()):
                count += 1
                counted += not is_ignored(person)
                if not is_labelled_person(person):
                    continue
                labelled.append(person)
                if is_ignored(person):
                    uncounted.append(person)
                elif person["area"] < smallest:
                    small.append(person)
                elif not _has_center(person, max(record.width, record.height)):
                    outside.append(person)
                if person["area"] <= 0 or (dataset.kind == "crowdpose" and min(person["bbox"][2:]) <= 0):
                    unsized.append(person)
        return cls(
            count, tuple(labelled), tuple(uncounted), tuple(small), tuple(outside), tuple(unsized), counted
        )

    @property
    def learnable(self) -> int:
        """People whom training gives a centre."""
        return len(self.labelled) - len(self.uncounted) - len(self.small) - len(self.outside)


def _has_center(person: Annotation, longest: int) -> bool:
    """Whether it is inside the square of this side: the file may have width and height exchanged."""
    labelled = [(x, y) for x, y, v in zip(*[iter(person["keypoints"])] * 3, strict=True) if v > 0]
    return all(0 <= sum(axis) / len(labelled) < longest for axis in zip(*labelled, strict=True))


def refusal(
    dataset: KeypointDataset,
    step: Purpose,
    images: Sequence[ImageRecord] | None = None,
    *,
    smallest_person: float | None = None,
) -> SamkrError | None:
    """Why a step cannot use a split, or these images of it; None if it can."""
    if not dataset.labelled:
        return no_labels(dataset)
    people = AnnotatedPeople.of(dataset, images, smallest_person=smallest_person)
    usable = {"train": people.learnable, "eval": people.counted, "quantize": len(people.labelled)}[step]
    if usable:
        return None
    count = len(dataset.images if images is None else images)
    facts = {"images": f"{count} with {counted(people.annotations, 'annotation')}"}
    fix = f"label people in {dataset.annotation_path.name}, or name a data set that has some"
    if people.labelled:
        facts["people"] = f"{len(people.labelled)} with labelled keypoints"
    elif "category" in dataset.told:
        fix = "give these annotations the id of a category of the file"
    if people.small and step == "train":
        without_size = all(person in people.unsized for person in people.small)
        label = "no size" if without_size else "too small"
        facts[label] = f"{len(people.small)}: {listed(_places(people.small))}"
        fix = "cut the images into parts that show people larger, at least 32 pixels in an image of 640"
        if smallest_person is not None and AnnotatedPeople.of(dataset, images).learnable:
            fix = "run the same command with --set data.smallest_person=null: smaller people, where images are small"
        if without_size:
            fix = "give these annotations an area or a bbox, which their keypoints alone do not give"
    if people.outside and step == "train":
        places = listed(_places(people.outside))
        facts["outside"] = f"{len(people.outside)} centred outside the image: {places}"
        fix = "correct the keypoints, which must be pixels of the image as it is stored"
    if people.uncounted:
        facts["uncounted"] = f"{len(people.uncounted)} of them, since their num_keypoints is 0"
        fix = "leave num_keypoints out of the annotations: labelled keypoints are counted then"
    if left := dataset.told.get("category"):
        facts["left out"] = found_line(LEFT_OUT["category"], left)
    return _nobody(step, dataset.annotation_path, dict(list(facts.items())[:4]), fix)


def _nobody(step: Purpose, path: Path, facts: dict[str, str], fix: str) -> SamkrError:
    if step == "train":
        learn = f"no image of {path} shows anybody to learn from, so nothing was trained"
        return SamkrError("SE-D18", learn, facts, fix=fix)
    if step == "eval":
        judge = f"no evaluated image of {path} shows a labelled person, so there is no AP"
        return SamkrError("SE-D27", judge, facts, fix=fix)
    calibrate = f"no image of {path} shows people, so there is nothing to calibrate on"
    return SamkrError("SE-D40", calibrate, facts, fix=fix)


def no_labels(dataset: KeypointDataset) -> SamkrError:
    """SE-D81."""
    return SamkrError(
        "SE-D81",
        f"{dataset.annotation_path} holds images without labels, so nothing can be learned from it or judged by it",
        {"images": len(dataset), "labels": "only the data set's evaluation server has them"},
        fix=f"samkr-edge eval MODEL --data {quoted(dataset.named)} --split {quoted(dataset.split)}   "
        "# writes the file that the server takes",
    )


def require_usable(
    dataset: KeypointDataset,
    step: Purpose,
    images: Sequence[ImageRecord] | None = None,
    *,
    smallest_person: float | None = None,
) -> None:
    """Raise what ``refusal`` returns, and if images that the step reads are missing.

    Raises:
        SamkrError: SE-D18 nothing to train on, SE-D27 nobody to evaluate on, SE-D40 nobody to calibrate on, SE-D81
            the split has no labels, SE-D22 images are missing.
    """
    refused = refusal(dataset, step, images, smallest_person=smallest_person)
    if refused is not None:
        raise refused
    read = dataset.images if images is None else images
    if step == "train":  # images of nobody are left out
        read = [image for image in read if dataset.annotations[image.id]]
    if step != "quantize":  # which chooses a few and reads them right away
        require_images(dataset, read)


def require_images(dataset: KeypointDataset, images: Sequence[ImageRecord]) -> None:
    """Folders are listed and no file is opened: asking a network disk for every file takes minutes.

    Raises:
        SamkrError: SE-D22.
    """
    folders = {image.path.parent for image in images}
    listed_names = {folder: set(os.listdir(folder)) for folder in folders if os.path.isdir(folder)}
    missing = [
        image
        for image in images
        if image.path.name not in listed_names.get(image.path.parent, ()) and not image.path.exists()
    ]
    if missing:
        raise SamkrError(
            "SE-D22",
            f"{len(missing)} of {counted(len(images), 'image')} of {dataset.annotation_path} cannot be found, so "
            "nothing was done",
            {
                "missing": listed([place_of(image, dataset) for image in missing]),
                "looked in": ", ".join(map(str, dataset.searched)),
            },
            fix="restore them, or remove them from the annotations; full list: "
            f"samkr-edge data check {quoted(dataset.named)}"
            if dataset.labelled
            else f"put all of COCO's test2017 there: unzip test2017.zip -d {quoted(dataset.root / 'images')}",
        )


def place_of(image: ImageRecord, dataset: KeypointDataset) -> str:
    """The image's file with its folder in the data set, for a list of places."""
    return f"{os.path.relpath(image.path, dataset.root)} (image {image.id})"


def require_calibration_images(train: KeypointDataset, asked: int | None = None) -> None:
    """Whether there are enough images to calibrate on, and enough requested, before anything is opened.

    Raises:
        SamkrError: SE-D40 none shows people, SE-D43 too few do or are requested.
    """
    require_usable(train, "quantize")
    shown = len({person["image_id"] for person in AnnotatedPeople.of(train).labelled})
    if shown < FEWEST_CALIBRATION_IMAGES:
        found = f"{shown} that show people, of {counted(len(train), 'image')} of {train.annotation_path}"
        raise too_few_images(shown, found)
    if asked is not None and asked < FEWEST_CALIBRATION_IMAGES:
        raise too_few_images(asked, fix=f"run the same command with --images {min(shown, 128)}")


def too_few_images(
    count: int,
    found: str | None = None,
    fix: str = "annotate more images; to measure speed alone, quantize takes --random-images 8 in place of --data",
) -> SamkrError:
    """SE-D43."""
    return SamkrError(
        "SE-D43",
        f"{counted(count, 'image is', 'images are')} too few to calibrate on, so nothing was done",
        {"needed": f"at least {FEWEST_CALIBRATION_IMAGES}; 128 to 512 is usual", "found": found},
        fix=fix,
    )


def require_splits(data: Path, splits: Sequence[str]) -> None:
    """For steps that need certain splits, none of which another one can replace.

    Args:
        data: if it is missing or has no split, the reader's error says more.
        splits: all that the step needs. A single file is one split: it would be trained and evaluated on.

    Raises:
        SamkrError: SE-D74 not all of them are there, SE-D81 one has no labels.
    """
    found = available_splits(data)
    for split in (name for name in splits if name not in found and name in unlabelled_splits(data)):
        raise no_labels(open_dataset(data, split))
    file = data.is_file() and len(splits) > 1
    missing = [split for split in splits if split not in found] if found else []
    if not file and not missing:
        return
    kind = (
        "crowdpose" if any(annotation_place(data, name, "crowdpose").exists() for name in found) else "coco"
    )
    only = [] if file or "train" in found else ["--split", found[0]]
    made = f"{data.resolve().stem}-split"
    command = shlex.join(["samkr-edge", "data", "split", str(data), made, *only])
    raise SamkrError(
        "SE-D74",
        f"{data} is one split, and this needs one to learn from and another to evaluate on"
        if file
        else f"{data} lacks the split {' and '.join(map(repr, missing))}, which this needs, so nothing was done",
        {
            "needed": [annotation_place(Path("DIR"), split, kind) for split in dict.fromkeys(splits)],
            "found": ", ".join(found) or None,
        },
        fix=f"{command}   # then the same command with --data {made}",
    )


def remarks(dataset: KeypointDataset, images: Sequence[ImageRecord] | None = None) -> list[str]:
    """Remarks to print before the work: what was left out or filled in, and what makes labels wrong or useless."""
    records = dataset.images if images is None else images
    people = AnnotatedPeople.of(dataset, records)
    found = [(words, dataset.told.get(kind, ())) for kind, words in {**LEFT_OUT, **TOLD}.items()]
    found.append(("people with labelled keypoints but num_keypoints 0, ignored", _places(people.uncounted)))
    found.append(("people centred outside their image, not trained on", _places(people.outside)))
    found.append(("people without a size, whom no pose can match", _places(people.unsized)))
    lines = [f"data: {found_line(words, places)}" for words, places in found if places]
    spread = [records[index] for index in range(0, len(records), 1 + (len(records) - 1) // _LOOKED_AT)]
    turned = [record.path.name for record in spread if orientation_of(record.path) != 1]
    if turned:
        looked_at = counted(len(spread), "image") + (" looked at" if len(spread) < len(records) else "")
        lines.append(
            f"data: {len(turned)} of {looked_at} have an EXIF orientation, which is ignored, so labels drawn on the "
            f"rotated image are wrong: {listed(turned)}"
        )
    return lines


def _places(people: Sequence[Annotation]) -> list[str]:
    return [f"annotation {person['id']} (image {person['image_id']})" for person in people]
