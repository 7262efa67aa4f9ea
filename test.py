"""Tests for Problems 1 to 4: run them while you write, and before you submit.

    python test.py                      all tests
    python test.py TestMLP              one class
    python test.py TestMLP.test_name    one test, by its name in the report

These tests are basic: those on Gradescope check more. They need PyTorch and NumPy, use no data and
take a few seconds. They run in the order of the problems, so the first message is the one to start
with.

Shapes: B batch, C channels, H, W height and width, N patches, D embedding width, K classes.
"""

import math
import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from training.testing import (
    TOLERANCE,
    Problem,
    Submitted,
    assert_close,
    assert_number_of_parameters,
    assert_parameters,
    assert_shape,
    constant,
    fail,
    filled,
    pattern,
    run,
    sample,
    select,
)

# Outputs of correct models and gradients with respect to their inputs, as `summary` returns them,
# for the parameters of `filled` and the inputs of `sample`. They were computed in float64 with
# other implementations (NumPy, torchvision, timm) and rounded to 5 decimals.
STORED = {
    "MLP": (
        [[0.50176, 0.06883, 0.60413, 0.33061], [0.2475, -0.44145, 0.66065, 0.72516]],
        [[-0.10735, 0.23051, -0.58376], [-0.10114, 0.07614, 0.15097]],
    ),
    "BasicBlock in evaluation": (
        [[1.15622, 6.17818, 4.86579, 5.95267], [0.0, 3.4014, 0.0, 6.14587]],
        [[-0.64864, -1.76371, 0.17504], [-0.63403, 1.59532, 0.95297]],
    ),
    "BasicBlock in training": (
        [[4.31768, 5.72027, 7.32337, 4.85991], [2.03218, 2.60586, 0.0, 8.9779]],
        [[0.05688, -0.86033, -1.41466], [0.54734, 1.30632, 2.18433]],
    ),
    "ResNet18": (
        [[-2.95244, -2.32662, -1.62253, 2.13063], [-1.51702, -0.95184, -0.83115, 1.22583]],
        [[0.2341, -0.38891, -0.11458], [0.05896, -0.06224, 0.10517]],
    ),
    "MixerBlock": (
        [[-0.73156, 1.14441, -0.31387, -1.09863], [-0.79928, 1.51372, -1.08968, -1.26186]],
        [[31.01156, -20.71269, -24.13146, 13.15125], [-1.67762, -19.93968, -2.29433, 23.15039]],
    ),
    "MLPMixer": (
        [[-0.00358, -0.27367, 0.94651, -0.78629], [0.11233, -0.27096, 1.14413, -0.69328]],
        [[0.13011, 0.41368, 0.20711], [-0.10361, 0.4684, -0.06668]],
    ),
}


mlp, resnet18, mlpmixer, utils = map(Submitted, ("mlp", "resnet18", "mlpmixer", "utils"))


def summary(tensor):
    """Sum feature maps over their positions; select the first patch of each image."""
    dimensions = getattr(tensor, "ndim", None)  # a missing gradient is None
    return tensor.sum((2, 3)) if dimensions == 4 else tensor[:, 0] if dimensions == 3 else tensor


def differentiate(model, inputs, what):
    """Return the output and the gradient of a weighted sum of it with respect to the inputs."""
    inputs = inputs.clone().requires_grad_()
    output = model(inputs)
    if not getattr(output, "requires_grad", False):
        kind = "detached tensor" if isinstance(output, torch.Tensor) else type(output).__name__
        fail(f"{what} returns a {kind}; expected a tensor through which gradients flow")
    (output * pattern("weights", output.shape)).sum().backward()
    return output, inputs.grad


def assert_same_as_torch(model, twin, names, inputs, what):
    """Compare output and gradients with torch's own layers, given the same parameters.

    `names` lists the model's parameters in the order of the twin's.
    """
    parameters = dict(model.named_parameters())
    for name, theirs in zip(names, twin.parameters()):
        assert_shape(parameters.get(name), theirs.shape, f"{what}: the parameter {name}")
        theirs.data.copy_(parameters[name].data)
    output, gradient = differentiate(model, inputs, what)
    expected, expected_gradient = differentiate(twin, inputs, "torch")
    assert_close(output, expected, f"{what}: the output")
    assert_close(gradient, expected_gradient, f"{what}: the gradient of the input")
    for name, theirs in zip(names, twin.parameters()):
        assert_close(parameters[name].grad, theirs.grad, f"{what}: the gradient of {name}")


