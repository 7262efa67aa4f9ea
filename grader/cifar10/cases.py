"""The checks of Problems 1 to 3 and 4.1, with their points.

Solutions written in the course's starter code pass: every MLP has at least two hidden layers, and
no case uses ``drop_path``, ``visualize`` or the optional arguments of this project. No case depends
on the eps of the mixer's last layer norm either, which differs between versions of the starter.

Shapes: B batch, C channels, H, W height and width, N patches, D embedding width, K classes.
"""

import math
from typing import Any

import torch
from torch import nn

from grader.forbidden import Forbidden
from grader.trial import Trial, Wrong, case

OWN_LINEAR = Forbidden("Linear", ("nn.Linear", "nn.LazyLinear"))
OWN_LOSS = Forbidden(
    "cross_entropy_loss", ("nn.CrossEntropyLoss", "F.cross_entropy", "nn.NLLLoss", "F.nll_loss")
)

# ---------------------------------------------------------------- Problem 1: the MLP

LAYERS = ("Linear", "MLP._build_layers", "MLP._initialize_linear_layer")  # Problems 1.1 and 1.2


@case("1.1", 0.5, "mlp.py", public=True, forbidden=OWN_LINEAR)
def linear_registers_weight_and_bias(trial: Trial):
    """Linear registers weight (out, in) and bias (out,)."""
    for sizes in ((7, 4), (4, 7), (1, 1)):
        _own_linear(trial, *sizes)


@case("1.1", 1, "mlp.py", public=True, forbidden=OWN_LINEAR)
def linear_is_the_affine_map(trial: Trial):
    """Linear computes input @ weight.T + bias, with the correct gradients."""
    for sizes, batch in (((7, 4), 5), ((5, 5), 5), ((3, 9), 1)):
        layer = _own_linear(trial, *sizes)
        inputs = trial.draw(batch, sizes[0])
        what = f"Linear{sizes} of an input of shape {tuple(inputs.shape)}"
        with trial.watched():
            trial.differentiate(what, layer, inputs)


def _own_linear(trial: Trial, in_features: int, out_features: int) -> nn.Module:
    what = f"Linear({in_features}, {out_features})"
    with trial.watched():
        layer = trial.mlp.Linear(in_features, out_features)
    trial.fill(what, layer)
    if any(isinstance(module, nn.Linear) for module in layer.modules()):
        raise Wrong("mlp.py: Linear uses torch's nn.Linear; expected your own layer")
    return layer


@case("1.2", 0.75, "mlp.py", public=True, stand_ins=("Linear",))
def hidden_layers_chain_the_sizes(trial: Trial):
    """MLP has an nn.ModuleList of hidden layers and an output layer, of the correct sizes."""
    for arguments in ((48, [8, 6], 4), (12, [5, 5, 7], 3)):
        model = trial.mlp.MLP(*arguments)
        what = "MLP({}, {}, {})".format(*arguments)
        trial.record_parameters(what, model)
        trial.record_text(f"{what}.hidden_layers", type(model.hidden_layers).__name__)
        hidden_layers, output_layer = model._build_layers(30, [20, 10], 2)
        trial.record_parameters("The output layer of _build_layers(30, [20, 10], 2)", output_layer)
        for number, layer in enumerate(hidden_layers):
            what = f"Hidden layer {number} of _build_layers(30, [20, 10], 2)"
            trial.record_parameters(what, layer)


@case("1.2", 0.75, "mlp.py", stand_ins=("Linear",), hint="consider the initialisation of an MLP.")
def new_mlp_is_glorot_normal(trial: Trial):
    """A new MLP has zero biases and weights from Glorot's normal distribution."""
    model = trial.mlp.MLP(400, [120, 80], 60)
    for name, parameter in model.named_parameters():
        what = f"MLP(400, [120, 80], 60): the initial {name}"
        if parameter.ndim == 2:
            trial.record_drawn(what, parameter, "normal", math.sqrt(2 / sum(parameter.shape)))
        else:
            trial.record(what, parameter, tolerance=0)
    layer = trial.fill("Linear(300, 100)", trial.mlp.Linear(300, 100))
    model._initialize_linear_layer(layer)
    what = "Linear(300, 100) after _initialize_linear_layer: its"
    trial.record_drawn(f"{what} weight", layer.weight, "normal", math.sqrt(2 / 400))
    trial.record(f"{what} bias", layer.bias, tolerance=0)


