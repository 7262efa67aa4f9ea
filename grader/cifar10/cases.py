"""The checks of Problems 1 to 3 and 4.1, with their points.

Solutions written in the course's starter code pass: every MLP has at least two hidden layers, and
no case uses ``drop_path``, ``visualize``, the widths of the mixer's MLPs or the optional arguments
that this project adds. No case depends on the eps of the mixer's last layer norm, which differs
between versions of the starter. The images of ResNet18 have 32 x 32 pixels.

Every test of the handout's ``test.py`` is part of one of these cases.

Shapes: B batch, C channels, H, W height and width, N patches, D embedding width, K classes.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from grader.forbidden import Forbidden
from grader.trial import MODES, Trial, Wrong, case, compile_tests, describe_call, set_mode

TESTS = compile_tests(".")
OWN_LINEAR = Forbidden("Linear", ("nn.Linear", "nn.LazyLinear"))
OWN_LOSS = Forbidden(
    "cross_entropy_loss", ("nn.CrossEntropyLoss", "F.cross_entropy", "nn.NLLLoss", "F.nll_loss")
)


def _build(trial: Trial, name: str, *arguments: Any, seed: int = 0, **options: Any) -> Any:
    """Return a part of the submission, such as "mlp.Linear", filled with known numbers."""
    file, _, part = name.partition(".")
    module = getattr(getattr(trial, file), part)(*arguments, **options)
    return trial.fill(describe_call(part, *arguments, **options), module, seed=seed)


def _build_all(
    trial: Trial, name: str, *calls: tuple[Any, ...], **options: Any
) -> list[tuple[str, Any, tuple[Any, ...]]]:
    """Return a part for each tuple of arguments: its call as text, the part, the arguments.

    All are built before one is used, so that what instances share by mistake shows.
    """
    part = name.partition(".")[2]
    return [
        (describe_call(part, *c, **options), _build(trial, name, *c, **options), c) for c in calls
    ]


def _construct(trial: Trial, name: str, **arguments: Any) -> None:
    """Record how a part is initialised and what its constructor leaves behind."""
    file, _, part = name.partition(".")
    build = partial(getattr(getattr(trial, file), part), **arguments)
    trial.construct(describe_call(part, **arguments), build)


# ---------------------------------------------------------------- Problem 1: the MLP

LAYERS = ("Linear", "MLP._build_layers", "MLP._initialize_linear_layer")  # Problems 1.1 and 1.2


@case("1.1", 0.5, "mlp.py", public=True, forbidden=OWN_LINEAR)
def linear_registers_weight_and_bias(trial: Trial):
    """Linear registers weight (out, in) and bias (out,), with random initial weights."""
    for sizes in ((7, 4), (4, 7), (1, 1)):
        _own_linear(trial, *sizes)
    _construct(trial, "mlp.Linear", in_features=30, out_features=20)
    trial.run_tests(
        TESTS,
        "TestLinear.test_parameters_are_weight_and_bias",
        "TestLinear.test_a_new_layer_is_initialised",
    )


@case("1.1", 1, "mlp.py", public=True, forbidden=OWN_LINEAR)
def linear_is_the_affine_map(trial: Trial):
    """Linear computes input @ weight.T + bias of inputs (..., in), with the correct gradients."""
    shapes = ((5, 7), (5, 5), (1, 3), (7,), (2, 3, 6), (2, 1, 3, 6), (200, 6))
    for shape, width in zip(shapes, (4, 5, 9, 3, 4, 5, 3)):
        layer = _own_linear(trial, shape[-1], width)
        for mode in MODES:
            what = f"Linear({shape[-1]}, {width}) in {mode}, for an input of shape {shape}"
            trial.probe(what, set_mode(layer, mode), trial.draw(*shape))
    trial.run_tests(TESTS, "TestLinear.test_linear_equals_the_layer_of_torch")


def _own_linear(trial: Trial, in_features: int, out_features: int) -> nn.Module:
    with trial.watched():
        layer = _build(trial, "mlp.Linear", in_features, out_features)
    if any(isinstance(module, nn.Linear) for module in layer.modules()):
        raise Wrong("mlp.py: Linear uses nn.Linear; expected your own layer")
    return layer


@case("1.2", 0.75, "mlp.py", public=True, stand_ins=("Linear",))
def hidden_layers_chain_the_sizes(trial: Trial):
    """MLP has an nn.ModuleList of hidden layers and an output layer, of the correct sizes."""
    for arguments in ((48, [8, 6], 4), (12, [5, 5, 5, 7, 6, 6, 8], 13)):
        model = trial.mlp.MLP(*arguments)
        what = describe_call("MLP", *arguments)
        trial.record_parameters(what, model)
        trial.record_text(f"{what}.hidden_layers", type(model.hidden_layers).__name__)
        hidden_layers, output_layer = model._build_layers(30, [20, 20, 10], 2)
        what = "_build_layers(30, [20, 20, 10], 2)"
        for number, layer in enumerate([*hidden_layers, output_layer]):
            trial.record_parameters(f"Layer {number} of {what}", layer)
            kind = "Linear" if isinstance(layer, trial.mlp.Linear) else type(layer)
            trial.record_text(f"The class of layer {number} of {what}", str(kind))
    trial.run_tests(TESTS, "TestMLPLayers.test_layers_have_the_right_shapes")


@case("1.2", 0.75, "mlp.py", stand_ins=("Linear",), hint="consider the initialisation of an MLP.")
def new_mlp_is_glorot_normal(trial: Trial):
    """A new MLP has zero biases and weights from Glorot's normal distribution."""
    for activation in ("relu", "tanh", "sigmoid"):
        arguments = (400, [120, 80], 60, activation)
        model = trial.mlp.MLP(*arguments)
        for name, parameter in model.named_parameters():
            what = f"{describe_call('MLP', *arguments)}: the initial {name}"
            if parameter.ndim == 2:
                trial.record_drawn(what, parameter, "normal", math.sqrt(2 / sum(parameter.shape)))
            else:
                trial.record(what, parameter, tolerance=0)
    for sizes in ((300, 100), (40, 500)):
        layer = _build(trial, "mlp.Linear", *sizes)
        model._initialize_linear_layer(layer)
        what = f"Linear{sizes} after _initialize_linear_layer: its"
        trial.record_drawn(f"{what} weight", layer.weight, "normal", math.sqrt(2 / sum(sizes)))
        trial.record(f"{what} bias", layer.bias, tolerance=0)
    _construct(
        trial, "mlp.MLP", input_size=48, hidden_sizes=[8, 8, 6], num_classes=4, activation="relu"
    )
    trial.record_settings("mlp")
    trial.run_tests(
        TESTS,
        "TestMLPLayers.test_a_new_network_is_initialised",
        "TestMLPLayers.test_initialize_linear_layer_overwrites",
    )


