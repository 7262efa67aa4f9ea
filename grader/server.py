"""The process that student code is forked from, and the requests to it.

``python -m grader.server`` imports PyTorch and the cases once and then only forks: it never reads a
request, so neither a submission nor a part of the solution ever passes through its memory. Each
fork reads one request from a connection of its own. It runs a case in a child of its own and
returns the outcome, or compares two records and runs no student code.
"""

import gc
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from grader import sandbox
from grader.assignment import ROOT, Assignment, Case, load_assignment, load_manifest

START = 300.0  # seconds in which the process has to start on a busy machine
PATIENCE = 60.0  # seconds on top of a run's own limit until its answer
SHARED = "submissions that are graded at the same time share /tmp"


class Stopped(RuntimeError):
    """The server was closed while something waited for it."""


class Killed(Exception):
    """The process that ran a case ended without an answer."""


class Server:
    """Runs cases of an assignment; several threads may use it at once.

    The process starts with the first request, and again if something has killed it.

    Args:
        name: of the assignment.
        jobs: number of submissions that are graded at the same time.
    """

    def __init__(self, name: str, jobs: int = 1):
        self._name, self.jobs = name, jobs
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._connections: set[socket.socket] = set()
        self._closed = False

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def assignment(self) -> Assignment:
        """The assignment, loaded without importing its cases here."""
        answer, _ = self.request("list_cases", 0.0)
        cases = (Case(**fields | {"stand_ins": tuple(fields["stand_ins"])}) for fields in answer)
        return Assignment(self._name, load_manifest(self._name), tuple(cases))

    def run(
        self,
        limits: sandbox.Limits,
        files: dict[str, bytes],
        trusted: bool = False,
        **arguments: Any,
    ) -> sandbox.Outcome:
        """Run a case on some files, or only import one.

        Args:
            limits: of the run.
            files: content by name.
            trusted: whether the files are the solution's.
            arguments: those of ``trial.conduct``, and the name of the case if there is one.

        Raises:
            Killed: the process ended without an answer.
            Stopped: the server was closed.
            RuntimeError: an error in the grader.
        """
        answer, result = self.request(
            "run", limits.wall, limits=limits, files=files, trusted=trusted, arguments=arguments
        )
        return sandbox.Outcome(None if answer["ended"] else result, **answer)

    def request(self, kind: str, seconds: float, **arguments: Any) -> tuple[Any, bytes]:
        """Send a request and return the answer, an object and bytes.

        Args:
            kind: the name of a function below.
            seconds: until the answer, on top of PATIENCE.
            arguments: of the function.

        Raises:
            Killed: the process ended without an answer.
            Stopped: the server was closed.
            RuntimeError: an error in the grader.
        """
        pid, own = self._fork()
        try:
            with Connection(os.dup(own.fileno())) as connection:
                connection.send_bytes(pickle.dumps((kind, arguments)))
                if not connection.poll(seconds + PATIENCE):
                    with suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                    raise EOFError
                answer = json.loads(connection.recv_bytes())
                result = connection.recv_bytes()
                connection.poll(PATIENCE)  # until the process and those of the run have ended
        except (OSError, EOFError, ValueError) as error:
            if self._closed:
                raise Stopped("the grading was stopped") from None
            raise Killed from error
        finally:
            with self._lock:
                self._connections.discard(own)
            own.close()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"], result

    def _fork(self) -> tuple[int, socket.socket]:
        """Let the server fork; return the process's number and this end of its connection."""
        with self._lock:
            while True:
                if self._closed:
                    raise Stopped("the grading was stopped")
                new = self._process is None
                if new:
                    self._start()
                own, other = socket.socketpair()
                with other, suppress(OSError):
                    socket.send_fds(self._control, [b"?"], [other.fileno()])
                    if pid := int.from_bytes(self._control.recv(4), "little"):
                        self._connections.add(own)
                        return pid, own
                own.close()
                self._end()
                if new:
                    raise RuntimeError("the grader's processes cannot be started")

    def _start(self) -> None:
        sandbox.remove_abandoned(Path(tempfile.gettempdir()))
        self._folder = tempfile.mkdtemp(prefix="grader-")
        self._held = sandbox.hold(Path(self._folder))
        os.chmod(self._folder, 0o711)
        self._control, other = socket.socketpair()
        self._control.settimeout(START)
        with other:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "grader.server"),
                    *(self._name, str(other.fileno()), self._folder),
                ],
                cwd=ROOT,
                # Threads would not survive the fork; packages write into TMPDIR at import.
                # No other variable: student code can read them.
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
                | dict.fromkeys(THREADS, "1")
                | dict.fromkeys(("TMPDIR", "MPLCONFIGDIR"), self._folder),
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,  # Ctrl-C ends it through this process
            )

    def _end(self) -> None:
        """End the process; it waits for its children, whose connections end too."""
        if self._process is None:
            return
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._control.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._held.close()
        sandbox.remove(Path(self._folder))

    def close(self) -> None:
        """End all runs; requests that wait for one raise ``Stopped``."""
        self._closed = True
        with self._lock:
            self._end()


