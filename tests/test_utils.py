"""The loss, the accuracy, the helpers and the learning curves of utils.py."""

import gc
import json
import math
import random
from collections import OrderedDict, namedtuple

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from utils import (
    compute_accuracy,
    cross_entropy_loss,
    generate_plots,
    seed_experiment,
    to_device,
)

few_examples = settings(max_examples=50, deadline=None, derandomize=True)

# Relative rounding of a loss over ten classes: some units in the last place.
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}
DTYPES = [torch.float32, torch.float64]
HALF_DTYPES = [torch.float16, torch.bfloat16]
SMOOTHINGS = [0.0, 0.1, 0.5, 1.0]


def random_batch(
    images: int = 8, classes: int = 10, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(images + 100 * classes)
    logits = 3 * torch.randn(images, classes, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(classes, (images,), generator=generator)


def loss_and_gradient(loss_function, logits: Tensor, labels: Tensor, **options):
    logits = logits.clone().requires_grad_()
    loss = loss_function(logits, labels, **options)
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.detach(), gradient


def same_as_torch(logits: Tensor, labels: Tensor, tolerance: float, **options) -> None:
    """Compare loss and gradient with torch.nn.functional.cross_entropy, relative to the largest."""
    actual = loss_and_gradient(cross_entropy_loss, logits, labels, **options)
    expected = loss_and_gradient(F.cross_entropy, logits, labels, **options)
    for what, ours, theirs in zip(("loss", "gradient"), actual, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype, what
        assert ours.isfinite().all(), what
        limit = tolerance * max(1.0, theirs.abs().max().item())
        assert (ours - theirs).abs().max() <= limit, f"{what}: {ours} and {theirs}"


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("images", "classes"), [(8, 10), (1, 10), (5, 2), (128, 100), (3, 1)])
def test_the_loss_and_its_gradient_equal_those_of_torch(images, classes, dtype, smoothing):
    logits, labels = random_batch(images, classes, dtype)
    same_as_torch(logits, labels, 10 * TOLERANCE[dtype], label_smoothing=smoothing)


@few_examples
@given(
    rows=st.integers(1, 5).flatmap(
        lambda classes: st.lists(
            st.lists(st.floats(-1e4, 1e4), min_size=classes, max_size=classes),
            min_size=1,
            max_size=4,
        )
    ),
    smoothing=st.floats(0, 1),
    data=st.data(),
)
def test_the_loss_equals_that_of_torch_on_any_logits(rows, smoothing, data):
    logits = torch.tensor(rows, dtype=torch.float64)
    label = st.integers(0, logits.shape[1] - 1)
    labels = torch.tensor(data.draw(st.tuples(*[label] * len(rows))))
    same_as_torch(logits, labels, 1e-13, label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_loss_equals_that_of_torch_for_logits_times_1000(dtype, smoothing):
    """Where exp(logits) overflows and the exponentials of the smaller logits vanish."""
    logits, labels = random_batch(dtype=dtype)
    same_as_torch(1000 * logits, labels, 10 * TOLERANCE[dtype], label_smoothing=smoothing)


@pytest.mark.parametrize("shift", [-1e6, 1e6])
def test_the_loss_does_not_change_when_a_number_is_added_to_all_logits(shift):
    """1e-9: at 1e6 the last place of a double is 1e-10."""
    logits, labels = random_batch()
    shifted = cross_entropy_loss(logits + shift, labels)
    torch.testing.assert_close(shifted, cross_entropy_loss(logits, labels), rtol=0, atol=1e-9)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("dtype", HALF_DTYPES)
def test_the_loss_of_half_precision_logits_is_computed_in_float32(dtype, smoothing):
    """The gradient comes back in the logits' precision: it may be off by its last place."""
    logits, labels = random_batch(dtype=dtype)
    loss, gradient = loss_and_gradient(
        cross_entropy_loss, logits, labels, label_smoothing=smoothing
    )
    expected, expected_gradient = loss_and_gradient(
        F.cross_entropy, logits.float(), labels, label_smoothing=smoothing
    )
    assert loss.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(loss, expected, rtol=2e-6, atol=2e-6)
    last_place = torch.finfo(dtype).eps
    torch.testing.assert_close(gradient.float(), expected_gradient, rtol=last_place, atol=1e-6)


def at_the_ends(dtype: torch.dtype) -> Tensor:
    """Return logits at both ends of the number range, in each order, and all at one end."""
    end = torch.finfo(dtype).max
    rows = [[end, -end, 0], [-end, end, 0], [0, -end, end], [end] * 3, [-end] * 3, [end, end, -end]]
    return torch.tensor(rows, dtype=dtype)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("dtype", DTYPES + HALF_DTYPES)
def test_the_loss_is_finite_at_both_ends_of_the_number_range(dtype, label, smoothing):
    logits = at_the_ends(dtype)
    labels = torch.full((len(logits),), label)
    loss, gradient = loss_and_gradient(
        cross_entropy_loss, logits, labels, label_smoothing=smoothing
    )
    assert loss.isfinite() and loss >= 0
    assert gradient.isfinite().all()


@few_examples
@given(
    rows=st.lists(
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=4, max_size=4
        ),
        min_size=1,
        max_size=7,
    ),
    label=st.integers(0, 3),
    smoothing=st.floats(0, 1),
)
def test_the_loss_is_finite_for_logits_of_any_finite_size(rows, label, smoothing):
    logits = torch.tensor(rows, dtype=torch.float32)
    labels = torch.full((len(rows),), label)
    loss, gradient = loss_and_gradient(
        cross_entropy_loss, logits, labels, label_smoothing=smoothing
    )
    assert loss.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_is_softmax_less_one_hot_at_both_ends_of_the_number_range(dtype, label):
    """A label's logit at the far end is pushed up like any other that is wrong."""
    logits = at_the_ends(dtype)
    labels = torch.full((len(logits),), label)
    _, gradient = loss_and_gradient(cross_entropy_loss, logits, labels)
    expected = (F.softmax(logits, dim=1) - F.one_hot(labels, 3)) / len(logits)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("place", [0, 1])
def test_the_loss_of_a_nan_logit_is_nan(place, smoothing):
    """Whether the logit is the label's or another's: a diverged run must not look healthy."""
    logits, labels = random_batch(classes=2)
    logits[3, place] = math.nan
    assert cross_entropy_loss(logits, labels, label_smoothing=smoothing).isnan()


@pytest.mark.parametrize("classes", [2, 10])
def test_the_loss_of_equal_logits_is_the_logarithm_of_the_number_of_classes(classes):
    logits = torch.full((4, classes), 7.0)
    loss = cross_entropy_loss(logits, torch.tensor([0, 1, 1, 0]))
    assert loss.item() == pytest.approx(math.log(classes))
    assert loss.ndim == 0


def test_the_loss_over_one_class_is_zero():
    logits, labels = random_batch(images=4, classes=1)
    loss, gradient = loss_and_gradient(cross_entropy_loss, logits, labels)
    assert loss == 0 and not gradient.any()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_labels_may_be_of_any_integer_type(dtype):
    logits, labels = random_batch()
    expected = cross_entropy_loss(logits, labels)
    assert torch.equal(cross_entropy_loss(logits, labels.to(dtype)), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_first_and_second_derivatives_equal_finite_differences(smoothing):
    logits, labels = random_batch(images=3, classes=4)
    logits.requires_grad_()

    def loss(x):
        return cross_entropy_loss(x, labels, label_smoothing=smoothing)

    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)


def test_the_loss_takes_logits_and_labels_that_are_not_contiguous():
    logits, labels = random_batch(images=8, classes=6)
    columns = logits.T.contiguous().T
    every_other = torch.stack((labels, labels - 100), dim=1)[:, 0]
    assert not columns.is_contiguous() and not every_other.is_contiguous()
    same_as_torch(columns, every_other, 1e-13)
    same_as_torch(logits[::2], labels[::2], 1e-13)
    expanded = logits[:1].expand(8, 6)
    assert torch.equal(
        cross_entropy_loss(expanded, labels), cross_entropy_loss(expanded.clone(), labels)
    )


def test_loss_and_accuracy_leave_their_arguments_unchanged():
    logits, labels = random_batch()
    before = logits.clone(), labels.clone()
    cross_entropy_loss(logits, labels, label_smoothing=0.1)
    compute_accuracy(logits, labels)
    assert torch.equal(logits, before[0]) and torch.equal(labels, before[1])


@pytest.mark.parametrize("function", [cross_entropy_loss, compute_accuracy])
@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ((4, 10), (5,)),
        ((4, 10), (1,)),
        ((4, 10), (4, 1)),
        ((4, 10), (4, 10)),
        ((4, 10), ()),
        ((10,), (10,)),
        ((10,), ()),
        ((4, 10, 2), (4, 2)),
        ((0, 10), (0,)),
        ((4, 0), (4,)),
    ],
)
def test_shapes_that_do_not_match_are_refused(function, logits, labels):
    with pytest.raises(ValueError) as caught:
        function(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))
    assert str(logits) in str(caught.value) and str(labels) in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_labels_that_are_not_integers_are_refused(dtype):
    with pytest.raises(ValueError, match=f"labels are {dtype}; they must be integers"):
        cross_entropy_loss(torch.zeros(2, 3), torch.zeros(2, dtype=dtype))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, math.nan, math.inf])
