"""IPython in the worker: a notebook cell's semantics, with displays and errors sent as messages."""

from __future__ import annotations

import binascii
import codeop
import contextlib
import importlib
import os
import subprocess
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.profiledir import ProfileDir
from IPython.paths import get_ipython_dir
from traitlets import Any as AnyTrait
from traitlets import Type, default

from agent_executor import frontend
from agent_executor.streams import Stream, cut_ours, encode_bundle, encode_error, exit_code, leave

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent_executor.worker import Control


FOR_TRACEBACKS = ("pygments.formatters.terminal256", "executing", "asttokens", "stack_data", "pygments.lexers.python")
"""What IPython loads when it tells of an exception."""
PLAIN = frozenset({int, float, complex, bool, str, bytes, list, tuple, dict, set, frozenset})
"""What has no form but text, unless the code gives it one."""
TEXT = "text/plain"


def _prints(formatter: Any, kind: type) -> bool:
    """Whether the code has told a formatter what to do with values of a built-in kind."""
    printers, deferred = formatter.type_printers, formatter.deferred_printers
    if not printers and not deferred:
        return False
    return any(one in printers or (one.__module__, one.__name__) in deferred for one in kind.__mro__)


class _Publisher(DisplayPublisher):
    def publish(
        self,
        data: dict[str, Any],
        metadata: Any = None,
        source: Any = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_: Any,
    ) -> None:
        self.shell.send("display_data", data, display_id=(transient or {}).get("display_id"), update=update)

    def clear_output(self, wait: bool = False) -> None:
        self.shell.control.tell({"type": "clear_output", "wait": bool(wait)})


class _Hook(DisplayHook):
    """Sends the value of the last expression instead of printing it."""

    def __call__(self, result: Any = None) -> None:
        self.check_for_underscore()
        if result is None or self.quiet():
            return
        data = self._format(result)
        self.update_user_ns(result)
        self.fill_exec_result(result)
        if data:
            shell = cast("_Interactive", self.shell)
            caller = sys._getframe(1)
            # Called by the cell's last expression itself, and by no function in it, this is the last that it does.
            is_last = shell.ast_node_interactivity == "last_expr" and caller.f_locals is caller.f_globals
            shell.send("execute_result", data, is_last=is_last)

    def quiet(self) -> bool:
        """Whether the cell ends in a semicolon; which is looked for where there is one."""
        history = cast("_Interactive", self.shell).history_manager
        assert history is not None
        return ";" in history.input_hist_parsed[-1] and bool(super().quiet())

    def _format(self, result: Any) -> dict[str, Any]:
        """The forms of a value. Most are of a kind that has but one, and the search for others takes as long as a short
        cell."""
        formatter = cast("_Interactive", self.shell).display_formatter
        assert formatter is not None
        kind = type(result)
        others = [one for mime, one in formatter.formatters.items() if mime != TEXT]
        others += [formatter.mimebundle_formatter, formatter.ipython_display_formatter]
        if kind in PLAIN and not any(_prints(one, kind) for one in others):
            text = formatter.formatters[TEXT](result)
            return {} if text is None else {TEXT: text}  # what it contains may have no text
        data, _ = self.compute_format_data(result)
        return cast("dict[str, Any]", data)


class _Compiler(CachingCompiler):
    def __init__(self) -> None:
        super().__init__()
        # Nobody is to go on with a line: with this flag an open bracket is _IncompleteInputError from Python 3.13 on.
        self.flags &= ~getattr(codeop, "PyCF_ALLOW_INCOMPLETE_INPUT", 0)

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        """Names a cell by a sum of its text. By its SHA-1, as IPython does, it would take OpenSSL: 4 MB of each box."""
        return f"<ipython-input-{number}-{binascii.crc32(raw_code.encode('utf-8', 'replace')):08x}>"