@case("1.3", 0.5, "mlp.py", public=True, stand_ins=LAYERS)
def activation_fn_knows_three_functions(trial: Trial):
    """activation_fn applies "relu", "tanh" and "sigmoid", whatever the MLP's own activation."""
    for own in ("relu", "tanh"):
        model = _build(trial, "mlp.MLP", 48, [8, 6], 4, own)
        for name in ("relu", "tanh", "sigmoid"):
            apply = partial(model.activation_fn, name)
            for scale in (3, 1000):
                what = f'activation_fn("{name}", ±{scale}) of an MLP with {own}'
                trial.probe(what, apply, scale * trial.draw(6, 5), in_place=True)
        trial.call(f"The MLP with {own} afterwards", model, trial.draw(2, 48))
    trial.run_tests(TESTS, "TestMLP.test_activation_fn_knows_three_functions")


@case("1.3", 1, "mlp.py", public=True, stand_ins=LAYERS)
def mlp_computes_its_logits(trial: Trial):
    """MLP returns the correct logits and gradients, with each activation."""
    calls = [
        (48, hidden, 4, activation)
        for hidden in ([8, 6], [7, 9, 5], [6, 6, 6, 6, 6, 6])
        for activation in ("relu", "tanh", "sigmoid")
    ]
    for what, model, _ in _build_all(trial, "mlp.MLP", *calls):
        for mode in MODES:
            images = trial.draw(5, 3, 4, 4)
            trial.differentiate(f"{what} in {mode}, 5 images", set_mode(model, mode), images)
    trial.run_tests(
        TESTS,
        "TestMLP.test_mlp_equals_layers_of_torch",
        "TestMLP.test_logits_are_not_activated",
        "TestMLP.test_logits_equal_stored_ones",
        "TestMLP.test_every_parameter_receives_a_gradient",
    )


