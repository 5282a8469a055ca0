"""A model's card against the model itself: what goes in, what comes out. Every runtime asks this when it opens one.

A card is text that can be edited, or kept while the graph beside it is changed; decoding by a card that says another
size, skeleton or stride fails far from the cause, or finds people where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard

# None: a size that the file leaves open. An empty shape: a file that says nothing.
Shape = Sequence[int | None]


def check_card(
    name: str, card: ModelCard, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], fix: str
) -> None:
    """Compare names and sizes of the inputs (N, H, W, 3) and outputs that a model has with those of its card.

    Raises:
        SamkrError: SE-A27 they differ; ``fix`` is its last line.
    """
    found = _differences("input", {"image": (None, *card.input_size, 3)}, inputs)
    found += _differences("output", _outputs(card), {n: s for n, s in outputs.items() if n in card.outputs})
    if found:
        raise SamkrError(
            "SE-A27",
            f"the card of {name} is not of this network, so it was not used",
            found[:4],
            fix=fix,
        )


def _outputs(card: ModelCard) -> dict[str, Shape]:
    """Output -> the shape that its decoder takes."""
    keypoints = len(card.skeleton)
    maps = tuple(None if size % card.stride else size // card.stride for size in card.input_size)
    shapes: dict[str, Shape] = {
        "heatmap": (None, keypoints + 1, *maps),
        "offset": (None, 2 * keypoints, *maps),
        "poses": (None, None, keypoints, 3),
        "scores": (None, None),
        "proposals": (None, None, keypoints, 2),
    }
    return {name: shapes[name] for name in card.outputs}


def _differences(kind: str, expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> list[str]:
    facts = [f"{kind:<10} {name}: the card has none" for name in found if name not in expected]
    for name, shape in expected.items():
        if name not in found:
            facts.append(f"{kind:<10} {name}: the network has none")
        elif not _may_be(shape, found[name]):
            facts.append(f"{name:<10} the card says {_words(shape)}, the network {_words(found[name])}")
    return facts


def _may_be(expected: Shape, found: Shape) -> bool:
    return not found or (
        len(found) == len(expected)
        and all(None in (one, other) or one == other for one, other in zip(expected, found, strict=True))
    )


def _words(shape: Shape) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)