def test_a_label_smoothing_outside_0_to_1_is_refused(smoothing):
    with pytest.raises(ValueError, match=f"label_smoothing is {smoothing}; .* between 0 and 1"):
        cross_entropy_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), smoothing)


@few_examples
@given(data=st.data(), images=st.integers(1, 20), classes=st.integers(1, 6))
def test_the_accuracy_is_the_share_of_images_whose_largest_logit_is_the_labels(
    data, images, classes
):
    """Against a loop over the images; the logits of an image are all different."""
    rows = [data.draw(st.permutations(range(classes))) for _ in range(images)]
    labels = [data.draw(st.integers(0, classes - 1)) for _ in range(images)]
    right = sum(row.index(max(row)) == label for row, label in zip(rows, labels, strict=True))
    accuracy = compute_accuracy(torch.tensor(rows, dtype=torch.float32), torch.tensor(labels))
    assert accuracy.shape == () and accuracy.is_floating_point()
    assert accuracy.item() == pytest.approx(right / images)


def test_the_accuracy_of_tied_logits_counts_one_class_only():
    """A constant network is right on one class of ten, not on all."""
    assert compute_accuracy(torch.zeros(10, 10), torch.arange(10)).item() == pytest.approx(0.1)


@pytest.mark.parametrize("dtype", [*DTYPES, *HALF_DTYPES])
def test_the_accuracy_is_exact_in_any_precision(dtype):
    """3,000 of 4,099 images: a count in half precision would stop at 2,048 or be rounded."""
    labels = torch.zeros(4099, dtype=torch.int64)
    logits = torch.zeros(4099, 3, dtype=dtype)
    logits[:3000, 0] = 1
    logits[3000:, 2] = 1
    assert compute_accuracy(logits, labels).item() == pytest.approx(3000 / 4099, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8])
