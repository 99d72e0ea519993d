"""Tells what Python an image has: run there as ``python -c TEXT``, before the image has anything of ours.

Prints one JSON object. It must be readable by any Python, so that an old one can tell its version.
"""

import json
import os
import sys

if __name__ == "__main__":
    facts = {"version": list(sys.version_info[:3]), "executable": sys.executable}  # type: dict[str, object]
    if sys.version_info >= (3, 9):
        import importlib.metadata
        import site
        import sysconfig

        folders = site.getsitepackages() + [sysconfig.get_path("purelib")]  # noqa: RUF005  # Python 2 reads this line
        known = [folder for folder in folders if os.path.isdir(folder) and folder in sys.path]
        try:
            libc = os.confstr("CS_GNU_LIBC_VERSION")
        except (OSError, ValueError):  # musl has no such name
            libc = None
        installed = {}  # type: dict[str, str]
        for distribution in importlib.metadata.distributions():
            # The first on the path is the one that is imported. A broken installation has no name.
            name = distribution.metadata["Name"]
            if name:
                installed.setdefault(name, distribution.version)
        facts.update(
            implementation=sys.implementation.name,
            free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
            machine=os.uname().machine,
            libc=libc,
            site=os.path.realpath((known or folders)[0]),
            installed=installed,
        )
    sys.stdout.write(json.dumps(facts))
