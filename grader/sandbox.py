"""Run a function on student code in a process of its own and survive whatever it does.

The child has its own session; limits on time, memory, processes and files; and no more of the
machine than it needs. It can only send bytes back. Afterwards it is killed with every process that
it started, and what it wrote is gone. How it is isolated depends on the machine, best first:

1. Namespaces, as root or an ordinary user: the child sees Python and the system's libraries, an
   empty /tmp and no other process, and has no network. It runs as a user of its own if the grader
   is root.
2. Root without CAP_SYS_ADMIN, as in Docker: a user of its own for each run.
3. Otherwise the grader's own user.

``Isolation.gaps`` and ``probe`` list what is missing. Made for Linux; other systems with ``fork``
apply the limits that they have.
"""

import ctypes
import errno
import faulthandler
import fcntl
import json
import os
import random
import resource
import select
import signal
import socket
import stat
import struct
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from grader.assignment import ROOT

LINUX = sys.platform == "linux"
# From linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h.
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET, CLONE_THREAD = 0x20000000, 0x40000000, 0x00010000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
MNT_DETACH, AT_FDCWD, AT_RECURSIVE, SYS_MOUNT_SETATTR = 2, -100, 0x8000, 442
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 1, 4, 8
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 36, 38, 22
CAP_DAC_READ_SEARCH, CAPABILITY_VERSION_3 = 2, 0x20080522
# From linux/filter.h, linux/seccomp.h and linux/audit.h for ``_refuse_calls``.
BPF_LOAD, BPF_JUMP_IF_EQUAL, BPF_JUMP_IF_LARGER, BPF_RETURN = 0x20, 0x15, 0x25, 0x06
BPF_JUMP_IF_ANY_BIT = 0x45
SECCOMP_MODE_FILTER, SECCOMP_ALLOW, SECCOMP_ERRNO = 2, 0x7FFF0000, 0x00050000
# Calls that nothing on the sheets needs and that reach beyond a run, by machine, after the number
# of the architecture and those of clone, clone3 and fcntl. Between processes: socket, shmget,
# semget, msgget, mq_open, add_key, request_key, keyctl, io_uring_setup, io_setup, ptrace,
# process_vm_readv, process_vm_writev, flock, inotify_init1. What other runs have read: fadvise64,
# preadv2, mincore, cachestat. More memory than the limit: memfd_create; a program that starts with
# none, by execve or execveat; file systems in new namespaces, by unshare or setns. Pairs of
# connected sockets are another call.
REFUSED_CALLS = {
    "x86_64": (
        *(0xC000003E, 56, 435, 72, 41, 29, 64, 68, 240, 248, 249, 250, 425, 206, 101, 310, 311, 73),
        *(294, 221, 327, 27, 451, 319, 59, 322, 272, 308),
        *(253, 57, 58),  # inotify_init, fork, vfork
    ),
    "aarch64": (
        *(0xC00000B7, 220, 435, 25, 198, 194, 190, 186, 180, 217, 218, 219, 425, 0, 117, 270, 271),
        *(32, 26, 223, 286, 232, 451, 279, 221, 281, 97, 268),
    ),
}
# Of fcntl: F_GETLK, F_SETLK, F_SETLKW, the same for open file descriptions, F_SETLEASE, F_NOTIFY,
# F_SET_RW_HINT.
REFUSED_OF_FCNTL = (5, 6, 7, 36, 37, 38, 1024, 1026, 1036)
# Users that nobody has: systemd leaves both ranges unassigned; the second is for containers that
# map fewer.
UIDS = (range(1_900_000_000, 2_100_000_000), range(60_578, 61_184))
# What a run sees of the system, next to Python itself.
SYSTEM = (
    *("/usr", "/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/nix/store"),
    *("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime"),
    *("/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"),
)
WRITABLE = ("/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue", "/run/lock")  # by every user
SPACE, FILES = 64 << 20, 10_000  # bytes and files that a run can write in namespaces
LOCK = "lock"  # in a temporary folder, locked as long as its process lives
FOLDER_ITSELF = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
RESULT, TRACE = 3, 4  # file descriptors of the child: its result, and its stack if it crashes
TEXT_KEPT = 20_000  # bytes of the stack; the rest is read and dropped, as is all other output