@case("1.3", 0.5, "mlp.py", stand_ins=LAYERS, hint="consider other batches, images and classes.")
def mlp_takes_any_batch(trial: Trial):
    """MLP flattens all dimensions after the batch dimension, for any batch size."""
    shapes = ((1, 3, 4, 4), (3, 48), (2, 6, 8), (48, 3, 4, 4), (200, 48))
    for shape, classes in zip(shapes, (13, 13, 1, 13, 13)):
        model = _build(trial, "mlp.MLP", 48, [8, 6], classes)
        for mode in MODES:
            what = f"MLP(48, [8, 6], {classes}) in {mode}, images of shape {shape}"
            trial.probe(what, set_mode(model, mode), trial.draw(*shape))
    _check_device(trial, model, (2, 3, 4, 4), "MLP")
    trial.run_tests(
        TESTS,
        "TestMLP.test_number_of_parameters",
        "TestMLP.test_logits_have_one_row_per_image",
    )


# ---------------------------------------------------------------- Problem 2: ResNet18


@case("2.1", 1.5, "resnet18.py", public=True)
def block_has_the_layers_of_the_diagram(trial: Trial):
    """BasicBlock has the parameters of the diagram, and a shortcut only if the shape changes."""
    for arguments in ((4, 4), (4, 4, 1), (4, 8), (4, 4, 2), (6, 3, 2)):
        block = _build(trial, "resnet18.BasicBlock", *arguments)
        output = block(trial.draw(2, arguments[0], 9, 9))
        what = f"{describe_call('BasicBlock', *arguments)}: the shape of the output"
        trial.record_text(what, str(tuple(output.shape)))
    trial.run_tests(
        TESTS,
        "TestBasicBlock.test_output_has_the_right_shape",
        "TestBasicBlock.test_parameters_are_those_of_the_diagram",
    )


@case("2.1", 2, "resnet18.py", public=True)
def block_adds_its_input(trial: Trial):
    """BasicBlock that keeps the shape returns the correct output and gradients in evaluation."""
    for seed, batch in enumerate((3, 1, 2)):
        block = _build(trial, "resnet18.BasicBlock", 5, 5, seed=seed).eval()
        what = f"BasicBlock(5, 5) in evaluation, batch of {batch}"
        trial.differentiate(what, block, trial.draw(batch, 5, 7, 7, seed=seed))
    trial.run_tests(
        TESTS,
        "TestBasicBlock.test_last_relu_follows_the_sum",
        "TestBasicBlock.test_first_relu_follows_the_first_batch_norm",
    )


@case("2.1", 2, "resnet18.py", hint="consider blocks that change the channels or the resolution.")
def block_projects_its_input(trial: Trial):
    """BasicBlock that changes the shape returns the correct output and gradients."""
    calls = ((4, 6), (4, 4, 2), (3, 6, 2), (6, 3, 3))
    for what, block, arguments in _build_all(trial, "resnet18.BasicBlock", *calls):
        for size in (8, 7):
            maps = trial.draw(2, arguments[0], size, size)
            words = f"{what} in evaluation, {size} x {size} pixels"
            trial.differentiate(words, set_mode(block, "evaluation"), maps)


@case("2.1", 1.5, "resnet18.py", hint="consider the difference between training and evaluation.")
def block_normalises_by_the_batch(trial: Trial):
    """BasicBlock in training normalises by batch statistics and updates the running ones."""
    for what, block, _ in _build_all(trial, "resnet18.BasicBlock", (4, 4), (4, 6, 2)):
        for batch in (4, 1, 40):
            for mode in MODES:
                maps = trial.draw(batch, 4, 8, 8)
                trial.probe(f"{what} in {mode}, batch of {batch}", set_mode(block, mode), maps)
    _construct(trial, "resnet18.BasicBlock", in_planes=4, planes=6, stride=2)
    trial.run_tests(TESTS, "TestBasicBlock.test_output_equals_stored_numbers")


@case("2.2", 2, "resnet18.py", public=True, stand_ins=("BasicBlock",))
def resnet18_has_the_layers_of_the_figure(trial: Trial):
    """ResNet18 has 11,173,962 parameters, with the names of the figure."""
    for classes in (10, 13):
        model = trial.resnet18.ResNet18(classes)
        trial.record_parameters(f"ResNet18({classes})", model)
        number = sum(parameter.numel() for parameter in model.parameters())
        trial.record_number(f"ResNet18({classes}): the number of parameters", number)
    trial.record_parameters("ResNet18()", trial.resnet18.ResNet18())
    trial.run_tests(TESTS, "TestResNet18.test_number_of_parameters")


