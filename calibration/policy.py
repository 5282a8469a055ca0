"""The quantization policy as data: which module is quantized, and why. Ordered rules in YAML; the first match wins."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.named import NO_FILE, missing_file
from samkr_edge.files.yaml_file import own_or_shipped, read_yaml
from samkr_edge.fixes import quoted
from training.models.sums import ResidualAdd, ResolutionSum

POLICIES = Path(__file__).parent / "policies"

# Operations a rule can name; modules of other kinds are never quantized.
OPERATIONS: dict[str, type[nn.Module]] = {
    "conv": nn.Conv2d,
    "residual_add": ResidualAdd,
    "resolution_sum": ResolutionSum,
    "max_pool": nn.MaxPool2d,
}


# Formats of quantized modules: 8-bit integers, or 8-bit floats (E4M3; see calibration/fp8.py).
Format = Literal["int8", "fp8"]

# How a range is found from the calibration images; see calibration/ranges.py.
Calibrator = Literal["max", "entropy", "percentile", "mse"]


class Rule(BaseModel):
    """One line of a policy.

    Attributes:
        match: glob on module names; ``*`` matches dots too.
        op: restricts the rule to one kind of module.
        below_channels: restricts it to convolutions with fewer input or output channels per group than this.
        grouped: restricts it to grouped (True) or ordinary (False) convolutions.
        precision: ``float``, or ``int8``: quantized, to the policy's format.
        calibrator: replaces the policy's for these modules.
        granularity: weights have one range per output ``channel``, or one per ``tensor``.
        optional: the rule may match nothing (in a network without that part).
        why: shown next to every module it decides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = "*"
    op: Literal["conv", "residual_add", "resolution_sum", "max_pool"] | None = None
    below_channels: int | None = Field(default=None, ge=1)
    grouped: bool | None = None
    precision: Literal["int8", "float"]
    calibrator: Calibrator | None = None
    granularity: Literal["channel", "tensor"] = "channel"
    optional: bool = False
    why: str

    def matches(self, name: str, module: nn.Module) -> bool:
        if not fnmatchcase(name, self.match):
            return False
        if self.op is not None and not isinstance(module, OPERATIONS[self.op]):
            return False
        if self.below_channels is None and self.grouped is None:
            return True
        if not isinstance(module, nn.Conv2d):
            return False
        fewest = min(module.in_channels, module.out_channels) // module.groups
        return (self.below_channels is None or fewest < self.below_channels) and (
            self.grouped is None or self.grouped == (module.groups > 1)
        )


class Policy(BaseModel):
    """A named list of rules.

    Attributes:
        name: the file's name, unless the file gives one.
        about: one line for people.
        calibrator: for every rule that names none.
        format: what the quantized modules compute in; ``fp8`` has one range per weight tensor.
        bits: of weights. Below 8: for analysis, never exported.
        activation_bits: of activations; below 8 for analysis only.
        shared_scales: tensors that meet in a sum, and all readers of one tensor, get one range: their largest.
        equalise: channels are rescaled before calibration so that ranges cost least, without changing what the float
            network computes: calibration/equalise.py.
        rules: first match wins.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str
    calibrator: Calibrator = "max"
    format: Format = "int8"
    bits: int = Field(default=8, ge=2, le=8)
    activation_bits: int = Field(default=8, ge=2, le=8)
    shared_scales: bool = False
    equalise: bool = False
    rules: tuple[Rule, ...]

    def precision_of(self, rule: Rule) -> str:
        """The precision that the rule gives: ``int8``, ``fp8`` or ``float``."""
        return self.format if rule.precision == "int8" else "float"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


@dataclass(frozen=True)
class Assignment:
    """The policy's decision for one module, and its rule; ``precision`` is ``int8``, ``fp8`` or ``float``."""

    module: str
    op: str
    precision: str
    rule: int
    why: str
    calibrator: str = "max"
    granularity: str = "channel"

    @property
    def quantized(self) -> bool:
        return self.precision != "float"


def policy_names() -> list[str]:
    return sorted(path.stem for path in POLICIES.glob("*.yaml"))


