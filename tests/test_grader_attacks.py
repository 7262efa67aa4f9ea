"""The grader under attack: endless loops, crashes, floods, forgeries and files brought along.

As in ``test_grader``, a submission is the solution's four files with something written into one of
them; the limits on time are shortened.
"""

import ctypes
import os
import py_compile
import re
import signal
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest

from grader import sandbox

from grading import (
    GRADER_REPLACED,
    PARENT_KILLED,
    QUICK,
    ROOT,
    SOLUTION,
    WRONG,
    at_import,
    in_forward,
    is_whole,
    server_of,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is made for Linux")

SLOW = pytest.mark.slow
# Where the grader is not, submissions run as its own user and can write wherever it can.
AS_ROOT = os.geteuid() == 0
SHORT = {"cpu": 1, "wall": 3.0}  # limits for what would not end


# ------------------------------------------------------- 5. loops, hanging calls, crashes

LOOP = "while True:\n    try:\n        1 / 0\n    except BaseException:\n        pass"
STOPPED = "stopped after 1 s of CPU time or 3 s in total"
ENDS = {
    "an endless loop": (LOOP, STOPPED),
    "a lock": ("import threading\nthreading.Semaphore(0).acquire()", STOPPED),
    "a segmentation fault": ("import ctypes\nctypes.string_at(0)", r"crashed \(SIGSEGV\)"),
    # The first process of a namespace ignores the signals that it sends itself.
    "abort": ("import os\nos.abort()", r"crashed \(SIG(ABRT|SEGV)\)"),
    "os._exit": ("import os\nos._exit(0)", "ended by itself, with exit status 0"),
    "a kill": ("import os\nos.kill(os.getpid(), 9)", "was killed; it may have|is None; expected"),
    "sys.exit": ("import sys\nsys.exit(0)", "the code ends the program"),
    "input": ("__builtins__['input']()", "nobody to answer input()"),
    "a recursion": ("return self.forward(input)", "RecursionError"),
}
SLOW_ENDS = {
    "a loop deaf to signals": (
        "import signal\nfor number in range(1, 65):\n    try:\n        "
        "signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError):\n"
        "        pass\n" + LOOP,
        STOPPED,
    ),
    "a native call that hangs": ("import ctypes\nctypes.CDLL(None).pause()", STOPPED),
    "sleep": ("import time\ntime.sleep(1000)", STOPPED),
    "a bottomless recursion": (
        "import sys\nsys.setrecursionlimit(10**9)\nreturn self(input)",
        "crashed|killed|stopped|Recursion|memory",
    ),
}


@pytest.mark.parametrize("end", [*ENDS, *(pytest.param(e, marks=SLOW) for e in SLOW_ENDS)])
def test_code_that_never_returns_costs_its_own_points_only(end, spoilt):
    code, pattern = (ENDS | SLOW_ENDS)[end]
    text = in_forward(code)
    message = spoilt("mlp.py", text, **SHORT)
    assert re.search(pattern, message) or pattern in message, message
    if end not in ("a loop deaf to signals", "os._exit", "a kill", "a bottomless recursion"):
        assert re.search(r"mlp.py(, line \d+)?,? in forward", message), message


def test_an_endless_loop_at_import_is_left_out(spoilt):
    assert spoilt("mlp.py", at_import(LOOP), passes=True, **SHORT) == ""


def test_an_endless_loop_in_a_definition_is_stopped(spoilt):
    inside = "class A:\n" + textwrap.indent(LOOP, "    ")
    message = spoilt("mlp.py", at_import(inside), **SHORT)
    assert STOPPED in message and re.search(r"\(mlp.py(, line [2-6])? in A", message), message


@SLOW
def test_a_loop_in_every_file_keeps_the_total(graded):
    inside = "class A:\n" + textwrap.indent(LOOP, "    ")
    result = graded({name: at_import(inside, name) for name in SOLUTION}, cpu=1, wall=2.0)
    assert is_whole(result.results) and result.score == 0


# ------------------------------------------------------- 6. memory, processes, orphans


@pytest.mark.parametrize(
    "code", ["torch.ones(2 << 30)", "bytearray(8 << 30)", "[0] * (1 << 30)", "np.ones(1 << 30)"]
)
def test_eight_gigabytes_are_refused(code, spoilt):
    message = spoilt("mlp.py", in_forward(f"import numpy as np\n{code}\n{WRONG}"))
    assert "memory" in message.lower() or "allocate" in message, message
    assert "mlp.py, line" in message


def check_nothing_runs():
    """Check that only the server is left of its processes, all of which have one command line."""
    number = server_of("cifar10")._process.pid
    command = Path("/proc", str(number), "cmdline").read_bytes()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            state = path.with_name("stat").read_text().rpartition(")")[2].split()[0]
            if path.read_bytes() == command and state != "Z":
                found.append(path.parent.name)
    assert found == [str(number)]


def test_a_fork_bomb_leaves_no_process_behind(spoilt):
    code = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
    spoilt("mlp.py", in_forward(code), cpu=1, wall=2.0)
    check_nothing_runs()


def test_a_thousand_threads_are_refused(spoilt):
    code = (
        "import threading, time\nfor _ in range(1000):\n"
        f"    threading.Thread(target=time.sleep, args=(60,)).start()\n{WRONG}"
    )
    assert "can't start new thread" in spoilt("mlp.py", in_forward(code), **SHORT)


MORE = {
    "in processes": "for _ in range(3):\n    if os.fork() == 0:\n        time.sleep(9)",
    "in another program": "os.execv(sys.executable, [sys.executable, '-c', 'bytearray(2 << 30)'])",
    "in file systems": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10020000) == 0, 'denied'",
    "in sockets": "import socket\nsockets = [socket.socketpair() for _ in range(500)]",
}