def assert_same_as_stored(model, inputs, what):
    """Compare output and gradient of a filled model with the numbers stored under its name."""
    output, gradient = differentiate(model, inputs, what)
    assert_close(summary(output), STORED[what][0], f"{what}: the output for stored parameters")
    wide = 10 * TOLERANCE  # gradients jump where rounding crosses the kink of a ReLU
    assert_close(summary(gradient), STORED[what][1], f"{what}: the gradient of the input", wide)


def assert_initialised(model, distribution, what):
    """Check zero biases, matrices from Glorot's distribution and Kaiming normal convolutions."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert_close(parameter, torch.zeros(parameter.shape), f"{what}: the initial {name}", 0)
        elif parameter.ndim == 2:
            std = math.sqrt(2 / sum(parameter.shape))
            assert_drawn(parameter, distribution, std, f"{what}: {name}")
        elif parameter.ndim == 4:
            std = math.sqrt(2 / parameter[0].numel())
            assert_drawn(parameter, "normal", std, f"{what}: {name}")


def assert_drawn(weight, distribution, std, what):
    """Fail if a weight is not from a normal or uniform distribution with mean 0 and this std.

    Compares the empirical distribution function with the expected one. Dvoretzky, Kiefer, Wolfowitz
    and Massart: P(gap > limit) <= 2 exp(-2 n limit ** 2) for n draws from the expected one. Set to
    5e-8, a correct model with 20 weights fails for one seed in a million; the seed is fixed.
    """
    drawn = weight.detach().double().flatten().sort().values / std
    uniform = (drawn / math.sqrt(12) + 0.5).clamp(0, 1)
    expected = uniform if distribution == "uniform" else torch.special.ndtr(drawn)
    share = torch.arange(len(drawn) + 1) / len(drawn)
    gap = torch.maximum(share[1:] - expected, expected - share[:-1]).max()
    if not gap <= math.sqrt(math.log(2 / 5e-8) / (2 * len(drawn))):
        fail(
            f"{what} has mean {weight.mean():.2g}, standard deviation {weight.std():.3g} and "
            f"maximum {weight.max():.3g}; expected a {distribution} distribution with mean 0 and "
            f"standard deviation {std:.3g}"
        )


class Network:
    """Tests of all three networks; `build` returns the one described in model_configs."""

    def test_number_of_parameters(self):
        """The network of model_configs has the correct number of parameters."""
        model = self.build()
        assert_number_of_parameters(model, self.parameters, type(model).__name__)

    def test_logits_have_one_row_per_image(self):
        """Images (B, 3, 32, 32) are mapped to logits (B, K), for any B and K."""
        for batch, classes in ((1, 10), (3, 7)):
            model = self.build(classes).eval()
            what = f"{type(model).__name__} output for {classes} classes and a batch of {batch}"
            assert_shape(model(sample(batch, 3, 32, 32)), (batch, classes), what)

    def test_logits_equal_stored_ones(self):
        """With stored parameters and images, the network returns stored logits and gradients."""
        model = filled(self.build(4)).eval()
        assert_same_as_stored(model, sample(2, 3, 32, 32), type(model).__name__)

    def test_every_parameter_receives_a_gradient(self):
        """Backpropagation reaches every parameter of a new network."""
        model = self.build()
        differentiate(model, sample(2, 3, 32, 32), type(model).__name__)
        for name, parameter in model.named_parameters():
            if parameter.grad is None or not parameter.grad.abs().sum() > 0:
                found = "None" if parameter.grad is None else "zero or NaN"
                fail(f"The gradient of {name} is {found}; expected one that is not zero")


class TestLinear(Problem):
    """Problem 1.1"""

    def test_parameters_are_weight_and_bias(self):
        """Linear has the parameters weight (out, in) and bias (out,)."""
        assert_parameters(mlp.Linear(7, 4), "weight 4x7, bias 4", "Linear(7, 4)")

    def test_a_new_layer_is_initialised(self):
        """A new Linear has finite weights that are not all the same."""
        self.addCleanup(torch.use_deterministic_algorithms, False)
        torch.use_deterministic_algorithms(True)  # torch.empty now returns NaN, not old memory
        layer = mlp.Linear(7, 4)
        for name, parameter in layer.named_parameters():
            if not parameter.isfinite().all():
                fail(f"Linear(7, 4): {name} is not initialised; expected finite numbers")
        if not layer.weight.std() > 0:
            fail(f"Linear(7, 4): all weights are {layer.weight[0, 0]:.3g}; expected random ones")

    def test_linear_equals_the_layer_of_torch(self):
        """Linear equals nn.Linear, for inputs of shape (..., in)."""
        for shape in ((5, 7), (1, 7), (2, 3, 7)):
            layer, what = filled(mlp.Linear(7, 4)), f"Linear(7, 4) for an input of shape {shape}"
            names = ["weight", "bias"]
            assert_same_as_torch(layer, nn.Linear(7, 4), names, sample(*shape), what)


class TestMLPLayers(Problem):
    """Problem 1.2"""

    def test_layers_have_the_right_shapes(self):
        """hidden_layers, in an nn.ModuleList, and output_layer have the correct sizes."""
        expected = (
            "hidden_layers.0.weight 8x48, hidden_layers.0.bias 8, hidden_layers.1.weight 6x8, "
            "hidden_layers.1.bias 6, output_layer.weight 4x6, output_layer.bias 4"
        )
        assert_parameters(mlp.MLP(48, [8, 6], 4), expected, "MLP(48, [8, 6], 4)")

    def test_a_new_network_is_initialised(self):
        """Biases are zero and weights Glorot normal in every layer of a new MLP."""
        assert_initialised(mlp.MLP(400, [120, 80], 10), "normal", "MLP(400, [120, 80], 10)")

    def test_initialize_linear_layer_overwrites(self):
        """_initialize_linear_layer overwrites any parameters."""
        model, layer = mlp.MLP(48, [8, 6], 4), filled(mlp.Linear(400, 100))
        model._initialize_linear_layer(layer)
        assert_initialised(layer, "normal", "_initialize_linear_layer(Linear(400, 100))")


class TestMLP(Network, Problem):
    """Problem 1.3"""

    parameters = 3_709_194

    def build(self, num_classes=10):
        return mlp.MLP(3072, [1024, 512, 64, 64], num_classes)

    def test_activation_fn_knows_three_functions(self):
        """activation_fn applies "relu", "tanh" and "sigmoid", whatever the MLP's own activation."""
        inputs = torch.tensor([[-2.0, -0.5, 0.0, 0.5, 2.0]])
        for name, expected in (("relu", F.relu), ("tanh", F.tanh), ("sigmoid", F.sigmoid)):
            outputs = mlp.MLP(48, [8, 6], 4).activation_fn(name, inputs.clone())
            assert_close(outputs, expected(inputs), f'activation_fn("{name}", inputs)')

    def test_mlp_equals_layers_of_torch(self):
        """MLP equals a chain of torch's layers, with each activation."""
        layers = ("hidden_layers.0", "hidden_layers.1", "output_layer")
        names = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
        for name, act in (("relu", nn.ReLU()), ("tanh", nn.Tanh()), ("sigmoid", nn.Sigmoid())):
            chain = (nn.Linear(48, 8), act, nn.Linear(8, 6), act, nn.Linear(6, 4))
            model, twin = filled(mlp.MLP(48, [8, 6], 4, name)), nn.Sequential(nn.Flatten(), *chain)
            assert_same_as_torch(model, twin, names, sample(5, 3, 4, 4), f"MLP with {name}")

    def test_logits_are_not_activated(self):
        """No activation follows the output layer."""
        for activation in ("relu", "tanh", "sigmoid"):
            model = mlp.MLP(48, [8, 6], 4, activation)
            constant(model.output_layer, -3)
            what = f"MLP output with {activation}, if output_layer returns -3,"
            assert_close(model(sample(2, 3, 4, 4)), torch.full((2, 4), -3.0), what)


