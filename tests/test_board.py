"""What ``--tensorboard`` writes, read with TensorBoard's own reader."""

import json
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from main import main
from training.board import FOLDER, SCALARS


def read_board(logdir):
    board = EventAccumulator(str(logdir / FOLDER), size_guidance={"images": 0})
    return board.Reload()


def test_tensorboard_gets_the_numbers_of_the_results_and_the_figures(small_run, tmp_path):
    assert main([*small_run, "--tensorboard"]) == 0
    logdir = tmp_path / "run"
    results = json.loads((logdir / "results.json").read_text())
    board = read_board(logdir)
    assert set(board.Tags()["scalars"]) == {*SCALARS, "accuracy/test"}
    for tag, key in SCALARS.items():
        events = board.Scalars(tag)
        assert [event.step for event in events] == [1, 2, 3]
        assert [event.value for event in events] == pytest.approx(results[key], rel=1e-6)
    (test,) = board.Scalars("accuracy/test")
    assert test.step == results["best_epoch"]
    assert test.value == pytest.approx(results["test_acc"], rel=1e-6)
    figures = {path.stem for path in logdir.glob("*.png")}
    assert len(figures) == 6 and set(board.Tags()["images"]) == figures


def test_a_run_that_goes_on_shows_every_epoch_once(small_run, tmp_path):
    """Also those of the process before it, whether that used TensorBoard or not."""
    for epochs, more in (("1", []), ("2", ["--tensorboard"]), ("4", ["--tensorboard"])):
        assert main([*small_run, "--epochs", epochs, "--resume", "auto", *more]) == 0
    events = read_board(tmp_path / "run").Scalars("loss/train")
    assert [event.step for event in events] == [1, 2, 3, 4]


def test_without_tensorboard_the_flag_says_what_to_install(
    small_run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    assert main([*small_run, "--tensorboard"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("main.py: error: --tensorboard needs TensorBoard")
    assert message.endswith("pip install tensorboard\n") and message.count("\n") == 1
    assert not (tmp_path / "run").exists()
