"""The TensorRT half of `samkr-edge build`: plan, print or prepare it, or build."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samkr_edge.errors import SamkrError
from samkr_edge.fixes import quoted

if TYPE_CHECKING:
    from samkr_edge.builder.inspect.engine_measures import EngineMeasures
    from samkr_edge.builder.tensorrt.features import Features
    from samkr_edge.builder.tensorrt.plan import BuildPlan
    from samkr_edge.builder.tensorrt.wishes import Wishes
    from samkr_edge.machine.tensorrt_module import Flavour
    from samkr_edge.onnx_graph.onnx_file import OnnxFile
    from targets.profile import Target


def build_engine(
    model: Path,
    target: Target,
    out: Path | None,
    precision: str | None,
    wishes: Wishes,
    *,
    flavour: Flavour | None,
    calibrate: Path | None,
    version: str | None,
    dry_run: bool,
    prepared: Path | None,
    as_json: bool,
) -> None:
    """Plan for ``target``; then print the plan, write the graph as TensorRT gets it, or build.

    Raises:
        SamkrError: SE-V50 the target is not this device; what the plan and the builder refuse.
    """
    from samkr_edge.builder.tensorrt.plan import make_plans
    from samkr_edge.cli.console import emit
    from samkr_edge.machine.device import running_device, target_of
    from samkr_edge.onnx_graph.foreign import refuse_other_tools
    from samkr_edge.onnx_graph.onnx_card import card_of
    from samkr_edge.onnx_graph.onnx_facts import facts_of
    from samkr_edge.onnx_graph.onnx_reading import read_onnx
    from samkr_edge.passport import own_place
    from samkr_edge.runtime.cuda import free_bytes

    graph = read_onnx(model)
    # Files of other origin are refused before anything is planned.
    card_of(graph, model)
    refuse_other_tools(graph, model, "TensorRT")
    facts = facts_of(graph)
    device = running_device()
    here = target_of(device).name == target.name
    wishes = replace(wishes, calibrate=calibrate is not None)
    features = find_features(target, here, version, flavour)
    plans = make_plans(target, features, facts, wishes, precision, free_bytes(device) if here else None)
    shown = "\n".join(plan.describe() for plan in plans)
    if prepared is not None:
        _write_prepared(model, graph, plans, prepared, shown, as_json)
    elif dry_run:
        _require_preparable(graph, plans, here)
        emit({"plans": [plan.to_dict() for plan in plans], "target_is_this_device": here}, shown, as_json)
    elif not (here or plans[0].compute_capabilities) or plans[0].by_hand:
        raise SamkrError(
            "SE-V50",
            f"an engine for {target.title} must be built on that device, so nothing was built",
            {
                "device": f"SM {target.compute_capability}, TensorRT {plans[0].tensorrt}",
                "this is": target_of(device).title,
                "it would": f"be {plans[0].precision}, {plans[0].typing} typing",
            },
            fix=plans[0].by_hand
            or f"samkr-edge build {quoted(model)} --target auto --on ssh://USER@DEVICE   # or copy it there and build",
        )
    else:
        _require_installed(plans[0], version)
        _build(model, graph, out or own_place(model.with_suffix(".engine")), plans, calibrate, as_json)


def _require_installed(plan: BuildPlan, version: str | None) -> None:
    """A given version is for plans and prepared graphs; builds use the installed one."""
    from samkr_edge.machine.tensorrt_module import TITLES, tensorrt_version
    from targets.profile import version_tuple

    if version is None:
        return
    here = tensorrt_version(plan.flavour)
    planned = version_tuple(plan.tensorrt)
    if version_tuple(here)[: len(planned)] != planned:
        raise SamkrError(
            "SE-U89",
            f"this plan is for another {TITLES[plan.flavour]} than the one installed here, so nothing was built",
            {"planned": plan.tensorrt, "this is": here},
            fix="leave --tensorrt out, or only plan: --dry-run",
        )


def choose_flavour(target: Target, here: bool, version: str | None, asked: Flavour | None) -> Flavour:
    """The flavour asked for, or of the version named; else TensorRT for RTX for GeForce cards without a TensorRT.

    Raises:
        SamkrError: SE-U89 the version belongs to the other one.
    """
    from samkr_edge.builder.tensorrt.features import RTX_CAPABILITIES
    from samkr_edge.machine.tensorrt_module import TITLES, is_importable
    from targets.profile import version_tuple

    number = version_tuple(version or "")
    named: Flavour | None = None
    if version is not None:
        named = "rtx" if number[:1] == (1,) else "tensorrt"
    if asked is not None and named not in (None, asked):
        raise SamkrError(
            "SE-U89",
            f"{version} is not a version of {TITLES[asked]}",
            {"known": "1.x is TensorRT for RTX, 8.5 to 11 is TensorRT"},
            fix="leave --flavour or --tensorrt out",
        )
    if (chosen := asked or named) is not None:
        return chosen
    if target.compute_capabilities:
        return "rtx"
    if here and is_importable("tensorrt"):
        return "tensorrt"
    # A card without a profile may be a laptop's or a workstation's RTX.
    unknown_rtx = (
        target.family == "gpu" and target.compute_capability in RTX_CAPABILITIES and is_importable("rtx")
    )
    return "rtx" if target.family == "rtx" or unknown_rtx else "tensorrt"


def find_features(
    target: Target, here: bool, version: str | None, flavour: Flavour | None = None
) -> Features:
    """Of the TensorRT installed here, if it can build for the target; else of the given or expected version.

    Expected is the newest JetPack of a module, and the newest known version for a card.
    """
    from samkr_edge.builder.tensorrt.features import RTX_NEWEST, features_for, features_of
    from samkr_edge.machine.tensorrt_module import import_tensorrt, is_importable
    from targets.jetpack import load_jetpack
    from targets.profile import version_tuple

    if choose_flavour(target, here, version, flavour) == "rtx":
        if version is None and is_importable("rtx"):
            return features_of(import_tensorrt("rtx"), "rtx")
        return features_for(version or RTX_NEWEST, "rtx")

    if version is not None:
        release = load_jetpack(version.removeprefix("jetpack-")) if version.startswith("jetpack-") else None
        if version.startswith("jetpack-") and (release is None or target.soc not in release.chips):
            raise SamkrError(
                "SE-U89",
                f"{target.title} has no JetPack {version.removeprefix('jetpack-')}",
                {"known": ", ".join(target.jetpack) or "none: it is not a Jetson"},
                fix=f"--tensorrt jetpack-{target.jetpack[-1]}" if target.jetpack else "--tensorrt 10.3",
            )
        if release is None and len(version_tuple(version)) < 2:
            raise SamkrError(
                "SE-U89",
                f"{version!r} is not a TensorRT version",
                {"known": "like 10.3, or like jetpack-6.2"},
                fix="--tensorrt 10.3"
                if not target.jetpack
                else f"--tensorrt jetpack-{target.jetpack[-1]}   # or leave it out: the target's own is used",
            )
        return features_for(release.tensorrt if release else version)
    if here and target.family != "cpu":
        return features_of(import_tensorrt())
    if target.jetpack:
        releases = [release for name in target.jetpack if (release := load_jetpack(name))]
        # 7.2.2 may take TensorRT 11, but includes 10.
        return features_for([r for r in releases if r.l4t][-1].tensorrt)
    return features_for(target.tensorrt[1] if target.tensorrt else "10.3")


def _require_preparable(graph: OnnxFile, plans: tuple[BuildPlan, ...], here: bool) -> None:
    """Refuse what every plan's build would refuse before calling TensorRT; another device may have onnx."""
    from samkr_edge.builder.tensorrt.edits import prepare

    failures = []
    for plan in plans:
        try:
            prepare(graph, plan.steps)
        except SamkrError as error:
            if error.code == "SE-B04" and not here:
                return
            failures.append(error)
    if len(failures) == len(plans):
        raise failures[0]


