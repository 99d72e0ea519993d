"""What people run in a box, one area after the other: the profile is derived from what this calls, and tested with it.

``python workload.py`` prints a line per area, and ends with 1 if one has failed. Where a package is missing, its area
is skipped. Everything works without a network.
"""

from __future__ import annotations

import array
import asyncio
import concurrent.futures
import contextlib
import ctypes
import fcntl
import functools
import http.server
import importlib.util
import io
import json
import mmap
import multiprocessing
import multiprocessing.managers
import os
import random
import resource
import select
import selectors
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import urllib.request
import xmlrpc.client
import xmlrpc.server
import zipfile
from multiprocessing import shared_memory
from pathlib import Path


def files(folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(b"x" * 10_000)
    os.chmod(path, 0o640)
    os.chown(path, os.getuid(), os.getgid())
    os.lchown(path, -1, -1)
    os.utime(path, (1, 2))
    os.link(path, folder / "b")
    os.symlink("a", folder / "c")
    assert os.readlink(folder / "c") == "a"
    os.rename(folder / "b", folder / "d")
    os.replace(folder / "d", folder / "e")
    os.truncate(path, 5_000)
    os.mkfifo(folder / "fifo")
    (folder / "tree" / "deep").mkdir(parents=True)
    shutil.copytree(folder / "tree", folder / "copy")
    assert {entry.name for entry in os.scandir(folder)} >= {"a", "c", "e", "fifo", "tree", "copy"}
    assert stat.S_ISFIFO(os.lstat(folder / "fifo").st_mode)
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"y")
        file.flush()
        number = file.fileno()
        os.fsync(number)
        os.fdatasync(number)
        os.fchmod(number, 0o600)
        os.fchown(number, -1, -1)
        os.ftruncate(number, 6_000)
        os.posix_fallocate(number, 0, 8_000)
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_WILLNEED)
        os.pwrite(number, b"z", 5)
        os.pwritev(number, [b"1", b"2"], 6)
        assert os.pread(number, 1, 5) == b"z"
        buffers = [bytearray(2), bytearray(2)]
        os.preadv(number, buffers, 0)
        os.lseek(number, 0, os.SEEK_SET)
        os.readv(number, buffers)
        os.writev(number, [b"a", b"b"])
        fcntl.flock(number, fcntl.LOCK_EX)
        fcntl.lockf(number, fcntl.LOCK_UN)
        with mmap.mmap(number, 4096) as area:
            area[0:2] = b"mm"
            area.flush()
            area.madvise(mmap.MADV_WILLNEED)
            area.resize(8192)
        with open(folder / "target", "wb") as target:
            os.sendfile(target.fileno(), number, 0, 100)
            os.copy_file_range(number, target.fileno(), 100)
        os.fstatvfs(number)
        for name in os.listxattr(path):
            os.getxattr(path, name)
    os.statvfs(folder)
    shutil.disk_usage(folder)
    with contextlib.suppress(OSError):
        os.getxattr(path, "user.none")
    assert os.access(path, os.R_OK)
    os.access(path, os.R_OK, effective_ids=True)
    os.chmod(path, 0o600)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir("at", dir_fd=directory)
    os.stat("a", dir_fd=directory)
    os.chmod("a", 0o644, dir_fd=directory)
    os.symlink("a", "link", dir_fd=directory)
    os.rename("link", "moved", src_dir_fd=directory, dst_dir_fd=directory)
    os.readlink("moved", dir_fd=directory)
    os.unlink("moved", dir_fd=directory)
    os.rmdir("at", dir_fd=directory)
    os.fchdir(directory)
    os.chdir("/")
    os.close(directory)
    shutil.rmtree(folder / "tree")
    with tempfile.TemporaryFile() as file, tempfile.NamedTemporaryFile() as named:
        file.write(b"x")
        named.write(b"x")
    with tarfile.open(folder / "x.tar.gz", "w:gz") as tar:
        tar.add(path, "a")
    with zipfile.ZipFile(folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "a")