# ------------------------------------------------------------------ in the server's process

ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def serve(name: str, control: socket.socket, folder: Path) -> None:
    """Fork for each descriptor that arrives, until the other end closes."""
    # Imported once here rather than in every case. Optimizers and deterministic algorithms would
    # import the last two, which takes a second.
    with suppress(ImportError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import matplotlib.figure
        import matplotlib.pyplot  # noqa: F401
        import numpy.random  # noqa: F401
    with suppress(Exception), warnings.catch_warnings():  # it may not match this PyTorch
        warnings.simplefilter("ignore")
        import torchvision  # noqa: F401
    import torch._dynamo
    import torch._inductor.config

    from grader import judge, trial  # noqa: F401

    torch.set_num_threads(1)
    assignment = load_assignment(name)
    isolation = sandbox.isolate(folder)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    gc.collect()
    gc.freeze()
    with suppress(BrokenPipeError):
        while True:
            message, descriptors, *_ = socket.recv_fds(control, 1, 1)
            if not message:
                break
            try:
                pid = os.fork()
            except OSError:
                pid = -1
            if pid == 0:
                try:
                    control.close()
                    os.setsid()  # signals to this process group do not reach the server
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _answer(Connection(descriptors[0]), assignment, isolation)
                finally:
                    os._exit(0)
            os.close(descriptors[0])
            control.send(max(pid, 0).to_bytes(4, "little"))
    with suppress(ChildProcessError):
        os.wait()  # for all, because their signals are ignored
    sandbox.remove(folder)
    os._exit(0)  # some packages print at exit


def _answer(connection: Connection, assignment: Assignment, isolation: sandbox.Isolation) -> None:
    """Read a request and answer it."""
    kind, arguments = pickle.loads(connection.recv_bytes())
    functions: dict[str, Callable[..., tuple[Any, bytes]]] = {
        "list_cases": _list_cases,
        "run": _run,
        "probe": _probe,
        "judge": _judge,
    }
    result = b""
    try:
        value, result = functions[kind](connection, assignment, isolation, **arguments)
        answer = {"value": value}
    except BrokenPipeError:  # nobody waits any longer
        return
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    connection.send_bytes(json.dumps(answer).encode())
    connection.send_bytes(result)


def _list_cases(
    connection: Connection, assignment: Assignment, isolation: sandbox.Isolation
) -> tuple[list[dict], bytes]:
    """Return the cases without what only this process can hold."""
    unnamed = {"check", "forbidden"}
    return [
        {key: value for key, value in vars(case).items() if key not in unnamed}
        for case in assignment.cases
    ], b""


def _run(
    connection: Connection,
    assignment: Assignment,
    isolation: sandbox.Isolation,
    limits: sandbox.Limits,
    files: Mapping[str, bytes],
    trusted: bool,
    arguments: dict[str, Any],
) -> tuple[dict, bytes]:
    """Run a case, or import a file if none is named."""
    from grader.trial import conduct

    case = _find(assignment, arguments.pop("case")) if "case" in arguments else None
    function = partial(_without_grader, partial(conduct, case, **arguments))
    outcome = sandbox.run(function, isolation, limits, files, trusted, connection.fileno())
    return {"ended": outcome.ended, "trace": outcome.trace}, outcome.result or b""


def _without_grader(function: Callable[[Path], bytes], code: Path) -> bytes:
    """Call a function in the child, where ``import grader`` then finds nothing to replace."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "grader"]:
        del sys.modules[name]
    return function(code)


def _probe(
    connection: Connection,
    assignment: Assignment,
    isolation: sandbox.Isolation,
    places: Mapping[str, Sequence[str]],
    jobs: int,
) -> tuple[list[str], bytes]:
    """Return what is missing from the isolation of runs, with this number at the same time."""
    outcome = sandbox.run(lambda code: sandbox.probe(places), isolation, sandbox.Limits(), {})
    if outcome.result is None:
        raise RuntimeError(f"the isolation cannot be examined: {outcome.ended} {outcome.trace}")
    shared = [] if isolation.namespaces or jobs == 1 else [SHARED]
    return [*isolation.gaps, *shared, *json.loads(outcome.result)], b""


def _judge(
    connection: Connection,
    assignment: Assignment,
    isolation: sandbox.Isolation,
    case: str,
    record: bytes,
    expected: Path,
    brief: bool,
) -> tuple[str, bytes]:
    """Compare a record with the expected one.

    Args:
        connection: of the request.
        assignment: of the case.
        isolation: of this machine.
        case: its name.
        record: of the submission.
        expected: folder of the expected records.
        brief: return only where they differ.

    Returns:
        A message, "" if the case passed.
    """
    from grader import judge

    sandbox.limit(sandbox.Limits())  # forged bytes may take any amount of memory
    wanted = judge.read_record((expected / f"{case}.npz").read_bytes())
    if not wanted:
        raise ValueError("the expected record is empty")
    try:
        return judge.compare(judge.read_record(record), wanted, brief), b""
    except Exception as fault:  # forged bytes may raise anything
        return "the record" if brief else f"the code damaged the grader's record: {fault}", b""


def _find(assignment: Assignment, name: str) -> Case:
    return next(case for case in assignment.cases if case.name == name)


if __name__ == "__main__":
    _, name, descriptor, folder = sys.argv
    try:
        serve(name, socket.socket(fileno=int(descriptor)), Path(folder))
    except ImportError as error:
        sys.exit(f"python -m grader: {error}")
