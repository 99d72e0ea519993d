"""``%%sandbox`` and ``%sandbox``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.display import DisplayHandle, clear_output, display
from traitlets import Bool, Float, Int, TraitError, Unicode, observe, validate

from agentbox_magic import config
from agentbox_magic.errors import SandboxError
from agentbox_magic.execution import Execution, Result
from agentbox_magic.limits import Limits, format_size, parse_size
from agentbox_magic.magics import completion, parser, verbs
from agentbox_magic.text import clean

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from agentbox_magic.magics.background import Job
    from agentbox_magic.sandbox import Sandbox

MAX_LOG = 64 * 1024
"""Characters of a session's last output that ``%sandbox logs`` can show."""


@magics_class
class SandboxMagics(Magics):
    """The magics of agentbox-magic. The traits are defaults of options: ``%config SandboxMagics.mem = "1g"``.

    Attributes:
        sessions: boxes by name, with the options that made them.
        jobs: cells in the background.
        logs: the last output of each session.
    """

    mem = Unicode("512m", help="memory of a box, as --mem").tag(config=True)
    cpus = Float(1.0, help="cores, as --cpus").tag(config=True)
    pids = Int(50, help="processes and threads, as --pids").tag(config=True)
    timeout = Float(300.0, allow_none=True, help="seconds for a cell, as --timeout; 0 or None for no deadline").tag(
        config=True
    )
    image = Unicode(None, allow_none=True, help="the image, as --image; None for ours").tag(config=True)
    runtime = Unicode("", help="the engine's runtime, as --runtime").tag(config=True)
    packages = Unicode("", help="packages for pip to fetch, as --with").tag(config=True)
    preload = Unicode("", help="modules to import ahead, as --preload").tag(config=True)
    max_transfer = Unicode("64m", help="the most that goes in and comes back, as --max-transfer").tag(config=True)
    pool = Int(None, allow_none=True, help="boxes that wait for the next cells; None for AGENTBOX_POOL, or 2").tag(
        config=True
    )
    quiet = Bool(False, help="show only what the code shows, as --quiet").tag(config=True)

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell, parent=shell)
        self.sessions: dict[str, tuple[Sandbox, parser.CellOptions]] = {}
        self.jobs: list[Job] = []
        self.logs: dict[str, str] = {}
        self._matcher = completion.matcher(self)
        shell.events.register("post_run_cell", self._settle_jobs)
        shell.Completer.custom_matchers.append(self._matcher)

    def unload(self) -> None:
        """Leave nothing in the shell, and no box."""
        self.shell.events.unregister("post_run_cell", self._settle_jobs)
        self.shell.Completer.custom_matchers.remove(self._matcher)
        for job in self.jobs:
            job.box.close()
        for box, _ in self.sessions.values():
            box.close()
        manager = self.shell.magics_manager
        del manager.magics["line"]["sandbox"], manager.magics["cell"]["sandbox"], manager.registry["SandboxMagics"]
        self.shell.configurables.remove(self)

    @validate("mem", "cpus", "pids", "timeout")
    def _valid_limit(self, proposal: Any) -> Any:
        try:
            Limits.of(**{proposal["trait"].name: proposal["value"]})
        except ValueError as error:
            raise TraitError(str(error)) from None
        return proposal["value"]

    @validate("max_transfer")
    def _valid_size(self, proposal: Any) -> Any:
        try:
            parse_size(proposal["value"])
        except ValueError as error:
            raise TraitError(f"max_transfer {error}") from None
        return proposal["value"]

    @observe("pool")
    def _set_pool(self, change: Any) -> None:
        config.pool = change["new"]
        if "agentbox_magic.pool" in sys.modules:  # else nothing waits
            from agentbox_magic import pool

            pool.current().trim()

    def defaults(self) -> dict[str, Any]:
        """The defaults of a cell's options."""
        names = ("mem", "cpus", "pids", "timeout", "image", "runtime", "packages", "preload", "max_transfer")
        return {name: getattr(self, name) for name in names}

    # -- %%sandbox ----------------------------------------------------------------------------------------------------

    @cell_magic("sandbox")
    def run_cell(self, line: str, cell: str) -> Job | None:
        """Run the cell in a fresh, locked-down container."""
        options = parser.parse_cell(line.removesuffix(";"), self.defaults())
        inputs = self._inputs(options)
        if options.background is not None:
            return self._start_job(options, cell, inputs)
        # Here, not above: loading the extension must not load docker or image libraries.
        from agentbox_magic.display import footer
        from agentbox_magic.errors import ExecutionInterrupted

        quiet = options.quiet or self.quiet or cell.rstrip().endswith(";")
        crossed = []
        with self._box(options) as box:
            limits = replace(box.limits, timeout=options.limits.timeout)
            # A session's cells need not name its image again.
            image = (self.sessions[options.session][1] if options.session else options).image or ""
            walls = box.get_info().walls if options.badge else None
            if inputs:
                crossed.append(_crossed("in", options.inputs, box.push(inputs, max_size=options.max_transfer)))
            try:
                run = self._run(box, cell, options, quiet)
            except ExecutionInterrupted as stop:
                if not quiet:
                    display(footer(stop.execution, limits, image), raw=True)
                raise
            except ValueError as error:  # a language that the image lacks
                raise UsageError(f"%%sandbox: {error}") from None
            outcome = run.error
            if outcome is None and options.outputs:
                try:
                    found = box.pull(list(options.outputs.values()), max_size=options.max_transfer)
                except SandboxError as failure:  # the code has run: that is shown first
                    outcome = failure
                else:
                    self.shell.push({name: found[source] for name, source in options.outputs.items()})
                    crossed.append(_crossed("out", options.outputs, found.size))
            # All is shown before the box is removed, which takes longer than a short cell.
            if not quiet:
                if crossed:
                    display(_line(f"sandbox: {'; '.join(crossed)}"), raw=True)
                display(footer(run, limits, image), raw=True)
            if walls is not None:
                display(_line(walls), raw=True)
        if outcome is not None and options.raise_error:
            raise outcome
        if outcome is not None:
            print("\n".join(outcome._render_traceback_()), file=sys.stderr)
        return None

    def _inputs(self, options: parser.CellOptions) -> dict[str, Any]:
        """The values that go in. Raises UsageError before anything starts."""
        known = self.shell.user_ns
        for source in options.inputs.values():
            if source not in known:
                hint = parser.did_you_mean(source, (name for name in known if not name.startswith("_")))
                raise UsageError(f"%%sandbox: -i: there is no variable {source}{hint}")
        return {name: known[source] for name, source in options.inputs.items()}

    @contextlib.contextmanager
    def _box(self, options: parser.CellOptions) -> Iterator[Sandbox]:
        """The box of a cell: its session's, or a fresh one that ends with the cell."""
        box = self._open(options)
        try:
            yield box
        finally:
            if options.session is None:
                box.close()

    def _open(self, options: parser.CellOptions) -> Sandbox:
        if options.session is None:
            return self._start(options)
        if options.session in self.sessions:
            box, had = self.sessions[options.session]
            parser.check_session(options.session, had, options)
            if box.is_running():
                return box
            print(f"The session {options.session} had ended; a new one begins, without its state.", file=sys.stderr)
        box = self._start(options)
        self.sessions[options.session] = box, options
        return box

    @staticmethod
    def _start(options: parser.CellOptions) -> Sandbox:
        from agentbox_magic.display import ProgressBar
        from agentbox_magic.hardening import PRELOAD, Box
        from agentbox_magic.sandbox import Sandbox

        with ProgressBar() as progress:
            preload = (*PRELOAD, *options.preload)
            box = Box(
                image=options.image or "", runtime=options.runtime, env=options.env, cwd=options.cwd, preload=preload
            )
            return Sandbox.start(options.limits, box, options.packages, progress)

    def _run(self, box: Sandbox, cell: str, options: parser.CellOptions, quiet: bool) -> Execution:
        from agentbox_magic.display import Budget, FoldedStream, Pacer, safe_bundle
        from agentbox_magic.display.monitor import Monitor

        out, err, budget = FoldedStream(), FoldedStream(), Budget()
        handles: dict[str, DisplayHandle] = {}
        monitor = Monitor(box, options.limits.timeout)
        log: list[str] = []
        pacer = Pacer()

        def show(result: Result) -> None:
            name = result.display_id
            bundle = safe_bundle(result, allow_scripts=options.allow_scripts, budget=budget)
            if name is None:
                display(bundle, raw=True)
            elif name in handles:
                handles[name].update(bundle, raw=True)
            else:  # under an id of our own: those of the page are not the box's to name
                handles[name] = display(bundle, raw=True, display_id=True)

        def clear(wait: bool) -> None:
            budget.clear()
            clear_output(wait=wait)

        def write(stream: Any, folded: FoldedStream, text: str) -> None:
            monitor.count(text)
            log.append(text)
            pacer.write(lambda: stream.write(folded.feed(text)))

        try:
            return box.run_code(
                cell,
                language=options.language,
                timeout=options.limits.timeout,
                on_stdout=lambda text: write(sys.stdout, out, text),
                on_stderr=lambda text: write(sys.stderr, err, text),
                on_result=lambda result: pacer.show(result.display_id, lambda: show(result)),
                on_clear=lambda wait: pacer.clear(wait, lambda: clear(wait)),
                on_idle=pacer.flush,
                on_slow=None if quiet else monitor.show,
            )
        finally:
            monitor.close()
            pacer.finish()
            sys.stdout.write(out.finish())
            sys.stderr.write(err.finish())
            if options.session is not None:
                self.logs[options.session] = clean("".join(log))[-MAX_LOG:]

    # -- --bg ---------------------------------------------------------------------------------------------------------

    def _start_job(self, options: parser.CellOptions, cell: str, inputs: dict[str, Any]) -> Job:
        from agentbox_magic.magics.background import Job

        box = self._open(options)
        try:
            if inputs:
                box.push(inputs, max_size=options.max_transfer)
        except BaseException:
            if options.session is None:
                box.close()
            raise
        job = Job(box, cell, options, self.shell.push)
        self.jobs.append(job)
        if options.background:
            self.shell.push({options.background: job})
        return job

    def _settle_jobs(self, result: object = None) -> None:
        """After each cell: what has ended is a line of text from now on."""
        for job in [job for job in self.jobs if job.done()]:
            job.settle()
            self.jobs.remove(job)

    # -- %sandbox -----------------------------------------------------------------------------------------------------

    @line_magic("sandbox")
    def control(self, line: str) -> None:
        """Manage boxes and their image."""
        verbs.run(self, line)


