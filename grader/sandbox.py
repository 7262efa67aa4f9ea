"""Run a function on a student's code in a process of its own, and survive whatever it does.

Each run is a fork of a parent that has imported PyTorch and never used it (threads that computed
would not survive the fork), so it costs some milliseconds and starts from the same state. The
child has its own session, limits on time, memory, processes and files, no network where the system
allows, and another user where the parent is root. It can only send bytes back. Afterwards it is
killed with everything that it started.

Made for Linux. On other systems with ``fork`` it runs with the limits that they have;
``Isolation.gaps`` says what is missing.
"""

import ctypes
import faulthandler
import fcntl
import os
import random
import resource
import select
import shutil
import signal
import struct
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

LINUX = sys.platform == "linux"
# From linux/sched.h, linux/prctl.h and linux/capability.h.
CLONE_NEWIPC, CLONE_NEWNET = 0x08000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 8, 36, 38
CAP_DAC_READ_SEARCH, CAPABILITY_VERSION_3 = 2, 0x20080522
# Users that submissions run as: this one, and the next for further graders; systemd leaves 60578 to
# 61183 to nobody. Not always the same one: the limit on processes counts all of a user's, those of
# other graders and containers too.
FIRST_UID = 60_600 + random.SystemRandom().randrange(500)
RESULT, TRACE = 3, 4  # file descriptors of the child: what it returns, and its stack if it crashes
TEXT_KEPT = 20_000  # bytes of its stack and of what it prints; the rest is read and dropped


@dataclass(frozen=True)
class Limits:
    """What one run may use.

    Attributes:
        cpu: seconds of computing; how busy the machine is does not matter.
        wall: seconds by the clock, for code that sleeps or waits.
        memory: bytes beyond those that the parent has mapped already.
        processes: processes and threads at the same time.
        file: bytes of the largest file.
        result: bytes that may be sent back.
    """

    cpu: int = 20
    wall: float = 60.0
    memory: int = 640 << 20
    processes: int = 32
    file: int = 16 << 20
    result: int = 32 << 20


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        result: what the function returned, or None if it did not come to that.
        ended: "" after a result; else "time", "result too large", "exit status N" or the name of
            a signal.
        trace: the Python stack when its time was over or it crashed, if there was one.
        seconds: by the clock.
    """

    result: bytes | None
    ended: str
    trace: str
    seconds: float


@dataclass(frozen=True)
class Isolation:
    """What keeps submissions apart from the grader on this machine.

    Attributes:
        uid: user that submissions run as, or None for the grader's own.
        reads_all: this user may read what only root can, because that is where Python is.
        gaps: in words, what is missing.
    """

    uid: int | None
    reads_all: bool
    gaps: tuple[str, ...]


def isolate(worker: int = 0) -> Isolation:
    """Make this process one that runs submissions; once, before its first run.

    Args:
        worker: number of the process, where several grade side by side.
    """
    uid, reads_all, gaps = None, False, []
    if LINUX:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a child leaves behind becomes ours to kill
    else:
        gaps.append(f"this is {sys.platform}, not Linux: the limits may not hold")
    if os.geteuid() == 0 and LINUX:
        uid = FIRST_UID + worker
        unreadable = _unreadable_for(uid)
        if unreadable:
            reads_all = True
            gaps.append(f"submissions can read all files: only root can read {unreadable}")
    else:
        gaps.append("submissions run as you: they can read your files and stop the grader")
    if not (LINUX and ctypes.CDLL(None).unshare(CLONE_NEWNET | CLONE_NEWIPC) == 0):
        gaps.append("submissions can use the network")
    return Isolation(uid, reads_all, tuple(gaps))


def run(
    function: Callable[[Path], bytes],
    isolation: Isolation,
    limits: Limits,
    files: Mapping[str, bytes],
    trusted: bool = False,
) -> Outcome:
    """Call a function in a child process and return what it returned.

    Args:
        function: called with a folder that holds ``files``, in another that it can write to.
        isolation: of this process, from ``isolate``.
        limits: of the child.
        files: name and content of the student's files.
        trusted: keep the grader's user: the function runs no code of students.
    """
    uid = None if trusted else isolation.uid
    started = time.monotonic()
    with _workspace(files, uid) as folder, _pipes(3) as (reading, writing):
        pid = os.fork()
        if pid == 0:
            _be_child(function, folder, writing, limits, uid, isolation.reads_all)
        for descriptor in writing:
            os.close(descriptor)
        kept = {
            descriptor: (bytearray(), size)
            for descriptor, size in zip(reading, (limits.result + 9, TEXT_KEPT, 0))
        }
        ended = _wait(pid, kept, limits, started)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        if LINUX and not trusted:
            _kill_descendants()
        result, trace = (bytes(kept[descriptor][0]) for descriptor in reading[:2])
    complete = len(result) >= 8 and len(result) - 8 == struct.unpack("<Q", result[:8])[0]
    if ended == "time":  # what hung may go on, and even answer, when it is interrupted
        complete = False
    if len(result) > limits.result:
        complete, ended = False, "result too large"
    return Outcome(
        result=result[8:] if complete else None,
        ended="" if complete else ended,
        trace=trace.decode(errors="replace"),
        seconds=time.monotonic() - started,
    )


@contextmanager
def _workspace(files: Mapping[str, bytes], uid: int | None) -> Iterator[Path]:
    """Make a folder with ``code``, which the child can read, and ``tmp``, which it can change."""
    folder = Path(tempfile.mkdtemp(prefix="grader-"))
    try:
        folder.chmod(0o755)
        code = folder / "code"
        code.mkdir()
        for name, content in files.items():
            (code / name).write_bytes(content)
            (code / name).chmod(0o644)
        code.chmod(0o755)
        (folder / "tmp").mkdir()
        if uid is not None:
            os.chown(folder / "tmp", uid, uid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _pipes(number: int) -> Iterator[tuple[list[int], list[int]]]:
    """Open pipes, and close the ends that are read; the other ends are closed by ``run``."""
    reading, writing = map(list, zip(*(os.pipe() for _ in range(number))))
    try:
        for descriptor in reading:
            os.set_blocking(descriptor, False)
        yield reading, writing
    finally:
        for descriptor in reading:
            os.close(descriptor)


def _wait(pid: int, kept: dict[int, tuple[bytearray, int]], limits: Limits, started: float) -> str:
    """Read the pipes until the child has ended, stop it in time, and return how it ended."""
    stopped = False
    unread = set(kept)
    while True:
        # Not until the pipes are closed: a process that outlives the child may hold them open.
        done, status, usage = os.wait4(pid, os.WNOHANG)
        for descriptor in select.select(unread, [], [], 0 if done else 0.02)[0]:
            content, size = kept[descriptor]
            chunk = os.read(descriptor, 1 << 20)
            content += chunk[: size - len(content)]
            if not chunk:
                unread.discard(descriptor)
        if done:
            break
        if not stopped and time.monotonic() - started > limits.wall:
            stopped = True
            os.kill(pid, signal.SIGXCPU)  # on which faulthandler writes down where it is
            time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
    if stopped or usage.ru_utime + usage.ru_stime >= limits.cpu:
        return "time"
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _kill_descendants() -> None:
    """Kill the children of this process until none is left; their orphans become children too."""
    while children := _children():
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _children() -> list[int]:
    """Return the children of this process, from the fourth field of /proc/PID/stat."""
    children = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                children.append(int(name))
    return children


def _be_child(
    function: Callable[[Path], bytes],
    folder: Path,
    writing: list[int],
    limits: Limits,
    uid: int | None,
    reads_all: bool,
) -> None:
    """Be the process that students' code may run in. Does not return."""
    try:
        _arrange_descriptors(*writing)
        faulthandler.enable(TRACE, all_threads=False)
        faulthandler.register(signal.SIGXCPU, TRACE, all_threads=False)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        home = str(folder / "tmp")
        os.chdir(home)
        os.environ.clear()
        os.environ.update(
            HOME=home, TMPDIR=home, MPLCONFIGDIR=home, MPLBACKEND="agg", PATH=os.defpath
        )
        tempfile.tempdir = home
        sys.dont_write_bytecode = True
        torch.set_num_threads(1)
        os.setsid()
        _limit(limits, uid)
        if uid is not None:
            _change_user(uid, reads_all)
        if LINUX:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            _prctl(PR_SET_NO_NEW_PRIVS, 1)
        result = function(folder / "code")
        with open(RESULT, "wb") as pipe:
            pipe.write(struct.pack("<Q", len(result)) + result)
        os._exit(0)  # not sys.exit: nothing that the code registered for the end runs
    except BaseException as error:  # an exception must not reach the code of the parent
        os.write(TRACE, f"{type(error).__name__}: {error}".encode()[:TEXT_KEPT])
    finally:
        os._exit(1)


