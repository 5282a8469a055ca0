"""Every key of a recipe that says what is learned reaches the part that it is for."""

from pathlib import Path
from typing import Any

import pytest
from small_run import train

import training.fit as fit_module
from samkr_edge.dataset import KeypointDataset
from training.data.augment import AugmentSettings
from training.data.encode import EncodeSettings
from training.losses import LossSettings
from training.recipe import DataSection, LossSection, Section, settings_of
from training.update import Updater

# No value is a default, so that a key that is dropped on the way shows.
DATA = {
    "rotation": 7.0, "scale": (0.9, 1.1), "translation": 0.03, "flip": 0.4, "jitter": 0.05, "crop": "short",
    "sigma": 1.5, "center_sigma": 3.0, "offset_radius": 3, "background_weight": 0.2, "offset_extent": "image",
    "smallest_extent": 9.0, "smallest_person": 5.0,
}  # fmt: skip
LOSS = {"kind": "swahr", "heatmap_weight": 0.7, "offset_weight": 0.02, "scale_weight": 0.6}
# Of the machine, of which images there are, or, as parity, setting other keys.
ELSEWHERE = {"split", "input_size", "workers", "cache_mb", "parity"}


class Arrived(Exception):
    """The settings are where they belong, and nothing is to be trained."""


def test_every_key_of_a_section_arrives(
    people: KeypointDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}

    def samples(_: object, __: object, encode: object, augment: object, **___: object) -> list[int]:
        found.update(encode=encode, augment=augment)
        return [0]

    def updater(*given: Any) -> None:
        found["loss"] = Updater(*given)._loss.settings
        raise Arrived

    monkeypatch.setattr(fit_module, "TrainingSet", samples)
    monkeypatch.setattr(fit_module, "Updater", updater)
    with pytest.raises(Arrived):
        train(tmp_path, people, data=DATA, loss=LOSS)
    arrived = [vars(found[part]) for part in ("encode", "augment", "loss")]
    parity = {"parity": False}
    assert {**arrived[0], **arrived[1]} == {**DATA, **parity}
    assert arrived[2] == LOSS


@pytest.mark.parametrize(
    ("section", "values", "others", "kinds"),
    [
        (DataSection, DATA, ELSEWHERE, (EncodeSettings, AugmentSettings)),
        (LossSection, LOSS, set(), (LossSettings,)),
    ],
)
def test_no_key_is_left_out_above_and_defaults_are_in_two_places_the_same(
    section: type[Section], values: dict[str, Any], others: set[str], kinds: tuple[type, ...]
) -> None:
    defaults = section()
    assert section.model_fields.keys() == values.keys() | others
    assert [key for key, value in values.items() if getattr(defaults, key) == value] == []
    assert [settings_of(kind, defaults) for kind in kinds] == [kind() for kind in kinds]