def test_the_accuracy_takes_labels_of_any_integer_type(dtype):
    logits, labels = random_batch()
    assert compute_accuracy(logits, labels.to(dtype)) == compute_accuracy(logits, labels)


def draw_from_all_generators() -> list[float]:
    return [random.random(), np.random.rand(), torch.rand(()).item(), np.random.rand()]


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
def test_a_seed_repeats_the_numbers_of_python_numpy_and_torch(seed):
    seed_experiment(seed)
    first = draw_from_all_generators()
    seed_experiment(seed)
    assert draw_from_all_generators() == first
    seed_experiment(seed - 1 if seed else 1)
    assert all(a != b for a, b in zip(draw_from_all_generators(), first, strict=True))


# The device "meta" stands for a second device: it has no data, and every machine has it.
Pair = namedtuple("Pair", ["images", "labels"])


class Batch(list):
    """A list with a name of its own."""


def devices(structure) -> list[str]:
    """Return the devices of all tensors of a nested structure."""
    if isinstance(structure, Tensor):
        return [structure.device.type]
    if isinstance(structure, dict):
        structure = structure.values()
    if isinstance(structure, (list, tuple, type({}.values()))):
        return [device for value in structure for device in devices(value)]
    return []


def skeleton(structure):
    """Return the types of a nested structure, with the shapes of its tensors."""
    if isinstance(structure, Tensor):
        return (Tensor, structure.shape, structure.dtype)
    if isinstance(structure, dict):
        return (type(structure), [(key, skeleton(value)) for key, value in structure.items()])
    if isinstance(structure, (list, tuple)):
        return (type(structure), [skeleton(value) for value in structure])
    return structure


