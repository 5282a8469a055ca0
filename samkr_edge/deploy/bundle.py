"""One file for the device: an ONNX with its model card and hashes, and models built from it.

``NAME.samkr`` is a ZIP archive with flat names: ``manifest.json``, the exported ONNX, and built models with their
passports. The same inputs give the same bytes. ``samkr_edge.deploy.bundle_cache`` is what a device does with it.

An included TensorRT engine is native code: as with any program, take bundles from people you trust. Everything else in
a bundle is data, checked against the manifest's hashes before it is used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samkr_edge import __version__
from samkr_edge.errors import SamkrError, words_of
from samkr_edge.files.artefact import behind, replacing, sha256_of, undisturbed
from samkr_edge.files.named import missing_file, one_name
from samkr_edge.files.one_file import refuse_twice
from samkr_edge.files.refused import not_opened
from samkr_edge.fixes import quoted
from samkr_edge.model_card import ModelCard
from samkr_edge.passport import Passport, is_built, passport_path, read_passport
from samkr_edge.ready_name import export_instead

SUFFIX = ".samkr"
MANIFEST = "manifest.json"
SCHEMA_VERSION = 1

_LARGEST_MANIFEST = 1 << 20
# Weights shrink by about a tenth: an entry that grows a hundredfold is meant to fill a disk.
_LARGEST_INFLATION = 100


class BundledFile(BaseModel):
    """One file of a bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Manifest(BaseModel):
    """The manifest of a bundle.

    Attributes:
        samkr_edge: the version that wrote it.
        card: the model card, as a dictionary.
        source: name of the exported ONNX.
        built: names of models built from it, each with its passport ``NAME.json``.
        entries: file name -> hash and size, for every file of the archive except the manifest.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    samkr_edge: str
    card: dict[str, Any]
    source: str
    built: tuple[str, ...] = ()
    entries: dict[str, BundledFile]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was checked against the archive's directory; ``key`` is the manifest's SHA-256."""

    path: Path
    manifest: Manifest
    key: str

    @property
    def card(self) -> ModelCard:
        return ModelCard.from_dict(self.manifest.card)

    def passport(self, name: str) -> Passport:
        """The passport of an included model."""
        with _whole(self.path), zipfile.ZipFile(self.path) as archive:
            return Passport.model_validate_json(archive.read(f"{name}.json"))

    def extract(self, name: str, folder: Path) -> Path:
        """Write one file to ``folder`` unless it is there; only with the bytes that the manifest promises.

        Raises:
            SamkrError: SE-A94 other bytes than the manifest promises, SE-D01 no room.
        """
        entry = self.manifest.entries[name]
        target = folder / name
        if target.is_file() and target.stat().st_size == entry.size and sha256_of(target) == entry.sha256:
            return target
        with replacing(target) as temporary, _whole(self.path), zipfile.ZipFile(self.path) as archive:
            with archive.open(name) as source, open(temporary, "wb") as out:
                found, size = _copy(source, out)
            if (found, size) != (entry.sha256, entry.size):
                raise _damaged(
                    self.path, f"{name} has the hash {found[:16]}, the manifest says {entry.sha256[:16]}"
                )
        return target


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle of any version."""
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def write_bundle(source: Path, out: Path, added: Sequence[Path] = ()) -> Bundle:
    """Put an exported ONNX and models built from it into one file.

    Args:
        source: an ONNX written by ``samkr-edge export``.
        out: ``NAME.samkr``.
        added: built models (``.cpu.onnx``, ``.engine``) with their passports next to them.

    Raises:
        SamkrError: SE-A54 an added model is not what its passport describes, SE-A95 it was built from another ONNX,
            SE-U92 the source is a built model, SE-U93 two files have the same name; SE-A21, SE-A22 and SE-B87 no
            ONNX of ours.
    """
    from samkr_edge.runtime.onnx_runtime import OnnxRunner

    if is_built(source):
        raise SamkrError(
            "SE-U92",
            f"{source} is already built for one target, so no bundle can be made from it",
            fix=f"samkr-edge bundle EXPORTED.onnx --add {quoted(source)}",
        )
    if not source.is_file():
        raise missing_file(source, "ONNX file", export_instead(source))
    refuse_twice([source, *added], "bundled")
    names = [source.name, *(path.name for path in added)]
    if len(set(names)) < len(names) or MANIFEST in names:
        raise one_name([source, *added])
    data = source.read_bytes()
    runner = OnnxRunner(source, data=data)
    card = runner.card
    runner.close()
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        entries = {source.name: _store(archive, source.name, data)}
        for path in added:
            if not path.is_file():
                raise missing_file(path, "model")
            with undisturbed(behind(path).parent):  # never between a new passport and its model
                passport = read_passport(path)
                parts = {path.name: path, f"{path.name}.json": passport_path(behind(path))}
                entries |= {name: _store(archive, name, part.read_bytes()) for name, part in parts.items()}
            _check_belongs(path, passport, entries[path.name], source, entries[source.name])
        manifest = Manifest(
            samkr_edge=__version__,
            card=card.to_dict(),
            source=source.name,
            built=tuple(path.name for path in added),
            entries=entries,
        )
        text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False)
        archive.writestr(_info(MANIFEST), text)
    return Bundle(out, manifest, hashlib.sha256(text.encode()).hexdigest())


def read_bundle(path: Path) -> Bundle:
    """Open a bundle and compare its directory with its manifest, without reading its files.

    Raises:
        SamkrError: SE-A23 missing, SE-A92 not a whole bundle, SE-A93 written in a format this version does not know,
            SE-A94 the files are not those of the manifest, or have unsafe names.
    """
    if not path.is_file():
        raise missing_file(path, "bundle")
    with _whole(path, OSError), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        info = archive.getinfo(MANIFEST)
        if info.file_size > _LARGEST_MANIFEST:
            raise _damaged(path, f"a manifest of {info.file_size} bytes")
        raw = archive.read(info)
        facts = json.loads(raw)
        version = facts.get("schema_version") if isinstance(facts, dict) else None
        if version != SCHEMA_VERSION and isinstance(version, int):
            raise SamkrError(
                "SE-A93",
                f"{path.name} has a format that this samkr-edge cannot read, so it was not loaded",
                {
                    "format": f"{version}, written by samkr-edge {facts.get('samkr_edge', '?')}",
                    "this is": f"samkr-edge {__version__}, which reads format {SCHEMA_VERSION}",
                },
                fix="pip install --upgrade samkr-edge",
            )
        try:
            manifest = Manifest.model_validate(facts)
            ModelCard.from_dict(manifest.card)
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, f"manifest: {words_of(error, 120)}") from error
    _check_directory(path, manifest, infos)
    return Bundle(path, manifest, hashlib.sha256(raw).hexdigest())


def _check_belongs(
    path: Path, passport: Passport, entry: BundledFile, source: Path, source_entry: BundledFile
) -> None:
    again = passport.build_again(path, source=source)
    if passport.sha256 != entry.sha256:
        raise SamkrError(
            "SE-A54",
            f"{path.name} is not the file its passport describes, so no bundle was written",
            {"expected": passport.sha256[:16], "found": entry.sha256[:16]},
            fix=again,
        )
    if passport.source_sha256 != source_entry.sha256:
        raise SamkrError(
            "SE-A95",
            f"{path.name} was built from another ONNX than {source.name}, so no bundle was written",
            {
                "built from": f"{passport.source}  {passport.source_sha256[:16]}",
                "bundled": f"{source.name}  {source_entry.sha256[:16]}",
            },
            fix=again,
        )


def _check_directory(path: Path, manifest: Manifest, infos: Sequence[zipfile.ZipInfo]) -> None:
    """Check that the manifest names every file once, safely, and with its size."""
    found = [info.filename for info in infos if info.filename != MANIFEST]
    needed = {manifest.source, *manifest.built, *(f"{name}.json" for name in manifest.built)}
    if sorted(found) != sorted(manifest.entries) or len(infos) != len(found) + 1 or not needed <= set(found):
        raise _damaged(path, f"holds {', '.join(sorted(found))[:120] or 'nothing'}")
    for info in infos:
        entry = manifest.entries.get(info.filename)
        if entry is None:  # the manifest
            continue
        if not _is_safe(info.filename):
            raise _damaged(path, f"the unsafe name {info.filename[:80]!r}")
        if info.file_size != entry.size or info.flag_bits & 1:
            raise _damaged(
                path, f"{info.filename} has {info.file_size} bytes, the manifest says {entry.size}"
            )
        if info.file_size > _LARGEST_INFLATION * max(info.compress_size, 1 << 10):
            raise _damaged(
                path, f"{info.filename} inflates from {info.compress_size} to {info.file_size} bytes"
            )


def _is_safe(name: str) -> bool:
    """A plain file name: no folder, no drive, not hidden, no control characters."""
    return name.isprintable() and not name.startswith(".") and not set(name) & set('/\\:*?"<>|')


# What `zipfile` and `json` raise on a damaged file; RuntimeError: encrypted, or endless nesting.
_DAMAGE: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
)


@contextlib.contextmanager
def _whole(path: Path, *also: type[Exception]) -> Iterator[None]:
    """Turn errors of reading a damaged archive into SE-A92."""
    try:
        yield
    except _DAMAGE + also as error:
        raise not_opened(error, path, "bundle") or SamkrError(
            "SE-A92",
            f"{path} is not a complete bundle, so nothing was loaded",
            {
                "reason": words_of(error),
                "size": path.stat().st_size if path.is_file() else None,
            },
            fix="copy it again, or make it again: samkr-edge bundle MODEL.onnx -o NAME.samkr",
        ) from error


def _damaged(path: Path, found: str) -> SamkrError:
    return SamkrError(
        "SE-A94",
        f"{path.name} does not hold what its manifest says (edited or damaged), so nothing was loaded",
        {"found": found},
        fix="copy it again, or make it again: samkr-edge bundle MODEL.onnx -o NAME.samkr",
    )


def _info(name: str) -> zipfile.ZipInfo:
    """Fixed time and permissions, so that equal contents give equal bytes. Not compressed: weights hardly shrink."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    info.external_attr = 0o644 << 16
    return info


def _store(archive: zipfile.ZipFile, name: str, data: bytes) -> BundledFile:
    archive.writestr(_info(name), data)
    return BundledFile(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def _copy(source: IO[bytes], out: IO[bytes]) -> tuple[str, int]:
    """Copy and return SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(1 << 20):
        digest.update(block)
        out.write(block)
        size += len(block)
    return digest.hexdigest(), size
