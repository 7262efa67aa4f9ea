"""The folder of a run and its checkpoints: locked by one process, checked when they are read.

A checkpoint is a dictionary of plain types and tensors. It carries the fingerprint of its run
(model configuration, data, source code, the arguments that shape the weights), so that no run
resumes from another's. The one before it is kept, in case a disk loses what it reported as written.
"""

import errno
import io
import os
import pickle
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from training.files import save, temporary_path
from training.results import RESULTS

BEST_MODEL = "best_model.pt"
CHECKPOINT, PREVIOUS = "checkpoint.pt", "previous_checkpoint.pt"
RUN_FILES = (RESULTS, BEST_MODEL, CHECKPOINT, PREVIOUS)
LOCK = ".lock"
SOURCE = "source_sha256"  # in a fingerprint: a hash for each source file
# Arguments that older checkpoints do not know, with the values that their runs had.
LATER = {"crop": "resized", "cutout": 0, "mixup": 0.0}
FORMAT = 2  # raised when a reader of older checkpoints would misunderstand newer ones

NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)


class Damaged(ValueError):
    """A file is not the whole of what was once written."""


class InUse(ValueError):
    """Another process has locked the folder."""


def open_folder(folder: Path, resume: str | None, overwrite: bool) -> tuple[FileLock, bool]:
    """Make the folder of a run, lock it, and look for a checkpoint to resume from.

    Args:
        folder: of the run; made if it does not exist.
        resume: "must" if there has to be a checkpoint, "auto" if there may be one, else None.
        overwrite: delete the files of the run that the folder holds.

    Returns:
        The lock, to be released when the run ends, and whether there is a checkpoint.

    Raises:
        InUse: another process has locked the folder.
        ValueError: it holds a run, and neither ``resume`` nor ``overwrite`` is set; or it holds
            none, and ``resume`` is "must".
        OSError: the folder cannot be made or written to.
    """
    if resume == "must" and not _checkpoints(folder):  # before a folder is made for nothing
        raise ValueError(f"--resume: there is no {folder / CHECKPOINT}")
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        tempfile.TemporaryFile(dir=folder).close()  # better to fail now than after an epoch
        found = [folder / name for name in RUN_FILES if (folder / name).exists()]
        resumes = resume is not None and bool(_checkpoints(folder))
        if found and not resumes and not overwrite:
            raise ValueError(
                f"{folder} already holds a run: resume it (--resume), replace it (--overwrite), "
                "or choose another --logdir"
            )
        for name in RUN_FILES:  # left by a process that was killed
            temporary_path(folder / name).unlink(missing_ok=True)
        if not resumes:
            for path in found:
                path.unlink()
    except BaseException:
        lock.release()
        raise
    return lock, resumes


def _checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the last one first."""
    return [path for path in (folder / CHECKPOINT, folder / PREVIOUS) if path.exists()]


def _lock(folder: Path) -> FileLock:
    """Lock a folder against all other processes.

    Raises:
        InUse: another process has locked it.
        OSError: the folder cannot be written to.
    """
    # One lock per folder and process: a notebook may set the same run up again.
    lock = FileLock(folder / LOCK, is_singleton=True, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise InUse(
            f"{folder} is in use by another process: wait for it, or choose another --logdir"
        ) from error
    except (NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
        # Some network drives: a run without a lock is better than none.
        print(
            f"{folder} is on a drive that cannot be locked: train there with one process only",
            file=sys.stderr,
        )
    return lock


def save_checkpoint(path: Path, state: dict[str, Any], fingerprint: dict[str, Any]) -> None:
    """Write the state of a run with its fingerprint; the checkpoint before it is kept.

    Raises:
        OSError: it cannot be written; the last one is as it was.
    """
    content = {"format": FORMAT, "identity": fingerprint, "state": state}
    save(path, content, previous=path.with_name(PREVIOUS))


def load_last_good(folder: Path, fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Read the last checkpoint of a folder that is not damaged.

    If that is the one before the last, the last one is named on stderr and dropped: otherwise the
    next ``save_checkpoint`` would keep the damaged one in place of the good one.

    Raises:
        ValueError, OSError: as ``load_checkpoint``; all are damaged.
    """
    damaged = []
    for path in _checkpoints(folder):
        try:
            state = load_checkpoint(path, fingerprint)
        except Damaged as error:
            damaged.append(str(error))
            continue
        if damaged:
            print(f"{damaged[0]}; resuming from the one before it", file=sys.stderr)
            os.replace(path, folder / CHECKPOINT)
        return state
    raise Damaged(f"{'; '.join(damaged)}; --overwrite starts again")


# What reading a zip archive with some bytes changed has been seen to raise.
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, EOFError, KeyError, NotImplementedError,
    RuntimeError, ValueError,
)  # fmt: skip


def load_checkpoint(path: Path, fingerprint: dict[str, Any]) -> dict[str, Any]:
    """Read the state of a run, onto the CPU.

    Args:
        path: a file of ``save_checkpoint``.
        fingerprint: of the run that resumes.

    Raises:
        Damaged: the file is truncated or corrupted.
        ValueError: it is not a checkpoint of this project, or of a run with another fingerprint;
            the message names the file and the keys that differ, or the source files.
        OSError: it cannot be read.
    """
    buffer = io.BytesIO(path.read_bytes())
    try:
        # A truncated file has lost the directory at its end, and is no longer a zip archive. A
        # corrupted part has the wrong checksum, which torch.load does not verify.
        with zipfile.ZipFile(buffer) as archive:
            corrupted = archive.testzip()
        if corrupted is not None:
            raise ValueError(f"{corrupted} has the wrong checksum")
        buffer.seek(0)
        content = torch.load(buffer, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise Damaged(f"{path} is damaged or not a checkpoint: {first_line}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this version of the project")
    saved = LATER | content["identity"]  # the name that the first version gave the fingerprint
    differing = [k for k in fingerprint if k != SOURCE and saved.get(k) != fingerprint[k]]
    if differing:
        pairs = (f"{key} is {fingerprint[key]!r}, was {saved.get(key)!r}" for key in differing)
        raise ValueError(f"{path} belongs to another run: {'; '.join(pairs)}")
    before = saved.get(SOURCE, {})  # older checkpoints do not know their code
    changed = [f for f, code in fingerprint.get(SOURCE, {}).items() if before.get(f, code) != code]
    if changed:
        raise ValueError(
            f"the code of {' and '.join(changed)} has changed since {path} was written: "
            "replace the run (--overwrite), or choose another --logdir"
        )
    return content["state"]
