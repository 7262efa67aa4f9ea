"""What the sheet of the first assignment says of the code is true, in both languages."""

import ast
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import main
import mlp
import mlpmixer
import resnet18
import utils
from experiments.questions import learning_rate, mixer_width, nonlinearity
from grader.cifar10 import cases, manifest
from training import augment, batches, checkpoint, data, units
from training.arguments import make_parser
from training.config import MODELS, build_model, default_path, read_config
from training.results import RESULTS

from conftest import ROOT
from sheets_in_parts import SHEETS, SPAN, texts_of

ENGLISH, FRENCH = SHEETS["cifar10"]
both = pytest.mark.parametrize("sheet", [ENGLISH, FRENCH], ids=["English", "French"])
each_model = pytest.mark.parametrize("model", MODELS)


def build(model: str) -> nn.Module:
    path = default_path(model)
    return build_model(path, MODELS[model], read_config(path, model)).eval()


@both
def test_what_is_said_to_be_forbidden_is_what_the_autograder_refuses(sheet):
    (rule,) = (line for line in sheet.lines if "`nn.Linear`" in line)
    linear, part, *losses = SPAN.findall(rule)
    assert linear in cases.OWN_LINEAR.names and part == cases.OWN_LINEAR.part
    assert set(losses) == set(cases.OWN_LOSS.names)


# ------------------------------------------------------------------------------- architectures


@both
@each_model
def test_every_stage_has_the_stated_shape_and_number_of_parameters(sheet, model):
    rows = sheet.tables[2 + list(MODELS).index(model)][1:]
    sheet.assert_stages(rows, build(model))


def test_the_figures_have_the_layers_of_the_networks_and_their_blocks():
    for file, network, parts in (
        ("resnet18.svg", build("resnet18"), [resnet18.BasicBlock(4, 8, 2)]),
        ("mlpmixer.svg", build("mlpmixer"), [mlpmixer.MixerBlock(4, 6), mlpmixer.Mlp(4, 6)]),
    ):
        shown = set(re.findall(r"\w+", " ".join(texts_of(ROOT / "docs" / file))))
        names = {name for part in (network, *parts) for name, _ in part.named_children()}
        assert names - {"act"} <= shown
    assert {"GELU", "dropout"} <= shown


@both
def test_the_example_of_patches_is_that_of_the_code(sheet):
    embed = mlpmixer.PatchEmbed(256, 8, embed_dim=512)
    (item,) = sheet.items("3.1")
    shape = tuple(embed(torch.zeros(16, 3, 256, 256)).shape)
    assert f"{shape}" in item and f"= {embed.num_patches}$" in item
    inputs = embed.proj.weight[0].numel()
    assert f"= {inputs}$" in item and f"({inputs}, 512)" in item


@both
def test_what_only_the_experiments_use_costs_no_points(sheet):
    (item,) = sheet.items("3.2")
    (sentence,) = (s for s in item.split(". ") if "point" in s.lower() and "`drop_path`" in s)
    assert {"drop_path", "tokens_mlp_dim", "channels_mlp_dim"} == set(SPAN.findall(sentence))


@both
def test_each_question_varies_what_the_experiment_of_the_project_varies(sheet):
    activations = SPAN.findall(sheet.item("4.2"))[1:4]
    assert [name.strip('"') for name in activations] == list(mlp.ACTIVATIONS)
    assert set(nonlinearity.RUNS) == set(mlp.ACTIVATIONS)
    rates = [run["lr"] for run in learning_rate.RUNS.values()]
    assert [float(number) for number in sheet.numbers(sheet.item("4.3"))[2:]] == rates
    widths = [str(width) for width in mixer_width.WIDTHS]
    assert sheet.numbers(sheet.item("4.7"))[2:-2] == widths