@dataclass(frozen=True)
class Limits:
    """The limits of a run.

    Attributes:
        cpu: seconds of CPU time, independent of the machine's load.
        wall: seconds of wall-clock time, for code that sleeps or waits.
        memory: bytes on top of those that the parent has mapped.
        processes: processes and threads at the same time; on most machines, threads only.
        file: largest size of a file in bytes.
        descriptors: open files and sockets, whose buffers do not count as memory.
        result: largest size of the result in bytes.
    """

    cpu: int = 20
    wall: float = 60.0
    memory: int = 640 << 20
    processes: int = 32
    file: int = 16 << 20
    descriptors: int = 256
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
    """How runs are isolated from the grader on this machine.

    Attributes:
        folder: for the temporary files of all runs.
        namespaces: whether each run has namespaces of its own.
        visible: what a run sees in them.
        uids: users for runs, each for one of them; empty for the grader's own.
        reads_all: whether these users may read root's files, because Python is among them.
        gaps: what is missing, in words.
    """

    folder: Path
    namespaces: bool = False
    visible: tuple[Path, ...] = ()
    uids: range = range(0)
    reads_all: bool = False
    gaps: tuple[str, ...] = ()


def isolate(folder: Path) -> Isolation:
    """Find out how this machine can isolate runs.

    Args:
        folder: for the temporary files of all runs.
    """
    import torch  # only in the server's process

    as_you = "submissions run as you: they can read your files and stop the grader"
    if not LINUX:
        return Isolation(
            folder, gaps=(as_you, f"this is {sys.platform}, not Linux: the limits may not hold")
        )
    (folder / "root").mkdir()
    isolation = Isolation(folder, visible=_find_visible())
    if os.geteuid() == 0:
        uids = next((some for some in UIDS if _works(_change_user, some[0])), range(0))
        isolation = replace(isolation, uids=uids)
    with_namespaces = replace(isolation, namespaces=True)
    if _works(_check, with_namespaces):
        isolation = with_namespaces
    for path in (sysconfig.get_path("stdlib"), os.path.dirname(torch.__file__)):
        if isolation.uids and not _works(_check, isolation, path):
            privileged = replace(isolation, reads_all=True)
            if _works(_check, privileged, path):
                gap = f"submissions can read all files: only root can read {path}"
                return replace(privileged, gaps=(gap,))
            isolation = replace(isolation, uids=range(0))
    if not isolation.uids and not isolation.namespaces:
        return replace(isolation, gaps=(as_you,))
    return isolation


def probe(places: Mapping[str, Sequence[str]]) -> bytes:
    """Return as JSON which isolation this process lacks, in words; call it in a run.

    Args:
        places: paths that no submission may read, by what is there.
    """
    gaps = [
        f"{what} can be read"
        for what, paths in places.items()
        if any(os.access(path, os.R_OK) for path in paths)
    ]
    for address in ("192.0.2.1", "127.0.0.1"):  # the first is reserved for documentation
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect((address, 9))  # sends nothing
            gaps.append("submissions can use the network")
            break
    return json.dumps(gaps).encode()


def run(
    function: Callable[[Path], bytes],
    isolation: Isolation,
    limits: Limits,
    files: Mapping[str, bytes],
    trusted: bool = False,
    watched: int | None = None,
) -> Outcome:
    """Call a function in a child process and return the outcome.

    Args:
        function: called with the folder of ``files``; its working directory is writable.
        isolation: of this machine, from ``isolate``.
        limits: of the child.
        files: content of the student's files by name.
        trusted: keep the grader's user and namespaces, because the function runs no student code.
        watched: descriptor whose other end closes if nobody waits for the outcome any longer.

    Call it once per process, because namespaces are for all of its children.
    """
    uid = random.SystemRandom().choice(isolation.uids) if isolation.uids and not trusted else None
    numbers = _count(limits, uid)
    started = time.monotonic()
    if LINUX:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # adopts the orphans of the child, to kill them
    if trusted:
        isolation = Isolation(isolation.folder)
    with _workspace(isolation, files, uid) as folder, _pipes(3) as (reading, writing):
        if isolation.namespaces:
            _unshare_processes()
        pid = os.fork()
        if pid == 0:
            _be_child(function, folder, files, writing, numbers, uid, isolation)
        for descriptor in writing:
            os.close(descriptor)
        kept = {
            descriptor: (bytearray(), size)
            for descriptor, size in zip(reading, (limits.result + 9, TEXT_KEPT, 0))
        }
        try:
            ended = _wait(pid, kept, limits, started, watched)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            if LINUX and not trusted and not isolation.namespaces:
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


