"""FP8 instead of INT8: which parts of a policy do not fit it.

This is E4M3 (OCP, "8-bit Floating Point Specification", 2023) as ModelOpt implements it: a weight or an activation
times 448 / its range, rounded to the nearest E4M3 number. A float has the same relative step for large and small
numbers, so one range serves a whole weight tensor: channels smaller than the others keep their three mantissa bits.
ModelOpt fake-quantizes it on every device, CPUs included.
"""

from __future__ import annotations

from calibration.policy import Policy
from samkr_edge.errors import SamkrError

# ModelOpt's notation: bits of exponent and mantissa.
E4M3 = (4, 3)
# They choose ranges by the error of integer steps, which FP8 does not have.
_INTEGER_CALIBRATORS = ("entropy", "mse")


def check_fp8(policy: Policy) -> None:
    """Refuse what has no meaning for FP8; policies of another format pass.

    Raises:
        SamkrError: SE-U46 fewer bits than 8, a calibrator for integer steps, or channels to equalise for them.
    """
    if policy.format != "fp8":
        return
    if policy.equalise:
        raise SamkrError(
            "SE-U46",
            "equalising channels is for integer steps, and FP8's are relative, so nothing was quantized",
            {"policy": policy.name},
            fix="--policy default --format fp8",
        )
    calibrators = {policy.calibrator, *(rule.calibrator for rule in policy.rules)} - {None}
    wrong = sorted(name for name in calibrators if name in _INTEGER_CALIBRATORS)
    if wrong:
        raise SamkrError(
            "SE-U46",
            f"calibrator {wrong[0]!r} compares integer steps, which FP8 does not have, so nothing was quantized",
            {"policy": policy.name, "for FP8": "max, percentile"},
            fix="--calibrator max",
        )
    if min(policy.bits, policy.activation_bits) < 8:
        raise SamkrError(
            "SE-U46",
            "FP8 has 8 bits, no fewer, so nothing was quantized",
            {"asked": f"weights {policy.bits}, activations {policy.activation_bits}"},
            fix="leave --bits and --activation-bits out, or add --format int8",
        )


def refuse_fp8(policy: Policy) -> None:
    """For the analyses, which say INT8 in all they print; raises SE-U47."""
    if policy.format == "fp8":
        raise SamkrError(
            "SE-U47",
            f"this analysis is for INT8, and policy {policy.name} quantizes to FP8, so nothing was measured",
            {"instead": "quantize --format fp8, and samkr-edge ledger measures what that loses"},
            fix="name a policy whose format is int8: --policy default",
        )
