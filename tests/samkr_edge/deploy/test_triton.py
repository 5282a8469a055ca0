"""A model repository is what Triton's own definition says, and its README's client finds what we find."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from tiny_model import SIZE, card_in, seeing_everybody, tiny_onnx, with_card
from triton_model_config import model_config

from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.cli import run
from samkr_edge.deploy.served_model import read_served
from samkr_edge.deploy.triton import LARGEST_BATCH, TYPES, config_of, triton_files
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import PREPARED_KEY
from samkr_edge.onnx_graph.onnx_file import with_metadata
from samkr_edge.passport import Passport, write_built
from samkr_edge.pose_model import load_model


def parsed(config: str) -> Any:
    """The message that Triton would read; raises for whatever it does not know."""
    from google.protobuf import text_format

    return text_format.Parse(config, model_config()())


def served(path: Path, tmp_path: Path) -> Any:
    """The parsed configuration that the command writes for a model."""
    assert run(["bundle", str(path), "--triton", str(tmp_path / "repository")]) == 0
    (config,) = (tmp_path / "repository").glob("*/config.pbtxt")
    message = parsed(config.read_text(encoding="utf-8"))
    assert message.name == config.parent.name
    return message


def enum_name(message: Any, field: str) -> str:
    return str(
        message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(message, field)].name
    )


def engine(folder: Path, card: dict[str, Any], **changes: Any) -> Path:
    """An engine by its passport: to serve it nobody has to open it."""
    import hashlib

    path = folder / "pose.engine"
    passport = Passport(
        target="jetson-orin-nano-8gb",
        flavour="tensorrt",
        card=card,
        sha256=hashlib.sha256(b"plan").hexdigest(),
        source="pose.onnx",
        source_sha256="0" * 64,
        device={"model": "jetson-orin-nano-8gb", "compute_capability": "8.7"},
        versions={"tensorrt": "10.3.0"},
        settings={"input_shape": [2, SIZE, SIZE, 3], "steps": ["cast_first"]},
    )
    write_built(path, b"plan", passport.model_copy(update=changes))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_onnx(tmp_path / "tiny.onnx")


@pytest.mark.parametrize("network", ["float_onnx", "decoding_onnx", "decoding_int8_onnx"])
def test_inputs_and_outputs_are_those_that_onnx_runtime_sees(
    network: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path: Path = request.getfixturevalue(network)
    message = served(path, tmp_path)
    session = onnxruntime.InferenceSession(path)
    types = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
    for ports, ends in ((message.input, session.get_inputs()), (message.output, session.get_outputs())):
        assert [(one.name, enum_name(one, "data_type"), list(one.dims)) for one in ports] == [
            (one.name, types[one.type], one.shape) for one in ends
        ]
    assert message.platform == "onnxruntime_onnx"
    assert message.backend == "onnxruntime"
    assert enum_name(message.instance_group[0], "kind") == "KIND_GPU"
    weights = tmp_path / "repository" / message.name / "1" / message.default_model_filename
    assert weights.read_bytes() == path.read_bytes()


def test_warm_up_is_a_request_that_the_model_takes(source: Path, tmp_path: Path) -> None:
    message = served(source, tmp_path)
    (warm,) = message.model_warmup
    assert warm.batch_size == 1
    assert list(warm.inputs["image"].dims) == list(message.input[0].dims)
    assert warm.inputs["image"].data_type == message.input[0].data_type
    assert warm.inputs["image"].zero_data


def test_a_fixed_batch_is_a_part_of_the_shape(source: Path, tmp_path: Path) -> None:
    message = served(source, tmp_path)
    assert message.max_batch_size == 0
    assert list(message.input[0].dims) == [1, SIZE, SIZE, 3]
    assert not message.HasField("dynamic_batching")


def test_an_open_batch_is_made_by_triton(source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, tmp_path / "open.onnx")
    message = served(tmp_path / "open.onnx", tmp_path)
    assert message.max_batch_size == LARGEST_BATCH
    assert message.HasField("dynamic_batching")
    assert list(message.input[0].dims) == [SIZE, SIZE, 3]
    assert [list(one.dims) for one in message.output] == [[18, 16, 16], [34, 16, 16]]
    assert list(message.model_warmup[0].inputs["image"].dims) == [SIZE, SIZE, 3]


def test_a_size_that_is_open_is_minus_one(source: Path, tmp_path: Path) -> None:
    model = onnx.load(source)
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "rows"
    onnx.save(model, tmp_path / "open.onnx")
    assert list(served(tmp_path / "open.onnx", tmp_path).output[0].dims) == [1, 18, -1, 16]


def test_a_model_built_for_a_cpu_runs_on_the_cpu(source: Path, tmp_path: Path) -> None:
    message = served(build_cpu(source, tmp_path / "tiny.cpu.onnx").path, tmp_path)
    assert message.name == "tiny"
    assert enum_name(message.instance_group[0], "kind") == "KIND_CPU"


def test_an_engine_says_the_one_gpu_and_tensorrt_that_it_is_for(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = served(engine(tmp_path, {**card_in(source), "decode_in": "graph"}), tmp_path)
    assert (message.platform, message.backend) == ("tensorrt_plan", "tensorrt")
    assert enum_name(message.input[0], "data_type") == "TYPE_UINT8"
    assert [(one.name, list(one.dims)) for one in message.output] == [
        ("poses", [2, 30, 17, 3]),
        ("scores", [2, 30]),
    ]
    place = message.parameters["pose.runs_on"].string_value
    assert "compute capability 8.7, TensorRT 10.3.0; no other GPU" in place
    assert place in capsys.readouterr().out
    assert (tmp_path / "repository" / "pose" / "1" / "model.plan").read_bytes() == b"plan"


def test_an_engine_whose_input_was_made_floats_is_given_floats(source: Path, tmp_path: Path) -> None:
    settings = {"input_shape": [1, SIZE, SIZE, 3], "steps": ["cast_first", "float_input"]}
    message = served(engine(tmp_path, card_in(source), settings=settings), tmp_path)
    assert enum_name(message.input[0], "data_type") == "TYPE_FP32"


def test_the_cards_facts_are_parameters(source: Path, tmp_path: Path) -> None:
    card = card_in(source)
    card["skeleton"]["keypoints"][0] = 'näse "\\\n'
    with_card(source, card, source)
    facts = {key: one.string_value for key, one in served(source, tmp_path).parameters.items()}
    assert json.loads(facts["pose.keypoints"]) == card["skeleton"]["keypoints"]
    assert json.loads(facts["pose.input_size"]) == [SIZE, SIZE]
    assert facts["pose.stride"] == "4"
    assert (facts["pose.decoding"], facts["pose.decode_in"]) == ("offsets", "host")
    assert "0 to 255" in facts["pose.normalisation"]


def test_every_type_has_its_name_in_triton() -> None:
    (field,) = (one for one in model_config().DESCRIPTOR.fields if one.name == "input")
    known = field.message_type.fields_by_name["data_type"].enum_type.values_by_name
    assert set(TYPES.values()) <= set(known)


def test_a_grouping_network_is_served_with_its_maps_and_says_who_decodes_them(tmp_path: Path) -> None:
    message = served(tiny_onnx(tmp_path / "swahr.onnx", grouping=True), tmp_path)
    assert [(one.name, list(one.dims)) for one in message.output] == [
        ("heatmap", [1, 17, 32, 32]),
        ("tag", [1, 17, 16, 16]),
    ]
    assert message.parameters["pose.decoding"].string_value == "grouping"
    assert "tag_threshold" in message.parameters["pose.decode"].string_value
    table = json.loads((tmp_path / "repository" / "swahr" / "model.json").read_text(encoding="utf-8"))
    assert "people_in_image" in " ".join(table["people"])


@pytest.mark.parametrize("network", ["float_onnx", "decoding_onnx"])
def test_the_client_of_the_readme_finds_the_people_that_we_find(
    network: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = seeing_everybody(request.getfixturevalue(network), tmp_path / "pose.onnx")
    name = served(path, tmp_path).name
    home = tmp_path / "repository" / name
    monkeypatch.chdir(home)
    image = np.random.default_rng(3).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    cv2.imwrite("people.jpg", image)
    for module in ("tritonclient", "tritonclient.http"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    client: Any = sys.modules["tritonclient.http"]
    sys.modules["tritonclient"].http = client  # type: ignore[attr-defined]
    client.InferInput = AskedTensor
    client.InferenceServerClient = lambda _: Server(home)
    (code,) = re.findall(r"```python\n(.*?)```", (home / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, Any] = {}
    exec(code.replace('.above(table["sure_person"])', ""), found)
    expected = load_model(path)(cv2.cvtColor(cv2.imread("people.jpg"), cv2.COLOR_BGR2RGB), None)
    assert len(found["people"]) == len(expected) > 0
    np.testing.assert_allclose(found["people"].scores, expected.scores, rtol=1e-5)


class AskedTensor:
    """As of ``tritonclient.http.InferInput``."""

    def __init__(self, name: str, shape: list[int], kind: str) -> None:
        self.name, self.shape, self.kind = name, shape, kind

    def set_data_from_numpy(self, array: np.ndarray) -> None:
        assert self.kind == {"uint8": "UINT8", "float32": "FP32"}[array.dtype.name]
        assert list(array.shape) == self.shape
        self.array = array


class Server:
    """What a server answers for a repository's model, computed here."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def infer(self, name: str, asked: list[AskedTensor]) -> Any:
        assert name == self.home.name
        session = onnxruntime.InferenceSession(self.home / "1" / "model.onnx")
        names = [one.name for one in session.get_outputs()]
        arrays = session.run(names, {one.name: one.array for one in asked})
        answer: Any = ModuleType("answer")
        answer.as_numpy = dict(zip(names, arrays, strict=True)).__getitem__
        return answer