def _wait(
    pid: int,
    kept: dict[int, tuple[bytearray, int]],
    limits: Limits,
    started: float,
    watched: int | None,
) -> str:
    """Read the pipes until the child ends or its time is over, and return how it ended.

    Raises:
        BrokenPipeError: nobody waits for the outcome any longer.
    """
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
        if watched is not None and select.select([watched], [], [], 0)[0]:
            raise BrokenPipeError
        if not stopped and time.monotonic() - started > limits.wall:
            stopped = True
            os.kill(pid, signal.SIGXCPU)  # makes faulthandler write the stack
            select.select([trace], [], [], 1.0)  # a busy machine may need that long for it
            time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
    if stopped or usage.ru_utime + usage.ru_stime >= limits.cpu:
        return "time"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    known = {number.value: number.name for number in signal.Signals}
    return known.get(-code, f"signal {-code}")  # real-time signals have no names


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
            fields = _read_process(name, "stat").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                children.append(int(name))
    return children


def _read_process(number: str, file: str) -> str:
    """Return a file about a process, whose name may be any bytes: submissions choose theirs."""
    return Path("/proc", number, file).read_text(errors="replace")


def _be_child(
    function: Callable[[Path], bytes],
    folder: Path,
    files: Mapping[str, bytes],
    writing: list[int],
    numbers: Mapping[str, int],
    uid: int | None,
    isolation: Isolation,
) -> None:
    """Run the function in the child and exit; never returns."""
    try:
        if isolation.namespaces:
            _enter_namespaces(isolation, files)
        _arrange_descriptors(*writing)
        faulthandler.enable(TRACE, all_threads=False)
        faulthandler.register(signal.SIGXCPU, TRACE, all_threads=False)
        home = str(folder / "tmp")
        os.chdir(home)
        os.environ.clear()
        os.environ.update(
            HOME=home, TMPDIR=home, MPLCONFIGDIR=home, MPLBACKEND="agg", PATH=os.defpath
        )
        tempfile.tempdir = home
        sys.dont_write_bytecode = True
        os.setsid()
        _set_limits(numbers)
        if uid is not None:
            _change_user(uid, isolation.reads_all)
        elif isolation.namespaces:
            _set_capabilities(0)
        if LINUX:
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            _prctl(PR_SET_NO_NEW_PRIVS, 1)
            if isolation.visible:  # not trusted
                with suppress(OSError):
                    _refuse_calls()
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


def limit(limits: Limits) -> None:
    """Limit this process, which runs no student code."""
    _set_limits(_count(limits, None))


def _set_limits(numbers: Mapping[str, int]) -> None:
    for name, value in numbers.items():
        # At the soft limit of CPU time faulthandler writes the stack; the hard limit kills.
        hard = value + 1 if name == "RLIMIT_CPU" else value
        with suppress(OSError, ValueError, AttributeError):  # other systems have fewer
            resource.setrlimit(getattr(resource, name), (value, hard))


def _count(limits: Limits, uid: int | None) -> dict[str, int]:
    """Return the limits of a process as the system counts them."""
    # If the user is our own, its other processes count too.
    tasks = 0 if uid is not None or not LINUX else _number_of_tasks(os.getuid())
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) if LINUX else 0  # pages
    return {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": limits.cpu,
        "RLIMIT_FSIZE": limits.file,
        "RLIMIT_NOFILE": limits.descriptors,
        "RLIMIT_AS": mapped * resource.getpagesize() + limits.memory,
        "RLIMIT_NPROC": tasks + limits.processes,
    }


def _number_of_tasks(uid: int) -> int:
    """Return a user's number of threads in all processes."""
    number = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # the process has ended; glob would raise that too
            lines = _read_process(name, "status").split("\n")
            fields = dict(line.partition(":")[::2] for line in lines)
            if int(fields["Uid"].split()[0]) == uid:
                number += int(fields["Threads"])
    return number


# ------------------------------------------------------------------------------------- files


@contextmanager
def _workspace(isolation: Isolation, files: Mapping[str, bytes], uid: int | None) -> Iterator[Path]:
    """Create a folder with ``code``, which the child can read, and ``tmp``, which it can write."""
    if isolation.namespaces:
        yield Path("/")  # which the child makes
        return
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=isolation.folder))
    try:
        _write_code(folder, files)
        (folder / "tmp").mkdir()
        if uid is not None:
            for path in (folder, folder / "tmp"):
                os.chown(path, uid, uid)
        yield folder
    finally:
        remove(folder)
        if uid is not None:
            for place in WRITABLE:
                _remove_files_of(uid, Path(place))


def _write_code(folder: Path, files: Mapping[str, bytes]) -> None:
    code = folder / "code"
    code.mkdir()
    for name, content in files.items():
        (code / name).write_bytes(content)
        (code / name).chmod(0o644)
    code.chmod(0o755)