def _write_prepared(
    model: Path, graph: OnnxFile, plans: tuple[BuildPlan, ...], out: Path, shown: str, as_json: bool
) -> None:
    from samkr_edge.builder.tensorrt.edits import prepare
    from samkr_edge.builder.tensorrt.trtexec import trtexec
    from samkr_edge.cli.console import emit
    from samkr_edge.files.artefact import replacing
    from samkr_edge.files.one_file import refuse_replacing
    from samkr_edge.model_card import PREPARED_KEY
    from samkr_edge.onnx_graph.onnx_file import with_metadata
    from samkr_edge.onnx_graph.onnx_reading import decode_onnx

    if len(plans) > 1:
        raise SamkrError("SE-U83", "`best` has two graphs, and --prepared writes one", fix="--precision int8")
    refuse_replacing(model, out, f"--prepared {quoted(model.with_suffix('.trt.onnx'))}")
    prepared = prepare(graph, plans[0].steps)
    with replacing(out) as temporary:
        temporary.write_bytes(with_metadata(prepared, PREPARED_KEY, plans[0].target))
    line = trtexec(plans[0], decode_onnx(prepared), out.name)
    emit(
        {"path": str(out), "plans": [plans[0].to_dict()], "trtexec": line.to_dict()},
        f"{out}: the graph as TensorRT gets it\n{shown}\n{line.describe()}",
        as_json,
    )