def process(folder: Path) -> None:
    os.getpgrp()
    os.getpgid(0)
    os.getsid(0)
    os.getppid()
    os.getresuid()
    os.getresgid()
    os.getgroups()
    os.getpriority(os.PRIO_PROCESS, 0)
    os.nice(1)
    os.umask(os.umask(0o022))
    os.uname()
    os.times()
    os.getloadavg()
    os.urandom(8)
    os.getrandom(8)
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    os.sched_yield()
    os.sched_get_priority_max(os.SCHED_OTHER)
    os.sched_getscheduler(0)
    os.sched_getparam(0)
    os.sysconf("SC_PHYS_PAGES")
    resource.getrusage(resource.RUSAGE_CHILDREN)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    resource.prlimit(0, resource.RLIMIT_CORE)
    for clock in (time.CLOCK_MONOTONIC, time.CLOCK_PROCESS_CPUTIME_ID, time.CLOCK_THREAD_CPUTIME_ID):
        time.clock_gettime(clock)
        time.clock_getres(clock)
    time.sleep(0.001)
    pid = os.fork()
    if not pid:
        os.setsid()
        os._exit(3)
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert os.waitstatus_to_exitcode(os.wait4(pid, 0)[1]) == 3
    child = subprocess.Popen(["sleep", "10"], start_new_session=True)
    descriptor = os.pidfd_open(child.pid)
    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
    child.wait()
    os.close(descriptor)
    assert os.posix_spawnp("true", ["true"], os.environ)
    os.wait()