@case("2.2", 1, "resnet18.py", public=True, stand_ins=("BasicBlock",))
def resnet18_halves_the_resolution_three_times(trial: Trial):
    """conv1 and layer1 to layer4 of ResNet18 return feature maps of the correct shapes."""
    maps = trial.draw(1, 3, 32, 32)
    model = _build(trial, "resnet18.ResNet18", 10).eval()
    for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"):
        maps = getattr(model, name)(maps)
        trial.record_text(f"ResNet18: the shape of the output of {name}", str(tuple(maps.shape)))
    for arguments in ((8, 16, 2), (8, 16, 1), (8, 8, 2), (8, 8, 1)):
        what = describe_call("_make_layer", *arguments)
        layer = trial.fill(what, model._make_layer(*arguments)).eval()
        trial.call(f"{what} of maps (1, 8, 6, 6)", layer, trial.draw(1, 8, 6, 6))
    trial.run_tests(TESTS, "TestResNet18.test_layers_have_the_right_shapes")


@case("2.2", 2.5, "resnet18.py", public=True, stand_ins=("BasicBlock",))
def resnet18_computes_its_logits(trial: Trial):
    """ResNet18 returns the correct logits in evaluation, for several batch sizes."""
    for classes, batches in ((10, (2, 1, 5)), (13, (3,)), (1, (2,))):
        model = _build(trial, "resnet18.ResNet18", classes).eval()
        for batch in batches:
            what = f"ResNet18({classes}) in evaluation, batch of {batch}"
            trial.call(what, model, trial.draw(batch, 3, 32, 32, seed=batch))
    _check_device(trial, model, (2, 3, 32, 32), "ResNet18")
    trial.run_tests(
        TESTS,
        "TestResNet18.test_logits_have_one_row_per_image",
        "TestResNet18.test_logits_equal_stored_ones",
    )


@case("2.2", 1.5, "resnet18.py", stand_ins=("BasicBlock",), hint="consider the backward pass.")
def resnet18_has_the_right_gradients(trial: Trial):
    """ResNet18 passes the correct gradients to the images and to every parameter."""
    model = _build(trial, "resnet18.ResNet18", 10).eval()
    trial.probe("ResNet18 in evaluation", model, trial.draw(2, 3, 32, 32))
    trial.run_tests(TESTS, "TestResNet18.test_every_parameter_receives_a_gradient")


@case("2.2", 1, "resnet18.py", stand_ins=("BasicBlock",), hint="consider training mode.")
def resnet18_trains_by_batch_statistics(trial: Trial):
    """ResNet18 in training normalises by batch statistics and updates the running ones."""
    _construct(trial, "resnet18.ResNet18", num_classes=10)
    trial.record_settings("resnet18")
    model = _build(trial, "resnet18.ResNet18", 10).train()
    trial.probe("ResNet18 in training", model, trial.draw(2, 3, 32, 32))
    trial.call("ResNet18 in training, a single image", model, trial.draw(1, 3, 32, 32))
    trial.call("ResNet18 in evaluation afterwards", model.eval(), trial.draw(4, 3, 32, 32))
    trial.run_tests(TESTS, "TestResNet18.test_batch_norm_averages_in_training_only")


# ---------------------------------------------------------------- Problem 3: the MLP-Mixer


@case("3.1", 1, "mlpmixer.py", public=True)
def patches_are_counted(trial: Trial):
    """PatchEmbed has the correct number of patches and a convolution of the correct shape."""
    sizes = ((32, 4), (32, 8), (32, 16), (32, 32), (8, 2, 3, 5), (8, 8, 2, 5), (6, 1, 3, 4))
    for arguments in sizes:
        layer = _build(trial, "mlpmixer.PatchEmbed", *arguments)
        what = describe_call("PatchEmbed", *arguments)
        for name in ("num_patches", "grid_size"):
            trial.record_number(f"{what}.{name}", getattr(layer, name))
        if not hasattr(layer.num_patches, "__index__"):
            raise Wrong(f"{what}.num_patches is not an integer")
    trial.run_tests(TESTS, "TestPatchEmbed.test_patches_have_the_right_shape")


@case("3.1", 2, "mlpmixer.py", public=True)
def patches_are_embedded_one_by_one(trial: Trial):
    """PatchEmbed returns (B, N, D): the same linear map of each patch, row by row."""
    calls = [(size, patch, 3, 5) for size, patch in ((8, 4), (8, 2), (6, 1), (8, 8), (32, 8))]
    calls += [(9, 3, 3, 9), (32, 16, 3, 4)]
    for what, layer, (size, *_) in _build_all(trial, "mlpmixer.PatchEmbed", *calls):
        for batch in (1, 2):
            trial.call(f"{what}, batch of {batch}", layer, trial.draw(batch, 3, size, size))
    trial.run_tests(TESTS, "TestPatchEmbed.test_each_patch_goes_through_one_linear_map")


