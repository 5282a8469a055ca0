"""Which channels of a network can be rescaled alone, and which only together.

A positive factor on one channel of a tensor passes through everything that is homogeneous: ReLU, max-pooling, resizing,
sampling, reshaping, concatenation. A sum ties its terms: they need one factor. Whatever is not homogeneous (softmax,
adding a constant, any operation not named here) needs its inputs as they are, and so do the network's outputs.

One pass on the meta device finds all of it, for any architecture: every element of every tensor carries the number of
the factor that it is scaled by, operations that move data move the numbers the same way, and sums merge numbers.
Number 0 is the factor 1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

FIXED = 0


@dataclass(frozen=True)
class ConvTies:
    """Factors around one convolution, as numbers (``FIXED`` or 1 .. ``factors``).

    Attributes:
        writes: of its output channels, int64 (O,).
        reads: of the input channels that each output channel sees, int64 (O, I / groups), as its weight.
    """

    writes: Tensor
    reads: Tensor


@dataclass(frozen=True)
class ChannelTies:
    """Where a network's free factors act.

    Attributes:
        factors: how many there are.
        convolutions: by name.
        inputs: by name of a watched module, numbers int64 (C,) of each tensor (N, C, H, W) that it reads.
    """

    factors: int
    convolutions: dict[str, ConvTies]
    inputs: dict[str, list[Tensor]]


def trace_ties(folded: nn.Module, watched: Iterable[str] = ()) -> ChannelTies:
    """Follow all channels through one forward pass; the input size does not matter.

    Args:
        folded: (N, 3, H, W) -> tensors; its batch norms folded (one that is left pins its channels).
        watched: names of modules whose inputs are to be reported.
    """
    network = copy.deepcopy(folded).to("meta")
    tracer = _Tracer({id(m.weight): (n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d)})
    handed: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Any:
        def before(module: nn.Module, given: tuple[Any, ...]) -> None:
            handed[name] = tensors_of(given)

        return before

    for name in watched:
        network.get_submodule(name).register_forward_pre_hook(watch(name))
    with torch.no_grad(), tracer:
        outputs = network(torch.empty(1, 3, 64, 64, device="meta"))
    for output in tensors_of(outputs):
        tracer.fix(output)
    inputs = {n: [tracer.by_channel(t)[0, :, 0, 0] for t in tensors] for n, tensors in handed.items()}
    roots = tracer.factors.roots()
    used = torch.unique(torch.cat([roots[writes] for writes, _ in tracer.convolutions.values()]))
    used = used[used != FIXED]
    numbers = torch.zeros_like(roots)
    numbers[used] = torch.arange(1, len(used) + 1)
    return ChannelTies(
        len(used),
        {n: ConvTies(numbers[roots[w]], numbers[roots[r]]) for n, (w, r) in tracer.convolutions.items()},
        {name: [numbers[roots[each]] for each in given] for name, given in inputs.items()},
    )


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors, of any shape, in nested lists and tuples, in order."""
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in tensors_of(item)] if isinstance(value, (list, tuple)) else []


