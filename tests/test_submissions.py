"""What is read of a submission: damaged archives, strange folders, names like the right one.

``collect`` never raises: whatever a submission is, the notes say what is wrong with it.
"""

import io
import os
import socket
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grader import submissions
from grader.submissions import collect

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the grader needs Linux or macOS")

NAMES = ("mlp.py", "resnet18.py", "mlpmixer.py", "utils.py")
FILES = {name: f"# {name}\nx = 1\n".encode() for name in NAMES}


def archive_of(files, method=zipfile.ZIP_DEFLATED):
    """The bytes of a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def patched(content, offset, new):
    """An archive with other bytes at an offset in the entry of its first file in the directory."""
    start = content.index(b"PK\1\2") + offset
    return content[:start] + new + content[start + len(new) :]


@pytest.fixture
def submit(tmp_path):
    """A function that collects from a folder of files, or from an archive of some bytes."""

    def submitted(what):
        path = tmp_path / "submission"
        if isinstance(what, bytes):
            path.write_bytes(what)
        else:
            for name, content in what.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
        return collect(path, NAMES)

    return submitted


both = pytest.mark.parametrize("pack", [dict, archive_of], ids=["folder", "archive"])


@both
def test_the_submitted_files_are_read_without_a_note(pack, submit):
    assert submit(pack(FILES | {"report.pdf": b"%PDF"})) == (FILES, [])


@both
@pytest.mark.parametrize("place", ["homework/", "a/b/", "./"])
def test_files_in_a_folder_are_taken_from_it(place, pack, submit):
    files, notes = submit(pack({place + name: content for name, content in FILES.items()}))
    assert files == FILES
    if place == "./":  # the top of the submission
        assert notes == []
    else:
        assert notes == [f"{name} was taken from {place}{name}." for name in NAMES]


@both
def test_copies_that_nobody_means_to_submit_are_no_candidates(pack, submit):
    copies = ("__MACOSX/._", ".git/", "venv/lib/site-packages/pip/", ".ipynb_checkpoints/", "._")
    files = {f"{copy}{name}": b"\0" for copy in copies for name in NAMES}
    assert submit(pack(files))[1] == [f"{name} is missing." for name in NAMES]
    own = {f"homework/{name}": content for name, content in FILES.items()}
    assert submit(pack(files | own))[0] == FILES


def test_of_two_candidates_none_is_used(submit):
    files, notes = submit({"a/mlp.py": b"", "b/mlp.py": b""})
    assert files == {}
    assert notes[0] == "mlp.py was found in several places: a/mlp.py, b/mlp.py. None was used."


@both
@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ("utils (1).py", "utils.py"),
        ("my work/Utils - Copy.py", "utils.py"),
        ("Copie de utils.py", "utils.py"),
        ("utils.py.txt", "utils.py"),
        ("util.py", "utils.py"),
        ("mlp_mixer.py", "mlpmixer.py"),
        ("MLP-Mixer (2).PY", "mlpmixer.py"),
        ("mlp_final.py", "mlp.py"),
        ("resnet-18.py", "resnet18.py"),
        ("resnet.py", "resnet18.py"),
        ("utlis.py", "utils.py"),
        ("mpl.py", "mlp.py"),
        ("resent18.py", "resnet18.py"),
    ],
)
def test_a_name_like_the_missing_one_is_suggested(found, wanted, pack, submit):
    files, notes = submit(pack({found: b""}))
    assert files == {}
    advice = f"{wanted} is missing. Did you mean {found}? Rename it to {wanted}."
    assert notes == [advice if name == wanted else f"{name} is missing." for name in NAMES]


def test_the_code_of_a_notebook_is_to_be_exported(submit):
    assert submit({"Utils.ipynb": b"{}"})[1][3] == (
        "utils.py is missing. Export the code of Utils.ipynb to utils.py."
    )
    advice = "utils.py is missing. Did you mean utils2.py? Rename it to utils.py."
    assert submit({"Utils.ipynb": b"{}", "utils2.py": b""})[1][3] == advice


@pytest.mark.parametrize(
    "found", ["main.py", "test.py", "data.py", "main.ipynb", "utils.json", "mlp.pt", "py"]
)
def test_another_name_is_not_suggested(found, submit):
    assert submit({found: b""})[1] == [f"{name} is missing." for name in NAMES]


def test_of_two_members_with_one_name_the_last_counts_as_if_unpacked(submit):
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = archive_of({"mlp.py": b"old", "other": b""})
        buffer = io.BytesIO(content)
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("mlp.py", b"new")
    assert submit(buffer.getvalue())[0] == {"mlp.py": b"new"}


def test_members_outside_the_archive_are_not_read(submit):
    files = {"/mlp.py": b"", "../mlp.py": b"", "a/../../mlp.py": b"", "..\\mlp.py": b""}
    assert submit(archive_of(files)) == ({}, [f"{name} is missing." for name in NAMES])


def method(number):
    return struct.pack("<H", number)


# What was done to an archive of the four files, and the note about mlp.py or the whole of it.
DAMAGES = {
    "an encrypted file": (lambda c: patched(c, 8, b"\1"), "mlp.py is encrypted"),
    "bzip2": (lambda c: patched(c, 10, method(12)), "mlp.py is compressed in an unusual way"),
    "an unknown method": (lambda c: patched(c, 10, method(77)), "mlp.py is compressed in an un"),
    "a link": (
        lambda c: patched(c, 38, struct.pack("<I", (stat.S_IFLNK | 0o777) << 16)),
        "mlp.py is a link; submit the file itself.",
    ),
    "a size of 3 GB": (lambda c: patched(c, 24, struct.pack("<I", 3 << 30)), "mlp.py has more th"),
    "a size too small": (lambda c: patched(c, 24, struct.pack("<I", 3)), "mlp.py is damaged in "),
    "a wrong checksum": (lambda c: patched(c, 16, b"\1\2\3\4"), "mlp.py is damaged in the zip ar"),
    "an offset beyond the end": (lambda c: patched(c, 42, b"\xff\xff\xff\x7f"), "mlp.py is dama"),
    "a damaged stream": (lambda c: c[:36] + b"\xff" * 9 + c[45:], "mlp.py is damaged in the zip"),
    "another name in front": (lambda c: c[:30] + b"XXX" + c[33:], "mlp.py is damaged in the zip"),
    "a name that is not UTF-8": (
        lambda c: patched(patched(c, 8, struct.pack("<H", 0x800)), 46, b"\xff\xfe"),
        "submission is a damaged zip archive",
    ),
    "a damaged directory": (lambda c: patched(c, 0, b"XX"), "submission is a damaged zip archive"),
    "a directory of 4 GB": (
        lambda c: c[:-10] + b"\xff\xff\xff\xef" + c[-6:],
        "submission is a damaged zip archive",
    ),
    "half": (lambda c: c[: len(c) // 2], "submission is a damaged zip archive"),
    "nothing": (lambda c: b"", "submission is neither a folder nor a zip archive."),
    "text": (lambda c: b"from torch import nn\n" * 999, "submission is neither a folder nor a zip"),
    "zeros": (lambda c: bytes(1 << 20), "submission is neither a folder nor a zip archive."),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_archive_is_explained_and_the_other_files_are_read(damage, submit):
    change, words = DAMAGES[damage]
    files, notes = submit(change(archive_of(FILES)))
    (note,) = notes
    assert note.startswith(words) and note.endswith(".") and "\n" not in note
    others = {name: content for name, content in FILES.items() if name != "mlp.py"}
    assert files == (others if words.startswith("mlp.py") else {})


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_an_archive_damaged_at_random_never_raises(data, tmp_path):
    """Bytes overwritten, cut out or put in, anywhere, in archives of all methods."""
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    content = bytearray(archive_of(FILES, data.draw(st.sampled_from(methods))))
    for _ in range(data.draw(st.integers(1, 8))):
        start = data.draw(st.integers(0, len(content)))
        end = start + data.draw(st.integers(0, 4))
        content[start:end] = data.draw(st.binary(max_size=4))
    path = tmp_path / "submission.zip"
    path.write_bytes(content)
    files, notes = collect(path, NAMES)
    assert files.keys() <= set(NAMES)
    # A file that is read is the right one: the checksum of the archive tells.
    assert all(files[name] == FILES[name] for name in files)
    assert len(notes) >= bool(len(files) < 4)
    assert all(note.isprintable() and len(note) <= 300 for note in notes)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200), start=st.sampled_from([b"", b"PK\3\4", b"PK\5\6"]))
def test_any_bytes_are_explained(content, start, tmp_path):
    path = tmp_path / "submission.zip"
    path.write_bytes(start + content)
    files, (note, *_) = collect(path, NAMES)
    assert files == {} and note.isprintable()


def test_zeros_without_end_are_not_unpacked(submit):
    """64 MB in an archive of 64 kB, with the true size and with a small one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("mlp.py", "w") as member:
            for _ in range(64):
                member.write(bytes(1 << 20))
        archive.writestr("utils.py", FILES["utils.py"])
    content = buffer.getvalue()
    for archived, words in (
        (content, "mlp.py has more than 1,048,576 bytes"),
        (patched(content, 24, struct.pack("<I", 1000)), "mlp.py is damaged in the zip archive"),
    ):
        files, notes = submit(archived)
        assert files == {"utils.py": FILES["utils.py"]}
        assert notes[0].startswith(words)


