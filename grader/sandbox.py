"""Run a function on student code in a process of its own and survive whatever it does.

Each run forks a parent that has imported PyTorch but never computed with it, since PyTorch's
threads would not survive the fork. A run thus costs a few milliseconds and always starts from the
same state. The child has its own session; limits on time, memory, processes and files; no network
if the system allows that; and another user if the parent is root. It can only send bytes back.
Afterwards it is killed with every process that it started.

Made for Linux. Other systems with ``fork`` apply the limits that they have; ``Isolation.gaps``
lists what is missing.
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
# Submissions run as this user, those of further workers as the next ones; systemd leaves 60578 to
# 61183 unassigned. Random, because the limit on processes counts all processes of a user, including
# those of other graders and containers.
FIRST_UID = 60_600 + random.SystemRandom().randrange(500)
RESULT, TRACE = 3, 4  # file descriptors of the child: its result, and its stack if it crashes
TEXT_KEPT = 20_000  # bytes of the stack; the rest is read and dropped, as is all other output


@dataclass(frozen=True)
class Limits:
    """The limits of a run.

    Attributes:
        cpu: seconds of CPU time, independent of the machine's load.
        wall: seconds of wall-clock time, for code that sleeps or waits.
        memory: bytes on top of those that the parent has mapped.
        processes: processes and threads at the same time.
        file: largest size of a file in bytes.
        result: largest size of the result in bytes.
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
        result: what the function returned, or None if it did not return.
        ended: "" after a result; else "time", "result too large", "exit status N" or the name of
            a signal.
        trace: the Python stack at a timeout or crash, if there is one.
    """

    result: bytes | None
    ended: str
    trace: str


@dataclass(frozen=True)
class Isolation:
    """How submissions are isolated from the grader on this machine.

    Attributes:
        uid: user that submissions run as, or None for the grader's own.
        reads_all: whether this user may read root's files, because Python is among them.
        gaps: what is missing, in words.
    """

    uid: int | None
    reads_all: bool
    gaps: tuple[str, ...]


def isolate(worker: int = 0) -> Isolation:
    """Prepare this process to run submissions; call once, before the first run.

    Args:
        worker: index of the process among those that grade in parallel.
    """
    uid, reads_all, gaps = None, False, []
    if LINUX:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # adopts the orphans of a child, to kill them
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
    """Call a function in a child process and return the outcome.

    Args:
        function: called with the folder of ``files``; its working directory is writable.
        isolation: of this process, from ``isolate``.
        limits: of the child.
        files: content of the student's files by name.
        trusted: keep the grader's user, because the function runs no student code.
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
    if ended == "time":  # the signal may wake code that hung, which may then even answer
        complete = False
    if len(result) > limits.result:
        complete, ended = False, "result too large"
    return Outcome(
        result=result[8:] if complete else None,
        ended="" if complete else ended,
        trace=trace.decode(errors="replace"),
    )


@contextmanager
def _workspace(files: Mapping[str, bytes], uid: int | None) -> Iterator[Path]:
    """Create a folder with ``code``, which the child can read, and ``tmp``, which it can write."""
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
    """Open pipes and close their reading ends; ``run`` closes the writing ends."""
    reading, writing = map(list, zip(*(os.pipe() for _ in range(number))))
    try:
        for descriptor in reading:
            os.set_blocking(descriptor, False)
        yield reading, writing
    finally:
        for descriptor in reading:
            os.close(descriptor)


def _wait(pid: int, kept: dict[int, tuple[bytearray, int]], limits: Limits, started: float) -> str:
    """Read the pipes until the child ends or its time is over, and return how it ended."""
    stopped = False
    unread = set(kept)
    _, trace, *_ = kept
    while True:
        # Not until the pipes close: a process that outlives the child may keep them open.
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
            os.kill(pid, signal.SIGXCPU)  # makes faulthandler write the stack
            select.select([trace], [], [], 1.0)  # a busy machine may need that long for it
            time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
    if stopped or usage.ru_utime + usage.ru_stime >= limits.cpu:
        return "time"
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _kill_descendants() -> None:
    """Kill the children of this process until none are left; orphans of theirs become children."""
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
    """Run the function in the child and exit; never returns."""
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
        os._exit(0)  # not sys.exit, which would run the code's exit handlers
    except BaseException as error:  # no exception may reach the parent's code
        os.write(TRACE, f"{type(error).__name__}: {error}".encode()[:TEXT_KEPT])
    finally:
        os._exit(1)


def _arrange_descriptors(result: int, trace: int, output: int) -> None:
    """Keep open: standard input (empty), output and error (a pipe), RESULT and TRACE."""
    # To free numbers first, so that none is overwritten before it is copied.
    sources = (os.open(os.devnull, os.O_RDONLY), output, output, result, trace)
    copies = [fcntl.fcntl(source, fcntl.F_DUPFD, 64) for source in sources]
    for target, copy in enumerate(copies):
        os.dup2(copy, target)
    os.closerange(TRACE + 1, 65_536)
    # The parent's file objects may use descriptors that are closed now.
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    )


def _limit(limits: Limits, uid: int | None) -> None:
    """Set the limits of this process and of those that it starts."""
    # If the user is our own, its other processes count too.
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
    # At the soft limit faulthandler writes the stack; the hard limit kills the process.
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu, limits.cpu + 1))


def _number_of_tasks(uid: int) -> int:
    """Return a user's number of threads in all processes."""
    number = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # the process has ended
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
    """Become a user without privileges, except optionally that of reading every file."""
    if reads_all:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if reads_all:
        header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
        mask = 1 << CAP_DAC_READ_SEARCH
        # Effective, permitted, inheritable; the second three are for capabilities above 31.
        if ctypes.CDLL(None).capset(header, struct.pack("=6I", mask, mask, 0, 0, 0, 0)) != 0:
            raise OSError("capset failed")


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)