def _arrange_descriptors(result: int, trace: int, output: int) -> None:
    """Leave open: standard input (empty), output and error (a pipe), RESULT and TRACE."""
    # First to numbers that are free, so that none is overwritten before it is copied.
    sources = (os.open(os.devnull, os.O_RDONLY), output, output, result, trace)
    copies = [fcntl.fcntl(source, fcntl.F_DUPFD, 64) for source in sources]
    for target, copy in enumerate(copies):
        os.dup2(copy, target)
    os.closerange(TRACE + 1, 65_536)
    # The objects of the parent may stand for other descriptors, which are closed now.
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    )


def _limit(limits: Limits, uid: int | None) -> None:
    """Set the limits of this process and of those that it will start."""
    # Where the user is our own, its other processes count too.
    tasks = 0 if uid is not None or not LINUX else _number_of_tasks(os.getuid())
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) if LINUX else 0  # pages
    for name, value in (
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", limits.file),
        ("RLIMIT_AS", mapped * resource.getpagesize() + limits.memory),
        ("RLIMIT_NPROC", tasks + limits.processes),
    ):
        with suppress(OSError, ValueError, AttributeError):  # other systems have fewer
            resource.setrlimit(getattr(resource, name), (value, value))
    # The first value makes faulthandler write down the line, the second one ends the process.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu, limits.cpu + 1))


def _number_of_tasks(uid: int) -> int:
    """Return how many threads, in all processes, belong to a user."""
    number = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended while we were looking
            if folder.stat().st_uid == uid:
                number += len(os.listdir(folder / "task"))
    return number


def _unreadable_for(uid: int) -> str | None:
    """Return a folder of Python or its packages that a user cannot read, or None."""
    paths = (sysconfig.get_path("stdlib"), torch.__path__[0])
    pid = os.fork()
    if pid == 0:
        _change_user(uid)
        os._exit(next((i for i, path in enumerate(paths) if not os.access(path, os.R_OK)), 255))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return paths[code] if code in range(len(paths)) else None


def _change_user(uid: int, reads_all: bool = False) -> None:
    """Become a user without privileges, except perhaps that of reading every file."""
    if reads_all:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if reads_all:
        header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
        mask = 1 << CAP_DAC_READ_SEARCH
        # Effective, permitted and inherited; a second set of three is for numbers above 31.
        if ctypes.CDLL(None).capset(header, struct.pack("=6I", mask, mask, 0, 0, 0, 0)) != 0:
            raise OSError("capset failed")


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)