@both
def test_the_numbers_of_the_mixer_experiments_are_those_of_the_code(sheet):
    def builds(patch_size):
        try:
            return mlpmixer.PatchEmbed(32, patch_size) is not None
        except ValueError:
            return False

    sizes = [str(size) for size in range(1, 65) if builds(size)]
    assert sheet.numbers(sheet.item("4.4")) == ["4.4", "10", *sizes, "32"]

    block = build("mlpmixer").blocks[0]
    units, patches = block.mlp_tokens.fc1.weight.shape
    side = str(int(patches**0.5))
    numbers = sheet.numbers(sheet.item("4.6"))
    assert str(units) in numbers and numbers.count(side) == 2 and int(side) ** 2 == patches
    widths = [str(units), str(block.mlp_channels.fc1.out_features)]
    assert sheet.numbers(sheet.item("4.7"))[-2:] == widths

    kernels = ", ".join(map(str, build("resnet18").conv1.weight.shape))
    assert f"`conv1.weight`, ({kernels})" in sheet.item("4.5")


@both
def test_the_data_are_described_as_they_are(sheet):
    (section,) = (s for s in sheet.sections if any("CIFAR-10 " in line[:10] for line in s))
    numbers = [number for line in section for number in sheet.numbers(line)]
    train, val = (len(part) for part in data.split_indices(50_000))
    assert numbers[:5] == [str(data.SIZE), str(data.SIZE), "10", "60000", "6000"]
    assert [str(train), str(val), "10000"] == numbers[5:8]
    area = [f"{100 * share:g}" for share in augment.SCALE]
    ratio = [f"{side:g}" for side in augment.RATIO]
    assert [number for number in numbers if number in area + ratio] == area + ratio
    for values in (batches.MEAN, batches.STD):
        stated = [f"{value:.4f}" for value in values]
        start = numbers.index(stated[0])
        assert numbers[start : start + 3] == stated


# ------------------------------------------------------------------------- commands and names


def parse(arguments):
    try:
        return make_parser().parse_args(arguments)
    except SystemExit as end:
        raise AssertionError(f"main.py refuses {' '.join(arguments)}") from end


@both
def test_every_command_is_accepted_by_its_program(sheet):
    questions = set()
    for command in sheet.commands:
        python, program, *arguments = shlex.split(command)
        assert (python, program) == ("python", "main.py")
        args = parse(arguments)
        assert args.epochs >= 10
        config = args.model_config
        assert config is None or config.startswith("my_") or (ROOT / config).exists()
        questions.add(re.fullmatch(r"exps/(4\.\d)_\w[\w.]*", args.logdir)[1])
    assert sorted(questions) == ["4.2", "4.3", "4.4", "4.5", "4.6", "4.7"]
    inline = {span for span in sheet.spans if span.startswith("python ")}
    assert inline == {"python test.py", "python main.py --help"}


@both
def test_the_defaults_are_those_of_the_command_line(sheet):
    (rules,) = (line for line in sheet.lines if line.startswith("**4.2 "))
    stated = [span.split() for span in SPAN.findall(rules) if span.startswith("--")]
    assert len(stated) == 6
    for flag, value in stated:
        name = flag.removeprefix("--")
        assert getattr(parse([flag, value]), name) == make_parser().get_default(name)


@both
@pytest.mark.parametrize(
    ("problem", "model", "changes"),
    [
        ("4.2", "mlp", {"activation": "tanh"}),
        ("4.4", "mlpmixer", {"patch_size": 8}),
        ("4.6", "mlpmixer", {"embed_dim": 64, "num_blocks": 2, "drop_rate": 0.1}),
        ("4.7", "mlpmixer", {"tokens_mlp_dim": 256, "channels_mlp_dim": 512}),
    ],
)
def test_a_copy_with_the_keys_of_the_sheet_makes_another_model(
    sheet, problem, model, changes, tmp_path
):
    assert set(changes) <= set(SPAN.findall(sheet.item(problem)))
    path = tmp_path / "my_copy.json"
    copy = json.loads(default_path(model).read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(copy), encoding="utf-8")
    changed, default = build_model(path, MODELS[model], read_config(path, model)), build(model)
    if problem == "4.2":
        assert (changed.activation, default.activation) == ("tanh", "relu")
    else:
        shapes = [[p.shape for p in network.parameters()] for network in (changed, default)]
        assert shapes[0] != shapes[1]


