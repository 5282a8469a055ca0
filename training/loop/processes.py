"""Several processes that train one network, as `torchrun` starts them; without it one process, and no overhead.

Every process makes its share of the batches of an update, torch's DistributedDataParallel averages the gradients, and
the first process alone decides, writes and prints. The recipe's ``accumulate`` counts the batches of an update over
all processes, so their number changes neither the total batch nor the loss curve (beyond rounding). Two things
differ: batch norm's running statistics are those of the first process's batches, as in DEKR, and the folder of the run
must be one that all processes see.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from samkr_edge.errors import SamkrError

# The others wait this long while the first validates.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Processes:
    """This process among ``count``; ``device`` is where it computes."""

    device: torch.device
    rank: int = 0
    count: int = 1
    here: int = 1  # of the ``count``, on this machine

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, accumulate: int) -> int:
        """This process's batches of an update of ``accumulate``; SamkrError SE-U72 if that is 0 or not whole."""
        if accumulate % self.count:
            raise SamkrError(
                "SE-U72",
                f"{self.count} processes cannot share the {accumulate} batches of an update equally",
                {"accumulate": "counts the batches of an update over all processes"},
                fix=f"--set accumulate={self.count} (and batch_size, to keep their product: the total batch)",
            )
        return accumulate // self.count

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, whose backward pass averages gradients where there are several processes."""
        if self.count == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        distributed = nn.parallel.DistributedDataParallel
        # Batch norm's statistics stay each process's own. Torch 2.13 has another name for it, and warns of the old one.
        renamed = "forward_sync_buffers" in signature(distributed).parameters
        settings: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
        return distributed(module, device_ids=ids, **settings)

    def agree(self, *numbers: float) -> list[float]:
        """The first process's numbers, on every process."""
        if self.count == 1:
            return list(numbers)
        shared = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return shared.tolist()

    def mean(self, terms: dict[str, float]) -> dict[str, float]:
        """The mean over processes; NaN where any is."""
        if self.count == 1:
            return terms
        summed = torch.tensor(list(terms.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(summed)
        return dict(zip(terms, (summed / self.count).tolist(), strict=True))

    def gather(self, item: Any) -> list[Any]:
        """One item of every process, on every process."""
        if self.count == 1:
            return [item]
        items: list[Any] = [None] * self.count
        dist.all_gather_object(items, item)
        return items


def without_averaging(module: nn.Module) -> AbstractContextManager[None]:
    """Backward passes inside ``with`` only add up; the first one after it averages the sum."""
    if isinstance(module, nn.parallel.DistributedDataParallel):
        return module.no_sync()
    return nullcontext()


def is_first_process() -> bool:
    """True in the one process that writes and prints; known before ``processes`` is entered."""
    return int(os.environ.get("RANK", "0")) == 0 if _launched() else True


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the other processes, if `torchrun` started any; SamkrError SE-V73 if there are more of them than GPUs."""
    if not _launched():
        yield Processes(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return
    rank, count, local, here = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if here > torch.cuda.device_count():
            raise SamkrError(
                "SE-V73",
                f"torchrun started {here} processes on a machine with {torch.cuda.device_count()} GPUs",
                {"needed": "a GPU for every process"},
                fix=f"torchrun --nproc-per-node {torch.cuda.device_count()} ...   # and raise accumulate instead",
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    with _results_alone_on_stdout():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(device, rank, count, here)
    finally:
        dist.destroy_process_group()


@contextmanager
def _results_alone_on_stdout() -> Iterator[None]:
    """Send what is printed inside ``with`` to stderr, C++ included: torch 2.8's Gloo reports its connections."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _launched() -> bool:
    return dist.is_available() and dist.is_torchelastic_launched()
