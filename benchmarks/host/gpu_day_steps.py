"""The steps of ``gpu_day``: what is made and measured on a GPU, most important first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# Runs a module of this checkout in the Python a step needs.
CHILD_PROCESS = str(Path(__file__).resolve().parents[2] / "samkr_edge" / "child_process.py")
MODELS = ("samkr_w32", "samkr_w32_nodc", "dekr_w32", "swahr_w32", "samkr_w18")
BATCHES = (8, 1)


@dataclass(frozen=True)
class GpuDayStep:
    """One thing to make or to measure.

    Attributes:
        name: names its record too; letters, digits and dashes.
        needs: ``torch`` or ``tensorrt``: the Python that runs it.
        command: the arguments after that Python; ``{work}`` and ``{bundle}`` are filled in.
        minutes: roughly how long it takes; it is stopped after three times that.
        after: steps whose files it reads.
        makes: files in WORK for other steps; a step without any is done once recorded.
        result: the JSON file in WORK to keep in its record; None keeps what it prints.
    """

    name: str
    needs: str
    command: tuple[str, ...]
    minutes: float
    after: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    result: str | None = None


def steps() -> list[GpuDayStep]:
    """All steps, most important first."""
    return [*torch_steps(), *export_steps(), *tensorrt_steps()]


def torch_steps() -> list[GpuDayStep]:
    def training(name: str, *options: str) -> GpuDayStep:
        return GpuDayStep(
            f"training-{name}", "torch",
            (*host("training_step"), "--recipe", "samkr_w32_coco", "--data", "{work}/people", "--device", "cuda",
             "--threads", "4", *options, "-o", f"{{work}}/training-{name}.json"),
            2, ("people",), result=f"training-{name}.json",
        )  # fmt: skip

    size = ("--set", "batch_size=16", "data.input_size=[512,512]")
    return [
        selftest("torch", "torch", "1,12", 3),
        GpuDayStep("head", "torch", (*host("head"), "--device", "cuda", "--rounds", "20", "-o", "{work}/head.json"), 2,
             result="head.json"),
        GpuDayStep("people", "torch", (*program(), "data", "synth", "{work}/people", "--train", "64", "--val", "8"), 1,
             makes=("people",)),
        training("fp32", *size, "precision=fp32"),
        training("tf32", *size, "precision=tf32"),
        training("bf16", *size, "precision=bf16"),
    ]  # fmt: skip


def export_steps() -> list[GpuDayStep]:
    """Exports with random weights from one seed: the same network on every machine."""
    found = []
    for model in MODELS:
        found.append(
            GpuDayStep(f"quantize-{model}", "torch",
                 (*program(), "quantize", model, "--untrained", "--random-images", "8", "-o",
                  f"{{work}}/{model}-int8.pt"), 4, makes=(f"{model}-int8.pt",))
        )  # fmt: skip
        for batch in BATCHES:
            file = f"{model}-float-{batch}.onnx"
            found.append(
                GpuDayStep(f"export-{model}-float-{batch}", "torch",
                     (*program(), "export", model, "--untrained", "--batch", str(batch), "-o", f"{{work}}/{file}"),
                     2, makes=(file,))
            )  # fmt: skip
            if batch == 1:
                found.append(
                    GpuDayStep(f"reference-{model}", "torch",
                         (*host("gpu_day"), "compare", f"{{work}}/{file}", f"{{bundle}}/{model}.npz"),
                         1, (f"export-{model}-float-1",))
                )  # fmt: skip
            file = f"{model}-int8-{batch}.onnx"
            found.append(
                GpuDayStep(f"export-{model}-int8-{batch}", "torch",
                     (*program(), "export", f"{{work}}/{model}-int8.pt", "--batch", str(batch), "-o",
                      f"{{work}}/{file}"), 2, (f"quantize-{model}",), (file,))
            )  # fmt: skip
    return found


def tensorrt_steps() -> list[GpuDayStep]:
    found = [
        selftest("operators", "tensorrt", "0,2,3", 4),
        selftest("networks", "tensorrt", "4,5", 10),
        selftest("timing-cache-and-errors", "tensorrt", "6,7", 4),
        selftest("runtime", "tensorrt", "8", 3),
        selftest("choices", "tensorrt", "9,10", 6),
    ]
    for model in MODELS:
        for batch in BATCHES:
            for precision in ("int8", "fp16", "fp32"):
                found += engine_steps(model, precision, batch)
        engines = [f"{model}-{precision}-1" for precision in ("fp32", "fp16", "int8")]
        found.append(
            GpuDayStep(f"bench-{model}", "tensorrt",
                 (*program(), "bench", *(f"{{work}}/{engine}.engine" for engine in engines), "--seconds", "20",
                  "--out", f"{{work}}/bench-{model}"),
                 2, tuple(f"build-{engine}" for engine in engines), result=f"bench-{model}/results.json")
        )  # fmt: skip
    return found


def engine_steps(model: str, precision: str, batch: int) -> list[GpuDayStep]:
    engine = f"{model}-{precision}-{batch}"
    source = f"{model}-{'int8' if precision == 'int8' else 'float'}-{batch}"
    build, file = f"build-{engine}", f"{{work}}/{engine}.engine"
    return [
        GpuDayStep(build, "tensorrt",
             (*program(), "build", f"{{work}}/{source}.onnx", "--target", "auto", "--precision", precision, "-o", file,
              "--json"), 4, (f"export-{source}",), (f"{engine}.engine", f"{engine}.engine.json")),
        GpuDayStep(f"times-{engine}", "tensorrt", (*host("engine_times"), file, "-o", f"{{work}}/times-{engine}.json"),
             1, (build,), result=f"times-{engine}.json"),
        GpuDayStep(f"layers-{engine}", "tensorrt", (*program(), "inspect", file, "--profile", "--json"), 1, (build,)),
    ]  # fmt: skip


def selftest(name: str, needs: str, stages: str, minutes: float) -> GpuDayStep:
    folder = f"selftest-{name}"
    return GpuDayStep(
        folder, needs,
        (*program(), "selftest", "--stage", stages, "--keep-going", "--out", f"{{work}}/{folder}"),
        minutes, result=f"{folder}/selftest.json",
    )  # fmt: skip


def program() -> tuple[str, ...]:
    """`samkr-edge` of this checkout."""
    return (CHILD_PROCESS, "samkr_edge")


def host(name: str) -> tuple[str, ...]:
    """A script of this folder."""
    return (CHILD_PROCESS, f"benchmarks.host.{name}")