def remove(path: Path) -> None:
    """Remove a file or folder, as far as permissions allow.

    ``shutil.rmtree`` fails at 1,000 nested folders, and paths have at most 4,096 bytes. So each
    nested folder first moves to the top.
    """
    with suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        # No link is followed, even if a process that is still there puts one in its place.
        _let_in(path)
        top = os.open(path, FOLDER_ITSELF)
        try:
            waiting = _empty(top, top)
            while waiting:
                name = waiting.pop()
                inner = os.open(name, FOLDER_ITSELF, dir_fd=top)
                try:
                    waiting += _empty(inner, top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
        finally:
            os.close(top)
        path.rmdir()


def hold(folder: Path) -> IO[bytes]:
    """Mark a temporary folder as in use until the file is closed or this process ends."""
    file = open(folder / "new", "xb")  # noqa: SIM115
    with suppress(OSError):  # some network file systems have no locks
        fcntl.flock(file, fcntl.LOCK_EX)
        os.rename(folder / "new", folder / LOCK)  # not before it is locked
    return file


def remove_abandoned(place: Path) -> None:
    """Remove this user's temporary folders whose process was killed before it could."""
    for path in place.glob(f"grader-*/{LOCK}"):
        with suppress(OSError):
            status = path.parent.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as file:  # it may be a pipe
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path.parent)


def _let_in(path: Path | str, folder: int | None = None) -> None:
    """Let an ordinary user into their own folder; root needs no permission."""
    if os.geteuid() != 0:  # chmod follows links
        os.chmod(path, 0o700, dir_fd=folder)


def _empty(folder: int, top: int) -> list[str]:
    """Remove the files of a folder and move its folders to another; return their new names."""
    moved = []
    for name in os.listdir(folder):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            _let_in(name, folder)
            moved.append(uuid.uuid4().hex)
            os.rename(name, moved[-1], src_dir_fd=folder, dst_dir_fd=top)
        else:
            os.unlink(name, dir_fd=folder)
    return moved


def _remove_files_of(uid: int, folder: Path) -> None:
    """Remove what a user left in a folder, or in others in it that every user can write to."""
    waiting = [folder]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == uid:
                    remove(Path(entry.path))
                elif stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_IWOTH:
                    waiting.append(Path(entry.path))


# ------------------------------------------------------------------------------ namespaces


def _find_visible() -> tuple[Path, ...]:
    """Return what a run sees in namespaces: Python and the system's libraries.

    The project is in the list if it has to be hidden, and followed by what is visible in it.
    """
    packages = [
        path
        for path in map(Path, map(os.path.abspath, sys.path))
        if path.name in ("site-packages", "dist-packages")  # also of an environment in the project
        or not (path.is_relative_to(ROOT) or ROOT.is_relative_to(path))
    ]
    named = {Path(p) for p in (*SYSTEM, sys.prefix, sys.exec_prefix, sys.base_prefix)} | {*packages}
    found = {path for path in named | {path.resolve() for path in named} if path.exists()}
    found -= {Path("/"), ROOT}
    inside = {path for path in found if path.is_relative_to(ROOT)}
    outside = found - inside
    hidden = [ROOT] if any(ROOT.is_relative_to(path) for path in outside) else []
    return (*_outermost(outside), *hidden, *_outermost(inside))


def _outermost(paths: Collection[Path]) -> list[Path]:
    """Return the paths that lie in no other one, sorted."""
    return sorted(path for path in paths if not set(path.parents) & set(paths))


def _unshare_processes() -> None:
    """Put the next children of this process into a namespace that ends with the first of them.

    That one ignores the signals that it sends itself, except by crashing.
    """
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _call("unshare", CLONE_NEWPID)
    else:
        _prctl(PR_SET_DUMPABLE, 1)  # otherwise the maps belong to root
        _call("unshare", CLONE_NEWUSER | CLONE_NEWPID)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        _prctl(PR_SET_DUMPABLE, 0)


def _enter_namespaces(isolation: Isolation, files: Mapping[str, bytes]) -> None:
    """Give this process file systems of its own and neither network nor shared memory."""
    _call("unshare", CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC)
    _mount("", Path("/"), "", MS_REC | MS_PRIVATE)
    _build_root(isolation.folder / "root", isolation.visible, files)