def load_policy(name: str) -> Policy:
    """A shipped policy by name or a YAML file by path.

    Raises:
        SamkrError: SE-A23 no such file, SE-U40 no policy of this name, SE-U41 not valid.
    """
    path = own_or_shipped(name, POLICIES)
    try:
        return Policy.model_validate({"name": path.stem, **read_yaml(path)})
    except NO_FILE as error:
        if path == Path(name):
            raise missing_file(path, "policy") from error
        near = difflib.get_close_matches(name, policy_names(), n=1, cutoff=0.4)
        raise SamkrError(
            "SE-U40",
            f"there is no policy {name!r}",
            {"shipped": ", ".join(policy_names())},
            fix=f"--policy {near[0] if near else 'default'}",
        ) from error
    except ValidationError as error:
        facts = {}
        for item in error.errors()[:4]:
            key = ".".join(str(part) for part in item["loc"])
            known = list(Rule.model_fields) + list(Policy.model_fields)
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
            hint = f"; nearest: {near[0]}" if near and item["type"] == "extra_forbidden" else ""
            facts[key] = f"{item['msg']}{hint}"
        raise _invalid(path, facts) from error
    except ValueError as error:
        raise _invalid(path, {"reason": reason_of(error)}) from error


def _invalid(path: Path, facts: dict[str, str]) -> SamkrError:
    return SamkrError(
        "SE-U41",
        f"{path} is not a valid policy",
        facts,
        fix=f"compare it with a shipped one: {quoted(POLICIES / 'default.yaml')}",
    )


def changed_policy(policy: Policy, **changes: Any) -> Policy:
    """The policy with some of its own fields replaced; None leaves a field as it is.

    A calibrator given here replaces those of the rules too.

    Raises:
        SamkrError: SE-U79 a value that the field does not take.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    content = {**policy.model_dump(), **given}
    if "calibrator" in given:
        content["rules"] = [{**rule, "calibrator": None} for rule in content["rules"]]
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        item = error.errors()[0]
        raise SamkrError(
            "SE-U79",
            f"{item['input']!r} is no {item['loc'][0]}, so nothing was done",
            {"expected": item["msg"]},
            fix="samkr-edge quantize --help",
        ) from error


def assign(policy: Policy, network: nn.Module) -> list[Assignment]:
    """Decide every module that could be quantized; one that no rule matches stays float.

    Raises:
        SamkrError: SE-U42 a rule matches nothing in this network.
    """
    candidates = [(n, m, op) for n, m in network.named_modules() if (op := operation_of(m)) is not None]
    assignments, used = [], set()
    for name, module, op in candidates:
        for index, rule in enumerate(policy.rules):
            if rule.matches(name, module):
                calibrator = rule.calibrator or policy.calibrator
                granularity = "tensor" if policy.format == "fp8" else rule.granularity
                assignments.append(
                    Assignment(name, op, policy.precision_of(rule), index, rule.why, calibrator, granularity)
                )
                used.add(index)
                break
        else:
            assignments.append(Assignment(name, op, "float", -1, "no rule names it"))
    for index, rule in enumerate(policy.rules):
        if index in used or rule.optional or any(rule.matches(n, m) for n, m, _ in candidates):
            continue
        near = difflib.get_close_matches(
            rule.match.strip("*."), [n for n, _, _ in candidates], n=3, cutoff=0.3
        )
        raise SamkrError(
            "SE-U42",
            f"rule {index + 1} of policy {policy.name!r} matches nothing in this network, so nothing was quantized",
            {"rule": f"match: {rule.match!r}  op: {rule.op}", "nearest": ", ".join(near) or "none"},
            fix="samkr-edge quantize CHECKPOINT --data DIR -o out.pt --dry-run   # lists the modules",
        )
    return assignments


def quantized_share(assignments: Sequence[Assignment], macs: Mapping[str, int]) -> float:
    """Share of the multiply-accumulates that run in INT8 or FP8, 0..1; ``macs`` by convolution name."""
    covered = sum(macs.get(a.module, 0) for a in assignments if a.quantized)
    return covered / max(sum(macs.values()), 1)


def operation_of(module: nn.Module) -> str | None:
    """The operation's name, or None for a module that is never quantized."""
    return next((name for name, kind in OPERATIONS.items() if isinstance(module, kind)), None)
