"""A shell for images without IPython: Python cells, with displays and errors sent as messages. No magics."""

from __future__ import annotations
import __future__

import ast
import builtins
import inspect
import io
import linecache
import os
import sys
import traceback
import types
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from agent_executor.streams import OURS, Stream, encode_bundle, encode_error, exit_code, leave

if TYPE_CHECKING:
    from agent_executor.worker import Control

CELLS = ("<cell ", "<ipython-input-")
"""How the names begin that cells have as files, here and with IPython."""
_FUTURE = 0
for _name in __future__.all_feature_names:
    _FUTURE |= getattr(__future__, _name).compiler_flag

_METHODS = {
    "text/html": "_repr_html_", "text/markdown": "_repr_markdown_", "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_", "image/jpeg": "_repr_jpeg_", "text/latex": "_repr_latex_",
    "application/json": "_repr_json_",
}  # fmt: skip


def bundle_of(value: object) -> dict[str, Any]:
    """A value as a MIME bundle: its repr, and what its IPython display methods give.

    >>> bundle_of([1])
    {'text/plain': '[1]'}
    """
    bundle: dict[str, Any] = {"text/plain": repr(value)}
    # A class has these methods for its objects; what answers to every name has none of them.
    if isinstance(value, type) or hasattr(value, "_ipython_canary_method_should_not_exist_"):
        return bundle
    for mime, name in _METHODS.items():
        data = _call(value, name)
        if data is not None:
            bundle[mime] = data
    figure = sys.modules.get("matplotlib.figure")
    if figure and isinstance(value, figure.Figure):
        image = io.BytesIO()
        value.savefig(image, format="png", bbox_inches="tight")
        bundle["image/png"] = image.getvalue()
    more = _call(value, "_repr_mimebundle_", include=None, exclude=None)
    if isinstance(more, dict):
        bundle.update(more)
    return bundle


def _call(value: object, name: str, **arguments: Any) -> Any:
    """What a display method gives, without its metadata; None when there is none, or when it fails."""
    method = getattr(value, name, None)
    if not callable(method):
        return None
    try:
        data = method(**arguments)
    except Exception as error:  # the value is shown by its other forms
        frames = error.__traceback__.tb_next if error.__traceback__ else None  # without this one
        traceback.print_exception(type(error), error, frames)
        return None
    return data[0] if isinstance(data, tuple) and data else data


def _is_silenced(code: str, last: ast.stmt) -> bool:
    """Whether a semicolon follows the last statement."""
    assert last.end_lineno is not None
    assert last.end_col_offset is not None
    lines = code.encode("utf-8", "replace").splitlines(keepends=True)[last.end_lineno - 1 :]
    return lines[0][last.end_col_offset :].lstrip().startswith(b";")


