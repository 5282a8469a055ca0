"""The option `--photos`: pictures of one's own, without labels, where `--data` would name a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samkr_edge.cli.options import SPLIT
from samkr_edge.cli.unused_options import refuse_unused
from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from samkr_edge.dataset.photos import KnownPictures, Photos

PhotoWords = Annotated[
    list[str] | None,
    typer.Option(
        "--photos",
        metavar="PATH",
        help="Your own pictures, without labels, in place of --data: a folder, a video, a quoted glob; repeatable.",
    ),
]


@contextmanager
def chosen_photos(
    words: Sequence[str] | None,
    data: Path | None,
    count: int,
    *,
    seed: int = 0,
    leave_out: KnownPictures | None = None,
) -> Iterator[Photos | None]:
    """The pictures of ``--photos``, as ``samkr_edge.frames.photo_set.photo_set`` chooses them; None without it.

    Raises:
        SamkrError: SE-U05 ``--data`` is given too; the errors of choosing.
    """
    if not words:
        yield None
        return
    require_one(words, data)
    from samkr_edge.frames.photo_set import photo_set

    with photo_set(words, count, seed=seed, leave_out=leave_out) as photos:
        yield photos


def require_one(words: Sequence[str] | None, data: Path | None, split: str = SPLIT) -> None:
    """Either pictures or a data set, which alone has splits.

    Raises:
        SamkrError: SE-U05 both are given, SE-U06 neither is, SE-U78 a split of pictures.
    """
    if words and data is not None:
        raise SamkrError(
            "SE-U05",
            "--photos is for pictures without labels and --data for labelled ones, so only one of them can be given",
            fix="run the same command without --photos: labels tell more",
        )
    if not words and data is None:
        raise SamkrError(
            "SE-U06",
            "there are no images to work on, so nothing was done",
            fix="add --data DIR, a data set with labels, or --photos DIR, pictures of your own",
        )
    refuse_unused("--data DIR", data, {"--split": None if split == SPLIT else split})


def photos_to_carry(words: Sequence[str]) -> list[str]:
    """For ``--on``, which copies what is named: a glob becomes the files that it matches.

    Raises:
        SamkrError: as ``samkr_edge.frames.photo_set.photo_files``.
    """
    from samkr_edge.deploy.remote import THERE
    from samkr_edge.frames.photo_set import photo_files

    carried: list[str] = []
    for word in words:
        as_it_is = word.startswith(THERE) or os.path.exists(word)
        carried += [word] if as_it_is else map(str, photo_files([word]))
    return carried