@case("1.3", 0.5, "mlp.py", public=True, stand_ins=LAYERS)
def activation_fn_knows_three_functions(trial: Trial):
    """activation_fn applies "relu", "tanh" and "sigmoid", whatever the MLP's own activation."""
    inputs = 3 * trial.draw(6, 5)
    for own in ("relu", "tanh"):
        model = trial.mlp.MLP(48, [8, 6], 4, own)
        for name in ("relu", "tanh", "sigmoid"):
            outputs = model.activation_fn(name, inputs.clone())
            trial.record(f'activation_fn("{name}", inputs) of an MLP with {own}', outputs)


@case("1.3", 1, "mlp.py", public=True, stand_ins=LAYERS)
def mlp_computes_its_logits(trial: Trial):
    """MLP returns the correct logits and gradients, with each activation."""
    for activation in ("relu", "tanh", "sigmoid"):
        for hidden in ([8, 6], [7, 9, 5]):
            model = trial.mlp.MLP(48, hidden, 4, activation)
            what = f"MLP(48, {hidden}, 4, {activation!r})"
            trial.differentiate(
                f"{what} of 5 images", trial.fill(what, model), trial.draw(5, 3, 4, 4)
            )


@case("1.3", 0.5, "mlp.py", stand_ins=LAYERS, hint="consider other batch and image sizes.")
def mlp_takes_any_batch(trial: Trial):
    """MLP flattens all dimensions after the batch dimension, for any batch size."""
    for shape in ((1, 3, 4, 4), (3, 48), (2, 6, 8), (48, 3, 4, 4)):
        what = f"MLP(48, [8, 6], 4) of images of shape {shape}"
        model = trial.fill("MLP(48, [8, 6], 4)", trial.mlp.MLP(48, [8, 6], 4))
        trial.differentiate(what, model, trial.draw(*shape))
    _check_device(trial, model, (2, 3, 4, 4), "MLP")


# ---------------------------------------------------------------- Problem 2: ResNet18


def _block(trial: Trial, *arguments: int, seed: int = 0) -> nn.Module:
    what = f"BasicBlock{arguments}"
    return trial.fill(what, trial.resnet18.BasicBlock(*arguments), seed=seed)


@case("2.1", 1.5, "resnet18.py", public=True)
def block_has_the_layers_of_the_diagram(trial: Trial):
    """BasicBlock has the parameters of the diagram, and a shortcut only if the shape changes."""
    for arguments in ((4, 4), (4, 4, 1), (4, 8), (4, 4, 2), (6, 3, 2)):
        block = _block(trial, *arguments)
        output = block(trial.draw(2, arguments[0], 9, 9))
        trial.record_text(
            f"BasicBlock{arguments}: the shape of the output", str(tuple(output.shape))
        )


@case("2.1", 2, "resnet18.py", public=True)
def block_adds_its_input(trial: Trial):
    """BasicBlock that keeps the shape returns the correct output and gradients in evaluation."""
    for seed in (0, 1, 2):
        block = _block(trial, 5, 5, seed=seed).eval()
        trial.differentiate(
            "BasicBlock(5, 5) in evaluation", block, trial.draw(3, 5, 7, 7, seed=seed)
        )


@case("2.1", 2, "resnet18.py", hint="consider blocks that change the channels or the resolution.")
def block_projects_its_input(trial: Trial):
    """BasicBlock that changes the shape returns the correct output and gradients."""
    for arguments in ((4, 6), (4, 4, 2), (3, 6, 2), (6, 3, 3)):
        for size in (8, 7):
            block = _block(trial, *arguments).eval()
            what = f"BasicBlock{arguments} in evaluation, {size} x {size} pixels"
            trial.differentiate(what, block, trial.draw(2, arguments[0], size, size))


@case("2.1", 1.5, "resnet18.py", hint="consider the difference between training and evaluation.")
def block_normalises_by_the_batch(trial: Trial):
    """BasicBlock in training normalises by batch statistics and updates the running ones."""
    for arguments in ((4, 4), (4, 6, 2)):
        block = _block(trial, *arguments).train()
        what = f"BasicBlock{arguments} in training"
        trial.differentiate(what, block, trial.draw(4, 4, 8, 8))
        _record_statistics(trial, what, block)