class TestBasicBlock(Problem):
    """Problem 2.1"""

    def test_output_has_the_right_shape(self):
        """The output has `planes` channels; the stride divides height and width, rounding up."""
        for planes, stride, expected in ((4, 1, (2, 4, 5, 5)), (8, 2, (2, 8, 3, 3))):
            output = resnet18.BasicBlock(4, planes, stride)(sample(2, 4, 5, 5))
            assert_shape(output, expected, f"BasicBlock(4, {planes}, {stride}) output")

    def test_parameters_are_those_of_the_diagram(self):
        """Convolutions have no bias; only a shortcut that changes the shape has parameters."""
        for planes, stride in ((4, 1), (4, 2), (3, 1), (3, 2)):
            expected = f"conv1.weight 4x{planes}x3x3, bn1.weight 4, bn1.bias 4, "
            expected += "conv2.weight 4x4x3x3, bn2.weight 4, bn2.bias 4"
            if (planes, stride) != (4, 1):
                expected += f", shortcut.0.weight 4x{planes}x1x1"
                expected += ", shortcut.1.weight 4, shortcut.1.bias 4"
            what = f"BasicBlock({planes}, 4, {stride})"
            assert_parameters(resnet18.BasicBlock(planes, 4, stride), expected, what)

    def test_last_relu_follows_the_sum(self):
        """The shortcut is added to the branch before the ReLU."""
        block, inputs = filled(resnet18.BasicBlock(4, 4)), sample(2, 4, 6, 6)
        constant(block.bn2, -0.5)
        what = "BasicBlock output, relu(input - 0.5) if bn2 returns -0.5,"
        assert_close(block(inputs), F.relu(inputs - 0.5), what)

    def test_first_relu_follows_the_first_batch_norm(self):
        """If bn1 returns negative numbers, conv2 receives zeros."""
        block, inputs = filled(resnet18.BasicBlock(4, 4)), sample(2, 4, 6, 6)
        constant(block.bn1, -1)
        before = block(inputs)
        block.conv2.weight.data.neg_()
        what = "BasicBlock output if bn1 returns -1, after a change of sign of conv2,"
        assert_close(block(inputs), before, what)

    def test_output_equals_stored_numbers(self):
        """With stored parameters, the block returns stored outputs, in evaluation and training."""
        block, inputs = filled(resnet18.BasicBlock(3, 4, 2)), sample(2, 3, 6, 6)
        assert_same_as_stored(block.eval(), inputs, "BasicBlock in evaluation")
        assert_same_as_stored(block.train(), inputs, "BasicBlock in training")