@pytest.mark.parametrize("where", MORE)
def test_the_memory_is_limited_everywhere(where, spoilt):
    message = spoilt("mlp.py", in_forward(f"import os, sys, time\n{MORE[where]}\nreturn right"))
    assert "denied" in message or "Too many open files" in message


def test_an_orphan_in_its_own_session_is_gone_afterwards(tmp_path):
    """On systems that cannot refuse new processes; without ``visible``, none are refused here."""
    number = tmp_path / "number"
    number.touch()
    number.chmod(0o666)

    def leave_an_orphan(code: Path) -> bytes:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                number.write_text(str(os.getpid()))
                time.sleep(60)
            os._exit(0)
        while not number.read_text():
            time.sleep(0.01)
        return b"done"

    pid = os.fork()
    if pid == 0:  # which adopts the orphan
        outcome = sandbox.run(leave_an_orphan, sandbox.Isolation(tmp_path), sandbox.Limits(), {})
        os._exit(outcome.result != b"done")
    assert os.waitpid(pid, 0)[1] == 0
    assert not Path("/proc", number.read_text()).exists()


# ----------------------------------------------------------------------------- 7. output


def test_megabytes_of_output_are_read_and_dropped(spoilt):
    code = (
        "import os, sys\nfor _ in range(30):\n    print('\\x1b[31m' * 100_000)\n"
        "    os.write(2, bytes(range(256)) * 1000)\nsys.stdout.flush()\nreturn right"
    )
    spoilt("mlp.py", in_forward(code), passes=True)


def test_an_error_message_is_short_and_printable(spoilt):
    code = "raise ValueError('\\x1b[31m\\x00\\x07\\udcff\\u202e' + 'x' * 10**7)"
    message = spoilt("mlp.py", in_forward(code))
    assert len(message) < 1000 and all(c.isprintable() or c == "\n" for c in message)
    assert "mlp.py, line" in message


def test_a_result_of_many_megabytes_is_refused(spoilt):
    message = spoilt("mlp.py", in_forward("return right.sum() + right.new_zeros(5, 4 << 20)"))
    assert "returned more than 32 MB" in message or "memory" in message


# ---------------------------------------------------------------------------- 11. forgery