tensors = st.sampled_from([torch.zeros(2, 3), torch.ones(1, dtype=torch.uint8), torch.tensor(1.5)])
others = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
structures = st.recursive(
    tensors | others,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3).map(Batch)
        | st.builds(Pair, inner, inner)
        | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=8,
)


@few_examples
@given(structure=structures)
def test_every_tensor_of_a_nested_structure_is_moved_and_the_structure_kept(structure):
    before = skeleton(structure)
    moved = to_device(structure, "meta")
    assert set(devices(moved)) <= {"meta"}
    assert skeleton(moved) == before == skeleton(structure)
    assert set(devices(structure)) <= {"cpu"}, "the argument itself was changed"


def test_an_ordered_dict_stays_one():
    batch = OrderedDict(images=torch.zeros(2), labels=torch.ones(2))
    moved = to_device(batch, "meta")
    assert type(moved) is OrderedDict
    assert list(moved) == ["images", "labels"] and devices(moved) == ["meta", "meta"]


def test_fields_of_a_named_tuple_keep_their_names():
    moved = to_device(Pair(images=torch.zeros(2, 3), labels="none"), torch.device("meta"))
    assert type(moved) is Pair
    assert moved.images.device.type == "meta" and moved.labels == "none"


@pytest.mark.parametrize("other", [None, 3, 2.5, "cpu", b"x", {1, 2}, object(), np.ones(2)])
def test_objects_that_hold_no_tensors_are_returned_as_they_are(other):
    assert to_device(other, "meta") is other
    assert to_device([other], "meta")[0] is other


def test_values_and_gradients_survive_a_move():
    """The graph continues through the move: the result is not detached."""
    tensor = torch.arange(3.0, requires_grad=True)
    (moved,) = to_device((tensor,), "cpu")
    assert torch.equal(moved, tensor)
    moved.sum().backward()
    assert torch.equal(tensor.grad, torch.ones(3))


CURVES = ("train_accs", "valid_accs", "train_losses", "valid_losses")
BOTH = ("accs", "losses")  # training and validation in one panel