def _build(
    model: Path,
    graph: OnnxFile,
    out: Path,
    plans: tuple[BuildPlan, ...],
    calibrate: Path | None,
    as_json: bool,
) -> None:
    from samkr_edge.builder.tensorrt.build import build_tensorrt
    from samkr_edge.cli.console import emit
    from samkr_edge.progress import progress

    with progress("building", None) as advance:

        def report(phase: str, step: int, steps: int) -> None:
            advance(0, f"{phase} {step}/{steps}")

        built = build_tensorrt(model, out, plans, graph=graph, calibration=calibrate, report=report)
    emit(
        {
            "path": str(out),
            "passport": built.passport.model_dump(mode="json"),
            "agreement": built.agreement.to_dict() if built.agreement else None,
            "gpu_ms": built.milliseconds,
            "layers": {precision: measures.to_dict() for precision, measures in built.measures.items()},
            "notes": list(built.notes),
            "megabytes": out.stat().st_size / 1e6,
        },
        describe_built(out, built),
        as_json,
    )


def describe_built(out: Path, built: Any) -> str:
    """The result for people; for ``best`` also the slower builds, and by how much."""
    from samkr_edge.machine.tensorrt_module import TITLES

    passport = built.passport
    lines = [
        f"{out}: {passport.precision['engine']}, {out.stat().st_size / 1e6:.1f} MB, "
        f"{TITLES[passport.runtime]} {passport.runtime_version}; passport {out.name}.json",
    ]
    if passport.device.get("compute_capabilities"):
        lines.append(f"  runs on SM {', '.join(passport.device['compute_capabilities'])}")
    if built.agreement is None:
        lines.append("  not compared with its source: no GPU in this machine can run it")
    else:
        lines.append(f"  against its source: {built.agreement.sentence()}")
    if built.milliseconds:
        (winner, best), (loser, other) = sorted(built.milliseconds.items(), key=lambda item: item[1])
        lines.append(
            f"  {winner} is {other / best:.2f} times as fast as {loser}: "
            f"{best:.2f} against {other:.2f} ms, median GPU time"
        )
    engine = passport.precision["engine"]
    if engine in built.measures:
        lines.append(f"  layers: {built.measures[engine].summary()}")
    if not built.milliseconds:
        lines += _predicted(engine, built.measures)
    lines += [f"  note: {note}" for note in built.notes]
    return "\n".join(lines)


def _predicted(chosen: str, measures: dict[str, EngineMeasures]) -> list[str]:
    """For ``best`` without timing: what was chosen and why, and that it is a prediction."""
    from samkr_edge.builder.inspect.engine_measures import LAUNCH

    if len(measures) < 2:
        return []
    lines = [
        f"  {chosen} is predicted to be the fastest, since no GPU in this machine can time it: least bytes moved, "
        f"plus {LAUNCH / 1e6:g} MB for every kernel"
    ]
    for precision, found in measures.items():
        lines.append(
            f"    {precision:<5} {found.bytes_moved / 1e6:.1f} MB of activations, {found.kernels} kernels, "
            f"{found.elementwise} of them elementwise"
        )
    return lines