@case("3.1", 1, "mlpmixer.py", hint="consider other numbers of channels, and the gradients.")
def patches_have_the_right_gradients(trial: Trial):
    """PatchEmbed works for any number of channels and passes the correct gradients."""
    for channels, batch in ((1, 2), (4, 1), (3, 4), (3, 40)):
        layer = _build(trial, "mlpmixer.PatchEmbed", 8, 4, channels, 6)
        for mode in MODES:
            what = f"PatchEmbed(8, 4, {channels}, 6) in {mode}, batch of {batch}"
            images = trial.draw(batch, channels, 8, 8)
            trial.probe(what, set_mode(layer, mode), images)
    _check_device(
        trial, _build(trial, "mlpmixer.PatchEmbed", 8, 4, 3, 6), (2, 3, 8, 8), "PatchEmbed"
    )
    _construct(trial, "mlpmixer.PatchEmbed", img_size=8, patch_size=4, in_chans=3, embed_dim=6)


@case("3.2", 1, "mlpmixer.py", public=True)
def mlp_of_the_mixer_is_two_layers(trial: Trial):
    """Mlp computes fc2(act(fc1(x))), with dropout after each layer in training only."""
    for act in (nn.GELU, nn.ReLU):
        for drop, mode in ((0.0, "training"), (0.0, "evaluation"), (0.5, "evaluation")):
            what = f"Mlp(5, 9, nn.{act.__name__}, drop={drop}) in {mode}"
            layer = trial.fill(what, trial.mlpmixer.Mlp(5, 9, act, drop=drop))
            trial.probe(what, set_mode(layer, mode), trial.draw(2, 6, 5))
    _construct(trial, "mlpmixer.Mlp", in_features=5, hidden_features=9)
    # With identity layers, the output is 0 where the second dropout drops, sigmoid(1) / (1 - p)^2
    # where both keep, and 0 where the first drops, since that one follows the activation.
    for drop in (0.25, 0.5):
        layer = trial.mlpmixer.Mlp(64, 64, nn.Sigmoid, drop=drop).train()
        with torch.no_grad():
            for linear in (layer.fc1, layer.fc2):
                linear.weight.copy_(torch.eye(64))
                linear.bias.zero_()
            output = layer(torch.ones(2000, 64))
        what = f"Mlp(64, 64, nn.Sigmoid, drop={drop}) in training, identity layers:"
        trial.record(f"{what} the largest output", output.max())
        levels = torch.unique((output * 1e3).round()).numel()
        trial.record_number(f"{what} the number of different outputs", levels)
        _record_fraction(trial, f"{what} the fraction of zeros", output == 0)
    trial.run_tests(TESTS, "TestMixerBlock.test_mlp_equals_layers_of_torch")


def _record_fraction(trial: Trial, what: str, entries: torch.Tensor) -> None:
    """Record the fraction of random entries that are true.

    The limit is 10 standard deviations of the difference between two such fractions near 1/2,
    relative to the judge's scale.
    """
    trial.record_number(what, entries.double().mean(), absolute=7.1 / math.sqrt(entries.numel()))


@case("3.2", 1, "mlpmixer.py", public=True, stand_ins=("Mlp",))
def block_has_two_norms_and_two_mlps(trial: Trial):
    """MixerBlock has the layers of the diagram, with hidden widths int(ratio * dim)."""
    for ratios in ((0.5, 4.0), (0.75, 3.5), (2.0, 1.0)):
        for dim in (6, 7):
            _build(trial, "mlpmixer.MixerBlock", dim, 5, mlp_ratio=ratios)
    _build(trial, "mlpmixer.MixerBlock", 6, 5)
    trial.run_tests(TESTS, "TestMixerBlock.test_parameters_are_those_of_the_diagram")


@case("3.2", 3, "mlpmixer.py", public=True, stand_ins=("Mlp",))
def block_mixes_patches_then_channels(trial: Trial):
    """MixerBlock returns the correct output, with GELU and with ReLU."""
    calls = [
        (dim, seq_len, (0.5, 4.0), activation)
        for dim, seq_len in ((4, 6), (6, 4), (5, 5), (6, 1))
        for activation in ("gelu", "relu")
    ]
    for what, block, (dim, seq_len, *_) in _build_all(trial, "mlpmixer.MixerBlock", *calls):
        for mode in MODES:
            trial.call(f"{what} in {mode}", set_mode(block, mode), trial.draw(3, seq_len, dim))
    trial.run_tests(
        TESTS,
        "TestMixerBlock.test_a_connection_skips_each_mlp",
        "TestMixerBlock.test_a_norm_precedes_each_mlp",
    )