def write_run(folder, epochs: int = 3, **changes):
    """Write a results.json and return its folder."""
    steps = np.arange(1, epochs + 1)
    results = {
        "train_accs": (1 - 0.6 / steps).tolist(),
        "valid_accs": (1 - 0.7 / steps).tolist(),
        "train_losses": (2.1 / steps).tolist(),
        "valid_losses": (2.3 / steps).tolist(),
        "test_loss": 1.0,
        "test_acc": 0.5,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def pictures(folders, names, save_path) -> dict[str, np.ndarray]:
    """Draw the curves and return the pixels of the six pictures, each of which is a PDF too."""
    assert generate_plots(folders, names, save_path) is None
    files = {f"{name}.{suffix}" for name in (*CURVES, *BOTH) for suffix in ("png", "pdf")}
    assert {path.name for path in save_path.iterdir()} == files
    assert all(path.read_bytes().startswith(b"%PDF") for path in save_path.glob("*.pdf"))
    drawn = {name: plt.imread(save_path / f"{name}.png") for name in (*CURVES, *BOTH)}
    for picture in drawn.values():
        assert min(picture.shape[:2]) > 300
        assert len(np.unique(picture[:, :, 0])) > 10, "blank"
    return drawn


def different(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> set[str]:
    return {name for name in first if not np.array_equal(first[name], second[name])}


def test_six_pictures_are_written_and_no_figure_stays_open(tmp_path):
    """Into a folder that is missing, with spaces and accents in all paths and names."""
    figures = plt.get_fignums()
    folders = [write_run(tmp_path / "été à Montréal" / name) for name in ("un", "deux")]
    pictures(folders, ["été", "naïf no 2"], tmp_path / "mes figures" / "réseau")
    assert plt.get_fignums() == figures


def test_each_picture_draws_the_curve_of_its_name_and_replaces_an_older_one(tmp_path):
    """Runs that differ in one curve: its picture changes, and the one with both splits."""
    plain = pictures([write_run(tmp_path / "plain")], ["run"], tmp_path / "figures")
    for curve in CURVES:
        other = write_run(tmp_path / "other", **{curve: [0.9, 0.2, 0.7]})
        changed = different(plain, pictures([other], ["run"], tmp_path / "figures"))
        assert changed == {curve, curve.partition("_")[2]}


def axes_drawn(folders, names, save_path) -> dict[str, Axes]:
    """Draw the curves and return the axes of each picture, found by the garbage collector.

    A figure refers to itself, so that it outlives the call until the next collection.
    """
    gc.collect()
    gc.disable()
    try:
        older = {id(thing) for thing in gc.get_objects() if type(thing) is Figure}
        generate_plots(folders, names, save_path)
        figures = [thing for thing in gc.get_objects() if type(thing) is Figure]
    finally:
        gc.enable()
    axes = [figure.axes[0] for figure in figures if id(figure) not in older]
    assert len(axes) == 6
    words = dict(
        zip(
            (*CURVES, *BOTH),
            ("training acc", "validation acc", "training loss", "validation loss", "acc", "loss"),
        )
    )
    return {
        curve: next(ax for ax in axes if ax.get_title().lower().startswith(begin))
        for curve, begin in words.items()
    }


def test_axes_have_units_and_curves_have_names_markers_and_one_point_an_epoch(tmp_path):
    """Epochs count from 1, accuracies are drawn in percent. Paths may be strings.

    More runs than matplotlib has colours, and than utils.py has markers; each of another length.
    """
    runs = [write_run(tmp_path / f"run {epochs}", epochs) for epochs in range(1, 13)]
    names = [run.name for run in runs]
    drawn = axes_drawn([str(run) for run in runs], names, str(tmp_path / "figures"))
    for curve, ax in ((curve, drawn[curve]) for curve in CURVES):
        unit, scale = ("%", 100) if curve.endswith("accs") else ("nats", 1)
        assert unit in ax.get_ylabel() and ax.get_xlabel() == "epoch"
        assert [text.get_text() for text in ax.get_legend().get_texts()] == names
        for run, line in zip(runs, ax.lines, strict=True):
            values = json.loads((run / "results.json").read_text())[curve]
            assert line.get_xdata().tolist() == list(range(1, len(values) + 1))
            assert line.get_ydata().tolist() == pytest.approx([scale * value for value in values])
            assert line.get_marker() not in ("", "None", None)
        looks = {(line.get_color(), line.get_marker()) for line in ax.lines[:10]}
        assert len(looks) == 10


def test_training_and_validation_of_a_run_share_a_panel_and_a_colour(tmp_path):
    """Training is dashed, as the title says; the legend names each run once."""
    runs = [write_run(tmp_path / name, epochs) for name, epochs in (("a", 2), ("b", 4))]
    drawn = axes_drawn(runs, ["first", "second"], tmp_path / "figures")
    for name in BOTH:
        ax = drawn[name]
        assert "training dashed" in ax.get_title()
        legend = ax.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["first", "second"]
        dashed, solid = (
            [line for line in ax.lines if line.get_linestyle() == style] for style in ("--", "-")
        )
        for split, lines in (("train", dashed), ("valid", solid)):
            for line, alone in zip(lines, drawn[f"{split}_{name}"].lines, strict=True):
                assert line.get_ydata().tolist() == alone.get_ydata().tolist()
        colours = [[line.get_color() for line in lines] for lines in (dashed, solid)]
        assert colours[0] == colours[1] == [line.get_color() for line in legend.get_lines()]
        assert [line.get_linestyle() for line in legend.get_lines()] == ["-", "-"]


@pytest.mark.parametrize("epochs", [1, 2, 15])
def test_the_ticks_of_the_epochs_are_whole_numbers(epochs, tmp_path):
    run = write_run(tmp_path / "run", epochs)
    for ax in axes_drawn([run], ["run"], tmp_path / "figures").values():
        low, high = ax.get_xlim()
        ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
        assert ticks and all(tick in range(1, epochs + 1) for tick in ticks)


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        (["cifar10", None, "cifar10"], ["cifar10"]),
        (["shapes", "cifar10"], ["shapes", "cifar10"]),
        ([None], []),
    ],
)
def test_the_title_names_the_data_where_the_runs_do(sources, named, tmp_path):
    """Once each, after the name of the curve."""
    runs = [
        write_run(tmp_path / str(n), **({"data": {"name": source}} if source else {}))
        for n, source in enumerate(sources)
    ]
    for ax in axes_drawn(runs, ["run"] * len(runs), tmp_path / "figures").values():
        title = ax.get_title()
        assert [title.count(name) for name in ("cifar10", "shapes")] == [
            int(name in named) for name in ("cifar10", "shapes")
        ]


