"""The device profiles: complete, consistent with themselves and with the JetPack matrix."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from samkr_edge.cli import run
from targets import profile
from targets.device import Device
from targets.jetpack import JETPACKS, jetpack_of, load_jetpack, parse_tegra_release
from targets.profile import (
    BrokenProfile,
    Target,
    UnknownTarget,
    all_targets,
    broken_profiles,
    load_target,
    version_tuple,
)
from targets.recognise import recognise

JETSONS = [target for target in all_targets() if target.family == "jetson"]
CARDS = [target for target in all_targets() if target.family == "rtx" and not target.compute_capabilities]
MINIMAL = {"name": "x", "title": "X", "family": "rtx", "source": "none", "sms": 8}


def test_every_profile_can_be_read() -> None:
    assert broken_profiles() == ()


def test_every_module_and_every_card_is_there() -> None:
    names = {target.name for target in all_targets()}
    assert {"jetson-nano", "jetson-tx2", "jetson-xavier-nx", "jetson-agx-xavier"} <= names
    assert {"jetson-orin-nano-4gb", "jetson-orin-nano-8gb", "jetson-orin-nx-8gb"} <= names
    assert {"jetson-orin-nx-16gb", "jetson-agx-orin-32gb", "jetson-agx-orin-64gb"} <= names
    assert {"jetson-thor-t5000", "jetson-thor-t4000", "cpu", "rtx-any"} <= names
    assert len(CARDS) == 21


@pytest.mark.parametrize("target", [*JETSONS, *CARDS], ids=lambda t: t.name)
def test_a_gpu_profile_says_what_a_plan_needs(target: Target) -> None:
    assert target.compute_capability
    assert target.sms
    assert target.memory_gb
    assert target.bandwidth_gbs
    assert target.tensorrt
    assert target.int8_tops or target.refusal("int8") or target.name.startswith("jetson-thor")


@pytest.mark.parametrize("target", CARDS, ids=lambda t: t.name)
def test_the_peak_of_a_card_follows_from_its_sms_and_clock(target: Target) -> None:
    assert target.sms is not None
    assert target.max_mhz is not None
    assert target.int8_tops == pytest.approx(target.sms * target.max_mhz / 1000 * 2.048, abs=1)


def test_any_rtx_is_every_card_and_none_in_particular() -> None:
    target = load_target("rtx-any")
    assert target.compute_capability is None
    assert set(target.capabilities) == {card.compute_capability for card in CARDS}
    assert list(target.capabilities) == sorted(target.capabilities, key=version_tuple)


@pytest.mark.parametrize("target", all_targets(), ids=lambda t: t.name)
def test_the_capabilities_of_a_single_gpu_are_its_own(target: Target) -> None:
    if not target.compute_capabilities:
        assert target.capabilities == ((target.compute_capability,) if target.compute_capability else ())


@pytest.mark.parametrize("target", JETSONS, ids=lambda t: t.name)
def test_every_jetpack_of_a_module_runs_on_its_chip(target: Target) -> None:
    for version in target.jetpack:
        release = load_jetpack(version)
        assert release is not None
        assert target.soc in release.chips
        lowest, highest = (version_tuple(bound) for bound in target.tensorrt or ())
        assert lowest <= version_tuple(release.tensorrt)[:2] <= highest


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-tx2"])
def test_a_module_without_int8_says_why_and_offers_fp16(name: str) -> None:
    limit = load_target(name).refusal("int8")
    assert limit is not None
    assert "INT8" in limit.why
    assert "FP16" in limit.instead


def test_the_default_power_mode_of_an_agx_orin_is_a_quarter_of_its_peak() -> None:
    target = load_target("jetson-agx-orin")
    (default,) = (mode for mode in target.power_modes if mode.default)
    assert target.sms
    assert target.max_mhz
    assert default.sms * (default.mhz or 0) == pytest.approx(target.sms * target.max_mhz / 4, rel=0.1)


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UnknownTarget) as raised:
        load_target("jetson-orin-nanno")
    assert "jetson-orin-nano" in raised.value.near


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"smms": 3}, "smms"),
        ({"power_modes": [{"name": "15W", "sms": 4}]}, "default"),
        ({"power_modes": [{"name": "15W", "sms": 16, "default": True}]}, "more SMs"),
        ({"int8_tops": 3, "cannot": [{"what": "int8", "why": "w", "instead": "i"}]}, "refuses INT8"),
        ({"tensorrt": ["10.3", "8.6"]}, "backwards"),
        ({"family": "jetson"}, "DLA"),
        ({"compute_capability": "8.9", "compute_capabilities": ["8.9", "12.0"]}, "one compute capability"),
        ({"compute_capabilities": ["89"]}, "compute_capabilities"),
    ],
)
def test_a_profile_that_contradicts_itself_is_an_error(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Target.model_validate({**MINIMAL, **change})


@pytest.mark.parametrize(
    ("text", "l4t", "jetpack"),
    [
        ("# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64", "32.7.1", "4.6.1"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64", "35.4.1", "5.1"),
        ("# R36 (release), REVISION: 3.0, GCID: 36923193, BOARD: generic, EABI: aarch64", "36.3.0", "6.0"),
        ("# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64", "36.4.0", "6.1"),
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64", "36.4.3", "6.2"),
        ("# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64", "38.2.0", "7.0"),
    ],
)
def test_the_release_file_leads_to_the_jetpack(text: str, l4t: str, jetpack: str) -> None:
    assert parse_tegra_release(text) == l4t
    release = jetpack_of(l4t)
    assert release is not None
    assert release.version == jetpack


def test_an_unknown_release_is_none_not_a_guess() -> None:
    assert parse_tegra_release("Ubuntu 22.04") is None
    assert jetpack_of("99.1.0") is None
    assert load_jetpack("3.1") is None
    assert load_jetpack("6.2.1") == load_jetpack("6.2")


def test_no_l4t_version_belongs_to_two_releases() -> None:
    listed = [l4t for release in JETPACKS for l4t in release.l4t]
    assert len(listed) == len(set(listed))


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the profiles, read anew."""
    folder = tmp_path / "targets"
    folder.mkdir()
    for path in profile.PROFILES.glob("*.yaml"):
        shutil.copy(path, folder)
    monkeypatch.setattr(profile, "PROFILES", folder)
    profile._profiles.cache_clear()
    yield folder
    profile._profiles.cache_clear()


