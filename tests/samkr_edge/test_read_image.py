"""Images of every kind as RGB bytes, and what is said of files that are none."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from samkr_edge.errors import SamkrError
from samkr_edge.images import read_image


def _write(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def test_images_of_every_kind_become_rgb_bytes(tmp_path: Path) -> None:
    blue = np.zeros((6, 5, 3), np.uint8)
    blue[:, :, 0] = 200
    assert read_image(_write(tmp_path / "c.png", blue))[0, 0].tolist() == [0, 0, 200]
    gray = read_image(_write(tmp_path / "g.png", np.full((6, 5), 90, np.uint8)))
    assert gray.shape == (6, 5, 3)
    assert gray[0, 0].tolist() == [90, 90, 90]
    deep = read_image(_write(tmp_path / "d.png", np.full((6, 5), 256 * 100, np.uint16)))
    assert deep.dtype == np.uint8
    assert deep[0, 0].tolist() == [100, 100, 100]
    alpha = np.dstack((blue, np.full((6, 5), 255, np.uint8)))
    assert read_image(_write(tmp_path / "a.png", alpha)).shape == (6, 5, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_cut_off_image_is_an_error_not_a_gray_picture(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = _write(tmp_path / f"a.{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(SamkrError) as caught:
        read_image(path)
    assert caught.value.code == "SE-D15"
    assert f"a.{suffix}" in caught.value.message


def test_missing_and_foreign_files_are_errors_with_their_name(tmp_path: Path) -> None:
    (tmp_path / "t.jpg").write_text("not an image")
    (tmp_path / "e.jpg").write_bytes(b"")
    for name in ("t.jpg", "e.jpg", "none.jpg"):
        with pytest.raises(SamkrError, match=name) as caught:
            read_image(tmp_path / name)
        # Right for an image that `predict` was given as well as for one of a data set.
        assert str(caught.value.fix).startswith("restore the file")
        assert "if they name it" in str(caught.value.fix)


def test_a_link_to_a_missing_image_is_told_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x.png").symlink_to("next.png")
    (tmp_path / "next.png").symlink_to("gone/far.png")
    with pytest.raises(SamkrError) as caught:
        read_image(tmp_path / "x.png")
    assert caught.value.code == "SE-D15"
    missing = tmp_path / "gone/far.png"
    assert caught.value.facts == {"reason": f"a link to a file that is not there: {missing}"}
    assert str(caught.value.fix).endswith(f"rm {tmp_path / 'x.png'}")


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload


def _cmyk_jpeg(*values: int) -> bytes:
    """An 8x8 JPEG of four constant components, as Adobe's programs store them: inverted. One block each, DC only."""
    bits = ""
    for value in values:
        level = 8 * (value - 128)
        size = abs(level).bit_length()
        # Code of the size (all twelve have four bits), then the level; then the end of the block, one zero bit.
        bits += (
            f"{size:04b}" + (f"{level if level > 0 else level + 2**size - 1:0{size}b}" if size else "") + "0"
        )
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)).replace(b"\xff", b"\xff\x00")
    components = b"".join(bytes((number, 0x11, 0)) for number in range(1, 5))
    return b"".join((
        b"\xff\xd8",
        _segment(0xEE, b"Adobe\x00\x64" + bytes(5)),
        _segment(0xDB, bytes((0,)) + bytes((1,)) * 64),
        _segment(0xC0, bytes((8, 0, 8, 0, 8, 4)) + components),
        _segment(0xC4, bytes((0, 0, 0, 0, 12)) + bytes(12) + bytes(range(12))),
        _segment(0xC4, bytes((0x10, 1)) + bytes(15) + bytes((0,))),
        _segment(0xDA, bytes((4, 1, 0, 2, 0, 3, 0, 4, 0, 0, 63, 0))),
        scan,
        b"\xff\xd9",
    ))  # fmt: skip


def test_a_cmyk_photograph_is_converted(tmp_path: Path) -> None:
    path = tmp_path / "c.jpg"
    path.write_bytes(_cmyk_jpeg(200, 100, 50, 255))
    image = read_image(path)
    assert image.shape == (8, 8, 3)
    assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 2


def _turned(path: Path, pixels: np.ndarray, orientation: int) -> Path:
    """A JPEG whose EXIF data asks to be turned before it is shown."""
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + orientation.to_bytes(2, "big") + b"\x00\x00"
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01" + entry + bytes(4)
    path.write_bytes(data[:2] + _segment(0xE1, exif) + data[2:])
    return path


def test_annotated_images_are_read_as_stored_and_photographs_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16] = 255
    path = _turned(tmp_path / "t.jpg", pixels, orientation=6)  # a quarter turn clockwise
    assert read_image(path).shape == (16, 32, 3)
    upright = read_image(path, upright=True)
    assert upright.shape == (32, 16, 3)
    assert upright[:12].min() > 200
    assert upright[20:].max() < 50


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    assert read_image(_write(tmp_path / "p.png", np.full((1, 1, 3), 7, np.uint8))).tolist() == [[[7, 7, 7]]]
