"""``%%sandbox`` and ``%sandbox``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.display import DisplayHandle, clear_output, display

from agentbox_magic.execution import Execution, Result
from agentbox_magic.magics import parser
from agentbox_magic.text import Cleaner

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from agentbox_magic.sandbox import Sandbox


@magics_class
class SandboxMagics(Magics):
    """The magics of agentbox-magic."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._sessions: dict[str, tuple[Sandbox, parser.CellOptions]] = {}

    @cell_magic("sandbox")
    def run_cell(self, line: str, cell: str) -> None:
        """Run the cell in a fresh, locked-down container."""
        options = parser.parse_cell(line)
        # Here, not above: loading the extension must not load docker or image libraries.
        from agentbox_magic.display import footer
        from agentbox_magic.errors import ExecutionInterrupted

        with self._box(options) as box:
            try:
                run = self._run(box, cell, options)
            except ExecutionInterrupted as stop:
                display(footer(stop.execution), raw=True)
                raise
            except ValueError as error:  # a language that the image lacks
                raise UsageError(f"%%sandbox: {error}") from None
        display(footer(run), raw=True)
        if run.error is not None and options.raise_error:
            raise run.error
        if run.error is not None:
            print("\n".join(run.error._render_traceback_()), file=sys.stderr)

    @contextlib.contextmanager
    def _box(self, options: parser.CellOptions) -> Iterator[Sandbox]:
        """The box of a cell: its session's, or a fresh one that ends with the cell."""
        if options.session is None:
            with self._start(options) as box:
                yield box
            return
        if options.session in self._sessions:
            box, had = self._sessions[options.session]
            parser.check_session(options.session, had, options)
            if box.is_running():
                yield box
                return
            print(f"The session {options.session} had ended; a new one begins, without its state.", file=sys.stderr)
        box = self._start(options)
        self._sessions[options.session] = box, options
        yield box

    @staticmethod
    def _start(options: parser.CellOptions) -> Sandbox:
        from agentbox_magic.display import ProgressBar
        from agentbox_magic.hardening import Box
        from agentbox_magic.sandbox import Sandbox

        with ProgressBar() as progress:
            box = Box(image=options.image or "", runtime=options.runtime)
            return Sandbox.start(options.limits, box, options.packages, progress)

    @staticmethod
    def _run(box: Sandbox, cell: str, options: parser.CellOptions) -> Execution:
        from agentbox_magic.display import safe_bundle

        out, err = Cleaner(), Cleaner()
        handles: dict[str, DisplayHandle] = {}

        def show(result: Result) -> None:
            name, bundle = result.display_id, safe_bundle(result)
            if name is None:
                display(bundle, raw=True)
            elif name in handles:
                handles[name].update(bundle, raw=True)
            else:  # under an id of our own: those of the page are not the box's to name
                handles[name] = display(bundle, raw=True, display_id=True)

        return box.run_code(
            cell,
            language=options.language,
            timeout=options.limits.timeout,
            on_stdout=lambda text: sys.stdout.write(out.feed(text)),
            on_stderr=lambda text: sys.stderr.write(err.feed(text)),
            on_result=show,
            on_clear=lambda wait: clear_output(wait=wait),
        )

    @line_magic("sandbox")
    def control(self, line: str) -> None:
        """Manage boxes and their image: ``%sandbox build``, ``%sandbox stop NAME``, ``%sandbox prune``."""
        options = parser.parse_line(line)
        if options.verb == "stop":
            if options.name not in self._sessions:
                known = ", ".join(sorted(self._sessions)) or "none"
                raise UsageError(f"%sandbox: there is no session {options.name}; there are: {known}")
            self._sessions.pop(options.name)[0].kill()
            return
        from agentbox_magic import images, reaper
        from agentbox_magic.display import ProgressBar
        from agentbox_magic.engine import Engine

        engine = Engine.connect()
        if options.verb == "prune":
            removed = reaper.sweep(engine)
            print(f"removed {len(removed)} ownerless boxes")
            return
        with ProgressBar() as progress:
            name = images.build(engine, progress)
        print(f"image {name} is ready")


SandboxMagics.run_cell.__doc__ = f"""Run the cell in a fresh, locked-down container; its output comes back here.

{parser.cell_parser().format_help()}
Examples::

    %%sandbox --mem 300m --cpus 0.5
    import pandas as pd
    pd.DataFrame({{"n": range(3)}})

    %%sandbox --with polars
    import polars

    %%sandbox --timeout 10 --no-raise-error
    while True: pass

    %%sandbox -s analysis --with polars
    import polars

    %%sandbox -l bash
    ls -l /
"""
