"""Passports that were changed behind our back."""

import json
from pathlib import Path
from typing import Any

from samkr_edge.passport import passport_path, read_passport


def edit(engine: Path, **changes: Any) -> None:
    """Replace fields of an engine's passport."""
    passport = passport_path(engine)
    passport.write_text(json.dumps({**json.loads(passport.read_text()), **changes}))


def edit_device(engine: Path, **changes: Any) -> None:
    """Replace fields of the device that it was built for."""
    edit(engine, device={**read_passport(engine).device, **changes})
