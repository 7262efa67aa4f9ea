"""Files that a run leaves behind: written whole or not at all, and checked when they are read.

A checkpoint is a dictionary of plain types and tensors. It carries the identity of its run (model
configuration, data, the arguments that shape the weights), so that no run goes on from another's.
"""

import io
import json
import os
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch

RESULTS, CHECKPOINT, BEST_MODEL = "results.json", "checkpoint.pt", "best_model.pt"
RUN_FILES = (RESULTS, CHECKPOINT, BEST_MODEL)
FORMAT = 1  # raised when a reader of older checkpoints would misunderstand newer ones


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that ``path`` holds the old content or the new one, never a part of it.

    The content goes into a temporary file in the same folder, is flushed to the disk and renamed.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, atomically. Numbers must be finite, as JSON knows no others."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def save(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain types for ``torch.load(path, weights_only=True)``, atomically."""
    # Through memory, because torch.save turns the error of a full disk into one of its own.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getbuffer())


def open_folder(folder: Path, resume: str | None, overwrite: bool) -> bool:
    """Make the folder of a run and return whether it holds a checkpoint to go on from.

    Args:
        folder: of the run; made if it does not exist.
        resume: "must" if there has to be a checkpoint, "auto" if there may be one, else None.
        overwrite: delete the files of the run that the folder holds.

    Raises:
        ValueError: there is a run and nobody said what to do with it, or none and there must be.
        OSError: the folder cannot be made or written to.
    """
    found = [folder / name for name in RUN_FILES if (folder / name).exists()]
    goes_on = resume is not None and folder / CHECKPOINT in found
    if resume == "must" and not goes_on:
        raise ValueError(
            f"--resume: there is no {folder / CHECKPOINT}; --resume auto starts where none is"
        )
    if found and not goes_on and not overwrite:
        raise ValueError(
            f"{folder} already holds a run: go on with it (--resume), "
            "replace it (--overwrite), or choose another --logdir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # better to fail now than after an epoch
    if goes_on:
        return True
    for path in found:
        path.unlink()
    return False


def save_checkpoint(path: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Write the state of a run together with its identity, atomically."""
    save(path, {"format": FORMAT, "identity": identity, "state": state})


def load_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Read the state of a run, onto the CPU.

    Args:
        path: what ``save_checkpoint`` wrote.
        identity: of the run that wants to go on.

    Raises:
        ValueError: damaged, not a checkpoint of this project, or of a run with another identity;
            the message names the file, and the keys that differ.
        OSError: the file cannot be read.
    """
    buffer = io.BytesIO(path.read_bytes())
    # A truncated file has lost the directory at its end, and is no longer a zip archive.
    if not zipfile.is_zipfile(buffer):
        raise ValueError(f"{path} is damaged or no checkpoint: it is not a complete zip archive")
    buffer.seek(0)
    try:
        content = torch.load(buffer, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is damaged or no checkpoint: {first_line}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint of this version of the project")
    saved = content["identity"]
    differing = [key for key in identity if saved.get(key) != identity[key]]
    if differing:
        pairs = (f"{key} is {identity[key]!r}, was {saved.get(key)!r}" for key in differing)
        raise ValueError(f"{path} belongs to another run: {'; '.join(pairs)}")
    return content["state"]
