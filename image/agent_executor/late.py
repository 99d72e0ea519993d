"""A shell that becomes IPython's when something wants it: most functions that an agent runs never do.

A call is made directly. IPython takes over when it is imported, by matplotlib's backend for instance, so that what the
function displays is shown.
"""

from __future__ import annotations

import builtins
import importlib.util
import sys
import types
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader

    from agent_executor.plain import Shell as PlainShell
    from agent_executor.shell import Shell as IPythonShell
    from agent_executor.worker import Control

NAME = "IPython"


def is_possible() -> bool:
    """Whether the image has what is to come later."""
    return importlib.util.find_spec(NAME) is not None


class Shell:
    """What a call needs, and IPython's shell for anything else. Made before the fork."""

    def __init__(self) -> None:
        sys.modules["__main__"] = types.ModuleType("__main__")  # what the code sees; ours is not its business
        self._whole: IPythonShell | PlainShell | None = None

    def attach(self, control: Control) -> None:
        """Become a worker's own."""
        self._control = control
        vars(builtins).update(display=_display, get_ipython=_get_ipython)
        sys.meta_path.insert(0, _Finder(self))

    chores: ClassVar[list[Callable[[], object]]] = []
    """What is done for later when nobody asks for anything; it need not be done."""

    def warm_up(self) -> None:
        """Load what tells of an exception."""
        from agent_executor import plain  # noqa: F401

    @property
    def namespace(self) -> dict[str, Any]:
        """Where cells keep their variables."""
        return self.become_whole().namespace

    def become_whole(self) -> IPythonShell | PlainShell:
        """Make the shell that does it all, or give the one that was made."""
        if self._whole is None:
            from agent_executor.worker import new_shell

            sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
            whole = new_shell()
            whole.attach(self._control)
            self._whole = whole
        return self._whole

    def after_call(self) -> None:
        """As IPython's :meth:`~agent_executor.shell.Shell.after_call`."""
        if self._whole is not None:
            self._whole.after_call()

    def run(self, code: str) -> dict[str, Any]:
        """As IPython's :meth:`~agent_executor.shell.Shell.run`."""
        return self.become_whole().run(code)


def _display(*values: object, **options: Any) -> Any:
    from IPython import display

    return vars(display)["display"](*values, **options)


def _get_ipython() -> Any:
    from IPython import get_ipython

    return get_ipython()


class _Finder:
    """Notices the first import of IPython. (Neither class has its base of importlib.abc, which takes 2 ms to load.)"""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != NAME:
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is not None and found.loader is not None:
            found.loader = cast("Loader", _Loader(found.loader, self._shell))
        return found


class _Loader:
    """Loads IPython, and then makes the shell that IPython's own functions look for."""

    def __init__(self, loader: Loader, shell: Shell) -> None:
        self._loader = loader
        self._shell = shell

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._shell.become_whole()
