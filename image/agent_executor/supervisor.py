"""PID 1 of a box: owns the pipe to the host, has the processes that run code forked, and outlives everything they do.

It trusts none of them. Its memory and its file descriptors are closed to them (``PR_SET_DUMPABLE`` 0 makes
``/proc/1/mem`` and ``/proc/1/fd`` unreadable for the same uid), the kernel prefers them when memory runs out, signals
from inside the container do not reach it (a PID 1 receives only what it has a handler for), and what they send is
checked before it is passed on. It ends when the pipe ends, or, detached, when its lifetime does.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from agent_executor import fresh, wire, zygote
from agent_executor.cgroup import Cgroup
from agent_executor.children import DEAF, PIPE_SIZE, Child, Children, read
from agent_executor.contexts import DEFAULT, Context, languages
from agent_executor.hostpipe import HostPipe, RefusedError
from agent_executor.names import Names
from agent_executor.prctl import adopt_orphans, set_dumpable
from agent_executor.runs import Run, environment, seconds
from agent_executor.services import Services, told
from agent_executor.sockets import Sockets
from agent_executor.spawner import Spawner
from agent_executor.wire import Header
from agent_executor.zygote import CUT_OFF

PROTOCOL = 1

CONGESTED = 4 * 1024 * 1024
"""Bytes waiting for the host above which children are no longer read."""
GRACE_SECONDS = 2.0
"""From the interrupt at a deadline to the kill."""
LONGEST_WAIT = 3600.0
"""The loop looks up at least so often: the kernel takes no more than 24.8 days, and refuses what is longer."""
DYING_SECONDS = 0.5
"""From a worker's end of file to its kill: by then one that was dying is dead."""

WORKER_ATTEMPTS = 5
"""How often in a row a worker is asked for in vain before that is told."""

FROM_WORKER = frozenset(
    {
        *("display_data", "execute_result", "error", "clear_output", "more", "sync", "execute_reply"),
        *("data", "ack", "tool_request", "configured"),
    }
)
STATUSES = frozenset({"ok", "error", "oom", "killed", "interrupted"})

STATUS = frozenset({"Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"})


