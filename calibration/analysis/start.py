"""What sensitivity and search share: a float network, a policy, calibration images, and their digests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from calibration.analysis.groups import Group, group_modules
from calibration.analysis.scoring import Bench, Measured
from calibration.analysis.switches import Switches, int8_modules
from calibration.analysis.trials import Modules, Trial, Trials, TrialStore
from calibration.fp8 import refuse_fp8
from calibration.inputs import CalibrationSet, best_device, calibration_images, float_checkpoint, use_threads
from calibration.policy import Policy, changed_policy, load_policy
from calibration.ptq import quantize_network
from samkr_edge import __version__
from samkr_edge.dataset.photos import Photos
from samkr_edge.dataset.usable import require_splits
from samkr_edge.model_card import ModelCard
from samkr_edge.progress import progress
from samkr_edge.terminal import say
from training.checkpoint import network_of
from training.export import weights_digest
from training.models.macs import macs_of_quantizable
from training.models.pose_net import PoseNet
from training.torch_runner import TorchRunner


@dataclass
class Analysis:
    """One float network and one policy for it.

    Attributes:
        network: float, on the device that is used.
        card: its card.
        policy: what is analysed.
        chosen: the modules that it has in INT8.
        groups: every module that could be INT8, by group.
        macs: multiply-accumulates by convolution name.
        context: content hashes of everything that decides a measurement except the evaluated images.
    """

    network: PoseNet
    card: ModelCard
    policy: Policy
    chosen: Modules
    groups: dict[Group, list[str]]
    macs: dict[str, int]
    context: dict[str, Any]
    _shown: Callable[[], CalibrationSet]
    _switches: Switches | None = field(default=None)

    @classmethod
    def of(
        cls,
        checkpoint: Path,
        data: Path | None,
        policy: str,
        images: int,
        seed: int,
        threads: int | None,
        *,
        split: str = "val",
        photos: Photos | None = None,
        **changes: Any,
    ) -> Analysis:
        """From a command's options; AP is measured on ``split``, ``photos`` are calibrated on in place of ``data``,
        ``changes`` replace fields of the policy (None: unchanged).

        Raises:
            SamkrError: whatever loading these raises.
        """
        if data is not None:
            require_splits(data, ("train", split))
        use_threads(threads)
        wanted = changed_policy(load_policy(policy), **changes)
        refuse_fp8(wanted)
        source = float_checkpoint(checkpoint)
        network = network_of(source)
        chosen, candidates = int8_modules(network, wanted)

        def shown() -> CalibrationSet:
            return calibration_images(source.card, data=data, count=images, seed=seed, photos=photos)

        context = {
            "version": __version__,
            "input_size": list(source.card.input_size),
            "decode": asdict(source.card.grouping or source.card.decode),
            "weights_sha256": weights_digest(network),
            "policy_sha256": wanted.sha256,
            "calibration_sha256": shown().facts["sha256"],
        }
        groups, macs = group_modules(candidates), macs_of_quantizable(source.config)
        network.to(best_device())
        return cls(network, source.card, wanted, chosen, groups, macs, context, shown)

    def trials(self, bench: Bench, store: TrialStore) -> Trials:
        """Measurements on a bench; each new one prints a line on stderr."""
        return Trials(
            self.switches,
            self.card,
            bench,
            store,
            self.context,
            report=partial(_report, bench.dataset.metric),
        )

    def switches(self) -> Switches:
        """The calibrated network, made on the first call."""
        if self._switches is None:
            with progress("calibrating", self._images, unit="images") as advance:
                self._switches = Switches(self.network, self.policy, self._batches(), advance=advance)
        return self._switches

    def score(self, policy: Policy, bench: Bench) -> Measured:
        """The network on a bench when quantized by ``policy`` from the start, as `samkr-edge quantize` would."""
        quantized, _ = quantize_network(self.network, policy, self._batches())
        return bench.run(TorchRunner(quantized, self.card))

    @property
    def _images(self) -> int:
        return len(self.context["calibration_sha256"])

    def _batches(self) -> Any:
        return self._shown().batches


def _report(metric: str, what: str, trial: Trial) -> None:
    difference = trial.difference
    followed = f", {trial.followed}" if trial.followed else ""
    say(f"{what}: {difference.ap.text()} {metric}, {difference.oks.text(100)} OKS x 100{followed}")
