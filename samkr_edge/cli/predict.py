"""`samkr-edge predict`."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Annotated, Any

import typer

from samkr_edge.errors import SamkrError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def predict(
    model: Annotated[Path, typer.Argument(help="Checkpoint, ONNX file, built model or engine.")],
    sources: Annotated[list[str], typer.Argument(help="Images, folders or globs.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for overlays and predictions.json.")
    ] = Path("poses"),
    threshold: Annotated[float, typer.Option(min=0, help="Leave people with a lower score out.")] = 0.1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the network.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find people in images: overlays and COCO results JSON.

    Examples:

      samkr-edge predict qat.cpu.onnx photo.jpg -o overlays

      samkr-edge predict fp32/final.pt people/images/val2017 -o overlays --threshold 0.2
    """
    import cv2

    from samkr_edge.artefact import replacing, write_json
    from samkr_edge.cli.console import emit, progress, say
    from samkr_edge.dataset import read_image
    from samkr_edge.draw import draw_poses
    from samkr_edge.pose_model import load_model

    paths = find_images(sources)
    opened = load_model(model, threads=threads)
    results: list[dict[str, Any]] = []
    failed: list[SamkrError] = []
    names = _overlay_names(paths)
    with progress("looking", len(paths), unit="images") as advance:
        for index, path in enumerate(paths):
            try:
                image = read_image(path)
            except SamkrError as error:
                failed.append(error)
                say(str(error))
            else:
                poses = opened(image).above(threshold)
                results += [{**entry, "file_name": str(path)} for entry in poses.to_coco(index)]
                with replacing(out / names[index]) as temporary:
                    drawn = draw_poses(image, poses, opened.card.skeleton)
                    if not cv2.imwrite(str(temporary), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)):
                        raise OSError("the image could not be encoded or written")
            advance()
    write_json(out / "predictions.json", results)
    done = len(paths) - len(failed)
    emit(
        {
            "images": done,
            "people": len(results),
            "failed": [e.to_dict() for e in failed],
            "out": str(out),
            "poses": results,
        },
        f"{len(results)} people in {done} images: overlays and predictions.json in {out}",
        as_json and not failed,
    )
    if failed:
        raise SamkrError(
            "SE-D28",
            f"{len(failed)} of {len(paths)} images could not be read; the others are in {out}",
            [failure.message[:150] for failure in failed[:3]],
        )


def find_images(sources: list[str]) -> list[Path]:
    """Image files behind names, folders and globs, in order.

    Raises:
        SamkrError: SE-D29 nothing was found.
    """
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            found += sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        elif path.exists() or not glob.has_magic(source):
            found.append(path)
        else:
            found += sorted(
                Path(p) for p in glob.glob(source, recursive=True) if Path(p).suffix.lower() in SUFFIXES
            )
    if not found:
        raise SamkrError(
            "SE-D29",
            "no image was found, so nothing was done",
            [f"looked in  {', '.join(sources[:4])}", f"endings    {' '.join(sorted(SUFFIXES))}"],
        )
    return found


def _overlay_names(paths: list[Path]) -> list[str]:
    """File names of the overlays; equal names of different folders are told apart by a number."""
    names: list[str] = []
    used: set[str] = set()
    for path in paths:
        stem, number = path.stem, 1
        while f"{stem}.png" in used:
            number += 1
            stem = f"{path.stem}-{number}"
        used.add(f"{stem}.png")
        names.append(f"{stem}.png")
    return names