@case("2.2", 2, "resnet18.py", public=True, stand_ins=("BasicBlock",))
def resnet18_has_the_layers_of_the_figure(trial: Trial):
    """ResNet18 has 11,173,962 parameters, with the names of the figure."""
    for classes in (10, 7):
        model = trial.resnet18.ResNet18(classes)
        trial.record_parameters(f"ResNet18({classes})", model)
        number = sum(parameter.numel() for parameter in model.parameters())
        trial.record_number(f"ResNet18({classes}): the number of parameters", number)
    trial.record_parameters("ResNet18()", trial.resnet18.ResNet18())


@case("2.2", 1, "resnet18.py", public=True, stand_ins=("BasicBlock",))
def resnet18_halves_the_resolution_three_times(trial: Trial):
    """conv1 and layer1 to layer4 of ResNet18 return feature maps of the correct shapes."""
    maps = trial.draw(1, 3, 32, 32)
    model = trial.fill("ResNet18(10)", trial.resnet18.ResNet18(10)).eval()
    for name in ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"):
        maps = getattr(model, name)(maps)
        trial.record_text(f"ResNet18: the shape of the output of {name}", str(tuple(maps.shape)))
    layer = trial.fill("_make_layer(8, 16, 2)", model._make_layer(8, 16, 2)).eval()
    trial.call("_make_layer(8, 16, 2) of maps (1, 8, 6, 6)", layer, trial.draw(1, 8, 6, 6))


@case("2.2", 2.5, "resnet18.py", public=True, stand_ins=("BasicBlock",))
def resnet18_computes_its_logits(trial: Trial):
    """ResNet18 returns the correct logits in evaluation, for several batch and image sizes."""
    model = trial.fill("ResNet18(10)", trial.resnet18.ResNet18(10)).eval()
    for shape in ((2, 3, 32, 32), (1, 3, 32, 32), (3, 3, 16, 16), (1, 3, 24, 40)):
        what = f"ResNet18 in evaluation, images of shape {shape}"
        trial.call(what, model, trial.draw(*shape, seed=shape[0]))
    _check_device(trial, model, (2, 3, 32, 32), "ResNet18")


@case("2.2", 1.5, "resnet18.py", stand_ins=("BasicBlock",), hint="consider the backward pass.")
def resnet18_has_the_right_gradients(trial: Trial):
    """ResNet18 passes the correct gradients to the images and to every parameter."""
    model = trial.fill("ResNet18(10)", trial.resnet18.ResNet18(10)).eval()
    trial.differentiate("ResNet18 in evaluation", model, trial.draw(2, 3, 16, 16))


@case("2.2", 1, "resnet18.py", stand_ins=("BasicBlock",), hint="consider training mode.")
def resnet18_trains_by_batch_statistics(trial: Trial):
    """ResNet18 in training normalises by batch statistics and updates the running ones."""
    model = trial.fill("ResNet18(10)", trial.resnet18.ResNet18(10)).train()
    trial.call("ResNet18 in training", model, trial.draw(4, 3, 16, 16))
    _record_statistics(trial, "ResNet18 in training", model)


def _record_statistics(trial: Trial, what: str, model: nn.Module) -> None:
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            trial.record(f"{what}: {name} after one batch", buffer)


# ---------------------------------------------------------------- Problem 3: the MLP-Mixer


def _embed(trial: Trial, *arguments: int) -> nn.Module:
    return trial.fill(f"PatchEmbed{arguments}", trial.mlpmixer.PatchEmbed(*arguments))


@case("3.1", 1, "mlpmixer.py", public=True)
def patches_are_counted(trial: Trial):
    """PatchEmbed has the correct number of patches and a convolution of the correct shape."""
    for arguments in ((32, 4), (8, 2, 3, 5), (8, 8, 2, 5), (6, 1, 3, 4)):
        layer = _embed(trial, *arguments)
        for name in ("num_patches", "grid_size"):
            trial.record_number(f"PatchEmbed{arguments}.{name}", getattr(layer, name))
        if not hasattr(layer.num_patches, "__index__"):
            raise Wrong(f"PatchEmbed{arguments}.num_patches is not an integer")


@case("3.1", 2, "mlpmixer.py", public=True)
def patches_are_embedded_one_by_one(trial: Trial):
    """PatchEmbed returns (B, N, D): the same linear map of each patch, row by row."""
    for arguments in ((8, 4, 3, 5), (8, 2, 3, 5), (6, 1, 3, 4), (8, 8, 3, 5), (9, 3, 3, 9)):
        shape = (2, 3, arguments[0], arguments[0])
        trial.call(f"PatchEmbed{arguments}", _embed(trial, *arguments), trial.draw(*shape))