def walls() -> dict[str, str]:
    """What the kernel says of this process that the host wants to know: its user, its privileges, its filter."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        lines = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in lines if name in STATUS}


class Supervisor:
    """The event loop over the host's pipe and the children's. One thread, so that forking is safe."""

    def __init__(
        self, stdin: int, stdout: int, first: tuple[int, socket.socket], *, cwd: str, preload: list[str],
        path: list[str], hosts: str, lifetime: float | None,
    ) -> None:  # fmt: skip
        self._selector = selectors.DefaultSelector()
        with contextlib.suppress(OSError):
            Names(self._selector)
        self._children = Children(self._selector, self._read_control, self._on_output)
        self._spawner = Spawner(
            self._selector, self._children, first, preload=preload, path=path, cwd=cwd,
            on_loaded=self._loaded, on_worker=self._worker_came, on_failure=self._worker_failed,
        )  # fmt: skip
        self._contexts = {DEFAULT: Context(DEFAULT, "python", cwd)}
        self._cwd = cwd
        self._standing: dict[str, Any] = {}
        self._home: list[tuple[str, int, bytes | None]] = []
        self._nonce: str | None = None
        self._cgroup = Cgroup()
        self._sockets = Sockets(self._cgroup)
        self._first_lifetime = lifetime
        self._end = None if lifetime is None else time.monotonic() + lifetime
        self._host = HostPipe(
            self._selector, stdin, stdout, many=hosts == "many", on_message=self._request,
            on_new_host=self._forget_host,
        )  # fmt: skip
        self._services = Services(self._children, self._host, self._cgroup)
        self._handlers: dict[str, Callable[[Header, bytes], None]] = {
            "hello": self._hello,
            "execute_request": self._execute,
            "push_request": self._execute,
            "pull_request": self._execute,
            "push_input": self._push_input,
            "call_request": self._execute,
            "tool_reply": self._tool_reply,
            "interrupt_request": self._interrupt,
            "context_request": self._context,
            "forget_request": self._forget,
            "info_request": self._info,
            "lifetime_request": self._lifetime,
            "configure_request": self._configure,
            "reset_request": self._reset,
            **self._services.handlers,
        }

    # -- the loop -----------------------------------------------------------------------------------------------------

    def serve(self) -> NoReturn:
        """Run until the host closes the pipe or the lifetime ends."""
        while True:
            for number, (key, _) in enumerate(self._selector.select(self._patience())):
                if number == 0 or key.fd in self._selector.get_map():  # an earlier event may have closed it
                    key.data()
            self._bury()
            self._spawner.advance()
            running = False
            for child in self._children:
                if child.stdin is not None:
                    self._services.answer_input(child)
                if child.rest_until is not None and time.monotonic() >= child.rest_until:
                    self._children.wake(child)
                if child.run:
                    running = True
                    self._tick(child, child.run)
            self._watch_sockets(running)
            if self._end is not None and time.monotonic() >= self._end:
                self._expire()
            self._host.out.flush()  # once for all that this round has to say: a result and its reply go together
            # While the host is slow children are not read, so that memory here stays bounded.
            self._children.read(self._host.out.size < CONGESTED)

    def _patience(self) -> float | None:
        running = False
        times = [moment for moment in (self._end, self._spawner.next_event()) if moment is not None]
        for child in self._children:
            if child.run:
                running = True
                times.append(child.run.next_event())
            if child.rest_until is not None:
                times.append(child.rest_until)
        look = self._sockets.next_look(running)
        if look is not None:
            times.append(look)
        return min(LONGEST_WAIT, max(0.0, min(times) - time.monotonic())) if times else None

    def _watch_sockets(self, running: bool) -> None:
        """Kill what code there is, if its sockets hold more than they may: whose they are is not told."""
        if self._sockets.are_too_full(running):
            for child in self._children:
                if child.run:
                    child.run.full_sockets = True
            with contextlib.suppress(TimeoutError):
                self._children.kill_all(spare_zygote=True)

    def _tick(self, child: Child, run: Run) -> None:
        now = time.monotonic()
        if run.deadline is not None and now >= run.deadline:
            run.timed_out, run.deadline, run.kill_at = True, None, now
            if child.kind == "worker":  # code gets a chance to unwind and to keep its state
                run.kill_at = now + GRACE_SECONDS
                self._children.interrupt(child)
        if run.kill_at is not None and now >= run.kill_at:
            run.kill_at = None
            run.cut_off = run.closed
            self._children.kill(child)
        self._tell_output(run, run.release(now))
        if now >= run.next_sample:
            run.sample()

    def _expire(self) -> NoReturn:
        for child in self._children:
            if child.run:
                self._tell_end(child.run, {"status": "killed", "lifetime": True})
        limit = time.monotonic() + 1
        while self._host.out.size and time.monotonic() < limit:
            self._selector.select(0.05)
            self._host.out.flush()
        os._exit(0)

    # -- the host -----------------------------------------------------------------------------------------------------

    def _forget_host(self) -> None:
        """What an earlier host asked for is nobody's any more."""
        self._forget_requests(lambda request: True)

    def _forget(self, header: Header, payload: bytes) -> None:
        """One of those who share the pipe has gone, and nobody waits for this answer."""
        self._forget_requests(lambda request: request == header["request"])

    def _forget_requests(self, is_meant: Callable[[int], bool]) -> None:
        """Commands and runs go on, unheard; what only serves its asker ends."""
        for child in self._children:
            if child.request is not None and is_meant(child.request):
                child.request = None
                child.send({"type": "input", "eof": True, "abort": True})
            if child.run and child.run.id is not None and is_meant(child.run.id):
                child.run.id = None
                if child.run.kind == "push_request":
                    child.send({"type": "input", "eof": True, "abort": True})
        for context in self._contexts.values():
            for run in [run for run in context.queue if run.id is None or is_meant(run.id)]:
                context.queue.remove(run)

    def _request(self, header: Header, payload: bytes) -> None:
        handler = self._handlers.get(header["type"])
        if handler is None:
            raise wire.ProtocolError(f"unknown request {header['type']}")
        try:
            handler(header, payload)
        except RefusedError as error:
            self._host.reply(header["id"], str(error), error.error)
        except OSError as error:  # no process, no file descriptor, no such directory
            self._host.reply(header["id"], error.strerror or str(error), errno.errorcode.get(error.errno or 0, "EIO"))
        except wire.ProtocolError:
            raise
        except Exception as error:  # what it asks cannot be made out; nobody is to lose the box for that
            if not wire.is_id(header.get("id")):
                raise wire.ProtocolError(f"{header['type']} without an id") from error
            self._host.reply(header["id"], f"{header['type']}: {type(error).__name__}: {error}", "EINVAL")

    def _loaded(self) -> None:
        """The zygote of a new box has loaded, and no code has run yet: how things stand is how they are to be after a
        reset. Only then the host is greeted: it would wait for its first worker anyway."""
        if self._standing:
            return
        self._standing = fresh.standing()
        # What loading the interpreter has written; the two are one as a rule, and it writes nowhere else.
        self._home = fresh.inventory(os.path.expanduser("~"), "/tmp")
        self.set_lifetime(self._first_lifetime)  # which does not go by while it loads
        self._worker(self._contexts[DEFAULT])
        if self._nonce is not None:
            self._greet(self._nonce)

    def _hello(self, header: Header, payload: bytes) -> None:
        self._nonce = str(header["nonce"])
        if self._standing:
            self._greet(self._nonce)

    def _greet(self, nonce: str) -> None:
        version = "{}.{}.{}".format(*sys.version_info[:3])
        ready: Header = {"type": "ready", "protocol": PROTOCOL, "python": version}
        ready.update(status=walls(), memory_limit=self._cgroup.memory_limit())
        self._host.greet(nonce, ready)

    def _lifetime(self, header: Header, payload: bytes) -> None:
        self.set_lifetime(seconds(header["seconds"]))
        self._host.reply(header["id"])

    def set_lifetime(self, lifetime: float | None) -> None:
        """End the box so many seconds from now, if it is not None."""
        if lifetime is not None:
            self._end = time.monotonic() + lifetime

    def _configure(self, header: Header, payload: bytes) -> None:
        """What a box that was started for nobody in particular is told before code runs. Answered by its worker, so
        that whoever hears the answer knows that the worker waits for code."""
        wish = json.loads(payload)
        env, lifetime = environment(wish["env"]), seconds(wish["lifetime"])  # before anything is changed
        self._services.told.update(env)
        context = self._contexts[DEFAULT]
        if wish["cwd"]:
            os.makedirs(wish["cwd"], exist_ok=True)
            os.chdir(wish["cwd"])
            context.cwd = wish["cwd"]
        self.set_lifetime(lifetime)
        worker = context.worker
        if worker is None:
            worker = self._worker(context)
        else:
            self._tell_worker(worker, context)
        worker.request = header["id"]

    def _reset(self, header: Header, payload: bytes) -> None:
        """Make the box new again, and configure it. What ran here ends as killed; what cannot be undone is told."""
        environment(json.loads(payload)["env"])  # what cannot be made out destroys nothing
        self._contexts.clear()  # so that nothing is started in the place of what dies
        self._spawner.forget_workers()
        self._children.kill_all(spare_zygote=True)
        self._bury()
        if not self._spawner.is_as_new():  # looked at when nobody is left who could change it
            self._spawner.lose()
            self._children.kill_all(spare_zygote=False)
            self._bury()
        self._services.told.clear()
        fresh.clear(self._standing)
        if not self._spawner.pid:
            self._spawner.renew()  # now, because its socket is one of those that are counted
        left = fresh.remains(self._standing, self._spawner.pid)
        if left:
            raise RefusedError("EBUSY", f"the box cannot be made new: {', '.join(left[:10])}")
        fresh.restore(self._home, self._cwd)
        self._sockets.forget()
        if not self._spawner.pid:
            self._spawner.load(alone=True)
        self._contexts[DEFAULT] = Context(DEFAULT, "python", self._cwd)
        self._configure(header, payload)

    def _info(self, header: Header, payload: bytes) -> None:
        """What the box uses now, and how long it has yet to live."""
        self._host.reply(
            header["id"],
            {
                "memory": self._cgroup.memory(),
                "memory_peak": self._cgroup.memory_peak(),
                "cpu_seconds": self._cgroup.cpu_seconds(),
                "pids": self._cgroup.pids(),
                "lifetime": None if self._end is None else self._end - time.monotonic(),
                "commands": told(
                    [(one.pid, one.run.payload) for one in self._children if one.kind == "command" and one.run]
                ),
                "contexts": [
                    {"id": context.name, "language": context.language, "cwd": context.cwd}
                    for context in self._contexts.values()
                ],
            },
        )

    # -- code ---------------------------------------------------------------------------------------------------------

    def _execute(self, header: Header, payload: bytes) -> None:
        context = self._find_context(header)
        run = Run(self._cgroup, header, payload)
        context.queue.append(run)
        try:
            self._advance(context)
        except OSError:  # no process for its worker; told as the answer, so it must not run later
            context.queue.remove(run)
            raise

    def _find_context(self, header: Header) -> Context:
        name = header.get("context") or DEFAULT
        if name not in self._contexts:
            raise RefusedError("ENOENT", f"there is no context {name}")
        return self._contexts[name]

    def _context(self, header: Header, payload: bytes) -> None:
        operation = header["operation"]
        if operation == "create":
            name, language, cwd = header["context"], header["language"], header["cwd"] or self._contexts[DEFAULT].cwd
            known = languages()
            if language not in known:
                raise RefusedError("ENOSYS", f"no language {language} in this image; it has {', '.join(known)}")
            if not os.path.isdir(cwd):
                raise RefusedError("ENOENT", f"no directory {cwd}")
            if not os.access(cwd, os.X_OK):
                raise RefusedError("EACCES", f"code in the box may not enter the directory {cwd}")
            self._contexts[name] = Context(name, language, cwd)
        else:
            context = self._find_context(header)
            if operation == "remove":
                del self._contexts[context.name]
            if context.worker:
                self._children.kill(context.worker)
                context.worker = None  # what comes next is not for the dying
        self._host.reply(header["id"])

    def _advance(self, context: Context) -> None:
        """Start the next queued run of a context whose worker is free."""
        if not context.queue:
            return
        worker = self._worker(context)
        if worker.run or not worker.pid:  # its clock would run while the worker is on its way
            return
        worker.run = run = context.queue.popleft()
        run.start()
        words = {"id": 0, "envs": run.envs, "max_size": run.header.get("max_size")}
        worker.send({"type": run.kind, **words}, run.payload)
        run.sample()
        for eof, piece in run.pieces:
            self._pass_in(worker, run, eof, piece)
        run.pieces.clear()

    def _push_input(self, header: Header, payload: bytes) -> None:
        """A piece of what is pushed: to the worker, or kept until it is this push's turn; the host sends few ahead."""
        eof = bool(header.get("eof"))
        for child in self._children:
            if child.run and child.run.id == header["id"]:
                self._pass_in(child, child.run, eof, payload)
                return
        for context in self._contexts.values():
            for run in context.queue:
                if run.id == header["id"]:
                    run.pieces.append((eof, payload))

    @staticmethod
    def _pass_in(worker: Child, run: Run, eof: bool, piece: bytes) -> None:
        run.unanswered += not eof
        worker.send({"type": "input", "eof": eof}, piece)

    def _interrupt(self, header: Header, payload: bytes) -> None:
        """Interrupt an execution; the second time, kill it."""
        for child in self._children:
            run = child.run
            if run and run.id == header["id"]:
                if run.interrupted:
                    self._children.kill(child)
                else:
                    run.interrupted = True
                    if child.kind == "worker":  # in case it has not come to the code yet
                        child.send({"type": "interrupt"})
                    self._children.interrupt(child)
                return
        for context in self._contexts.values():
            for run in [run for run in context.queue if run.id == header["id"]]:
                context.queue.remove(run)
                self._host.send({"type": "execute_reply", "id": run.id, "status": "interrupted", "usage": {}})

    def _tool_reply(self, header: Header, payload: bytes) -> None:
        """The host's answer to a tool_request; nobody's if the run that asked has ended."""
        for child in self._children:
            if child.kind == "worker" and child.run and child.run.id == header["id"]:
                child.send({**header, "id": 0}, payload)

    def _worker(self, context: Context) -> Child:
        if context.worker is None:
            child = context.worker = self._children.prepare()
            child.context = context.name
            self._tell_worker(child, context)
            self._spawner.ask(child, context.language)
        return context.worker

    def _tell_worker(self, worker: Child, context: Context) -> None:
        """What it does not know from its start: that is the zygote's, which is told nothing."""
        wish = {"env": self._services.told, "cwd": context.cwd}
        worker.send({"type": "configure"}, json.dumps(wish).encode())

    def _worker_came(self, worker: Child) -> None:
        context = self._contexts.get(worker.context)
        if context and context.worker is worker:
            context.failures = 0
            self._advance(context)

    def _worker_failed(self, worker: Child, error: OSError) -> None:
        """Have another one, a few times; then what waits for it is told."""
        context = self._contexts.get(worker.context)
        if context is None or context.worker is not worker:
            return
        context.worker = None
        context.failures += 1
        if context.failures < WORKER_ATTEMPTS and error.errno == errno.ECANCELED:
            self._worker(context).request = worker.request
            return
        context.failures = 0
        waiting = [*([] if worker.request is None else [worker.request]), *(run.id for run in context.queue)]
        context.queue.clear()
        for request in waiting:
            if request is not None:
                self._host.reply(request, error.strerror or str(error), errno.errorcode.get(error.errno or 0, "EIO"))

    # -- children -----------------------------------------------------------------------------------------------------

    def _on_output(self, child: Child, name: str) -> None:
        self._read_output(child, name)
        if child.run and child.run.holds:
            self._children.rest(child, name)

    def _read_output(self, child: Child, name: str) -> None:
        """Pass on what the child's processes wrote: at most a pipe's worth, so that one writer cannot hold the loop.

        All that was written before a given moment is in the pipe at that moment, so a pipe's worth is always enough to
        bring the host up to it.
        """
        left = PIPE_SIZE
        while left > 0:
            try:
                data = os.read(child.pipes[name], left)
            except BlockingIOError:
                return
            except OSError:  # a terminal without a reader on its other side
                data = b""
            if not data:  # every writer has closed it
                self._children.close_pipe(child, name)
                return
            left -= len(data)
            if child.run:
                now = child.run.caps[name].feed(data)
                if now and child.kind == "worker":
                    self._tell_output(child.run, child.run.hold(name, now))
                elif now:
                    self._tell_output(child.run, [(name, now)])

    def _drain(self, child: Child) -> None:
        for name in list(child.pipes):
            self._read_output(child, name)
        if child.run:
            self._tell_output(child.run, child.run.release())

    def _tell_output(self, run: Run, pieces: list[tuple[str, bytes]]) -> None:
        for name, data in pieces:
            if run.id is not None:
                run.cleared = 0
                self._host.send({"type": "stream", "id": run.id, "name": name}, data)

    def _read_control(self, child: Child) -> None:
        assert child.control is not None
        try:
            data = read(child.control.fileno())
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self._children.unwatch(child)
            if child.run:  # it is dying, or it closed its end and no reply can come any more: time will tell
                child.run.closed, child.run.kill_at = True, time.monotonic() + DYING_SECONDS
            elif child.kind == "worker":
                self._children.kill(child)
            return
        self._take(child, data)

    def _take(self, child: Child, data: bytes) -> None:
        """Pass on what a child sent. One that breaks the protocol is killed."""
        # What the code wrote before it sent this is in the pipes; what it writes later comes after our answer.
        self._drain(child)
        try:
            for header, body in child.decoder.feed(data):
                if child.kind == "worker":
                    self._from_worker(child, header, body)
                else:
                    self._services.take(child, header, body)
        except wire.ProtocolError:
            self._children.kill(child)

    def _from_worker(self, worker: Child, header: Header, body: bytes) -> None:
        kind = header["type"]
        if kind not in FROM_WORKER:
            raise wire.ProtocolError(f"a worker sent {kind}")
        run = worker.run
        if kind == "execute_reply":
            if run and run.timed_out and not header.get("clean"):
                self._children.kill(worker)  # nothing of a timed-out run goes on; its end is told when it is dead
            elif run:
                if run.timed_out:
                    self._children.kill_rest(worker)
                self._finish(worker, run, header)
            return
        if kind == "configured":
            if worker.request is not None:
                self._host.reply(worker.request, {"memory_limit": self._cgroup.memory_limit()})
                worker.request = None
            return
        if kind != "sync" and run and run.admits(header, len(body)) and run.id is not None:
            self._host.pass_on(header, body, run.id)
        if kind != "ack" and not (header.get("more") or header.get("last")):
            worker.send({"type": "ack"})
            if worker.waiting > DEAF:
                self._children.kill(worker)

    def _finish(self, child: Child, run: Run, reply: Header) -> None:
        """Tell the host how a run ended, and start the next one of its context."""
        child.run = None
        self._tell_end(run, reply)
        context = self._contexts.get(child.context)
        if context:
            self._advance(context)

    def _tell_end(self, run: Run, reply: Header) -> None:
        if run.id is None:
            return
        self._tell_output(run, run.release())
        for name, cap in run.caps.items():
            dropped, tail = cap.finish()
            if tail or dropped:
                self._host.send({"type": "stream", "id": run.id, "name": name, "dropped": dropped}, tail)
        status = reply.get("status")
        if status not in STATUSES:
            status = "error"
        if run.timed_out:
            status = "timeout"
        answer: Header = {"type": "execute_reply", "id": run.id, "status": status, "usage": run.usage()}
        for key in ("execution_count", "exit_code", "signal", "lifetime", "cut_off", "sockets"):
            if isinstance(reply.get(key), int):
                answer[key] = reply[key]
        if run.dropped_results:
            answer["dropped_results"] = run.dropped_results
        self._host.send(answer)

    # -- the end of processes -----------------------------------------------------------------------------------------

    def _bury(self) -> None:
        """Tell of the children that have died; other dead processes are orphans of the code."""
        while self._children.dead:
            pid, code = self._children.dead.popleft()
            child = self._children.by_pid.get(pid)
            if child:
                self._child_ended(child, code)
            elif pid == self._spawner.pid:
                self._spawner.lose(is_dead=True)

    def _child_ended(self, child: Child, code: int) -> None:
        self._read_last(child)
        self._children.unwatch(child)
        if child.kind == "worker":  # its state is gone: what it started, a fork bomb perhaps, goes with it
            self._children.kill(child)
        del self._children.by_pid[child.pid]
        context = self._contexts.get(child.context)
        if context and context.worker is child:
            context.worker = None
        if child.run:
            self._finish(child, child.run, self._obituary(child, child.run, code))
        elif context:
            self._advance(context)
        for request in [*child.input_replies, *([] if child.request is None else [child.request])]:
            self._host.reply(request, "the operation was killed in the box", "EINTR")
        self._children.let_go(child)

    def _read_last(self, child: Child) -> None:
        """Pass on what a dead child had written and sent: an error and its reply may still be in the socket."""
        self._drain(child)
        if child.control is None or (child.run and child.run.timed_out):
            return
        with contextlib.suppress(OSError):
            while data := read(child.control.fileno()):
                self._take(child, data)

    def _obituary(self, child: Child, run: Run, code: int) -> Header:
        if (code == CUT_OFF and child.kind == "worker") or (run.cut_off and code == -signal.SIGKILL):
            return {"status": "killed", "cut_off": True}
        if code >= 0:
            return {"status": "ok" if child.kind == "command" and code == 0 else "error", "exit_code": code}
        if run.interrupted:
            return {"status": "interrupted"}
        if run.full_sockets:
            return {"status": "oom", "sockets": True}
        if -code == signal.SIGKILL and self._cgroup.oom_kills() > run.oom_kills:
            return {"status": "oom"}
        return {"status": "killed", "signal": -code}


def main(options: dict[str, str]) -> None:
    """Serve the host over stdin and stdout.

    Args:
        options: what PID 1 was started with, all of it optional and none of it secret, as code can read it:
            ``preload`` (names of modules, with commas), ``cwd`` (where code starts), ``lifetime`` (seconds), and
            ``hosts``, which is ``many`` where one after the other may take the pipe.
    """
    cwd = options.get("cwd") or os.getcwd()
    preload = list(filter(None, options.get("preload", "").split(",")))
    lifetime = float(options["lifetime"]) if options.get("lifetime") else None
    fresh.furnish(cwd)
    if os.getpid() != 1:  # the container shares the processes of another, or has an init
        adopt_orphans()
    path = list(sys.path)
    first = zygote.split(preload)  # before anything is read that code in the box must not know
    set_dumpable(False)
    # What is imported here later comes from nowhere that code can write to.
    sys.path[:] = fresh.out_of_reach(path)
    # Private copies: whatever writes to fd 1 here later does not reach the pipe.
    stdin, stdout = (os.dup(fd) for fd in (0, 1))
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hosts = options.get("hosts", "one")
    Supervisor(stdin, stdout, first, cwd=cwd, preload=preload, path=path, hosts=hosts, lifetime=lifetime).serve()