@case("3.2", 2, "mlpmixer.py", stand_ins=("Mlp",), hint="consider the backward pass.")
def block_has_the_right_gradients(trial: Trial):
    """MixerBlock passes the correct gradients to the patches and to every parameter."""
    for seed, batch in enumerate((3, 1, 40)):
        block = _build(trial, "mlpmixer.MixerBlock", 6, 5, seed=seed)
        for mode in MODES:
            what = f"MixerBlock(6, 5) in {mode}, batch of {batch}"
            patches = trial.draw(batch, 5, 6, seed=seed)
            trial.probe(what, set_mode(block, mode), patches)
    _construct(trial, "mlpmixer.MixerBlock", dim=6, seq_len=5)


@case("3.2", 0.5, "mlpmixer.py", stand_ins=("Mlp",), hint="consider very small activations.")
def block_norms_have_their_eps(trial: Trial):
    """Both norms of MixerBlock have eps 1e-6, which matters for very small numbers."""
    patches = 1e-3 * trial.draw(2, 5, 6)
    block = _build(trial, "mlpmixer.MixerBlock", 6, 5).eval()
    trial.call("MixerBlock(6, 5) of patches near 1e-3", block, patches)
    _silence(block.mlp_tokens)
    what = "MixerBlock(6, 5) of patches near 1e-3, where token mixing adds nothing"
    trial.call(what, block, patches)
    trial.run_tests(TESTS, "TestMixerBlock.test_output_equals_stored_numbers")


@case("3.2", 0.5, "mlpmixer.py", stand_ins=("Mlp",), hint="consider dropout.")
def block_drops_in_training_only(trial: Trial):
    """Both MLPs of MixerBlock drop the given fraction in training, nothing in evaluation."""
    for drop in (0.25, 0.5):
        what = f"MixerBlock(6, 5, drop={drop})"
        block = _build(trial, "mlpmixer.MixerBlock", 6, 5, drop=drop)
        trial.call(f"{what} in evaluation", block.eval(), trial.draw(3, 5, 6))
        build = partial(_build, trial, "mlpmixer.MixerBlock", 6, 5, drop=drop)
        _record_dropout(trial, what, 5, build)


def _record_dropout(trial: Trial, what: str, seq_len: int, build: Callable[[], Any]) -> None:
    """Record the fraction of entries to which each MLP of a block adds nothing in training."""
    for name, other in (("mlp_tokens", "mlp_channels"), ("mlp_channels", "mlp_tokens")):
        block = build().train()
        _silence(getattr(block, other))
        patches = trial.draw(4000, seq_len, 6)
        with torch.no_grad():
            added = block(patches) - patches
        _record_fraction(trial, f"{what} in training: the fraction that {name} drops", added == 0)


def _silence(mlp: Any) -> None:
    """Make an MLP return only zeros."""
    with torch.no_grad():
        mlp.fc2.weight.zero_()
        mlp.fc2.bias.zero_()


MIXER_PARTS = ("PatchEmbed", "Mlp", "MixerBlock")


@case("3.2", 1.5, "mlpmixer.py", public=True, stand_ins=MIXER_PARTS)
def mixer_has_the_layers_of_the_figure(trial: Trial):
    """MLPMixer has the correct parameters for each patch size."""
    for patch_size in (1, 2, 4, 8, 16, 32):
        model = trial.mlpmixer.MLPMixer(10, 32, patch_size, 256, 4)
        trial.record_parameters(f"MLPMixer(10, 32, {patch_size}, 256, 4)", model)
    trial.record_number("MLPMixer.num_classes", model.num_classes)
    trial.record_parameters("MLPMixer(13, 8, 2, 6, 3)", trial.mlpmixer.MLPMixer(13, 8, 2, 6, 3))
    trial.run_tests(
        TESTS,
        "TestMLPMixer.test_number_of_parameters",
        "TestMLPMixer.test_number_of_parameters_follows_the_patch_size",
    )


@case("3.2", 1, "mlpmixer.py", stand_ins=MIXER_PARTS, hint="consider its initialisation.")
def new_mixer_is_initialised(trial: Trial):
    """A new MLPMixer has Glorot uniform linear layers and a Kaiming normal convolution."""
    model = trial.mlpmixer.MLPMixer(10, 32, 4, 256, 2)
    for name, parameter in model.named_parameters():
        what = f"MLPMixer(10, 32, 4, 256, 2): the initial {name}"
        if parameter.ndim == 4:
            trial.record_drawn(what, parameter, "normal", math.sqrt(2 / parameter[0].numel()))
        elif parameter.ndim == 2:
            trial.record_drawn(what, parameter, "uniform", math.sqrt(2 / sum(parameter.shape)))
        else:
            trial.record(what, parameter, tolerance=0)
    _construct(
        trial,
        "mlpmixer.MLPMixer",
        num_classes=4,
        img_size=8,
        patch_size=4,
        embed_dim=6,
        num_blocks=2,
    )
    trial.record_settings("mlpmixer")
    trial.run_tests(TESTS, "TestMLPMixer.test_a_new_network_is_initialised")