RESULTS_WRITTEN = """
import atexit, json, os, signal
def write(*arguments):
    text = json.dumps({"score": 45, "tests": [{"name": "all", "score": 45, "max_score": 45}]})
    for folder in (".", "..", "../..", "/autograder/results", "RESULTS"):
        try:
            with open(os.path.join(folder, "results.json"), "w") as file:
                file.write(text)
        except OSError:
            pass
atexit.register(write)
for number in range(1, 65):
    try:
        signal.signal(number, write)
    except (OSError, ValueError):
        pass
write()
"""
RECORD_SENT = """
import io, json, os, struct
import numpy as np
buffer = io.BytesIO()
np.savez(buffer, index=np.array(json.dumps(ITEMS)), **{"0": np.zeros((5, 4), np.float32)})
content = b"R" + buffer.getvalue()
os.write(3, struct.pack("<Q", len(content)) + content)
os._exit(0)
"""
FORGERIES = {
    "the grader's functions replaced": GRADER_REPLACED,
    "results.json written at exit and by signals": RESULTS_WRITTEN,
    "a record of its own sent": RECORD_SENT.replace("ITEMS", "[]"),
    "a record of zeros sent": RECORD_SENT.replace(
        "ITEMS", '[["Linear(7, 4)", {"kind": "same", "tolerance": 1e9}]]'
    ),
    "a record of nonsense sent": RECORD_SENT.replace("ITEMS", "{'a': [None]}"),
    "a result of nonsense sent": "import os\nos.write(3, bytes(8)); os._exit(0)",
    "a damaged archive sent": (
        "import os, struct\nos.write(3, struct.pack('<Q', 9) + b'RPK\\3\\4abcd'); os._exit(0)"
    ),
    "much too long a length sent": (
        "import os, struct\nos.write(3, struct.pack('<Q', 2**63) + b'R'); os._exit(0)"
    ),
    "an archive that grows without end sent": (
        "import io, os, struct, zipfile\nbuffer = io.BytesIO()\n"
        "with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:\n"
        "    archive.writestr('index.npy', b'\\x93NUMPY\\1\\0\\x76\\0' + (\"{'descr': '|u1', "
        "'fortran_order': False, 'shape': (1099511627776,)}\".ljust(117) + '\\n').encode())\n"
        "content = b'R' + buffer.getvalue()\n"
        "os.write(3, struct.pack('<Q', len(content)) + content); os._exit(0)"
    ),
    "a pickle sent": (
        "import io, os, struct\nimport numpy as np\nbuffer = io.BytesIO()\n"
        "np.savez(buffer, index=np.array([print], dtype=object))\n"
        "content = b'R' + buffer.getvalue()\n"
        "os.write(3, struct.pack('<Q', len(content)) + content); os._exit(0)"
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_scores_nothing(forgery, spoilt, tmp_path):
    code = FORGERIES[forgery].replace("RESULTS", str(tmp_path)).strip()
    spoilt("mlp.py", in_forward(f"{code}\n{WRONG}"))
    assert not (AS_ROOT and list(tmp_path.rglob("results.json")))


def test_a_forgery_at_import_scores_nothing(spoilt, tmp_path):
    code = (GRADER_REPLACED + RESULTS_WRITTEN).replace("RESULTS", str(tmp_path))
    spoilt("mlp.py", in_forward(WRONG, head=code))
    assert not (AS_ROOT and list(tmp_path.rglob("results.json")))


def test_killing_the_parent_scores_nothing_and_stops_nothing(spoilt):
    spoilt("mlp.py", in_forward(f"{PARENT_KILLED.strip()}\n{WRONG}"), **SHORT)


def test_a_process_whose_name_is_no_text_harms_nobody(graded):
    """Any process of the machine may be called so, such as another submission at the same time."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        prctl_set_name = 15
        ctypes.CDLL(None).prctl(prctl_set_name, b"\xff\nUid:", 0, 0, 0)
        os.write(writing, b"!")
        signal.pause()
    os.read(reading, 1)
    try:
        assert graded({}, QUICK["utils.py"]).passed == {QUICK["utils.py"]}
        assert pid in sandbox._children()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)


def test_a_file_left_for_the_next_case_is_of_no_use(graded):
    """What one case writes into its folder, the next one does not find."""
    code = (
        "import os\npath, own = os.path.expanduser('~/left'), str(os.getpid())\n"
        "if os.path.exists(path) and open(path).read() != own:\n    return right + 1\n"
        "open(path, 'w').write(own)\nreturn right"
    )
    cases = ["linear_is_the_affine_map", "mlp_computes_its_logits", "mlp_takes_any_batch"]
    assert graded({"mlp.py": in_forward(code)}, *cases).passed == set(cases)


# ------------------------------------------------------- 12. files that it brings along


@pytest.mark.parametrize("correct", [True, False])
def test_files_beside_the_four_are_not_imported(correct, graded):
    boom = "raise RuntimeError('imported')\n"
    names = ("torch.py", "numpy/__init__.py", "conftest.py", "sitecustomize.py", "test.py")
    names += ("usercustomize.py", "grader/__init__.py", "io.py", "json.py", "mlp.pth")
    text = SOLUTION["mlp.py"] if correct else in_forward(WRONG)
    result = graded({"mlp.py": text} | dict.fromkeys(names, boom), *QUICK.values())
    assert result.passed == set(QUICK.values()) - (set() if correct else {QUICK["mlp.py"]})


def test_a_link_is_not_followed(graded, tmp_path):
    """A link to a solution that lies on the same machine would be the whole score."""
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "mlp.py").symlink_to(ROOT / "mlp.py")
    (folder / "sub").symlink_to(ROOT)
    result = graded({"mlp.py": None, "resnet18.py": None}, *QUICK.values())
    assert result.passed == {QUICK["mlpmixer.py"], QUICK["utils.py"]}
    assert "mlp.py is a link; submit the file itself." in result.results["output"]
    assert "resnet18.py is missing." in result.results["output"]


def test_compiled_code_beside_a_file_is_not_used(graded, tmp_path):
    """A .pyc in __pycache__ with the right time stamp would run in place of the source."""
    source = tmp_path / "other.py"
    source.write_text("raise RuntimeError")
    py_compile.compile(str(source), str(tmp_path / "other.pyc"))
    compiled = (tmp_path / "other.pyc").read_bytes()
    cached = f"__pycache__/mlp.{sys.implementation.cache_tag}.pyc"
    assert graded({cached: compiled, "mlp.pyc": compiled}, QUICK["mlp.py"]).score > 0