class _Factors:
    """Disjoint sets of numbers, each represented by its smallest, so that 0 stays 0."""

    def __init__(self) -> None:
        self._parents = [FIXED]

    def new(self, count: int) -> Tensor:
        first = len(self._parents)
        self._parents += range(first, first + count)
        return torch.arange(first, first + count)

    def merge(self, left: Tensor, right: Tensor) -> None:
        """One factor for both, element by element; the shapes broadcast."""
        left, right = torch.broadcast_tensors(left, right)
        different = left != right
        if different.any():
            # As one number a pair: torch sorts numbers many times faster than columns.
            base = len(self._parents)
            pairs = torch.unique(left[different] * base + right[different])
            for one, other in zip((pairs // base).tolist(), (pairs % base).tolist(), strict=True):
                low, high = sorted((self._root(one), self._root(other)))
                self._parents[high] = low

    def roots(self) -> Tensor:
        """The representative of each number."""
        return torch.tensor([self._root(number) for number in range(len(self._parents))])

    def _root(self, number: int) -> int:
        while (parent := self._parents[number]) != number:
            self._parents[number] = self._parents[parent]
            number = parent
        return number


class _Tracer(TorchDispatchMode):
    """Keeps, for every tensor that is alive, the numbers of its elements' factors in the tensor's own shape."""

    def __init__(self, owners: dict[int, tuple[str, nn.Conv2d]]) -> None:
        super().__init__()
        self.factors = _Factors()
        self.convolutions: dict[str, tuple[Tensor, Tensor]] = {}
        self._owners = owners
        self._known: dict[
            int, tuple[Tensor, Tensor]
        ] = {}  # holds the tensor too: ids are unique only among living objects

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        rule = next((rule for names, rule in _RULES if packet in names), _pin)
        numbers = rule(self, func, args, kwargs or {}, result)
        if numbers is not None:
            for tensor, number in zip(tensors_of(result), tensors_of(numbers), strict=False):
                self._known[id(tensor)] = tensor, number
        return result

    def numbers(self, tensor: Tensor) -> Tensor:
        """Of an unknown tensor (the image, a constant): factor 1."""
        if id(tensor) in self._known:
            return self._known[id(tensor)][1]
        return torch.zeros((), dtype=torch.int64).expand(tensor.shape)

    def fix(self, tensor: Tensor) -> None:
        self.factors.merge(self.numbers(tensor), torch.tensor(FIXED))

    def by_channel(self, tensor: Tensor) -> Tensor:
        """Numbers (N, C, 1, 1) of a tensor (N, C, H, W), with one factor per channel."""
        numbers = self.numbers(tensor)
        first = numbers[:, :, :1, :1]
        self.factors.merge(numbers, first)
        return first


def _pin(tracer: _Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> None:
    """Not homogeneous, or unknown: inputs and outputs keep factor 1."""
    for tensor in tensors_of([*args, *kwargs.values()]):
        tracer.fix(tensor)


def _same(tracer: _Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Tensor:
    return tracer.numbers(args[0])


def _moved(tracer: _Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Any:
    """Move the numbers as the data moves."""

    def swap(value: Any) -> Any:
        if isinstance(value, Tensor):
            return tracer.numbers(value).contiguous()
        return [swap(item) for item in value] if isinstance(value, (list, tuple)) else value

    return func(*swap(args), **kwargs)


def _sum(tracer: _Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Tensor | None:
    if not all(isinstance(term, Tensor) for term in args[:2]):
        _pin(tracer, func, args, kwargs, result)
        return None
    left, right = (tracer.numbers(term) for term in args[:2])
    tracer.factors.merge(left, right)
    return left.expand(result.shape)


def _product(tracer: _Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Tensor | None:
    """Homogeneous in one factor; a product of two rescaled tensors is not followed."""
    if not isinstance(args[1], Tensor):
        return tracer.numbers(args[0])
    roots = tracer.factors.roots()
    left, right = torch.broadcast_tensors(*(roots[tracer.numbers(term)] for term in args))
    if bool(((left != FIXED) & (right != FIXED)).any()):
        _pin(tracer, func, args, kwargs, result)
        return None
    return torch.maximum(left, right)


def _spread(tracer: _Tracer, func: Any, args: Any, kwargs: Any, result: Any) -> Tensor:
    """Pooling and resizing: each pixel depends on pixels of its own channel only."""
    tensor = tensors_of(result)[0]
    return tracer.by_channel(args[0]).expand(tensor.shape)


def _sampling(tracer: _Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Tensor:
    tracer.fix(args[1])  # coordinates
    return tracer.by_channel(args[0]).expand(result.shape)


def _convolution(tracer: _Tracer, func: Any, args: Any, kwargs: Any, result: Tensor) -> Tensor | None:
    image, weight = args[:2]
    if id(weight) not in tracer._owners or image.ndim != 4:
        _pin(tracer, func, args, kwargs, result)
        return None
    name, module = tracer._owners[id(weight)]
    outputs, each = module.out_channels, module.in_channels // module.groups
    numbers = tracer.by_channel(image)
    tracer.factors.merge(numbers, numbers[:1])
    grouped = numbers[0].view(module.groups, 1, each)
    reads = grouped.expand(module.groups, outputs // module.groups, each).reshape(outputs, each)
    if name not in tracer.convolutions:
        tracer.convolutions[name] = tracer.factors.new(outputs), reads
    writes, known = tracer.convolutions[name]
    tracer.factors.merge(reads, known)  # it runs twice
    return writes.view(1, -1, 1, 1).expand(result.shape)


_Rule = Callable[..., Any]
_aten = torch.ops.aten
_RULES: tuple[tuple[Iterable[Any], _Rule], ...] = (
    ((_aten.convolution,), _convolution),
    ((_aten.relu, _aten.relu_, _aten.clone, _aten._to_copy, _aten.detach, _aten.alias, _aten.lift_fresh), _same),
    ((_aten.add, _aten.add_), _sum),
    ((_aten.mul, _aten.mul_), _product),
    (
        (
            _aten.view, _aten._unsafe_view, _aten.reshape, _aten.permute, _aten.transpose, _aten.t, _aten.expand,
            _aten.unsqueeze, _aten.squeeze, _aten.slice, _aten.select, _aten.split, _aten.unbind, _aten.cat,
            _aten.stack,
        ),
        _moved,
    ),
    ((_aten.max_pool2d_with_indices, _aten.upsample_nearest2d, _aten.upsample_bilinear2d), _spread),
    ((_aten.grid_sampler_2d,), _sampling),
)  # fmt: skip
