"""The data files this package needs: in the wheel they are inside it, in a checkout beside it."""

from __future__ import annotations

import functools
import json
from pathlib import Path

_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE / "data" if (_PACKAGE / "data").is_dir() else _PACKAGE.parent

IMAGE = _ROOT / "image"
"""The Dockerfile, the pinned requirements and the builder of the offline base."""

APPARMOR = _ROOT / "apparmor" / "agentbox"
"""Our AppArmor profile, for an administrator to load."""
SECCOMP = _ROOT / "seccomp" / "agentbox.json"
"""Our seccomp profile."""


@functools.cache
def seccomp_profile() -> str:
    """Our seccomp profile as compact JSON, the form in which the engine's API takes it."""
    return json.dumps(json.loads(SECCOMP.read_text("utf-8")), separators=(",", ":"))
