"""bash in the worker: one shell per context, so that variables, functions and the directory are kept."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
from typing import TYPE_CHECKING, Any, ClassVar

from agent_executor.streams import encode_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_executor.worker import Control

STATUS_FD = 9
"""Where bash tells us the exit status of a run. The code itself has it closed, and so has what it leaves running."""
LOOK_SECONDS = 0.2
"""How often it is looked whether bash has ended, where something that it started still holds its end of that pipe."""
SAVED = "_agentbox_saved"
"""The variable that keeps what a run's environment variables were before."""


class Shell:
    """A bash that reads one ``eval`` after another from a pipe."""

    namespace: None = None
    """Its variables are no values."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._count = 0
        self._start()

    chores: ClassVar[list[Callable[[], object]]] = []
    """What is done for later when nobody asks for anything; it need not be done."""

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

    def run(self, code: str, envs: Mapping[str, str]) -> dict[str, Any]:
        """Run a cell of bash with these environment variables; its exit status is that of its last command."""
        self._count += 1
        if self._stopped:
            self._start()
        assert self._bash.stdin is not None
        try:
            self._bash.stdin.write(_script(code, envs).encode("utf-8", "surrogateescape"))
            self._bash.stdin.flush()
            answer = self._answer()
        except KeyboardInterrupt:
            self._stop()
            return {"status": "interrupted", "execution_count": self._count}
        if answer:
            status, why = int(answer), "the last command ended with exit status {}"
        else:  # the code ended the shell itself
            self._bash.stdin.close()
            status, why = self._bash.wait(), "the code ended its bash with exit status {}, and its state is gone"
            self._stop()
        if status < 0:
            status, why = 128 - status, f"bash was killed by {signal.Signals(-status).name}, and its state is gone"
        if status:
            self._control.tell({"type": "error"}, encode_error("CalledProcessError", why.format(status), ""))
        return {"status": "error" if status else "ok", "exit_code": status, "execution_count": self._count}

    def _answer(self) -> bytes:
        """The line with the exit status; empty if bash has ended."""
        while not select.select([self._status], [], [], LOOK_SECONDS)[0]:
            if self._bash.poll() is not None:
                return b""
        return self._status.readline()

    def _stop(self) -> None:
        """The next run starts another: what is started at a deadline is killed with the rest of the run."""
        self._bash.kill()
        self._bash.communicate()
        self._status.close()
        self._stopped = True


def _script(code: str, envs: Mapping[str, str]) -> str:
    """What bash reads for a run: the code, which itself reads nothing, rather than the lines after it; its exit status;
    and around them its environment, which was before as ``declare -p`` tells.

    >>> print(_script("true", {}), end="")
    eval true </dev/null 9>&-
    printf '%d\\n' $? >&9
    """
    before, after = [], []
    if envs:
        names = " ".join(envs)
        before = [f"{SAVED}=$(declare -p {names} 2>/dev/null)"]
        before += [f"export {name}={shlex.quote(value)}" for name, value in envs.items()]
        after = [f"unset -v {names}", f'eval "${SAVED}"', f"unset -v {SAVED}"]
    run = [f"eval {shlex.quote(code)} </dev/null {STATUS_FD}>&-", f"printf '%d\\n' $? >&{STATUS_FD}"]
    return "\n".join([*before, *run, *after, ""])