@case("3.1", 1, "mlpmixer.py", hint="consider other numbers of channels, and the gradients.")
def patches_have_the_right_gradients(trial: Trial):
    """PatchEmbed works for any number of channels and passes the correct gradients."""
    for channels, batch in ((1, 2), (4, 1), (3, 4)):
        layer = _embed(trial, 8, 4, channels, 6)
        what = f"PatchEmbed(8, 4, {channels}, 6)"
        trial.differentiate(what, layer, trial.draw(batch, channels, 8, 8))
    _check_device(trial, _embed(trial, 8, 4, 3, 6), (2, 3, 8, 8), "PatchEmbed")


@case("3.2", 1, "mlpmixer.py", public=True)
def mlp_of_the_mixer_is_two_layers(trial: Trial):
    """Mlp computes fc2(act(fc1(x))), with dropout after each layer in training only."""
    for act in (nn.GELU, nn.ReLU):
        for drop in (0.0, 0.5):
            what = f"Mlp(5, 9, nn.{act.__name__}, drop={drop}) in evaluation"
            layer = trial.fill(what, trial.mlpmixer.Mlp(5, 9, act, drop=drop)).eval()
            trial.differentiate(what, layer, trial.draw(2, 6, 5))
    # In training, with identity layers: only what both dropouts keep is not zero.
    what = "Mlp(64, 64, nn.ReLU, drop=0.5) in training: the fraction of zeros"
    layer = trial.mlpmixer.Mlp(64, 64, nn.ReLU, drop=0.5).train()
    with torch.no_grad():
        for linear in (layer.fc1, layer.fc2):
            linear.weight.copy_(torch.eye(64))
            linear.bias.zero_()
        zeros = layer(torch.ones(2000, 64)) == 0
    # Near 0.75; the limit is 10 standard deviations of the difference between two such fractions.
    trial.record_number(what, zeros.double().mean(), tolerance=0.0225)


def _mixer_block(trial: Trial, dim: int = 4, seq_len: int = 6, seed: int = 0, **options) -> Any:
    what = f"MixerBlock({dim}, {seq_len}{''.join(f', {k}={v}' for k, v in options.items())})"
    block = trial.mlpmixer.MixerBlock(dim, seq_len, **options)
    return trial.fill(what, block, seed=seed).eval()


@case("3.2", 1, "mlpmixer.py", public=True, stand_ins=("Mlp",))
def block_has_two_norms_and_two_mlps(trial: Trial):
    """MixerBlock has the layers of the diagram, with hidden widths int(ratio * dim)."""
    ratios: tuple[dict[str, Any], ...] = (
        {},
        {"mlp_ratio": (0.75, 3.5)},
        {"mlp_ratio": (2.0, 1.0)},
    )
    for options in ratios:
        _mixer_block(trial, 6, 5, **options)


@case("3.2", 3, "mlpmixer.py", public=True, stand_ins=("Mlp",))
def block_mixes_patches_then_channels(trial: Trial):
    """MixerBlock returns the correct output, with GELU and with ReLU."""
    for dim, seq_len in ((4, 6), (6, 4), (5, 5)):
        for activation in ("gelu", "relu"):
            block = _mixer_block(trial, dim, seq_len, activation=activation)
            what = f"MixerBlock({dim}, {seq_len}, activation={activation!r})"
            trial.call(what, block, trial.draw(3, seq_len, dim))


@case("3.2", 2, "mlpmixer.py", stand_ins=("Mlp",), hint="consider the backward pass.")
def block_has_the_right_gradients(trial: Trial):
    """MixerBlock passes the correct gradients to the patches and to every parameter."""
    for seed in (0, 1):
        block = _mixer_block(trial, 6, 5, seed=seed)
        trial.differentiate("MixerBlock(6, 5)", block, trial.draw(3, 5, 6, seed=seed))


@case("3.2", 0.5, "mlpmixer.py", stand_ins=("Mlp",), hint="consider very small activations.")
def block_norms_have_their_eps(trial: Trial):
    """Both norms of MixerBlock have eps 1e-6, which matters for very small numbers."""
    patches = 1e-3 * trial.draw(2, 5, 6)
    trial.call("MixerBlock(6, 5) of patches near 1e-3", _mixer_block(trial, 6, 5), patches)
    block = _mixer_block(trial, 6, 5)
    _silence(block.mlp_tokens)
    what = "MixerBlock(6, 5) of patches near 1e-3, where token mixing adds nothing"
    trial.call(what, block, patches)