class TestResNet18(Network, Problem):
    """Problem 2.2"""

    parameters = 11_173_962

    def build(self, num_classes=10):
        return resnet18.ResNet18(num_classes)

    def test_layers_have_the_right_shapes(self):
        """The stem keeps the resolution; layer2, layer3 and layer4 halve it."""
        model, maps = self.build().eval(), sample(1, 3, 32, 32)
        names = ("conv1", "layer1", "layer2", "layer3", "layer4")
        for name, width, size in zip(names, (64, 64, 128, 256, 512), (32, 32, 16, 8, 4)):
            maps = getattr(model, name)(maps)
            assert_shape(maps, (1, width, size, size), f"ResNet18: the output of {name}")

    def test_batch_norm_averages_in_training_only(self):
        """Training updates every batch norm; in evaluation, images are independent."""
        model, images = self.build(), sample(2, 3, 32, 32)
        model(images)
        for name, layer in model.named_modules():
            mean = getattr(layer, "running_mean", None)
            if isinstance(layer, nn.BatchNorm2d) and (mean is None or not mean.any()):
                fail(f"ResNet18: {name} has no running mean; expected one after training")
        together, alone = (model.eval()(images[:number])[0] for number in (2, 1))
        assert_close(alone, together, "ResNet18 in evaluation, a single image: its logit")


