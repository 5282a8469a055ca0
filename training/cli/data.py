"""``samkr-edge data synth``, ``check``, ``subset`` and ``split``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from samkr_edge.cli.options import AsJson
from samkr_edge.cli.places import folder_to_write
from samkr_edge.errors import SamkrError
from samkr_edge.printable import counted

app = typer.Typer(
    help="Render people as a COCO data set; check a data set; cut one out of another.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


Data = Annotated[
    Path, typer.Argument(help="Data directory in COCO's or CrowdPose's layout, or an annotation file.")
]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same images.")]


class Layout(str, Enum):
    """Whose keypoints rendered people have, in whose layout."""

    coco = "coco"
    crowdpose = "crowdpose"


@app.callback()
def data() -> None:
    """Render people as a COCO data set; check a data set; cut one out of another."""


@app.command()
def synth(
    out: Annotated[
        Path,
        typer.Argument(help="Folder for the data set; created if missing.", callback=folder_to_write),
    ],
    train: Annotated[int, typer.Option(help="Images to train on.")] = 6000,
    val: Annotated[int, typer.Option(help="Images to evaluate on.")] = 400,
    size: Annotated[int, typer.Option(help="Height of the images, pixels.")] = 128,
    aspect: Annotated[float, typer.Option(help="Their width as a multiple of their height.")] = 1.0,
    seed: Seed = 0,
    keypoints: Annotated[
        Layout, typer.Option(help="coco: 17 keypoints, COCO's layout; crowdpose: 14, CrowdPose's layout.")
    ] = Layout.coco,
    people: Annotated[str, typer.Option(metavar="MIN-MAX", help="People in an image.")] = "1-3",
    height: Annotated[
        str, typer.Option(metavar="LEAST-LARGEST", help="Standing height as a share of the image's.")
    ] = "0.6-0.98",
    liveliness: Annotated[
        float, typer.Option(help="1: all poses and views; towards 0 people stand and walk facing the viewer.")
    ] = 1.0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace rendered people of other settings.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Render people as a data set on disk: articulated, crowded, occluding each other, cut off by the border.

    Examples:

      samkr-edge data synth people

      samkr-edge data synth crowd --train 20000 --size 256 --people 3-8 --height 0.2-0.7 --keypoints crowdpose
    """
    from samkr_edge.cli.console import emit
    from samkr_edge.progress import progress
    from training.data.rendered.dataset import SynthSettings, write_dataset
    from training.data.rendered.scene import SceneSettings

    try:
        few, many = (int(part) for part in _range(people, "--people"))
        least, largest = _range(height, "--height")
        scene = SceneSettings(
            size=size,
            aspect=aspect,
            people=(few, many),
            person_height=(least, largest),
            liveliness=liveliness,
        )
        settings = SynthSettings(train=train, val=val, seed=seed, keypoints=keypoints.value, scene=scene)
    except ValueError as error:
        raise SamkrError(
            "SE-U10",
            f"nothing can be rendered with these settings: {error}",
            fix="samkr-edge data synth --help",
        ) from error
    with progress("rendering", train + val, unit="images") as advance:
        result = write_dataset(out, settings, force=force, advance=advance)
    shown = ", ".join(
        f"{split} {counted(settings.count(split), 'image')} with {counted(count, 'person', 'people')}"
        for split, count in result.people.items()
    )
    emit(
        {
            "root": str(result.root),
            "settings": settings.to_dict(),
            "content_hash": result.content_hash,
            "people": result.people,
            "reused": result.reused,
        },
        f"{result.root}: {shown}{' (reused)' if result.reused else ''}",
        json,
    )


def _range(text: str, option: str) -> tuple[float, float]:
    first, _, second = text.partition("-")
    try:
        return float(first), float(second or first)
    except ValueError as error:
        raise ValueError(f"{option} {text!r} is not MIN-MAX") from error