@case("3.2", 0.5, "mlpmixer.py", stand_ins=("Mlp",), hint="consider dropout.")
def block_drops_in_training_only(trial: Trial):
    """Both MLPs of MixerBlock with drop=0.5 are random in training but not in evaluation."""
    patches = trial.draw(3, 5, 6)
    block = _mixer_block(trial, 6, 5, drop=0.5)
    trial.call("MixerBlock(6, 5, drop=0.5) in evaluation", block, patches)
    for name in ("mlp_channels", "mlp_tokens"):
        block = _mixer_block(trial, 6, 5, drop=0.5).train()
        _silence(getattr(block, name))
        what = f"Two outputs of MixerBlock(6, 5, drop=0.5) in training, where {name} adds nothing"
        trial.record_different(what, block(patches), block(patches))


def _silence(mlp: Any) -> None:
    """Make an MLP return only zeros."""
    with torch.no_grad():
        mlp.fc2.weight.zero_()
        mlp.fc2.bias.zero_()


def _mixer(trial: Trial, *arguments: int, **options) -> nn.Module:
    text = ", ".join(map(str, arguments)) + "".join(f", {k}={v!r}" for k, v in options.items())
    model = trial.mlpmixer.MLPMixer(*arguments, **options)
    return trial.fill(f"MLPMixer({text})", model).eval()


MIXER_PARTS = ("PatchEmbed", "Mlp", "MixerBlock")


@case("3.2", 1.5, "mlpmixer.py", public=True, stand_ins=MIXER_PARTS)
def mixer_has_the_layers_of_the_figure(trial: Trial):
    """MLPMixer has the correct parameters for each patch size."""
    for patch_size in (1, 2, 4, 8, 16, 32):
        model = trial.mlpmixer.MLPMixer(10, 32, patch_size, 256, 4)
        trial.record_parameters(f"MLPMixer(10, 32, {patch_size}, 256, 4)", model)
    trial.record_number("MLPMixer.num_classes", model.num_classes)
    trial.record_parameters("MLPMixer(3, 8, 2, 6, 3)", trial.mlpmixer.MLPMixer(3, 8, 2, 6, 3))


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


@case("3.2", 3, "mlpmixer.py", public=True, stand_ins=MIXER_PARTS)
def mixer_computes_its_logits(trial: Trial):
    """MLPMixer returns the correct logits, with GELU and ReLU, with one block and more."""
    for arguments in ((4, 8, 4, 6, 2), (3, 8, 2, 6, 1), (5, 6, 1, 8, 3), (10, 32, 4, 32, 2)):
        for activation in ("gelu", "relu"):
            model = _mixer(trial, *arguments, activation=activation)
            for batch in (1, 3):
                images = trial.draw(batch, 3, arguments[1], arguments[1])
                trial.call(f"MLPMixer{arguments} with {activation}, {batch} images", model, images)
    _check_device(trial, model, (2, 3, 32, 32), "MLPMixer")


@case("3.2", 1.5, "mlpmixer.py", stand_ins=MIXER_PARTS, hint="consider the backward pass.")
def mixer_has_the_right_gradients(trial: Trial):
    """MLPMixer passes the correct gradients to the images and to every parameter."""
    model = _mixer(trial, 4, 8, 4, 6, 2)
    trial.differentiate("MLPMixer(4, 8, 4, 6, 2)", model, trial.draw(3, 3, 8, 8))


@case("3.2", 1, "mlpmixer.py", stand_ins=MIXER_PARTS, hint="consider dropout.")
def mixer_drops_in_training_only(trial: Trial):
    """MLPMixer with a drop_rate is random in training but not in evaluation."""
    model, images = _mixer(trial, 4, 8, 4, 6, 2, drop_rate=0.5), trial.draw(3, 3, 8, 8)
    trial.call("MLPMixer with drop_rate=0.5 in evaluation", model, images)
    model.train()
    what = "Two outputs of MLPMixer with drop_rate=0.5 in training"
    trial.record_different(what, model(images), model(images))


# ---------------------------------------------------------------- Problem 4.1: the loss