class Shell:
    """One namespace: ``run`` a cell, answer what the supervisor tells the host. Made before the fork."""

    def __init__(self) -> None:
        if os.environ.get("MPLBACKEND", "").endswith("matplotlib_inline.backend_inline"):
            os.environ["MPLBACKEND"] = "agg"  # that backend needs IPython
        module = types.ModuleType("__main__")  # what pickle and multiprocessing look names up in
        sys.modules["__main__"] = module
        self.namespace = module.__dict__
        self._count = 0
        self._flags = 0
        self._loop: Any = None

    def attach(self, control: Control) -> None:
        """Become a worker's own."""
        self._control = control
        builtins.display = self.display  # type: ignore[attr-defined]  # as IPython does, for code of notebooks

    chores: ClassVar[list[Callable[[], object]]] = []
    """What is done for later when nobody asks for anything; it need not be done."""

    def warm_up(self) -> None:
        """There is nothing to do."""

    def display(
        self, *values: object, raw: bool = False, display_id: object = None, update: bool = False, **_: Any
    ) -> None:
        """Show values; with ``raw`` they are MIME bundles already. IPython's other options are taken and ignored."""
        for value in values:
            data = value if raw and isinstance(value, dict) else bundle_of(value)
            name = display_id if isinstance(display_id, str) else None
            self._send("display_data", data, **({} if name is None else {"display_id": name, "update": bool(update)}))

    def after_call(self) -> None:
        """There is nothing to do."""

    def run(self, code: str) -> dict[str, Any]:
        """Run a cell; errors, results and displays have been sent when this returns."""
        self._count += 1
        Stream.last = None
        failure: BaseException | None = None
        try:
            self._execute(code, f"<cell {self._count}>")
        except BaseException as error:  # SystemExit is an error of the cell: the worker goes on
            failure = error
        if not self._control.is_ours:
            leave(failure)
        return {**end(self._control, failure), "execution_count": self._count}

    def _execute(self, code: str, filename: str) -> None:
        linecache.cache[filename] = len(code), None, list(io.StringIO(code)), filename
        tree = self._compile(code, filename, "exec", ast.PyCF_ONLY_AST)
        assert isinstance(tree, ast.Module)
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr):
            self._evaluate(self._compile(tree, filename, "exec"))
            return
        del tree.body[-1]
        self._evaluate(self._compile(tree, filename, "exec"))
        value = self._evaluate(self._compile(ast.Expression(last.value), filename, "eval"))
        if value is not None and not _is_silenced(code, last):
            self._send("execute_result", bundle_of(value))
            self.namespace["_"] = value

    def _compile(self, source: Any, filename: str, mode: str, flags: int = 0) -> Any:
        flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | self._flags
        code = compile(source, filename, mode, flags, dont_inherit=True)
        if isinstance(code, types.CodeType):
            self._flags |= code.co_flags & _FUTURE  # `from __future__ import` holds for later cells
        return code

    def _evaluate(self, code: types.CodeType) -> Any:
        value = eval(code, self.namespace)  # noqa: S307  # this is what a sandbox is for
        return self._wait(value) if code.co_flags & inspect.CO_COROUTINE else value

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        import asyncio  # here: most cells have no use for it

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(work)
        try:
            return self._loop.run_until_complete(task)
        finally:
            if not task.done():  # interrupted: its own clean-up comes first
                task.cancel()
                self._loop.run_until_complete(asyncio.gather(task, return_exceptions=True))

    def _send(self, kind: str, data: dict[str, Any], **fields: Any) -> None:
        parts, payload = encode_bundle(data)
        self._control.tell({"type": kind, "parts": parts, **fields}, payload)


def end(control: Control, error: BaseException | None) -> dict[str, Any]:
    """Tell what code has raised, if it has, and how it ended."""
    if error is None:
        return {"status": "ok"}
    control.tell({"type": "error"}, encode_error(*describe(error)))
    return {"status": "interrupted" if isinstance(error, KeyboardInterrupt) else "error", **exit_code(error)}


def describe(error: BaseException) -> tuple[str, str, str]:
    """An exception's name, its text and its traceback, which is the code's: it begins with its cell, or below the
    frames that made the call, and has none of ours."""
    try:
        value = str(error)
    except Exception as failure:  # the exception's own __str__ fails
        value = f"<no text: {type(failure).__name__}>"
    try:
        report = traceback.TracebackException.from_exception(error)
        _trim(report, set())
        text = "".join(report.format())
    except Exception:  # a hostile or broken exception class; its name is enough
        text = ""
    return type(error).__name__, value, text


def _trim(report: traceback.TracebackException, seen: set[int]) -> None:
    """Leave out the frames before the cell's first, and ours wherever they are."""
    if id(report) in seen:
        return
    seen.add(id(report))
    frames = list(report.stack)
    first = next((number for number, frame in enumerate(frames) if frame.filename.startswith(CELLS)), 0)
    report.stack[:] = [frame for frame in frames[first:] if not frame.filename.startswith(OURS)]
    for other in (report.__cause__, report.__context__, *(getattr(report, "exceptions", None) or ())):
        if other is not None:
            _trim(other, seen)
