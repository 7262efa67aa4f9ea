"""The students' tests of the sibling assignments name frequent mistakes in their first line."""

import sys
from types import ModuleType

import pytest

from grader.trial import compile_tests

from conftest import ROOT

# Per test of an assignment: a passage of the solution, the mistake in its place, the words for it.
REGRESSION = {
    "TestActivation.test_activations_equal_those_of_torch": [
        ("nn.Tanh()", "nn.Sigmoid()", 'The function for "tanh"', "it is Sigmoid"),
    ],
    "TestMLP.test_layers_chain_the_widths": [
        ("nn.Flatten()]", "nn.Flatten(0)]", "Linear(12, 8) receives", "(24,); it accepts (B, 12)"),
    ],
    "TestMLP.test_initial_weights_are_those_of_torch": [
        ("widths = (input_dim", "set_seed()\n        widths = (input_dim", "expected no seed"),
    ],
    "TestCNN.test_layers_follow_the_configuration": [
        ("kernel_size, stride)", "kernel_size, stride, 1)", "layer 1 is", "padding=(1, 1)"),
    ],
    "TestCNN.test_cnn_equals_layers_of_torch": [
        ("MaxPool2d(kernel_size=2)", "AvgPool2d(2)", "the input of layer 2", "average pooling"),
        (
            "layers[-1] = nn.AdaptiveMaxPool2d((4, 4))",
            "layers[-2:] = [nn.AdaptiveMaxPool2d((4, 4))]",
            "layer 3, Linear: the activation is missing",
        ),
    ],
    "TestLoss.test_loss_and_mae_of_three_predictions": [
        ("y.reshape(prediction.shape).to(prediction)", "y", "broadcast to (B, B)"),
    ],
    "TestTrainingStep.test_steps_equal_those_of_adam": [
        ("loss.backward()", "mae.backward()", "minimises the MAE"),
        ("self.optimizer.zero_grad()", "pass", "gradients add up"),
    ],
    "TestEvaluate.test_nothing_is_trained": [
        ("self.network.eval()", "self.optimizer.zero_grad()", "clears the gradients"),
    ],
}
NUMPY_NETWORKS = {
    "TestInitializeWeights.test_weights_depend_on_the_seed": [
        (
            "if self.seed is not None:\n            np.random.seed(self.seed)\n        bound",
            "np.random.seed(self.seed)\n        bound",
            "although seed is None",
        ),
    ],
    "TestActivations.test_relu": [
        ("x > 0, 1.0", "x >= 0, 1.0", "it is 1 at x = 0; expected 0"),
        (
            "return np.maximum(x, 0)",
            "return (lambda v: torch.relu(torch.tensor(v)).numpy())(x)",
            "NN.relu uses torch (torch)",
        ),
    ],
    "TestForward.test_forward_returns_all_layers": [
        ("self.softmax(affine)", "self.activation(affine)", "expected a softmax in the last layer"),
    ],
    "TestBackward.test_gradients_equal_those_of_torch": [
        ("= below * slope", "= np.multiply(below, slope, out=below)", "dZ2: it equals dA2"),
    ],
    "TestUpdate.test_update_steps_against_the_gradient": [
        (
            'self.lr * grads[f"d{name}"]',
            'np.multiply(self.lr, grads[f"d{name}"], out=grads[f"d{name}"])',
            "dW1 after update, which must not change it,",
        ),
    ],
    "TestResidualBlock.test_last_activation_follows_the_sum": [
        ("self.bn2(self.conv2(out))", "self.bn1(self.conv2(out))", "it does not depend on bn2"),
    ],
    "TestResNet18.test_output_equals_stored_numbers": [
        (
            "self.activation(self.bn1(self.conv1(input)))",
            "self.bn1(self.conv1(input))",
            "layer1 does not receive activation(bn1(conv1(x)))",
        ),
        (".flatten(start_dim=1)", ".squeeze()", "of one image returns (10,)"),
        ("return self.linear(out)", "return self.linear(out).softmax(1)", "without a softmax"),
    ],
}


@pytest.mark.parametrize(
    ("assignment", "test", "old", "new", "words"),
    [
        (assignment, test, old, new, words)
        for assignment, mistakes in (("regression", REGRESSION), ("numpy_networks", NUMPY_NETWORKS))
        for test, edits in mistakes.items()
        for old, new, *words in edits
    ],
)
def test_the_first_line_names_the_mistake(assignment, test, old, new, words, monkeypatch):
    source = (ROOT / assignment / "solution.py").read_text(encoding="utf-8")
    assert old in source
    wrong, tests = ModuleType("solution"), ModuleType("students_tests")
    exec(source.replace(old, new), vars(wrong))
    monkeypatch.setitem(sys.modules, "solution", wrong)
    exec(compile_tests(assignment), vars(tests))
    owner, _, method = test.partition(".")
    with pytest.raises(AssertionError) as raised:
        getattr(tests, owner)(method).debug()
    line = str(raised.value).splitlines()[0]
    assert all(part in line for part in words), line