class TestPatchEmbed(Problem):
    """Problem 3.1"""

    def test_patches_have_the_right_shape(self):
        """Images (B, C, H, W) are mapped to patches (B, N, D), and num_patches is N."""
        for patch_size, number in ((1, 64), (2, 16), (4, 4), (8, 1)):
            layer = mlpmixer.PatchEmbed(8, patch_size, 2, 5)
            what = f"PatchEmbed(8, {patch_size}, 2, 5)"
            assert_shape(layer(sample(3, 2, 8, 8)), (3, number, 5), f"{what} output")
            if layer.num_patches != number:
                fail(f"{what}: num_patches is {layer.num_patches}; expected {number}")

    def test_each_patch_goes_through_one_linear_map(self):
        """The same linear map embeds each patch, row by row, without overlap."""
        layer, images = filled(mlpmixer.PatchEmbed(8, 4, 3, 5)), sample(2, 3, 8, 8)
        assert_parameters(layer, "proj.weight 5x3x4x4, proj.bias 5", "PatchEmbed(8, 4, 3, 5)")
        patches = F.unfold(images, kernel_size=4, stride=4).transpose(1, 2)
        expected = F.linear(patches, layer.proj.weight.flatten(1), layer.proj.bias)
        assert_close(layer(images), expected, "PatchEmbed output")


class TestMixerBlock(Problem):
    """Problem 3.2 (Mlp and MixerBlock)"""

    def build(self):
        return filled(mlpmixer.MixerBlock(dim=4, seq_len=6))

    def test_mlp_equals_layers_of_torch(self):
        """Mlp equals a chain of torch's layers."""
        names = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
        for act in (nn.GELU, nn.ReLU):
            model, what = filled(mlpmixer.Mlp(5, 9, act)), f"Mlp(5, 9, nn.{act.__name__})"
            twin = nn.Sequential(nn.Linear(5, 9), act(), nn.Linear(9, 5))
            assert_same_as_torch(model, twin, names, sample(2, 6, 5), what)

    def test_parameters_are_those_of_the_diagram(self):
        """One MLP mixes patches, one channels; hidden widths are int(ratio * dim)."""
        expected = (
            "norm1.weight 4, norm1.bias 4, norm2.weight 4, norm2.bias 4, "
            "mlp_tokens.fc1.weight 2x6, mlp_tokens.fc1.bias 2, "
            "mlp_tokens.fc2.weight 6x2, mlp_tokens.fc2.bias 6, "
            "mlp_channels.fc1.weight 16x4, mlp_channels.fc1.bias 16, "
            "mlp_channels.fc2.weight 4x16, mlp_channels.fc2.bias 4"
        )
        assert_parameters(self.build(), expected, "MixerBlock(dim=4, seq_len=6)")

    def test_a_connection_skips_each_mlp(self):
        """If both MLPs return zero, the block returns its input."""
        block, patches = self.build(), sample(2, 6, 4)
        constant(block.mlp_tokens.fc2, 0)
        constant(block.mlp_channels.fc2, 0)
        what = "MixerBlock output, the input if both MLPs return 0,"
        assert_close(block(patches), patches, what)

    def test_a_norm_precedes_each_mlp(self):
        """MLPs receive normalised patches: they add the same to large patches as to small ones."""
        for silent in ("mlp_tokens", "mlp_channels"):
            block, patches = self.build(), sample(2, 6, 4)
            constant(getattr(block, silent).fc2, 0)
            small, large = (block(scale * patches) - scale * patches for scale in (10, 40))
            what = f"What MixerBlock adds to 4 times larger patches, if {silent} returns 0,"
            assert_close(large, small, what)

    def test_output_equals_stored_numbers(self):
        """With stored parameters, the block returns stored outputs and gradients."""
        patches = 0.01 * sample(2, 6, 4)  # so small that the eps of the norms matters
        assert_same_as_stored(self.build(), patches, "MixerBlock")