@case("3.2", 3, "mlpmixer.py", public=True, stand_ins=MIXER_PARTS)
def mixer_computes_its_logits(trial: Trial):
    """MLPMixer returns the correct logits, with GELU and ReLU, with one block and more."""
    sizes = (
        (4, 8, 4, 6, 2),
        (3, 8, 2, 6, 1),
        (5, 6, 1, 8, 3),
        (13, 8, 8, 6, 4),
        (1, 32, 16, 6, 1),
        (10, 32, 4, 32, 2),
    )
    calls = [(*arguments, 0.0, name) for arguments in sizes for name in ("gelu", "relu")]
    for what, model, (_, size, *_) in _build_all(trial, "mlpmixer.MLPMixer", *calls):
        for batch, mode in ((1, "training"), (3, "evaluation")):
            images = trial.draw(batch, 3, size, size)
            trial.call(f"{what} in {mode}, {batch} images", set_mode(model, mode), images)
    _check_device(trial, model, (2, 3, 32, 32), "MLPMixer")
    trial.run_tests(
        TESTS,
        "TestMLPMixer.test_logits_have_one_row_per_image",
        "TestMLPMixer.test_logits_equal_stored_ones",
        "TestMLPMixer.test_activation_reaches_the_blocks",
    )


@case("3.2", 1.5, "mlpmixer.py", stand_ins=MIXER_PARTS, hint="consider the backward pass.")
def mixer_has_the_right_gradients(trial: Trial):
    """MLPMixer passes the correct gradients to the images and to every parameter."""
    model = _build(trial, "mlpmixer.MLPMixer", 4, 8, 4, 6, 3)
    for batch in (3, 40):
        for mode in MODES:
            what = f"MLPMixer(4, 8, 4, 6, 3) in {mode}, {batch} images"
            trial.probe(what, set_mode(model, mode), trial.draw(batch, 3, 8, 8))
    trial.run_tests(TESTS, "TestMLPMixer.test_every_parameter_receives_a_gradient")


@case("3.2", 0.5, "mlpmixer.py", stand_ins=MIXER_PARTS, hint="consider training mode.")
def mixer_is_the_same_in_training(trial: Trial):
    """MLPMixer without dropout computes the same logits in training and in evaluation."""
    for what, model, _ in _build_all(trial, "mlpmixer.MLPMixer", (4, 8, 4, 6, 2), (4, 8, 2, 6, 1)):
        for mode in MODES:
            trial.call(f"{what} in {mode}", set_mode(model, mode), trial.draw(3, 3, 8, 8))


@case("3.2", 0.5, "mlpmixer.py", stand_ins=MIXER_PARTS, hint="consider dropout.")
def mixer_drops_in_training_only(trial: Trial):
    """Every block of MLPMixer drops drop_rate in training, nothing in evaluation."""
    arguments, images = (4, 8, 4, 6, 3), trial.draw(3, 3, 8, 8)
    for drop in (0.25, 0.5):
        what = f"{describe_call('MLPMixer', *arguments, drop_rate=drop)}"
        build = partial(_build, trial, "mlpmixer.MLPMixer", *arguments, drop_rate=drop)
        trial.call(f"{what} in evaluation", build().eval(), images)
        model = build().train()
        trial.record_different(f"Two outputs of {what} in training", model(images), model(images))
        for number in range(3):
            block = partial(lambda build, number: build().blocks[number], build, number)
            _record_dropout(trial, f"{what}, block {number},", 4, block)
    trial.run_tests(TESTS, "TestMLPMixer.test_dropout_acts_in_training_only")


# ---------------------------------------------------------------- Problem 4.1: the loss