# In front of an attribute in backticks there is one of these.
OWNERS = (
    mlp.Linear(2, 3),
    build("mlp"),
    resnet18.BasicBlock(4, 8, 2),
    build("resnet18"),
    mlpmixer.MixerBlock(4, 6),
    build("mlpmixer"),
)
MODULES = (mlp, resnet18, mlpmixer, utils)
HANDED_OUT = {"README.md", *manifest.SUBMITTED, *manifest.HANDOUT}
OF_A_RUN = {RESULTS, checkpoint.BEST_MODEL, checkpoint.CHECKPOINT}
OF_A_RUN |= {f"{name}.png" for name, _, _ in (*utils.CURVES, *utils.BOTH)}
OF_A_RUN |= set(re.findall(r'"(\w+\.png)"', Path(units.__file__).read_text(encoding="utf-8")))


def arguments_and_keys():
    """Return the arguments of our functions in their files, and the keys of results.json."""
    names = set(json.loads((ROOT / "results" / "mlp-42.json").read_text(encoding="utf-8")))
    for module in MODULES:
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        names |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return names


NAMES = arguments_and_keys()


def exists(span):
    """Return whether what stands in backticks is something that students have."""
    if span.startswith(("python ", "from ")) or span == "...":
        return True
    if span.startswith("--"):
        flag, *value = span.split()
        known = re.findall(r"(?<![-\w])--\w+", make_parser().format_help())
        return flag in known and (not value or bool(parse([flag, *value])))
    if span.startswith('"'):
        return ast.literal_eval(span) in mlp.ACTIVATIONS
    if re.fullmatch(r"[\w/]+(/|\.(py|json|ipynb|md|pt|txt|png))", span):
        mine = re.fullmatch(r"my_\w+\.json", span)
        inside = any(name.startswith(span) for name in HANDED_OUT) if span.endswith("/") else False
        return bool(mine) or inside or span in HANDED_OUT | OF_A_RUN
    if span in NAMES:
        return True
    scope = {name: value for module in MODULES for name, value in vars(module).items()}
    scope |= {"nn": nn, "F": F, "torch": torch, "utils": utils, "main": main}
    for owner in (None, *OWNERS):
        try:
            eval(span if owner is None else f"owner.{span}", {**scope, "owner": owner})
        except (AttributeError, IndexError, NameError, SyntaxError, TypeError):
            continue
        return True
    return False


@both
def test_everything_in_backticks_exists(sheet):
    assert [span for span in sorted(sheet.spans) if not exists(span)] == []


def test_what_does_not_exist_is_noticed():
    for span in (
        *("Lineal", "MLP.build", "conv3", "blocks[4]", "blocks[0].mlp_token", "nn.CrossEntropy"),
        *("tokens_dim_mlp", "train_second", '"silu"', "--optimiser", "mixer.py", "slides/"),
        *("utils.generate_plot", "model_configs/vit.json"),
    ):
        assert not exists(span), span


# ------------------------------------------------------------------------ the lines of Python


def lines_of_python(number):
    return [content for language, content in ENGLISH.blocks if language == "python"][number]


def test_the_lines_for_the_figures_draw_six(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("relu", "tanh", "sigmoid"):
        folder = tmp_path / "exps" / f"4.2_{name}"
        folder.mkdir(parents=True)
        shutil.copy(ROOT / "results" / "mlp-42.json", folder / "results.json")
    exec(lines_of_python(0), {})
    assert len(list((tmp_path / "figures" / "4.2").glob("*.png"))) == 6


@each_model
def test_the_lines_for_the_gradients_record_each_layer_at_each_step(
    model, small_npz, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    small = ["--data", str(small_npz), "--subset", "16", "--batch_size", "8", "--epochs", "1"]
    parse_args = main.parse_args
    small += ["--device", "cpu"]
    monkeypatch.setattr(main, "parse_args", lambda argv: parse_args([*argv, *small]))
    scope = {}
    code = lines_of_python(1).replace('"mlp"', f'"{model}"').replace("4.8_mlp", f"4.8_{model}")
    exec(code, scope)
    layers = {name for name, p in build(model).named_parameters() if p.ndim > 1}
    assert len(scope["norms"]) == 2
    for norms in scope["norms"]:
        assert set(norms) == layers and all(norm > 0 for norm in norms.values())
    assert (tmp_path / "exps" / f"4.8_{model}" / RESULTS).exists()