class TestMLPMixer(Network, Problem):
    """Problem 3.2 (MLPMixer)"""

    parameters = 2_188_298

    def build(self, num_classes=10):
        return mlpmixer.MLPMixer(num_classes, 32, 4, 256, 4)

    def build_small(self, **options):
        return filled(mlpmixer.MLPMixer(4, 8, 4, 6, 2, **options))

    def test_number_of_parameters_follows_the_patch_size(self):
        """The number of parameters is correct for each patch size."""
        numbers = (3_163_658, 2_376_458, 2_188_298, 2_175_818, 2_310_938, 2_897_678)
        for patch_size, number in zip((1, 2, 4, 8, 16, 32), numbers):
            model = mlpmixer.MLPMixer(10, 32, patch_size, 256, 4)
            assert_number_of_parameters(model, number, f"MLPMixer with patch size {patch_size}")

    def test_a_new_network_is_initialised(self):
        """Biases are zero, linear weights Glorot uniform and the convolution Kaiming normal."""
        assert_initialised(self.build(), "uniform", "MLPMixer")

    def test_activation_reaches_the_blocks(self):
        """GELU and ReLU give different logits."""
        gelu, relu = (self.build_small(activation=name) for name in ("gelu", "relu"))
        if torch.allclose(gelu(sample(2, 3, 8, 8)), relu(sample(2, 3, 8, 8)), atol=1e-3):
            fail("MLPMixer returns the same logits with relu and gelu; expected different ones")

    def test_dropout_acts_in_training_only(self):
        """With a drop_rate, logits are random in training but not in evaluation."""
        model, images = self.build_small(drop_rate=0.5), sample(2, 3, 8, 8)
        if torch.equal(model(images), model(images)):
            fail("MLPMixer with drop_rate=0.5 gives the same logits twice; expected different ones")
        what = "MLPMixer with drop_rate=0.5 in evaluation: the output"
        assert_close(model.eval()(images), self.build_small()(images), what)


class TestCrossEntropyLoss(Problem):
    """Problem 4.1"""

    def batch(self, size, classes):
        """Return logits in ±5, and labels."""
        return 5 * pattern("logits", (size, classes)), torch.arange(size) * 3 % classes

    def assert_same_as_torch(self, logits, labels, what):
        """Compare the loss and its gradient with those of torch."""
        yours, torchs = utils.cross_entropy_loss, F.cross_entropy
        loss, gradient = differentiate(lambda inputs: yours(inputs, labels), logits, what)
        expected, expected_gradient = differentiate(lambda x: torchs(x, labels), logits, "torch")
        assert_close(loss, expected, what)
        assert_close(gradient, expected_gradient, f"The gradient of {what}")

    def test_loss_is_the_mean_over_the_batch(self):
        """The loss is a 0-dim tensor equal to that of torch, for one image and for more."""
        for size, classes in ((1, 10), (2, 3), (5, 5), (128, 10)):
            logits, labels = self.batch(size, classes)
            what = f"cross_entropy_loss of logits of shape {(size, classes)}"
            expected = F.cross_entropy(logits, labels)
            assert_close(utils.cross_entropy_loss(logits, labels), expected, what)

    def test_gradient_is_softmax_minus_one_hot(self):
        """The gradient with respect to the logits is (softmax - one-hot) / B."""
        self.assert_same_as_torch(*self.batch(4, 6), "cross_entropy_loss")

    def test_large_logits_do_not_overflow(self):
        """Loss and gradient are correct for large logits of both signs."""
        for size in (1e2, 1e4, 1e30):
            logits = size * torch.tensor([[1.0, -1, 0], [-1, 1, 0], [0, 0, 0]])
            what = f"cross_entropy_loss of logits ±{size:g} and 0"
            self.assert_same_as_torch(logits, torch.tensor([0, 0, 0]), what)

    def test_arguments_are_left_alone(self):
        """The loss changes neither logits nor labels in place."""
        arguments = self.batch(4, 6)
        utils.cross_entropy_loss(*arguments)
        for tensor, before, name in zip(arguments, self.batch(4, 6), ("logits", "labels")):
            assert_close(tensor, before, f"An entry of `{name}` after cross_entropy_loss", 0)

    def test_built_in_loss_is_not_used(self):
        """cross_entropy_loss and the functions that it calls do not use torch's own loss."""

        class OwnCode(TorchFunctionMode):
            def __torch_function__(self, function, types, arguments=(), options=None):
                name = getattr(function, "__name__", "")
                if "cross_entropy" in name or "nll_loss" in name:
                    fail(f"torch's own {name} is used; expected your own loss")
                return function(*arguments, **(options or {}))

        with OwnCode():
            utils.cross_entropy_loss(*self.batch(4, 6))


if __name__ == "__main__":
    run(select(sys.argv[1:]))
