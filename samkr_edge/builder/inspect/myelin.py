"""What TensorRT's graph compiler, Myelin, says of a kernel in its name: the operations that it fused into one.

TensorRT for RTX builds everything with it, full TensorRT parts of a network. A kernel that it generates is called
``__myl_MulCastAddReluMulMinMaxRounCast_myl0_4``: scale, bias, ReLU and re-quantization. A long name ends in ``Etc``.
"""

from __future__ import annotations

import re

# Kinds of layers that launch nothing: two streams wait for each other, or the host computes a shape.
NO_KERNELS = ("signal", "wait", "shape_call")
CONVOLUTION = "correlation"
# A convolution with what follows it, or something else (a resize) that is compiled on the card.
FUSIONS = ("runtime_fusion", "runtime_function")
GENERATED = "kgen"

_NAME = re.compile(r"__myl_([A-Za-z]+)_myl\d+_\d+")
_MOVES = {"Cast", "Move", "Tran", "Resh"}
_REARRANGES = {"Move", "Tran", "Resh", "Slic", "Conc"}
# Division by a scale, rounding and clamping, and the way back.
_QUANTIZES = {"Mul", "Min", "Max", "Roun"}


def operations(name: str) -> tuple[str, ...]:
    """``__myl_CorrAddCastRelu_myl0_226`` -> ``("Corr", "Add", "Cast", "Relu")``; none where the name tells none."""
    match = _NAME.fullmatch(name)
    return tuple(re.findall("[A-Z][a-z]*", match[1])) if match else ()


def is_convolution(name: str, kind: str) -> bool:
    """Whether a layer is a convolution, alone or with what is fused into it."""
    # `Fc`: a 1x1 convolution as a matrix product.
    return kind == CONVOLUTION or (kind in FUSIONS and bool({"Corr", "Fc"} & set(operations(name))))


def is_block(name: str, kind: str) -> bool:
    """Whether a layer is a whole part of a network, compiled as one: it names its first and its last node."""
    return kind == "Myelin" or "ForeignNode[" in name


def is_mute(name: str, kind: str) -> bool:
    """Whether a kernel of the compiler's does not tell its operations, so that a cast in it would not be seen.

    Full TensorRT has such: ``__myl_bb0_8_ResTraCasAddMea_com_vec``, ``_gemm_mha_v2_myl0_4``.
    """
    return (kind == GENERATED or "_myl" in name) and not operations(name)


def converts(name: str) -> bool:
    """Whether a kernel only changes layout, precision or quantization."""
    found = set(operations(name))
    return bool(found) and found <= _MOVES | _QUANTIZES


def adds(name: str) -> bool:
    """Whether a kernel does nothing but add maps, and cut off what is below zero."""
    found = set(operations(name))
    return "Add" in found and found <= {"Add", "Relu", "Cast"}


def quantizes(name: str) -> bool:
    """Whether a kernel rounds to steps of a scale, whatever else it does; the end of a long name is not known."""
    return "Roun" in operations(name)


def casts_first(name: str) -> bool:
    """Whether a kernel changes the precision of what it reads before it computes with it.

    The bias and the ReLU of the convolution before it may stand first.
    """
    for operation in operations(name):
        if operation not in _REARRANGES | {"Add", "Relu"}:
            return operation == "Cast"
    return False