def test_an_archive_of_too_many_files_is_refused(submit, monkeypatch):
    monkeypatch.setattr(submissions, "LARGEST_DIRECTORY", 10_000)
    content = archive_of({f"{number}.py": b"" for number in range(1000)})
    assert submit(content) == ({}, ["submission is a zip archive of too many files."])


@pytest.mark.parametrize("number", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_members_are_searched(number, submit):
    content = archive_of({f"{index}.txt": b"" for index in range(number)} | FILES)
    assert submit(content) == (FILES, [])


def test_a_folder_of_too_many_files_is_searched_from_the_top(submit, monkeypatch):
    monkeypatch.setattr(submissions, "MOST_ENTRIES", 50)
    files, notes = submit(FILES | {f"deep/{number}.txt": b"" for number in range(100)})
    assert files == FILES
    assert notes == ["Only 50 files and folders were searched."]


@pytest.fixture
def deep(tmp_path):
    """A folder of 3,000 nested folders: deeper than a path may be long and Python may recurse."""
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("a", dir_fd=folder)
        inner = os.open("a", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path / "a"], check=True)  # pytest's clean-up recurses


def test_3_000_nested_folders_are_no_obstacle(deep):
    for name, content in FILES.items():
        (deep / name).write_bytes(content)
    files, (note,) = collect(deep, NAMES)
    assert files == FILES
    assert note.startswith("The folder ") and note.endswith(" cannot be read: File name too long.")