def _batch(
    trial: Trial, size: int, classes: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(size) * 7 % classes
    return scale * trial.draw(size, classes, seed=size), labels


@case("4.1", 1.5, "utils.py", public=True, forbidden=OWN_LOSS)
def loss_is_the_mean_cross_entropy(trial: Trial):
    """cross_entropy_loss is the mean over the batch, a 0-dim tensor."""
    for size, classes in ((1, 10), (2, 3), (5, 5), (128, 10), (3, 2)):
        logits, labels = _batch(trial, size, classes, 3)
        with trial.watched():
            loss = trial.utils.cross_entropy_loss(logits, labels)
        trial.record(f"cross_entropy_loss of logits {(size, classes)}", loss, tolerance=1e-5)


@case("4.1", 1, "utils.py", public=True, forbidden=OWN_LOSS)
def loss_has_the_right_gradient(trial: Trial):
    """The gradient of cross_entropy_loss is (softmax - one-hot) / B."""
    for size, classes in ((1, 4), (6, 4), (4, 6)):
        logits, labels = _batch(trial, size, classes, 2)
        what = f"cross_entropy_loss of logits {(size, classes)}"
        with trial.watched():
            trial.differentiate(what, trial.utils.cross_entropy_loss, logits, labels)


@case("4.1", 1.5, "utils.py", forbidden=OWN_LOSS, hint="consider very large and very small logits.")
def loss_is_finite_for_large_logits(trial: Trial):
    """cross_entropy_loss and its gradient are correct for logits of ±100 to ±10,000."""
    for scale in (100, 1_000, 10_000):
        logits = torch.tensor([[1.0, -1, 0], [-1, 1, 0], [0, 0, 0], [1, 1, -1], [-1, -1, -1]])
        logits, labels = scale * logits.to(trial.draw(1).dtype), torch.tensor([0, 0, 0, 1, 2])
        for number in range(len(labels)):
            what = f"cross_entropy_loss of {logits[number].tolist()} with label {labels[number]}"
            with trial.watched():
                loss = trial.utils.cross_entropy_loss(logits[number, None], labels[number, None])
            # logsumexp(x) - x[k], which is correct, loses digits by cancellation.
            trial.record(what, loss, tolerance=1e-5, absolute=1e-6 * scale)
        what = f"cross_entropy_loss of logits of ±{scale}"
        with trial.watched():
            trial.differentiate(what, trial.utils.cross_entropy_loss, logits, labels)


@case("4.1", 0.5, "utils.py", forbidden=OWN_LOSS, hint="consider what happens to the arguments.")
def loss_leaves_its_arguments_alone(trial: Trial):
    """cross_entropy_loss changes neither logits nor labels and works on their device."""
    logits, labels = _batch(trial, 4, 6, 2)
    trial.utils.cross_entropy_loss(logits, labels)
    trial.record("The logits after cross_entropy_loss", logits, tolerance=0)
    trial.record_text("The labels after cross_entropy_loss", str(labels.tolist()))
    meta = (logits.to("meta"), labels.to("meta"))
    _refuse_other_devices(lambda: trial.utils.cross_entropy_loss(*meta), "cross_entropy_loss")


@case("4.1", 0.5, "utils.py", public=True)
def accuracy_is_a_fraction(trial: Trial):
    """compute_accuracy is the fraction of images whose largest logit is that of the label."""
    for size, classes in ((1, 3), (7, 3), (64, 10)):
        logits, labels = _batch(trial, size, classes, 1)
        what = f"compute_accuracy of logits {(size, classes)}"
        trial.record_number(what, trial.utils.compute_accuracy(logits, labels), tolerance=1e-6)
        right = logits.argmax(dim=1)
        what = f"compute_accuracy of correct logits {(size, classes)}"
        trial.record_number(what, trial.utils.compute_accuracy(logits, right), tolerance=1e-6)


def _check_device(trial: Trial, model: nn.Module, shape: tuple[int, ...], what: str) -> None:
    """Refuse a forward pass that works on one device only.

    It runs on the device "meta", which every machine has and which computes shapes only.
    """
    images = torch.zeros(shape, device="meta")
    _refuse_other_devices(lambda: model.to("meta")(images), what)


def _refuse_other_devices(call, what: str) -> None:
    try:
        call()
    except (RuntimeError, ValueError, TypeError) as error:
        # Other errors come from code that reads values, which is allowed.
        text = str(error)
        mixes = "device" in text and "meta" in text and "cpu" in text
        if mixes or "Cannot copy out of meta tensor" in text:
            raise Wrong(f"{what} moves data to a fixed device: {text[:200]}") from error