class _Interactive(InteractiveShell):
    """IPython's shell, without what only a person at a prompt needs. What code may ask for all the same is made when it
    does: it would be a tenth of the start of a box."""

    compiler_class = Type(_Compiler)
    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)
    control: Control
    error_sent = False

    def init_io(self) -> None:
        """The streams are ours."""

    def init_history(self) -> None:
        self.config.HistoryManager.enabled = False  # no file, and above all no thread: workers are forked
        self.config.HistoryManager.hist_file = ":memory:"  # or a name for it is looked for all the same
        super().init_history()

    def init_ipython_dir(self, ipython_dir: str | None) -> None:
        """None is made yet."""

    @default("ipython_dir")
    def _make_ipython_dir(self) -> str:
        return get_ipython_dir()

    def init_profile_dir(self, profile_dir: ProfileDir | None) -> None:
        """None is made yet."""

    @default("profile_dir")
    def _make_profile_dir(self) -> ProfileDir:
        made: ProfileDir = ProfileDir.create_profile_dir_by_name(self.ipython_dir, "default")
        return made

    def init_magics(self) -> None:
        super().init_magics()
        frontend.register(self)

    def enable_gui(self, gui: str | None = None) -> None:
        """There is no loop of a toolkit to run beside the code; what runs without one goes on."""
        if gui not in frontend.NO_LOOP:
            frontend.tell(f"%gui {gui} has no effect: a sandbox has no screen")

    def enable_matplotlib(self, gui: str | None = None) -> tuple[str | None, str]:
        """As IPython's; where a screen or a page that answers is asked for, figures are shown inline instead."""
        if gui is not None and gui.lower() not in frontend.BACKENDS:
            frontend.tell(f"%matplotlib {gui} needs a screen or a live page; figures are shown inline instead")
            gui = "inline"
        chosen: tuple[str | None, str] = super().enable_matplotlib(gui)
        return chosen

    def set_next_input(self, s: str, replace: bool = False) -> None:
        """What would be put into the next cell is shown; there is none to put it into."""
        print(s, end="" if s.endswith("\n") else "\n")

    def init_completer(self) -> None:
        """None is made yet."""

    Completer: Any = AnyTrait()

    @default("Completer")
    def _make_completer(self) -> Any:
        super().init_completer()  # which sets it
        return self.Completer

    # IPython keeps what a session has shown, for a history that is not kept here: it would fill the box, and every
    # traceback would be made twice.

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        yield

    def _format_exception_for_storage(self, exception: BaseException, *_: Any, **__: Any) -> dict[str, Any]:
        return {"ename": type(exception).__name__, "evalue": "", "traceback": []}

    def send(
        self,
        kind: str,
        data: dict[str, Any],
        *,
        display_id: str | None = None,
        update: bool = False,
        is_last: bool = False,
    ) -> None:
        parts, payload = encode_bundle(data)
        header: dict[str, Any] = {"type": kind, "parts": parts}
        if display_id is not None:
            header.update(display_id=str(display_id)[:200], update=bool(update))
        if is_last:
            self.control.tell_last(header, payload)
            Stream.last = self.control  # what a hook prints all the same waits for it
        else:
            self.control.tell(header, payload)

    def send_error(self, name: str, value: str, traceback: list[str]) -> None:
        if self.error_sent:  # later ones come of handling the first
            return
        self.error_sent = True
        self.control.tell({"type": "error"}, encode_error(name, value, "\n".join(traceback)))

    def _showtraceback(self, etype: type, evalue: Any, stb: list[str]) -> None:
        self.send_error(etype.__name__, str(evalue), stb)

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        if not self.control.is_ours:
            return  # told at the end of the process
        name, _, trace = sys.exc_info()
        cut_ours(trace)
        try:
            super().showtraceback(*args, **kwargs)
        except Exception as error:  # the exception's own __str__ or __repr__ fails
            self.send_error(name.__name__ if name else "Exception", f"<no text: {type(error).__name__}>", [])

    def show_usage_error(self, exc: Exception) -> None:
        self.send_error("UsageError", str(exc), [f"UsageError: {exc}"])

    def system(self, cmd: str) -> None:
        """``!command``, with its output going where the cell's goes; there is no terminal in a box."""
        command = self.var_expand(cmd, depth=1)
        self.user_ns["_exit_code"] = subprocess.call(command, shell=True, executable=_shell_path())

    system_raw = system_piped = system

    def ask_exit(self) -> None:
        """``exit`` and ``quit`` end a cell's box anyway."""


def _make_lexer() -> None:
    """The first one of a class compiles a hundred regular expressions."""
    importlib.import_module("pygments.lexers.python").PythonLexer()


def _shell_path() -> str:
    return "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"


class Shell:
    """One IPython shell: ``run`` a cell, answer what the supervisor tells the host. Made before the fork."""

    def __init__(self) -> None:
        warnings.filterwarnings("ignore", "To exit: use")  # after sys.exit(); there is nothing here to leave
        self._shell = _Interactive.instance()
        self.namespace: dict[str, Any] = self._shell.user_ns
        assert self._shell.logger is not None  # made now, or every worker's first cell would load its module
        self.warm_up()

    def attach(self, control: Control) -> None:
        """Become a worker's own."""
        self._shell.control = control
        self.chores: list[Callable[[], object]] = [partial(importlib.import_module, name) for name in FOR_TRACEBACKS]
        self.chores += [_make_lexer, self._rehearse]

    def _rehearse(self) -> None:
        """Make a traceback that nobody sees."""
        teller = self._shell.InteractiveTB
        before = getattr(teller, "tb", None)
        try:
            raise RuntimeError
        except RuntimeError:
            teller.structured_traceback(*sys.exc_info())
        teller.tb = before  # what %debug looks at

    def warm_up(self) -> None:
        """The first cell and the first value are slower, and again after a fork, because what is written to then is
        copied first: let it be these."""
        self._shell.run_cell("None", store_history=False, silent=True)
        formatter = self._shell.display_formatter
        assert formatter is not None
        formatter.format(0)

    def after_call(self) -> None:
        """What a cell does at its end, which shows figures, for a call that was no cell."""
        self._shell.error_sent = False
        self._shell.events.trigger("post_execute")

    def run(self, code: str) -> dict[str, Any]:
        """Run a cell; errors, results and displays have been sent when this returns."""
        shell = self._shell
        shell.error_sent = False
        Stream.last = None
        result = shell.run_cell(code, store_history=True)
        error = result.error_before_exec or result.error_in_exec
        if not shell.control.is_ours:
            leave(error)
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        elif error is not None:
            status = "error"
            if not shell.error_sent:
                shell.send_error(type(error).__name__, str(error), [])
        elif shell.error_sent:  # a value could not be shown
            status = "error"
        else:
            status = "ok"
        return {"status": status, "execution_count": shell.execution_count - 1, **exit_code(error)}