def test_links_pipes_sockets_and_devices_are_not_read(tmp_path):
    """A pipe would wait for a writer for ever."""
    os.mkfifo(tmp_path / "mlp.py")
    (tmp_path / "resnet18.py").symlink_to(tmp_path / "mlp.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(tmp_path)  # the path of a socket must be short
        try:
            server.bind("mlpmixer.py")
        finally:
            os.chdir(before)
    wanted = [
        "mlp.py is not a regular file.",
        "resnet18.py is a link; submit the file itself.",
        "mlpmixer.py is not a regular file.",
        "utils.py is missing.",
    ]
    if os.geteuid() == 0:
        try:
            os.mknod(tmp_path / "utils.py", stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
            wanted[3] = "utils.py is not a regular file."
        except PermissionError:  # a container may not
            pass
    assert collect(tmp_path, NAMES) == ({}, wanted)


@pytest.mark.parametrize("kind", ["pipe", "device", "missing", "dangling link"])
def test_what_is_neither_a_folder_nor_an_archive_says_so(kind, tmp_path):
    path = tmp_path / "submission"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "elsewhere")
    path = Path("/dev/zero") if kind == "device" else path
    words = "is neither a folder nor a zip archive"
    if kind in ("missing", "dangling link"):
        words = "cannot be read: No such file or directory"
    assert collect(path, NAMES) == ({}, [f"{path.name} {words}."])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_what_may_not_be_read_is_named(submit, tmp_path):
    submit(FILES | {"inner/mlp.py": b""})
    (tmp_path / "submission" / "inner").chmod(0)
    (tmp_path / "submission" / "mlp.py").chmod(0)
    files, notes = collect(tmp_path / "submission", NAMES)
    (tmp_path / "submission" / "inner").chmod(0o700)
    assert files.keys() == set(NAMES) - {"mlp.py"}
    assert notes == [
        "The folder inner cannot be read: Permission denied.",
        "mlp.py cannot be read: Permission denied.",
    ]


def test_names_in_any_bytes_are_printable_in_the_notes(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n\x1b[31m\xe9"))
    folder.mkdir()
    (folder / "mlp.py").write_bytes(b"x")
    files, notes = collect(tmp_path, NAMES)
    assert files == {"mlp.py": b"x"}
    assert notes[0] == r"mlp.py was taken from \udcff\n\x1b[31m\udce9/mlp.py."