def _crossed(way: str, names: dict[str, str], size: int) -> str:
    return f"{way} {', '.join(names)} ({format_size(size)})"


def _line(text: str) -> dict[str, str]:
    """A quiet line."""
    from agentbox_magic.display.block import QUIET, block

    return {
        "text/plain": text,
        "text/html": block("line", f'<span style="font-size:85%;{QUIET}">{escape(text)}</span>'),
    }


SandboxMagics.run_cell.__doc__ = f"""Run the cell in a fresh, locked-down container; its output comes back here.

{parser.cell_parser().format_help()}
Examples::

    %%sandbox --mem 300m --cpus 0.5
    import pandas as pd
    pd.DataFrame({{"n": range(3)}})

    %%sandbox -i prices,limit=n -o cheap
    cheap = [price for price in prices if price < limit]

    %%sandbox --with polars
    import polars

    %%sandbox --timeout 10 --no-raise-error
    while True: pass

    %%sandbox -s analysis --with polars
    import polars

    %%sandbox --bg job
    import time
    time.sleep(60)

    %%sandbox -l bash
    ls -l /

Defaults are set with ``%config SandboxMagics.mem = "1g"``; ``%config SandboxMagics`` lists them.
"""
SandboxMagics.control.__doc__ = f"""{verbs.usage()}

Examples::

    %sandbox
    %sandbox stop analysis
"""