def _build_root(root: Path, visible: Sequence[Path], files: Mapping[str, bytes]) -> None:
    """Change to a new root folder, read-only except for /tmp, and unmount the old one."""
    quiet = MS_NOSUID | MS_NODEV
    _mount("tmpfs", root, "tmpfs", quiet, "size=16m,mode=755")
    for name in ("proc", "tmp", "var", "dev"):
        (root / name).mkdir()
    for link in ("var/tmp", "dev/shm"):
        (root / link).symlink_to("/tmp")
    _write_code(root, files)
    with suppress(OSError):  # containers may hide parts of /proc; a run can do without
        _mount("proc", root / "proc", "proc", quiet)
    _mount("tmpfs", root / "tmp", "tmpfs", quiet, f"size={SPACE},nr_inodes={FILES},mode=1777")
    for path in visible:
        place = root / path.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if path == ROOT:
            _mount("tmpfs", place, "tmpfs", quiet, "size=1m,mode=755")
        elif path.is_symlink():
            place.symlink_to(os.readlink(path))
        else:
            place.mkdir(exist_ok=True) if path.is_dir() else place.touch()
            _mount(str(path), place, "", MS_BIND | MS_REC)
    _set_attributes(root, AT_RECURSIVE, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0)
    _set_attributes(root / "tmp", 0, 0, MOUNT_ATTR_RDONLY)
    os.chdir(root)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def _set_attributes(place: Path, flags: int, added: int, removed: int) -> None:
    """Change the attributes of a mount, by a system call of Linux 5.12 or later."""
    attributes = struct.pack("=4Q", added, removed, 0, 0)
    size = ctypes.c_size_t(len(attributes))
    _call("syscall", SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(place), flags, attributes, size)


def _mount(source: str, place: Path, kind: str, flags: int, data: str = "") -> None:
    names = (source.encode(), os.fsencode(place), kind.encode())
    _call("mount", *names, ctypes.c_ulong(flags), data.encode())


# ------------------------------------------------------------------------------ privileges


def _works(function: Callable, *arguments: object) -> bool:
    """Return whether a function raises nothing in a child process."""
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            function(*arguments)
            os._exit(0)
        os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _check(isolation: Isolation, *folders: str) -> None:
    """Raise OSError if a run that lists some folders does not succeed."""
    outcome = run(lambda _: repr(list(map(os.listdir, folders))).encode(), isolation, Limits(), {})
    if outcome.result is None:
        raise OSError(outcome.trace)


def _change_user(uid: int, reads_all: bool = False) -> None:
    """Become a user without privileges, except optionally that of reading every file."""
    if reads_all:
        _prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    if reads_all:
        _set_capabilities(1 << CAP_DAC_READ_SEARCH)


def _set_capabilities(mask: int) -> None:
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    # Effective, permitted, inheritable; the second three are for capabilities above 31.
    _call("capset", header, struct.pack("=6I", mask, mask, 0, 0, 0, 0))


def _refuse_calls() -> None:
    """Let the system refuse REFUSED_CALLS to this process, and new processes, but not threads.

    The limits on CPU time and memory are those of a process: with 32, a run would have 32 times as
    much.
    """
    if os.uname().machine not in REFUSED_CALLS:
        return
    architecture, clone, clone3, fcntl_call, *calls = REFUSED_CALLS[os.uname().machine]
    number, locks = len(calls), len(REFUSED_OF_FCNTL)
    equal = BPF_JUMP_IF_EQUAL
    instructions = [  # each with the number of instructions to skip, if it is true and if not
        (BPF_LOAD, 0, 0, 4),  # the architecture
        (equal, 0, number + locks + 10, architecture),
        (BPF_LOAD, 0, 0, 0),  # the number of the call
        (BPF_JUMP_IF_LARGER, number + locks + 8, 0, 0x3FFFFFFF),  # of another calling convention
        *((equal, number + locks + 7 - i, 0, call) for i, call in enumerate(calls)),
        (equal, 0, 1, clone3),
        (BPF_RETURN, 0, 0, SECCOMP_ERRNO | errno.ENOSYS),  # the C library then calls clone
        (equal, 0, 2, clone),
        (BPF_LOAD, 0, 0, 16),  # its first argument
        (BPF_JUMP_IF_ANY_BIT, locks + 2, locks + 3, CLONE_THREAD),
        (equal, 0, locks + 1, fcntl_call),
        (BPF_LOAD, 0, 0, 24),  # its second argument
        *((equal, locks - i, 0, command) for i, command in enumerate(REFUSED_OF_FCNTL)),
        (BPF_RETURN, 0, 0, SECCOMP_ALLOW),
        (BPF_RETURN, 0, 0, SECCOMP_ERRNO | errno.EACCES),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in instructions))
    program = struct.pack("@HP", len(instructions), ctypes.addressof(code))
    _call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _call(name: str, *arguments: object) -> None:
    """Call a function of the C library.

    Raises:
        OSError: it fails.
    """
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