BROKEN = {
    b"": "nothing",
    b"- a\n": "list",
    b"title: X\n": "family",
    b"title: X\nfamily: rtx\nsource: s\nsms: many\n": "sms",
    b"title: X\nfamily: rtx\nsource: s\nsmms: 3\n": "smms",
    b"title: \xff\n": "utf-8",
    b"title: [\n": "line 2",
    b"title: 2024-13-45\n": "month must be in 1..12",
    b"[" * 100_000: "recursion",
}


@pytest.mark.parametrize("content", BROKEN, ids=BROKEN.values())
def test_a_broken_profile_stops_only_who_asks_for_it(
    profiles: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (profiles / "rtx-4090.yaml").write_bytes(content)
    assert run(["targets", "rtx-3090"]) == 0
    capsys.readouterr()
    assert run(["targets", "--json"]) == 0
    printed = capsys.readouterr()
    assert "rtx-4090.yaml is not a valid profile" in printed.err
    listed = {target["name"] for target in json.loads(printed.out)["targets"]}
    assert listed & {"rtx-3090", "rtx-4090"} == {"rtx-3090"}
    for words in (["targets", "rtx-4090"], ["build", "m.onnx", "--target", "rtx-4090"]):
        assert run(words) == 2
        told = capsys.readouterr().err
        assert "error SE-U52" in told
        assert "rtx-4090.yaml" in told
        assert BROKEN[content] in told
        assert "fix: ls " in told


def test_a_folder_among_the_profiles_is_a_broken_one(profiles: Path) -> None:
    (profiles / "mine.yaml").mkdir()
    with pytest.raises(BrokenProfile, match="directory"):
        load_target("mine")


def test_a_device_is_not_taken_for_another_where_its_own_profile_is_broken(profiles: Path) -> None:
    known, unknown = (
        Device(gpu=f"NVIDIA GeForce RTX {name}", compute_capability="8.6") for name in ("3090", "4090")
    )
    (profiles / "rtx-4090.yaml").write_bytes(b"")
    assert recognise(known).name == "rtx-3090"
    assert recognise(Device()).name == "cpu"
    with pytest.raises(BrokenProfile, match="4090"):
        recognise(unknown)