# What is refused.


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    return run(words), capsys.readouterr().err


def test_the_same_network_replaces_itself_and_nothing_else(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bundle", str(source), "--triton", str(tmp_path / "repository")]
    assert run(words) == 0
    tiny_onnx(source, seed=5)
    assert run(words) == 0  # other weights
    weights = tmp_path / "repository" / "tiny" / "1" / "model.onnx"
    assert weights.read_bytes() == source.read_bytes()
    card = card_in(source)
    card["model"] = "samkr_w32"
    with_card(source, card, source)
    code, said = refusal(words, capsys)
    assert code == 3
    assert "SE-D07" in said
    assert "samkr_w32" in said
    assert weights.read_bytes() != source.read_bytes()
    assert run([*words, "--force"]) == 0
    assert weights.read_bytes() == source.read_bytes()


def test_a_model_of_other_origin_is_not_replaced(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "repository" / "tiny" / "config.pbtxt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("name: 'tiny'")
    words = ["bundle", str(source), "--triton", str(tmp_path / "repository")]
    code, said = refusal(words, capsys)
    assert code == 3
    assert "SE-D05" in said
    assert "--force" in said
    assert [path.name for path in theirs.parent.iterdir()] == ["config.pbtxt"]
    assert run([*words, "--force"]) == 0


def test_a_model_without_a_card_or_passport_is_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(source)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")
    (tmp_path / "bare.engine").write_bytes(b"by trtexec")
    for name, expected in (("bare.onnx", "SE-A21"), ("bare.engine", "SE-A51"), ("none.engine", "SE-A23")):
        code, said = refusal(
            ["bundle", str(tmp_path / name), "--triton", str(tmp_path / "repository")], capsys
        )
        assert code == 4
        assert expected in said
    assert not (tmp_path / "repository").exists()


def test_an_edited_engine_is_refused(source: Path, tmp_path: Path) -> None:
    path = engine(tmp_path, card_in(source))
    path.write_bytes(b"another")
    with pytest.raises(SamkrError) as caught:
        read_served(path)
    assert caught.value.code == "SE-A54"


def test_what_tritons_backends_cannot_run_rightly_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rtx = engine(tmp_path, card_in(source), flavour="rtx")
    with pytest.raises(SamkrError, match="not for Triton") as caught:
        triton_files(read_served(rtx), tmp_path / "repository")
    assert caught.value.code == "SE-U54"
    prepared = tmp_path / "trt.onnx"
    prepared.write_bytes(with_metadata(source.read_bytes(), PREPARED_KEY, "jetson-orin-nano-8gb"))
    with pytest.raises(SamkrError, match="not for Triton"):
        triton_files(read_served(prepared), tmp_path / "repository")
    monkeypatch.setattr("samkr_edge.deploy.triton.wrong_optimisations", lambda *_: ("ReluQuantRewrite",))
    with pytest.raises(SamkrError, match="not for Triton") as caught:
        triton_files(read_served(source), tmp_path / "repository")
    assert "--target cpu" in str(caught.value.fix)


def test_names_that_triton_cannot_have_are_changed(source: Path) -> None:
    odd = source.rename(source.with_name("..ä b$.onnx"))
    assert parsed(config_of(read_served(odd))).name == "__b_"


def test_a_disk_that_is_full_leaves_the_old_model(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    full_disk: Callable[[], None],
) -> None:
    words = ["bundle", str(source), "--triton", str(tmp_path / "repository")]
    assert run(words) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "repository").rglob("*") if path.is_file()}
    tiny_onnx(source, seed=5)
    full_disk()
    code, said = refusal(words, capsys)
    assert code == 3
    assert "SE-D01" in said
    assert {path: path.read_bytes() for path in before} == before
    assert len([path for path in (tmp_path / "repository").rglob("*") if path.is_file()]) == len(before)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, every file that is written whole finds no room."""
    import errno
    import os

    def fill() -> None:
        def refuse(path: Path, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_bytes", refuse)

    return fill


def test_of_a_bundle_its_onnx_is_served(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "cache"))
    bundle = tmp_path / "x.samkr"
    assert run(["bundle", str(source), "-o", str(bundle)]) == 0
    message = served(bundle, tmp_path)
    weights = tmp_path / "repository" / message.name / "1" / "model.onnx"
    assert weights.read_bytes() == source.read_bytes()


def test_a_built_model_that_lost_its_passport_is_refused(source: Path, tmp_path: Path) -> None:
    built = build_cpu(source, tmp_path / "tiny.cpu.onnx").path
    with pytest.raises(SamkrError) as caught:
        read_served(built.rename(tmp_path / "renamed.onnx"))
    assert caught.value.code == "SE-A51"


def test_a_bundle_and_a_repository_are_written_by_one_command(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.samkr"
    assert run(["bundle", str(source), "-o", str(out), "--triton", str(tmp_path / "r"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(out)
    assert all(Path(path).is_file() for path in found["triton"])
    assert out.is_file()