@pytest.mark.parametrize("data", ["cifar10", None, {"path": "data"}], ids=json.dumps)
def test_results_of_others_may_say_anything_about_their_data(data, tmp_path):
    """The interface allows more keys in results.json, so "data" need not be this project's."""
    generate_plots([write_run(tmp_path / "run", data=data)], ["run"], tmp_path / "figures")


@pytest.mark.parametrize("names", [["_run"], ["a_b", "lr = $10^{-3}$", "50 %", "<&>", "µ = 0,9"]])
def test_a_run_may_have_any_name(names, tmp_path):
    run = write_run(tmp_path / "run")
    for ax in axes_drawn([run] * len(names), names, tmp_path / "figures").values():
        assert [text.get_text() for text in ax.get_legend().get_texts()] == names


@pytest.mark.parametrize(
    "losses",
    [[[math.nan] * 3], [[2.0, math.inf, math.nan], [0.0, 0.0, 0.0], []]],
    ids=["diverged", "with-others"],
)
def test_curves_of_runs_that_diverged_or_never_began_are_drawn(losses, tmp_path):
    runs = [
        write_run(tmp_path / f"run {n}", train_losses=curve, valid_losses=curve)
        for n, curve in enumerate(losses)
    ]
    generate_plots(runs, [run.name for run in runs], tmp_path / "figures")


@pytest.mark.parametrize(("folders", "names"), [(2, 1), (1, 2), (0, 1), (1, 0), (0, 0)])
def test_a_wrong_number_of_names_is_refused(folders, names, tmp_path):
    runs = [write_run(tmp_path / str(n)) for n in range(folders)]
    with pytest.raises(ValueError, match=f"{folders} folders and legend_names {names} names"):
        generate_plots(runs, ["run"] * names, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_a_folder_without_results_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    folders = [write_run(tmp_path / "run"), tmp_path / "empty"]
    with pytest.raises(FileNotFoundError) as caught:
        generate_plots(folders, ["run", "empty"], tmp_path / "figures")
    assert str(caught.value) == f"{tmp_path / 'empty'} holds no run: it has no results.json"
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("missing", [["valid_accs"], ["train_losses", "valid_losses"], CURVES])
def test_results_without_the_curves_are_named_with_what_they_lack(missing, tmp_path):
    path = write_run(tmp_path / "run") / "results.json"
    results = json.loads(path.read_text())
    path.write_text(json.dumps({key: results[key] for key in results if key not in missing}))
    with pytest.raises(ValueError) as caught:
        generate_plots([path.parent], ["run"], tmp_path / "figures")
    message = str(caught.value)
    assert str(path) in message
    assert [curve for curve in CURVES if curve in message] == [c for c in CURVES if c in missing]
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("content", ["", '{"train_accs": [0.1, 0.', "not JSON", "[]"])
def test_results_that_are_cut_off_or_no_object_are_named(content, tmp_path):
    path = write_run(tmp_path / "run") / "results.json"
    path.write_text(content)
    with pytest.raises(ValueError) as caught:
        generate_plots([path.parent], ["run"], tmp_path / "figures")
    assert str(path) in str(caught.value)
