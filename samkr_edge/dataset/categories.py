"""The categories of an annotation file: which are poses, and which keypoints they have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from samkr_edge.errors import SamkrError, words_of
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton

SKELETON_FILE = "skeleton.yaml"
_SYMMETRY_AND_SIGMAS = ("flip_pairs", "sigmas")
_KEYPOINT_ALIASES = {"top_head": "head", "head_top": "head"}

Id: TypeAlias = "int | str"


@dataclass(frozen=True)
class Categories:
    """The categories of an annotation file.

    Attributes:
        skeleton: the keypoints of all used ones, in annotation order.
        used: id -> name of every category with these keypoints; None: the file describes none, so all are used.
        others: id -> name of those with other keypoints or none.
    """

    skeleton: Skeleton
    used: dict[Id, str] | None
    others: dict[Id, str]


def whole_number(value: Any) -> int | None:
    """An id as annotation files write it, 7, 7.0, "7" or "007"; None if it is not a number of 63 bits."""
    digits = isinstance(value, str) and value.isdecimal() and len(value) < 40
    if digits or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return value if type(value) is int and abs(value) < 2**63 else None


def category_key(value: Any) -> Id | None:
    """A category's id, in which 1 and "1" are the same; names are unchanged."""
    number = whole_number(value)
    return value if number is None and isinstance(value, str) else number


def read_categories(
    categories: Iterable[dict[str, Any]], annotations: Iterable[dict[str, Any]], kind: str, path: Path
) -> Categories:
    """Choose the category ``person``, else the first with keypoints, and every other with the same keypoints.

    Args:
        categories: of the file.
        annotations: of the file; if no category names its keypoints, their number can decide.
        kind: ``coco`` or ``crowdpose``.
        path: the file; ``skeleton.yaml`` next to it describes keypoints that it does not describe itself.

    Raises:
        SamkrError: SE-D13 unknown keypoints, SE-D23 a description of them that cannot be used.
    """
    categories = list(categories)
    with_keypoints = [entry for entry in categories if _names(entry)]
    chosen = next(
        (entry for entry in with_keypoints if entry.get("name") == "person"),
        with_keypoints[0] if with_keypoints else {},
    )
    keyed = [(category_key(entry.get("id")), entry) for entry in categories]
    named = {key: str(entry.get("name", key)) for key, entry in keyed if key is not None}
    same = {key for key, entry in keyed if key is not None and chosen and _names(entry) == _names(chosen)}
    skeleton = _skeleton(chosen, annotations, kind, path)
    if category_key(chosen.get("id")) is None:
        return Categories(skeleton, None, {})
    used = {key: name for key, name in named.items() if key in same}
    return Categories(skeleton, used, {key: name for key, name in named.items() if key not in same})


def _names(category: dict[str, Any]) -> tuple[str, ...]:
    names = category.get("keypoints")
    return tuple(_normal_name(str(name)) for name in names) if isinstance(names, list) else ()


def _normal_name(name: str) -> str:
    name = name.strip().lower().replace(" ", "_").replace("-", "_")
    return _KEYPOINT_ALIASES.get(name, name)


def _skeleton(
    category: dict[str, Any], annotations: Iterable[dict[str, Any]], kind: str, path: Path
) -> Skeleton:
    normal = _names(category)
    lengths = (len(a["keypoints"]) for a in annotations if isinstance(a.get("keypoints"), list))
    count = len(normal) or next((length // 3 for length in lengths if length), 0)

    file = path.parent / SKELETON_FILE
    if file.exists():  # a folder of that name is reported, not ignored
        return _skeleton_from_file(file, count)
    for known in (COCO17, CROWDPOSE14):
        if normal == known.keypoints:
            own = {key: category[key] for key in _SYMMETRY_AND_SIGMAS if category.get(key) is not None}
            described = _own_skeleton({**known.to_dict(), **own}, path)
            return known if described == known else replace(described, name="custom")
    if not normal:
        # Some CrowdPose files lack their category; kind and count are enough.
        if kind == "crowdpose" and count in (0, len(CROWDPOSE14)):
            return CROWDPOSE14
        if kind == "coco" and count == len(COCO17):
            return COCO17
    missing = [key for key in _SYMMETRY_AND_SIGMAS if key not in category]
    if normal and not missing:
        return _own_skeleton(category, path)
    names = [str(name) for name in category["keypoints"]] if normal else []
    raise SamkrError(
        "SE-D13",
        f"the keypoints of {path} are neither COCO's 17 nor CrowdPose's 14, so they must be described",
        {
            "found": f"{count} keypoints{': ' if names else ''}{', '.join(names[:6])}"
            f"{', ...' if len(names) > 6 else ''}",
            "missing": ", ".join(missing) if names else "the category with its keypoint names",
        },
        fix=f"write {file} with the keys keypoints, flip_pairs, edges and sigmas",
    )


def _edges_of(content: dict[str, Any], count: int) -> list[list[int]]:
    """Bones from COCO's ``skeleton``, which counts from one; a 0 in it means that the tool counts from zero.

    They are only drawn, so whatever is not a pair of keypoints is left out.
    """
    pairs = content.get("skeleton")
    pairs = [
        pair
        for pair in (pairs if isinstance(pairs, list) else [])
        if isinstance(pair, list) and len(pair) == 2 and all(type(end) is int for end in pair)
    ]
    first = 0 if any(0 in pair for pair in pairs) else 1
    edges = [[start - first, end - first] for start, end in pairs]
    return [edge for edge in edges if all(0 <= end < count for end in edge)]


def _skeleton_from_file(file: Path, count: int) -> Skeleton:
    from samkr_edge.files.yaml_file import read_yaml

    try:
        content = read_yaml(file)
    except (OSError, ValueError) as error:
        raise _bad_skeleton(file, words_of(error)) from error
    skeleton = _own_skeleton(content, file)
    if count and len(skeleton) != count:
        raise _bad_skeleton(file, f"{len(skeleton)} keypoints, but the annotations have {count}")
    return skeleton


def _own_skeleton(content: Any, path: Path) -> Skeleton:
    if not isinstance(content, dict):
        raise _bad_skeleton(path, f"it holds a {type(content).__name__}, not a mapping")
    try:
        edges = content.get("edges") or _edges_of(content, len(content["keypoints"]))
        return Skeleton.from_dict({"name": "custom", **content, "edges": edges})
    except KeyError as error:
        raise _bad_skeleton(path, f"no {error}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise _bad_skeleton(path, str(error)) from error


def _bad_skeleton(path: Path, reason: str) -> SamkrError:
    return SamkrError(
        "SE-D23",
        f"the keypoints described in {path} cannot be used",
        {"reason": reason},
        fix="give keypoints (K names), flip_pairs and edges (pairs counted from 0), sigmas (K numbers)",
    )