def signals(folder: Path) -> None:
    seen: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    os.kill(os.getpid(), signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    signal.signal(signal.SIGALRM, lambda number, frame: seen.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    signal.pause()
    signal.getitimer(signal.ITIMER_REAL)
    signal.alarm(0)
    signal.siginterrupt(signal.SIGUSR1, False)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    os.kill(os.getpid(), signal.SIGUSR2)
    assert signal.SIGUSR2 in signal.sigpending()
    assert signal.sigwait({signal.SIGUSR2}) == signal.SIGUSR2
    assert signal.sigtimedwait({signal.SIGUSR2}, 0.01) is None
    assert len(seen) == 4


def pipes(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    copy = os.dup(writer)
    os.dup2(copy, writer, inheritable=False)
    os.write(writer, b"x")
    assert select.select([reader], [], [], 1)[0]
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    assert poll.poll(1000)
    epoll = select.epoll()
    epoll.register(reader, select.EPOLLIN)
    assert epoll.poll(1)
    epoll.close()
    with selectors.DefaultSelector() as selector:
        selector.register(ours, selectors.EVENT_READ)
        theirs.send(b"x")
        assert selector.select(1)
    waiting = array.array("i", [0])
    fcntl.ioctl(ours, 0x541B, waiting)  # FIONREAD
    assert waiting[0] == 1
    socket.send_fds(ours, [b"fd"], [reader])
    os.close(socket.recv_fds(theirs, 10, 1)[1][0])
    for one in (reader, writer, copy):
        os.close(one)
    ours.close()
    theirs.close()


def sockets(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        client.sendmsg([b"he", b"llo"])
        assert peer.recvmsg(10)[0] == b"hello"
        client.shutdown(socket.SHUT_WR)
        peer.getpeername()
        peer.close()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        one.bind(("127.0.0.1", 0))
        two.sendto(b"x", one.getsockname())
        assert one.recvfrom(10)[0] == b"x"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(folder / "socket"))
        server.listen()
        client.connect(str(folder / "socket"))
    with contextlib.suppress(OSError):
        socket.socket(socket.AF_INET6).close()
    with contextlib.suppress(OSError):
        socket.getaddrinfo("localhost", 80)
    with contextlib.suppress(OSError):
        socket.create_connection(("192.0.2.1", 80), 0.1)
    assert socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
    with contextlib.suppress(OSError):  # it asks netlink
        socket.if_nameindex()
    socket.gethostname()


def options(folder: Path) -> None:
    """What servers, clients and their libraries set."""
    with socket.socket() as tcp:
        for level, name, value in (
            (socket.SOL_SOCKET, "SO_REUSEADDR", 1), (socket.SOL_SOCKET, "SO_REUSEPORT", 1),
            (socket.SOL_SOCKET, "SO_KEEPALIVE", 1), (socket.SOL_SOCKET, "SO_SNDBUF", 2**20),
            (socket.SOL_SOCKET, "SO_RCVBUF", 2**20), (socket.SOL_SOCKET, "SO_OOBINLINE", 1),
            (socket.IPPROTO_TCP, "TCP_NODELAY", 1), (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 60),
            (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 60), (socket.IPPROTO_TCP, "TCP_KEEPCNT", 6),
            (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 1000), (socket.IPPROTO_TCP, "TCP_QUICKACK", 1),
            (socket.IPPROTO_IP, "IP_TOS", 16),
        ):  # fmt: skip
            tcp.setsockopt(level, getattr(socket, name), value)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        tcp.settimeout(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        udp.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR, as the C library's resolver does
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as tcp:
        tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def servers(folder: Path) -> None:
    (folder / "page").write_text("hello")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    handler.func.log_message = lambda *words: None  # type: ignore[method-assign]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/page") as answer:
            assert answer.read() == b"hello"
        server.shutdown()
    with xmlrpc.server.SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
        server.register_function(pow)
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert xmlrpc.client.ServerProxy("http://{}:{}".format(*server.server_address)).pow(2, 3) == 8
    with multiprocessing.managers.SyncManager(("127.0.0.1", 0), b"key") as manager:
        assert list(manager.list([1])) == [1]


def machine(folder: Path) -> None:
    import psutil

    assert psutil.net_if_stats()["lo"].isup
    psutil.net_io_counters(pernic=True)
    psutil.net_connections()
    psutil.cpu_percent()
    psutil.virtual_memory()
    psutil.disk_usage("/")
    psutil.Process().as_dict()
    for question in (psutil.net_if_addrs, psutil.sensors_battery):
        with contextlib.suppress(OSError):
            question()


def threads(folder: Path) -> None:
    lock, done = threading.Lock(), threading.Event()

    def work() -> None:
        with lock:
            time.sleep(0.001)
        done.wait(5)

    started = [threading.Thread(target=work) for _ in range(8)]
    for thread in started:
        thread.start()
    done.set()
    for thread in started:
        thread.join()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(abs, range(-10, 0))) == 55
    timer = threading.Timer(0.01, lambda: None)
    timer.start()
    timer.join()


async def _asyncio(folder: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(10))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(b"x")
    assert await reader.read() == b"x"
    writer.close()
    server.close()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    transport.sendto(b"x", transport.get_extra_info("sockname"))
    transport.close()
    await asyncio.start_unix_server(answer, str(folder / "asyncio"))
    command = await asyncio.create_subprocess_exec("echo", "hi", stdout=subprocess.PIPE)
    assert (await command.communicate())[0] == b"hi\n"
    assert await asyncio.to_thread(abs, -1) == 1
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(asyncio.sleep(1), 0.01)


def loops(folder: Path) -> None:
    asyncio.run(_asyncio(folder))


def _square(number: int) -> int:
    return number * number


def processes(folder: Path) -> None:
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(_square, range(4)) == [0, 1, 4, 9]
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        assert list(executor.map(_square, range(3))) == [0, 1, 4]
    area = shared_memory.SharedMemory(create=True, size=1000)
    area.buf[0] = 1
    area.close()
    area.unlink()
    context = multiprocessing.get_context("fork")
    queue, value = context.Queue(), context.Value("i", 0)
    child = context.Process(target=queue.put, args=(7,))
    child.start()
    assert queue.get(timeout=10) == 7
    child.join()
    assert value.value == 0
    with multiprocessing.Manager() as manager:
        assert list(manager.list([1])) == [1]


def shell(folder: Path) -> None:
    script = """
    set -e; cd "$1"; seq 1000 | sort -rn | head -3 | tee three | tr '\\n' ' '; mkdir -p d/e; touch d/e/f; ls -lR d
    cp -a d d2; mv d2 d3; find . -name f | xargs grep -c x || true; echo abc | sed s/b/x/ | awk '{print length($0)}'
    printf 'a\\nb\\n' | cut -c1 | uniq | wc -l; gzip -k three; tar cf t.tar d; tar tf t.tar; df . ; du -s .; stat three
    chmod 600 three; ln -s three l; readlink l; date; id; sleep 0.01; (sleep 0.01 & wait); ps >/dev/null 2>&1 || true
    echo $((1 + 2)) < /dev/null; cat <<< here; diff three three; rm -r d3; kill -0 $$; mktemp; nproc; env; true
    trap 'echo bye' EXIT; timeout 5 true; nohup true; md5sum three; od -c three | head -1; dd if=three of=four; uname -a
    """
    done = subprocess.run(["bash", "-c", script, "bash", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert subprocess.check_output("echo $HOME | cat", shell=True)  # noqa: S602 (a shell is what is tried)
    subprocess.run(["sh", "-c", "exit 0"], check=True, preexec_fn=lambda: None, close_fds=True, process_group=None)
    os.system("true")  # noqa: S605 (likewise)
    subprocess.run([sys.executable, "-c", "print(1)"], check=True, stdout=subprocess.DEVNULL)


def sqlite(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / "db")) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("create table t (a int)")
        db.executemany("insert into t values (?)", [(number,) for number in range(1000)])
        db.commit()
        assert db.execute("select sum(a) from t").fetchone() == (499500,)
        db.execute("vacuum")


def numeric(folder: Path) -> None:
    import numpy as np

    a = np.random.default_rng(0).random((300, 300))
    np.linalg.svd(a @ a)
    np.fft.fft(a)
    np.save(folder / "a.npy", a)
    mapped = np.load(folder / "a.npy", mmap_mode="r+")
    mapped[0, 0] = 1
    mapped.flush()


def frames(folder: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame({"n": range(1000), "s": [str(n) for n in range(1000)]})
    frame.to_csv(folder / "f.csv")
    assert len(pd.read_csv(folder / "f.csv").groupby("s").sum()) == 1000
    frame.to_parquet(folder / "f.parquet")
    frame.to_pickle(folder / "f.pickle")
    assert pd.read_parquet(folder / "f.parquet").equals(frame)
    frame.to_sql("t", sqlite3.connect(folder / "frames"))


def plots(folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([random.random() for _ in range(100)])  # noqa: S311 (a plot)
    for kind in ("png", "svg", "pdf"):
        figure.savefig(folder / f"p.{kind}")


def arrow(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.dataset
    import pyarrow.feather
    import pyarrow.parquet

    table = pa.table({"a": list(range(10_000))})
    pyarrow.parquet.write_table(table, folder / "t.parquet")
    assert pyarrow.parquet.read_table(folder / "t.parquet", memory_map=True).num_rows == 10_000
    pyarrow.feather.write_feather(table, str(folder / "t.feather"))
    pyarrow.csv.write_csv(table, folder / "t.csv")
    assert pyarrow.dataset.dataset(folder / "t.parquet").count_rows() == 10_000
    with pa.ipc.new_stream(io.BytesIO(), table.schema) as stream:
        stream.write_table(table)


def images(folder: Path) -> None:
    from PIL import Image

    Image.new("RGB", (100, 100), "red").resize((50, 50)).save(folder / "i.jpg")
    Image.open(folder / "i.jpg").load()


def installer(folder: Path) -> None:
    wheel = folder / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "x = 1\n")
        archive.writestr("tiny-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        archive.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.dist-info/RECORD", "")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-index", "--target", folder / "site", wheel], check=True)
    subprocess.run([*pip, "list"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*pip, "download", "-q", "--retries", "0", "nothing-such"], check=False, stderr=subprocess.DEVNULL)


def library(folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.getpid() == os.getpid()
    libc.mlock(ctypes.create_string_buffer(100), 100)
    json.dumps(importlib.util.find_spec("json").origin)  # type: ignore[union-attr]


def terminal(folder: Path) -> None:
    if not os.path.exists("/dev/ptmx"):
        raise ModuleNotFoundError("no terminals here")
    import pty
    import termios
    import tty

    _ours, theirs = pty.openpty()
    tty.setraw(theirs)
    termios.tcgetattr(theirs)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, b"\x18\0\x50\0\0\0\0\0")
    os.get_terminal_size(theirs)
    os.ttyname(theirs)
    pid, screen = pty.fork()
    if not pid:
        os.execvp("bash", ["bash", "-ic", "stty size; echo hi"])  # noqa: S606 (a shell is what is tried)
    with contextlib.suppress(OSError):
        while os.read(screen, 1000):
            pass
    os.waitpid(pid, 0)


AREAS = [
    files, process, signals, pipes, sockets, options, servers, threads, loops, processes, shell, sqlite, library,
    terminal, installer, machine, numeric, frames, plots, arrow, images,
]  # fmt: skip


def main() -> int:
    failed = 0
    for area in AREAS:
        with tempfile.TemporaryDirectory(dir=os.environ.get("WORKLOAD_DIR")) as folder:
            try:
                area(Path(folder))
                print("ok", area.__name__, flush=True)
            except ModuleNotFoundError as error:
                print("skipped", area.__name__, error, flush=True)
            except Exception:
                failed = 1
                print("FAILED", area.__name__, traceback.format_exc(), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
