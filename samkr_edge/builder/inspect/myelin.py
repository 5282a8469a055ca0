"""Kernel names of TensorRT's graph compiler, Myelin, which list the operations fused into a kernel.

TensorRT for RTX builds everything with it, full TensorRT only parts of a network. A generated kernel is called, for
example, ``__myl_MulCastAddReluMulMinMaxRounCast_myl0_4``: scale, bias, ReLU and requantization. A long name is cut off
and ends in ``Etc``.
"""

from __future__ import annotations

import re

# Layer types that launch no kernel: two streams wait for each other, or the host computes a shape.
NO_KERNELS = ("signal", "wait", "shape_call")
CONVOLUTION = "correlation"
# A convolution with what follows it, or another operation (a resize) that is compiled on the GPU.
FUSIONS = ("runtime_fusion", "runtime_function")
GENERATED = "kgen"

_NAME = re.compile(r"__myl_([A-Za-z]+)_myl\d+_\d+")
_MOVES = {"Cast", "Move", "Tran", "Resh"}
_REARRANGES = {"Move", "Tran", "Resh", "Slic", "Conc"}
# Division by a scale, rounding and clamping, and the way back.
_QUANTIZES = {"Mul", "Min", "Max", "Roun"}


def operations(name: str) -> tuple[str, ...]:
    """``__myl_CorrAddCastRelu_myl0_226`` -> ``("Corr", "Add", "Cast", "Relu")``; empty if the name lists none."""
    match = _NAME.fullmatch(name)
    return tuple(re.findall("[A-Z][a-z]*", match[1])) if match else ()


def is_convolution(name: str, kind: str) -> bool:
    """Whether a layer is a convolution, alone or with what is fused into it."""
    # `Fc`: a 1x1 convolution as a matrix product.
    return kind == CONVOLUTION or (kind in FUSIONS and bool({"Corr", "Fc"} & set(operations(name))))


def is_block(name: str, kind: str) -> bool:
    """Whether a layer is a whole part of a network compiled as one, whose name has only its first and last node."""
    return kind == "Myelin" or "ForeignNode[" in name


def is_mute(name: str, kind: str) -> bool:
    """Whether a compiled kernel's name does not list its operations, so that a cast in it would not be seen.

    Full TensorRT has such kernels: ``__myl_bb0_8_ResTraCasAddMea_com_vec``, ``_gemm_mha_v2_myl0_4``.
    """
    return (kind == GENERATED or "_myl" in name) and not operations(name)


def converts(name: str) -> bool:
    """Whether a kernel only changes layout, precision or quantization."""
    found = set(operations(name))
    return bool(found) and found <= _MOVES | _QUANTIZES


def adds(name: str) -> bool:
    """Whether a kernel only adds maps, with or without a ReLU."""
    found = set(operations(name))
    return "Add" in found and found <= {"Add", "Relu", "Cast"}


def quantizes(name: str) -> bool:
    """Whether a kernel, among other things, rounds to steps of a scale; the end of a long name is unknown."""
    return "Roun" in operations(name)


def casts_first(name: str) -> bool:
    """Whether a kernel casts its inputs before it computes with them.

    The bias and the ReLU of the previous convolution may come before the cast.
    """
    for operation in operations(name):
        if operation not in _REARRANGES | {"Add", "Relu"}:
            return operation == "Cast"
    return False
