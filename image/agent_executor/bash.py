"""bash in the worker: one shell per context, so that variables, functions and the directory are kept."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

from agent_executor.streams import encode_error

if TYPE_CHECKING:
    from agent_executor.worker import Control

STATUS_FD = 9
"""Where bash tells us the exit status of a run; code that closes it ends its shell."""


class Shell:
    """A bash that reads one ``eval`` after another from a pipe."""

    namespace: None = None
    """Its variables are no values."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._count = 0
        self._start()

    def warm_up(self) -> None:
        """There is nothing to do."""

    def _start(self) -> None:
        read, write = os.pipe()
        os.dup2(write, STATUS_FD, inheritable=True)
        os.close(write)
        command = ["bash", "--noprofile", "--norc"]
        self._bash = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(STATUS_FD,))
        os.close(STATUS_FD)
        self._status = os.fdopen(read, "rb")
        self._stopped = False

    def run(self, code: str) -> dict[str, Any]:
        """Run a cell of bash; its exit status is that of its last command."""
        self._count += 1
        if self._stopped:
            self._start()
        assert self._bash.stdin is not None
        # The code reads nothing, rather than the lines that we write after it.
        line = f"eval {shlex.quote(code)} </dev/null\nprintf '%d\\n' $? >&{STATUS_FD}\n"
        try:
            self._bash.stdin.write(line.encode("utf-8", "surrogateescape"))
            self._bash.stdin.flush()
            answer = self._status.readline()
        except KeyboardInterrupt:
            self._stop()
            return {"status": "interrupted", "execution_count": self._count}
        if answer:
            code_of_it = int(answer)
        else:  # the code ended the shell itself
            self._bash.wait()
            code_of_it = self._bash.returncode
            self._stop()
        if code_of_it:
            value = f"bash ended with exit status {code_of_it}"
            self._control.tell({"type": "error"}, encode_error("CalledProcessError", value, ""))
        return {"status": "error" if code_of_it else "ok", "execution_count": self._count}

    def _stop(self) -> None:
        """The next run starts another: what is started at a deadline is killed with the rest of the run."""
        self._bash.kill()
        self._bash.communicate()
        self._status.close()
        self._stopped = True
