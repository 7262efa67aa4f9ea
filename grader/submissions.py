"""Find the submitted files in a folder or zip archive, whatever is in there.

Only the files that are asked for are read, and no more than ``LARGEST_FILE`` bytes of each. Nothing
is unpacked and no link is followed.
"""

import hashlib
import io
import os
import re
import stat
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path, PurePosixPath

LARGEST_FILE = 1 << 20  # bytes of a submitted file
LARGEST_DIRECTORY = 16 << 20  # bytes of the central directory of a zip archive
MOST_ENTRIES = 200_000  # files and folders that are searched in a folder
SEARCH_SECONDS = 20.0
LONGEST_NOTE = 300  # characters
TOO_LARGE = f"has more than {LARGEST_FILE:,} bytes and was not used"
NOTEBOOK = ".ipynb"
# Besides hidden files and folders: copies and packages, which nobody means to submit.
SKIPPED = ("__MACOSX", "__pycache__", "site-packages")


class Refused(Exception):
    """Why a submission or one of its files is not read; the message is for the student."""


@dataclass(frozen=True)
class Member:
    """A file of a submission.

    Attributes:
        path: from the top of the submission, with slashes.
        read: returns the content; raises ``Refused`` or ``OSError``.
    """

    path: str
    read: Callable[[], bytes]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def collect(submission: Path, names: Sequence[str]) -> tuple[dict[str, bytes], list[str]]:
    """Find the submitted files in a folder or zip archive.

    A file in a subfolder or with capitals in its name is used if it is the only candidate.

    Args:
        submission: a folder or zip archive; the notes say what is wrong with anything else.
        names: of the files, in lower case.

    Returns:
        The content of the files by name, and a note about each irregularity, for the student.
    """
    files: dict[str, bytes] = {}
    notes: list[str] = []
    try:
        with _members(submission, notes) as members:
            candidates = _candidates(members, names)
            for name in names:
                _take(name, candidates[name], files, notes)
    except (Refused, OSError) as error:
        notes = [f"{submission.name} {_why(error)}."]
    return files, [printable(note)[:LONGEST_NOTE] for note in notes]


def digest(files: Mapping[str, bytes], notes: Sequence[str]) -> str:
    """Return a hash of what ``collect`` has returned."""
    total = hashlib.sha256(repr(notes).encode())
    for name in sorted(files):
        total.update(f"{name} {len(files[name])} ".encode() + files[name])
    return total.hexdigest()


