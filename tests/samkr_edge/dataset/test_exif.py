"""The orientation is found where each container has it, in both byte orders; what is no EXIF data says nothing."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from samkr_edge.dataset.exif import orientation, orientation_of


def _tiff(value: int, order: str) -> bytes:
    mark = b"MM" if order == ">" else b"II"
    return mark + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, value, 0, 0)


def _image(suffix: str, tiff: bytes) -> bytes:
    data = cv2.imencode(suffix, np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    if suffix == ".jpg":
        exif = b"Exif\0\0" + tiff
        return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    if suffix == ".png":
        return data[:33] + len(tiff).to_bytes(4, "big") + b"eXIf" + tiff + bytes(4) + data[33:]
    return data + b"EXIF" + len(tiff).to_bytes(4, "little") + tiff


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_found_in_every_container(suffix: str, order: str) -> None:
    assert [orientation(_image(suffix, _tiff(value, order))) for value in (1, 3, 6, 8, 9)] == [1, 3, 6, 8, 1]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_it_is_found_behind_the_picture(tmp_path: Path, suffix: str) -> None:
    file, tiff = tmp_path / f"image{suffix}", _tiff(6, "<")
    noise = np.random.default_rng(0).integers(0, 256, (161, 161, 3), np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    assert len(data) > 1 << 15
    if suffix == ".png":
        data = data[:-12] + len(tiff).to_bytes(4, "big") + b"eXIf" + tiff + bytes(4) + data[-12:]
    else:
        data += b"EXIF" + len(tiff).to_bytes(4, "little") + tiff
    file.write_bytes(data)
    assert (orientation_of(file), orientation(data)) == (6, 6)
    assert orientation_of(tmp_path / "missing") == 1


def test_an_image_without_or_with_broken_exif_data_is_as_stored() -> None:
    whole = _image(".jpg", _tiff(6, ">"))
    plain = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    far = _image(".jpg", b"MM" + struct.pack(">HI", 42, 2**31))
    for data in (b"", b"\xff\xd8", plain, whole[:24], far, b"GIF89a", _image(".jpg", b"??" + bytes(30))):
        assert orientation(data) == 1