@app.command()
def check(
    data: Data,
    json: AsJson = False,
) -> None:
    """Look for what would break training or flatter its figures; exit code 3 if anything is found.

    Missing, corrupt and cut-off images, wrong sizes, keypoints outside, people without area or category, ids given
    twice, images that are in two splits; and what training, calibration and evaluation refuse. --json names every
    place.

    Examples:

      samkr-edge data check people

      samkr-edge data check /data/coco --json
    """
    from rich.table import Table
    from rich.text import Text

    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.annotations import listed
    from samkr_edge.dataset.decoder_messages import damaged_images
    from samkr_edge.progress import progress
    from samkr_edge.terminal import say
    from training.data.check import NOTES, PROBLEMS, check_splits, open_splits, problems_error

    datasets = open_splits(data)
    with progress("checking", sum(map(len, datasets)), unit="images") as advance:
        reports = check_splits(datasets, advance=advance)
    error = problems_error(data, reports)
    table = Table("", *(report.split for report in reports))
    table.add_row("images", *(str(report.images) for report in reports))
    table.add_row("people", *(f"{report.people}, {report.skeleton}" for report in reports))
    table.add_row("crowds", *(str(report.crowds) for report in reports), end_section=True)
    for kinds, style in ((PROBLEMS, "red"), (NOTES, "yellow")):
        for kind, meaning in kinds.items():
            counts = [len(report.found.get(kind, [])) for report in reports]
            shown = [Text(str(count), style if count else "") for count in counts]
            table.add_row(meaning, *shown, end_section=kind == [*PROBLEMS][-1])
    payload = {"root": str(data), "splits": [report.to_dict() for report in reports]}
    emit({**payload, "error": error.to_dict()} if error else payload, table, json)
    if damaged := [place for report in reports for place in report.found.get("damaged", [])]:
        say(f"{damaged_images(len(damaged))}: {listed(damaged)}")
    if error is None:
        return
    if not json:
        raise error
    # One object has both: all places, and the error behind the exit code.
    say(str(error))
    raise typer.Exit(error.exit_code)


@app.command()
def subset(
    data: Annotated[Path, typer.Argument(help="Data directory in COCO's or CrowdPose's layout.")],
    out: Annotated[Path, typer.Argument(help="Folder for the small data set.", callback=folder_to_write)],
    split: Annotated[str, typer.Option(help="Split to choose from; it keeps its name.")] = "train",
    images: Annotated[int, typer.Option(min=1, help="Images to copy; all of them show people.")] = 200,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Copy some images of a split, with their annotations, into a data set of their own.

    Examples:

      samkr-edge data subset /data/coco few --images 200

      samkr-edge data subset /data/crowdpose quick --split val --images 500 --seed 1
    """
    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from training.data.subset import write_subset

    written = write_subset(open_dataset(data, split), out, images, seed)
    emit(
        {
            "annotations": str(written.annotation_path),
            "images": written.images,
            "people": written.annotations,
        },
        f"{written.annotation_path}: {counted(written.images, 'image')}, "
        f"{counted(written.annotations, 'person', 'people')}",
        json,
    )


@app.command()
def split(
    data: Data,
    out: Annotated[
        Path, typer.Argument(help="Folder for the data set with both splits.", callback=folder_to_write)
    ],
    split: Annotated[str, typer.Option(help="Split to divide in two.")] = "train",
    share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Share of the images that become val.")
    ] = 0.1,
    seed: Seed = 0,
    json: AsJson = False,
) -> None:
    """Make train and val of a data set that has one split: a copy of all its images, each in one of the two.

    Images are drawn one by one: frames of one video may land in both, so split videos yourself.

    Examples:

      samkr-edge data split /data/birds birds

      samkr-edge data split export/person_keypoints_default.json people --share 0.2
    """
    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.keypoint_dataset import open_dataset
    from training.data.subset import write_split

    parts = write_split(open_dataset(data, split), out, share, seed)
    shown = ", ".join(
        f"{name} {counted(part.images, 'image')}, {counted(part.annotations, 'person', 'people')}"
        for name, part in parts.items()
    )
    emit(
        {
            name: {
                "annotations": str(part.annotation_path),
                "images": part.images,
                "people": part.annotations,
            }
            for name, part in parts.items()
        },
        f"{out}: {shown}",
        json,
    )
