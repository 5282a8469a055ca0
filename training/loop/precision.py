"""The precision of a training step: what a recipe's ``precision`` means on a device."""

from __future__ import annotations

import warnings

import torch

from samkr_edge.machine.cpu import cpu_flags

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def computed(precision: str, device: torch.device) -> str:
    """``fp32``, ``tf32``, ``bf16`` or ``fp16``: what a step computes in on ``device``.

    ``auto`` is bf16 where hardware multiplies it: GPUs, CPUs with avx512_bf16 or AMX. ``tf32`` is fp32 whose
    products have ten mantissa bits; on CPUs, and on GPUs before Ampere, it is plain fp32.
    """
    cuda = device.type == "cuda"
    if precision == "auto":
        if cuda:
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        return "bf16" if cpu_flags() & {"avx512_bf16", "amx_bf16"} else "fp32"
    if precision == "tf32" and not (cuda and torch.cuda.is_tf32_supported()):
        return "fp32"
    return precision


def half_type(precision: str) -> torch.dtype | None:
    """The type for autocast; None for float32, with or without TF32."""
    return _HALF.get(precision)


def allow_tf32(allowed: bool) -> None:
    """Whether float32 convolutions and matrix products on a GPU may use TF32, with ten mantissa bits.

    Torch allows it for convolutions by default. It is off next to bf16 and FP16 too: what stays in float32 there
    needs its 23 bits.
    """
    with warnings.catch_warnings():
        # Torch 2.9 recommends settings that its own compiler then stumbles over (pytorch issue 166387).
        warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