def printable(text: str) -> str:
    """Escape what a terminal would obey or no text file can hold: a name may be any bytes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _why(error: Refused | OSError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return str(error)


def _candidates(members: Iterable[Member], names: Sequence[str]) -> dict[str, list[Member]]:
    """Return the members with each name, in any case, and those with a name like it."""
    found: dict[str, list[Member]] = {name: [] for name in names}
    for member in members:
        name = _meant(member.name, names)
        if name is not None:
            found[name].append(member)
    return {name: sorted(some, key=lambda member: member.path) for name, some in found.items()}


def _meant(found: str, names: Sequence[str]) -> str | None:
    """Return the name that a file has or was meant to have: ``utils.py`` of ``utils (1).py``."""
    if found.lower() in names:
        return found.lower()
    stem, code, _ = (
        re.sub("[^a-z0-9.]", "", found.lower()).replace(NOTEBOOK, ".py").partition(".py")
    )
    if not code:
        return None
    stems = {name.removesuffix(".py"): name for name in names}
    like = [own for own in stems if own in stem or (len(stem) > 3 and stem in own)]
    like = like or get_close_matches(stem, stems, 1, 0.65)  # letters are swapped or left out
    return stems[max(like, key=len)] if like else None


def _take(name: str, candidates: list[Member], files: dict[str, bytes], notes: list[str]) -> None:
    """Add a file, or a note that says why it is missing."""
    similar = [member for member in candidates if member.name.lower() == name]
    exact = [member for member in similar if member.path == name]
    choice = exact or similar
    if len(choice) > 1:
        places = ", ".join(member.path for member in choice[:4])
        notes.append(f"{name} was found in several places: {places}. None was used.")
    elif not choice:
        notes.append(" ".join([f"{name} is missing.", *_suggest(candidates, name)]))
    else:
        try:
            files[name] = choice[0].read()
        except (Refused, OSError) as error:
            notes.append(f"{name} {_why(error)}.")
        else:
            if not exact:
                notes.append(f"{name} was taken from {choice[0].path}.")


def _suggest(candidates: list[Member], name: str) -> Iterator[str]:
    """Yield what to do about a missing file, if one with a name like it was submitted."""
    for member in sorted(candidates, key=lambda member: member.name.endswith(NOTEBOOK))[:1]:
        if member.name.lower().endswith(NOTEBOOK):
            yield f"Export the code of {member.path} to {name}."
        else:
            yield f"Did you mean {member.path}? Rename it to {name}."


@contextmanager
def _members(submission: Path, notes: list[str]) -> Iterator[Iterator[Member]]:
    """Open a submission and yield its files.

    Raises:
        Refused, OSError: it cannot be read.
    """
    kind = submission.stat().st_mode
    if stat.S_ISDIR(kind):
        yield _in_folder(submission, notes)
    elif stat.S_ISREG(kind):  # not a pipe, which would wait for a writer
        with _Bounded(submission) as file:
            yield _in_archive(_open_archive(file))
    else:
        raise Refused("is neither a folder nor a zip archive")


def _is_skipped(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part in SKIPPED for part in path.parts)


def _in_folder(top: Path, notes: list[str]) -> Iterator[Member]:
    """Yield the files of a folder, those near the top first."""
    searched, end = 0, time.monotonic() + SEARCH_SECONDS
    waiting = deque([""])
    while waiting:
        folder = waiting.popleft()
        try:
            with os.scandir(top / folder) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    searched += 1
                    if searched > MOST_ENTRIES or time.monotonic() > end:
                        notes.append(f"Only {searched - 1:,} files and folders were searched.")
                        return
                    if _is_skipped(PurePosixPath(entry.name)):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    else:
                        yield Member(path, partial(_read_file, entry))
        except OSError as error:
            if not folder:
                raise
            notes.append(f"The folder {folder[-100:]} {_why(error)}.")


def _read_file(entry: os.DirEntry[str]) -> bytes:
    if entry.is_symlink():
        raise Refused("is a link; submit the file itself")
    if not entry.is_file():  # a pipe would wait for a writer
        raise Refused("is not a regular file")
    with open(entry.path, "rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise Refused(TOO_LARGE)
    return content


class _Bounded(io.FileIO):
    """The file of a zip archive, whose central directory may claim any size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self.fileno()).st_size - self.tell()
        if size > LARGEST_DIRECTORY:
            raise Refused("is a zip archive of too many files")
        return super().read(size)


def _open_archive(file: io.FileIO) -> zipfile.ZipFile:
    """Open a zip archive; what is no archive may raise anything in zipfile."""
    try:
        return zipfile.ZipFile(file)
    except Refused:
        raise
    except Exception as error:
        file.seek(0)
        if file.read(2) != b"PK":
            raise Refused("is neither a folder nor a zip archive") from None
        raise Refused(f"is a damaged zip archive ({error}); zip the files again") from None


def _in_archive(archive: zipfile.ZipFile) -> Iterator[Member]:
    """Yield the files of a zip archive; of two with the same path the last, as if unpacked."""
    members = {PurePosixPath(i.filename.replace("\\", "/")): i for i in archive.infolist()}
    for path, info in members.items():
        # Nothing outside the archive; ".." is skipped as hidden.
        if not (info.filename.endswith("/") or path.is_absolute() or _is_skipped(path)):
            yield Member(str(path), partial(_read_member, archive, info))


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if stat.S_ISLNK(info.external_attr >> 16):
        raise Refused("is a link; submit the file itself")
    if info.flag_bits & 1:
        raise Refused("is encrypted; zip it without a password")
    # The other methods may unpack gigabytes at once.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused("is compressed in an unusual way; zip it with the default settings")
    if info.file_size > LARGEST_FILE:
        raise Refused(TOO_LARGE)
    try:
        with archive.open(info) as file:
            return file.read(LARGEST_FILE + 1)
    except Exception as error:  # zipfile raises anything for damaged data
        raise Refused(f"is damaged in the zip archive ({error}); zip it again") from None
