"""Looking at the mistakes of a trained model."""

import json

import matplotlib.image
import pytest
import torch

import main
from training import mistakes
from training.batches import MEAN, STD
from training.data import load_data
from training.mistakes import (
    describe_mistakes,
    draw_mistakes,
    find_mistakes,
    load_best_model,
    save_mistakes,
)

LETTERS = "abcdefghij".__getitem__


@pytest.fixture
def trained(small_run, tmp_path):
    """The folder of a run."""
    assert main.main([*small_run, "--epochs", "1"]) == 0  # which leaves some mistakes
    return tmp_path / "run"


def test_the_best_model_of_a_run_has_the_accuracy_in_its_results(trained, small_npz):
    model, results = load_best_model(trained)
    assert not model.training
    split = load_data(str(small_npz)).val
    found = find_mistakes(model, split, "cpu")
    best = results["valid_accs"][results["best_epoch"] - 1]
    assert found.images_in_all == len(split)
    assert len(found) / len(split) == pytest.approx(1 - best, abs=1e-6)
    assert (found.predictions != found.split.labels).all()


def test_the_most_certain_mistake_comes_first_with_its_image(small_npz):
    """The model says class 3, the more certainly the brighter the image: an oracle without it."""

    class Brightness(torch.nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), 10)
            logits[:, 3] = 5 + images.mean(dim=(1, 2, 3))
            return logits

    split = load_data(str(small_npz)).train
    found = find_mistakes(Brightness(), split, "cpu")
    wrong = split.images[split.labels != 3]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    normalized = (wrong / 255 - mean) / std
    order = normalized.mean(dim=(1, 2, 3)).argsort(descending=True)
    assert (found.predictions == 3).all()
    assert torch.equal(found.split.images[:5], wrong[order][:5])


def test_words_and_figure_tell_images_labels_and_predictions(trained, small_npz):
    model, _ = load_best_model(trained)
    split = load_data(str(small_npz)).val
    found = find_mistakes(model, split, "cpu")
    words = describe_mistakes(found, LETTERS)
    assert words.startswith(f"{len(found)} of {len(split)} images are wrong. Most often: ")
    figure = draw_mistakes(found, LETTERS, "title", rows=1, columns=2)
    for ax, image, label, said, confidence in zip(
        figure.axes, found.split.images, found.split.labels, found.predictions, found.probabilities
    ):
        text = f"says {LETTERS(said)}, {100 * confidence:.0f} %\nlabel: {LETTERS(label)}"
        assert ax.get_title() == text
        (shown,) = ax.get_images()
        assert (shown.get_array() == image.permute(1, 2, 0).numpy()).all()


def test_a_model_without_mistakes_has_an_empty_figure_and_says_so(small_npz):
    split = load_data(str(small_npz)).val
    none = find_mistakes(torch.nn.Flatten(), split, "cpu")  # of 3,072 classes
    none = mistakes.Mistakes(split.first(0), none.predictions[:0], none.probabilities[:0], 10)
    assert describe_mistakes(none, LETTERS) == "0 of 10 images are wrong."
    assert all(not ax.get_images() for ax in draw_mistakes(none, LETTERS, "title").axes)


def test_the_command_draws_into_the_folder_of_the_run(trained, capsys):
    assert mistakes.main([str(trained)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "images are wrong" in printed[-2] and printed[-1] == str(trained / "mistakes.png")
    assert min(matplotlib.image.imread(trained / "mistakes.png").shape[:2]) > 300
    assert (trained / "mistakes.pdf").read_bytes().startswith(b"%PDF")


def test_other_data_than_those_of_the_run_are_refused(trained):
    with pytest.raises(ValueError, match="was trained on bands, not on shapes"):
        save_mistakes(trained, load_data("shapes"))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda folder: (folder / "results.json").unlink(), "run holds no run: it has no results"),
        (lambda folder: (folder / "results.json").write_text("{"), "not the results.json of a run"),
        (
            lambda folder: (folder / "results.json").write_text("[]"),
            "not the results.json of a run",
        ),
        (lambda folder: (folder / "best_model.pt").unlink(), "best_model.pt"),
        (lambda folder: (folder / "best_model.pt").write_bytes(b"x" * 99), "not hold the weights"),
    ],
)
def test_a_folder_that_holds_no_run_is_an_error_in_one_line(trained, capsys, spoil, words):
    spoil(trained)
    assert mistakes.main([str(trained)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("python -m training.mistakes: error: ") and words in error
    assert error.count("\n") == 1


def test_results_of_another_model_are_refused(trained):
    path = trained / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps(results | {"model": "perceptron"}))
    with pytest.raises(ValueError, match="is not of a run of mlp"):
        load_best_model(trained)
