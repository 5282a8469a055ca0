"""A model's card against the model's own inputs and outputs; every runtime checks them when it opens a model.

A card is text that can be edited, or kept while the graph is changed; decoding by a card with another size, skeleton
or stride fails far from the cause, or finds people where there are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.model_card import ModelCard

# None: a size that the file leaves open. An empty shape: a file that says nothing.
Shape = Sequence[int | None]


def unreadable_card(name: str, error: ValueError, lost: str, fix: str) -> SamkrError:
    """SE-A21: what ``ModelCard.from_dict`` or ``from_json`` says of the card in ``name``, and what is lost by it."""
    return SamkrError(
        "SE-A21",
        f"the model card in {name} cannot be read, so {lost}",
        {"reason": reason_of(error)},
        fix=fix,
    )


def check_card(
    name: str, card: ModelCard, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], fix: str
) -> None:
    """Compare names and sizes of the inputs (N, H, W, 3) and outputs that a model has with those of its card.

    Raises:
        SamkrError: SE-A27 they differ; ``fix`` is its fix.
    """
    shapes = output_shapes(card)
    found = _odd_stride(card)
    found |= _differences("input", {"image": (None, *card.input_size, 3)}, inputs)
    expected = {output: shapes[output] for output in card.outputs}
    found |= _differences("output", expected, {n: s for n, s in outputs.items() if n in expected})
    _refuse(name, found, fix)


def check_first_outputs(name: str, card: ModelCard, outputs: Mapping[str, Shape], fix: str) -> None:
    """The same for a model's output arrays, whose shapes a file may leave open; other outputs are ignored.

    Raises:
        SamkrError: SE-A27 as above.
    """
    shapes = {n: shape for n, shape in output_shapes(card).items() if n in outputs}
    _refuse(name, _differences("output", shapes, {n: outputs[n] for n in shapes}), fix)


def require_offsets(card: ModelCard, what: str, fix: str) -> None:
    """Refuse a network that is decoded by grouping.

    Args:
        card: of the network.
        what: what cannot be done, to follow "so", as in "its graph cannot decode".
        fix: what to run instead.

    Raises:
        SamkrError: SE-U48 it has no offsets.
    """
    if card.grouping is not None:
        raise SamkrError(
            "SE-U48",
            f"{card.model} has tags in place of offsets, so {what}",
            {"decoding": card.decoding, "needed": "offsets, as of SAMKR and DEKR"},
            fix=fix,
        )


def _refuse(name: str, found: dict[str, str], fix: str) -> None:
    if found:
        raise SamkrError(
            "SE-A27",
            f"the card of {name} does not belong to this network, so it was not used",
            dict(list(found.items())[:4]),
            fix=fix,
        )


def _odd_stride(card: ModelCard) -> dict[str, str]:
    """A map has a pixel for every ``stride`` pixels of the input, without remainder."""
    height, width = card.input_size
    if height % card.stride or width % card.stride:
        return {"stride": f"the card says {card.stride}, and its input is {height}x{width}, not a multiple"}
    return {}


def output_shapes(card: ModelCard) -> dict[str, Shape]:
    """Every output that a network may have -> the shape that the decoder expects."""
    keypoints = len(card.skeleton)
    return {
        **{name: (None, *shape) for name, shape in card.map_shapes.items()},
        "poses": (None, None, keypoints, 3),
        "scores": (None, None),
        "proposals": (None, None, keypoints, 2),
    }


def _differences(kind: str, expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> dict[str, str]:
    facts = {
        name: f"is an {kind} of the network, and the card has none" for name in found if name not in expected
    }
    for name, shape in expected.items():
        if name not in found:
            facts[name] = f"is an {kind} of the card, and the network has none"
        elif not _may_be(shape, found[name]):
            facts[name] = f"the card says {_words(shape)}, the network {_words(found[name])}"
    return facts


def _may_be(expected: Shape, found: Shape) -> bool:
    return not found or (
        len(found) == len(expected)
        and all(None in (one, other) or one == other for one, other in zip(expected, found, strict=True))
    )


def _words(shape: Shape) -> str:
    return "x".join("?" if size is None else str(size) for size in shape)