def _batch(
    trial: Trial, size: int, classes: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(size) * 7 % classes
    return scale * trial.draw(size, classes, seed=size), labels


def _loss_tests(trial: Trial, *names: str) -> None:
    trial.run_tests(TESTS, *(f"TestCrossEntropyLoss.test_{name}" for name in names))


@case("4.1", 2, "utils.py", public=True, forbidden=OWN_LOSS)
def loss_is_the_mean_cross_entropy(trial: Trial):
    """cross_entropy_loss is the mean over the batch, a 0-dim tensor."""
    for size, classes in ((1, 10), (2, 3), (5, 5), (128, 10), (3, 2), (300, 10), (4, 100)):
        logits, labels = _batch(trial, size, classes, 3)
        what = f"cross_entropy_loss of logits {(size, classes)}"
        trial.call(what, trial.utils.cross_entropy_loss, logits, labels, tolerance=1e-5)
    _loss_tests(trial, "loss_is_the_mean_over_the_batch", "built_in_loss_is_not_used")


@case("4.1", 1, "utils.py", public=True, forbidden=OWN_LOSS)
def loss_has_the_right_gradient(trial: Trial):
    """The gradient of cross_entropy_loss is (softmax - one-hot) / B."""
    for size, classes in ((1, 4), (6, 4), (4, 6), (300, 10)):
        logits, labels = _batch(trial, size, classes, 2)
        what = f"cross_entropy_loss of logits {(size, classes)}"
        trial.differentiate(what, trial.utils.cross_entropy_loss, logits, labels)
    _loss_tests(trial, "gradient_is_softmax_minus_one_hot")


@case("4.1", 1.5, "utils.py", forbidden=OWN_LOSS, hint="consider very large and very small logits.")
def loss_is_finite_for_large_logits(trial: Trial):
    """cross_entropy_loss is correct for logits of ±100 to ±1e37, and so is its gradient to ±1e4."""
    for scale in (1e2, 1e3, 1e4, 1e6, 1e30, 1e37):
        logits = torch.tensor([[1.0, -1, 0], [-1, 1, 0], [0, 0, 0], [1, 1, -1], [-1, -1, -1]])
        logits, labels = scale * logits.to(trial.draw(1).dtype), torch.tensor([0, 0, 0, 1, 2])
        for number in range(len(labels)):
            text = ", ".join(f"{logit:g}" for logit in logits[number])
            what = f"cross_entropy_loss of [{text}] with label {labels[number]}"
            row, label = logits[number, None], labels[number, None]
            # logsumexp(x) - x[k], which is correct, loses digits by cancellation.
            limits = {"tolerance": 1e-5, "absolute": 1e-6 * scale}
            trial.call(what, trial.utils.cross_entropy_loss, row, label, **limits)
        if scale <= 1e4:  # beyond, the gradient of torch.logsumexp is only roughly right
            what = f"cross_entropy_loss of logits of ±{scale:g}"
            trial.differentiate(what, trial.utils.cross_entropy_loss, logits, labels)
    _loss_tests(trial, "large_logits_do_not_overflow")


@case("4.1", 0.5, "utils.py", forbidden=OWN_LOSS, hint="consider what a call leaves behind.")
def loss_leaves_its_arguments_alone(trial: Trial):
    """cross_entropy_loss changes neither its arguments nor later calls, and works on any device."""
    for size, classes in ((4, 6), (300, 10), (2, 3)):
        logits, labels = _batch(trial, size, classes, 2)
        what = f"cross_entropy_loss of logits {(size, classes)}"
        trial.probe(what, trial.utils.cross_entropy_loss, logits, labels)
        by_name = partial(trial.utils.cross_entropy_loss, logits=logits, labels=labels)
        trial.call(f"{what}, arguments by name", by_name)
    trial.record_settings("utils")
    meta = (logits.to("meta"), labels.to("meta"))
    _refuse_other_devices(lambda: trial.utils.cross_entropy_loss(*meta), "cross_entropy_loss")
    _loss_tests(trial, "arguments_are_left_alone")


def _check_device(trial: Trial, model: nn.Module, shape: tuple[int, ...], what: str) -> None:
    """Refuse a forward pass that works on one device only.

    It runs on the device "meta", which every machine has and which computes shapes only.
    """
    images = torch.zeros(shape, device="meta")
    _refuse_other_devices(lambda: model.to("meta")(images), what, "Cannot copy out of meta tensor")


def _refuse_other_devices(call: Callable[[], Any], what: str, *words: str) -> None:
    """Refuse a call that mixes devices, or whose error has some words.

    Other errors come from code that reads values, as the loss may.
    """
    try:
        call()
    except (RuntimeError, ValueError, TypeError) as error:
        text = str(error)
        mixes = "device" in text and "meta" in text and "cpu" in text
        if mixes or any(word in text for word in words):
            raise Wrong(f"{what} moves data to a fixed device: {text[:200]}") from error
