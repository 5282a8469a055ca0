"""Quantized forms of the sums, registered with ModelOpt, which would not see an addition otherwise.

Every quantizer is an attribute whose name ends in ``input_quantizer``, like ModelOpt's own, so that one kind of rule
reaches all of them. The branch side of a residual sum has a separate quantizer: ONNX Runtime fuses a sum only when both
inputs are quantized, while TensorRT wants the convolution's side unquantized, so its build removes the pair named
``branch_input_quantizer``.
"""

from __future__ import annotations

from modelopt.torch.quantization import register
from modelopt.torch.quantization.nn import QuantModule, TensorQuantizer
from torch import Tensor, nn

from training.models.sums import ResidualAdd, ResolutionSum


class QuantResidualAdd(QuantModule):
    """``quantize(branch) + quantize(skip)``, two tensors of one shape (N, C, h, w)."""

    def _setup(self) -> None:
        self.branch_input_quantizer = TensorQuantizer()
        self.skip_input_quantizer = TensorQuantizer()

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        return self.branch_input_quantizer(branch) + self.skip_input_quantizer(skip)


class QuantResolutionSum(QuantModule):
    """The sum of all inputs, of one shape (N, C, h, w), each with its own quantizer."""

    def _setup(self) -> None:
        for index in range(self.inputs):
            setattr(self, f"term{index}_input_quantizer", TensorQuantizer())

    def forward(self, tensors: list[Tensor]) -> Tensor:
        total = self.term0_input_quantizer(tensors[0])
        for index, tensor in enumerate(tensors[1:], 1):
            total = total + getattr(self, f"term{index}_input_quantizer")(tensor)
        return total


QUANTIZED: tuple[tuple[type[nn.Module], type[QuantModule]], ...] = (
    (ResidualAdd, QuantResidualAdd),
    (ResolutionSum, QuantResolutionSum),
)


def register_sums() -> None:
    """Tell ModelOpt about the sums; calling it again changes nothing."""
    from modelopt.torch.quantization.nn import QuantModuleRegistry

    for original, quantized in QUANTIZED:
        if QuantModuleRegistry.get(original) is None:
            register(original_cls=original, quantized_cls=quantized)
