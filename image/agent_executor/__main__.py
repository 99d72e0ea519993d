"""The image's command: ``python -m agent_executor``, or this file by its path.

An image that is not ours may have any Python: up to the check of the version this must be readable by all of them.
"""

import os
import sys

MINIMUM = (3, 9)

if __name__ == "__main__":
    if sys.version_info[:2] < MINIMUM:
        sys.stderr.write("Python {}.{}.{} is too old, 3.9 is the oldest that can serve\n".format(*sys.version_info[:3]))
        sys.exit(1)
    if not __package__:
        # Started by its path: what `-m` does, and nothing for child processes to inherit as PYTHONPATH would be.
        here = os.path.dirname(os.path.abspath(__file__))
        sys.path[0] = os.getcwd()
        sys.path.append(os.path.dirname(here))

    if sys.argv[1:2] == ["zygote"]:
        from agent_executor import zygote

        zygote.main(int(sys.argv[2]))
    # A host that starts a box says how; plain `docker run -e TASK=...` has nobody on the pipe.
    if "TASK" in os.environ and not sys.argv[1:]:
        from agent_executor import standalone

        standalone.main()
    from agent_executor.supervisor import main

    main(dict(word.partition("=")[::2] for word in sys.argv[1:]))
