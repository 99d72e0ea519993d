"""The wheel holds all that a pip-installed user needs to build the image and start boxes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agentbox_magic import images, resources

ROOT = Path(__file__).parent.parent

CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
import agentbox_magic
from agentbox_magic import images, resources
assert agentbox_magic.__file__.startswith(sys.argv[1])
assert (resources.IMAGE / "build-base").is_file()
assert resources.APPARMOR.is_file()
print(images.default_image(), resources.seccomp_profile())
"""


def test_the_wheel_names_the_same_image_and_profile_as_the_checkout(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--no-index",
            "--target",
            str(installed),
            str(wheel),
        ],
        check=True,
    )
    # From another folder and with only the installed copy before site-packages: the editable install must not help.
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(installed)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{images.default_image()} {resources.seccomp_profile()}"
