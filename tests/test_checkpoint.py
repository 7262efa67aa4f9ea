"""Files are written whole or not at all, and checked when they are read."""

import errno
import fcntl
import os
import pickle
import resource

import pytest
import torch

from training import checkpoint, files

FINGERPRINT = {"lr": 0.1}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save_checkpoint(path, {"epoch": 1, "weight": torch.arange(5000)}, FINGERPRINT)
    return path


def test_what_was_saved_is_what_is_loaded(path):
    state = checkpoint.load_checkpoint(path, FINGERPRINT)
    assert state["epoch"] == 1 and torch.equal(state["weight"], torch.arange(5000))
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_disk_that_takes_no_more_bytes_leaves_the_last_checkpoint_intact(path):
    """The limit on the size of a file makes the write fail in the middle, as a full disk does."""
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError):
            checkpoint.save_checkpoint(path, {"weight": torch.arange(9000)}, FINGERPRINT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1])
def test_a_truncated_checkpoint_is_named(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged") as caught:
        checkpoint.load_checkpoint(path, FINGERPRINT)
    assert "\n" not in str(caught.value)


class Foreign:
    """Not a plain type: loading it would run code."""


@pytest.mark.parametrize("content", [{"epoch": 1}, [1, 2], {"format": 0, "state": {}}, Foreign()])
def test_a_foreign_file_is_named(path, content):
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is (damaged|not a checkpoint)"):
        checkpoint.load_checkpoint(path, FINGERPRINT)


def test_a_pickle_is_named_and_not_run(path):
    path.write_bytes(pickle.dumps(Foreign()))
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged"):
        checkpoint.load_checkpoint(path, FINGERPRINT)


def test_a_checkpoint_of_another_run_is_refused_with_the_keys_that_differ(path):
    with pytest.raises(ValueError, match=r"lr is 0.2, was 0.1; model is 'mlp', was None"):
        checkpoint.load_checkpoint(path, {"lr": 0.2, "model": "mlp"})


def test_a_checkpoint_of_other_code_is_refused_with_the_files_and_both_ways_on(path):
    """A checkpoint of an earlier version, which has no hashes, is loaded."""
    codes = {"mlp.py": "1", "utils.py": "2"}
    assert checkpoint.load_checkpoint(path, FINGERPRINT | {checkpoint.SOURCE: codes})["epoch"] == 1
    checkpoint.save_checkpoint(path, {}, FINGERPRINT | {checkpoint.SOURCE: codes})
    for other in ({"mlp.py": "3"}, {"mlp.py": "3", "utils.py": "3"}):
        fingerprint = FINGERPRINT | {checkpoint.SOURCE: codes | other}
        words = f"the code of {' and '.join(other)} has changed since {path} was written: "
        with pytest.raises(ValueError, match=words) as caught:
            checkpoint.load_checkpoint(path, fingerprint)
        assert "(--overwrite)" in str(caught.value) and "--logdir" in str(caught.value)


def test_json_holds_no_numbers_that_json_does_not_know(tmp_path):
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "results.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOLCK, errno.EIO])
def test_a_drive_that_cannot_be_locked_is_used_without_a_lock(
    number, tmp_path, capsys, monkeypatch
):
    """As network drives answer; there is none here. Any other error is one."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    if number == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(number)):
            checkpoint.open_folder(tmp_path, None, overwrite=False)
        return
    assert checkpoint.open_folder(tmp_path, None, overwrite=False)[1] is False
    assert capsys.readouterr().err == (
        f"{tmp_path} is on a drive that cannot be locked: train there with one process only\n"
    )
