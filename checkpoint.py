"""Files that a run leaves behind: written whole or not at all, and checked when they are read.

A checkpoint is a dictionary of plain types and tensors. It carries the identity of its run (model
configuration, data, the arguments that shape the weights), so that no run goes on from another's.
The one before it is kept, in case that a disk loses what it said it had written. One process at a
time has the folder of a run.
"""

import contextlib
import errno
import io
import json
import os
import pickle
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    fcntl = None  # type: ignore[assignment]

RESULTS, BEST_MODEL = "results.json", "best_model.pt"
CHECKPOINT, PREVIOUS = "checkpoint.pt", "previous_checkpoint.pt"
RUN_FILES = (RESULTS, BEST_MODEL, CHECKPOINT, PREVIOUS)
LOCK = ".lock"  # stays when the run ends: two processes could lock two files of the same name
FORMAT = 2  # raised when a reader of older checkpoints would misunderstand newer ones

NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)

# The lock files that this process has locked: device and inode, and the descriptor, which stays
# open. The system takes a lock back when the process ends, however it ends.
_locks: dict[tuple[int, int], int] = {}


class Damaged(ValueError):
    """A file is not the whole of what was once written."""


class InUse(ValueError):
    """Another process has locked the folder."""


def write_atomically(path: Path, content: bytes | memoryview, previous: Path | None = None) -> None:
    """Write a file so that ``path`` holds the old content or the new one, never a part of it.

    The content goes into a temporary file in the same folder, is flushed to the disk and renamed.

    Args:
        path: of the file.
        content: all of it.
        previous: where to keep the old content. Between the two renames there is nothing else.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; ``path`` is as it was.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except OSError as error:  # a full disk names no file, an open that fails the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or its folder is gone
            temporary.unlink()


def _temporary(path: Path) -> Path:
    """Return where the content of a file lies until it is complete."""
    return path.with_name(f".{path.name}.tmp")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, atomically. Numbers must be finite, as JSON knows no others."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def save(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write tensors and plain types for ``torch.load(path, weights_only=True)``, atomically.

    Args:
        path, previous: as in ``write_atomically``.
        content: what to write.
    """
    # Through memory, because torch.save turns the error of a full disk into one of its own.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getbuffer(), previous)


def open_folder(folder: Path, resume: str | None, overwrite: bool) -> bool:
    """Make the folder of a run, lock it, and return whether it holds a checkpoint to go on from.

    Args:
        folder: of the run; made if it does not exist.
        resume: "must" if there has to be a checkpoint, "auto" if there may be one, else None.
        overwrite: delete the files of the run that the folder holds.

    Raises:
        InUse: another process has the folder.
        ValueError: there is a run and nobody said what to do
            with it, or none and there must be.
        OSError: the folder cannot be made or written to.
    """
    if resume == "must" and not _checkpoints(folder):  # before a folder is made for nothing
        raise ValueError(
            f"--resume: there is no {folder / CHECKPOINT}; --resume auto starts where none is"
        )
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    tempfile.TemporaryFile(dir=folder).close()  # better to fail now than after an epoch
    found = [folder / name for name in RUN_FILES if (folder / name).exists()]
    goes_on = resume is not None and bool(_checkpoints(folder))
    if found and not goes_on and not overwrite:
        raise ValueError(
            f"{folder} already holds a run: go on with it (--resume), "
            "replace it (--overwrite), or choose another --logdir"
        )
    for name in RUN_FILES:  # what a killed process did not finish
        _temporary(folder / name).unlink(missing_ok=True)
    if not goes_on:
        for path in found:
            path.unlink()
    return goes_on


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the last one first."""
    return [path for path in (folder / CHECKPOINT, folder / PREVIOUS) if path.exists()]


def _lock(folder: Path) -> None:
    """Keep all other processes out of a folder, from now until this process ends.

    Raises:
        InUse: another process has locked it.
        OSError: the folder cannot be written to.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    status = os.fstat(descriptor)
    key = status.st_dev, status.st_ino
    if key in _locks:  # a notebook may open a folder as often as it likes
        os.close(descriptor)
        return
    try:
        if fcntl is None:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.close(descriptor)
        raise InUse(
            f"{folder} is in use by another process: wait for it, or choose another --logdir"
        ) from error
    except OSError as error:
        os.close(descriptor)
        if error.errno not in NO_LOCKS:
            raise
        # Some network drives: without a lock a run is better than none.
        print(
            f"{folder} is on a drive that cannot be locked: have no second process train there",
            file=sys.stderr,
        )
        return
    _locks[key] = descriptor


def save_checkpoint(path: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Write the state of a run together with its identity; the checkpoint before it is kept.

    Raises:
        OSError: it cannot be written; the last one is as it was.
    """
    content = {"format": FORMAT, "identity": identity, "state": state}
    save(path, content, previous=path.with_name(PREVIOUS))


def load_last_good(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Read the last checkpoint of a folder that is whole.

    If that is the one before the last, the last one is named on stderr and given up: otherwise the
    next ``save_checkpoint`` would keep the damaged one in place of the good one.

    Raises:
        ValueError, OSError: as ``load_checkpoint``; none is whole.
    """
    damaged = []
    for path in _checkpoints(folder):
        try:
            state = load_checkpoint(path, identity)
        except Damaged as error:
            damaged.append(str(error))
            continue
        if damaged:
            print(f"{damaged[0]}; going on from the one before it", file=sys.stderr)
            os.replace(path, folder / CHECKPOINT)
        return state
    raise Damaged(f"{'; '.join(damaged)}; --overwrite starts anew")


# What reading a zip archive with some bytes changed has been seen to raise.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def load_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Read the state of a run, onto the CPU.

    Args:
        path: what ``save_checkpoint`` wrote.
        identity: of the run that wants to go on.

    Raises:
        Damaged: it is not whole.
        ValueError: not a checkpoint of this project, or of a run with another identity; the message
            names the file, and the keys that differ.
        OSError: the file cannot be read.
    """
    buffer = io.BytesIO(path.read_bytes())
    try:
        # A truncated file has lost the directory at its end, and is no longer a zip archive. A part
        # that was lost inside does not have its checksum, which torch.load does not look at.
        with zipfile.ZipFile(buffer) as archive:
            lost = archive.testzip()
        if lost is not None:
            raise ValueError(f"{lost} has the wrong checksum")
        buffer.seek(0)
        content = torch.load(buffer, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise Damaged(f"{path} is damaged or no checkpoint: {first_line}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this version of the project")
    saved = content["identity"]
    differing = [key for key in identity if saved.get(key) != identity[key]]
    if differing:
        pairs = (f"{key} is {identity[key]!r}, was {saved.get(key)!r}" for key in differing)
        raise ValueError(f"{path} belongs to another run: {'; '.join(pairs)}")
    return content["state"]
