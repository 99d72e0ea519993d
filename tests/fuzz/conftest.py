"""Whatever a hostile box sends, the host ends in a clean refusal; and honest streams read the same however they arrive.

With ``AGENTBOX_FUZZ_SECONDS`` set, new random examples for about so long; otherwise the same few every time.
What is fuzzed needs no engine: the image that other tests wait for is not built for these.
"""

from __future__ import annotations

import importlib.util
import os

import pytest
from hypothesis import HealthCheck, settings

collect_ignore = [] if importlib.util.find_spec("atheris") else ["fuzz_reader.py"]
SECONDS = float(os.environ.get("AGENTBOX_FUZZ_SECONDS", "0"))

# The machine's load is no property of the code: deadlines are asserted where something could hang, not per example.
_COMMON = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile("ci", _COMMON, derandomize=True, max_examples=120)
# An example is about 2 ms; there are about 20 properties to share the time.
settings.register_profile("long", _COMMON, max_examples=max(200, int(SECONDS * 25)))
settings.load_profile("long" if SECONDS else "ci")


@pytest.fixture(scope="session", autouse=True)
def image() -> None:
    """Instead of the one that builds the image."""
