"""The assignment: its files, its points, and the functions that students write.

Plain data, from which ``grader/handout.py`` builds the students' version.
"""

NAME = "numpy_networks"
SOLUTION = "numpy_networks"  # folder of the solution, from the root of the project

# Files that students submit and the grader imports.
SUBMITTED = ("solution.py",)

# Question on the sheet: points of its code. Of the 50 points of Question 3, 30 are for the report.
POINTS = {"1": 30, "2": 20, "3.1": 8, "3.2": 7, "3.3": 5}

# Other files that students receive, unchanged; README.md comes from this folder.
HANDOUT = (
    "test.py",
    "train.py",
    "figures.py",
    "solution.ipynb",
    "docs/assignment.md",
    "docs/devoir.md",
    "docs/mlp.svg",
    "docs/residual_block.svg",
    "docs/resnet18.svg",
    "../training/__init__.py",
    "../training/arguments.py",
    "../training/checkpoint.py",
    "../training/data.py",
    "../training/device.py",
    "../training/files.py",
    "../training/interrupt.py",
    "../training/program.py",
    "../training/results.py",
    "../training/shapes.py",
    "../training/testing.py",
    "../requirements.txt",
)

FILL_IN = "replace each ... below, then delete this line"

# File: function: question and task, which become the message of its NotImplementedError. Two more
# entries keep lines to fill in: the calls whose arguments students find, and the keyword arguments
# that are given.
BLANKS = {
    "solution.py": {
        "NN.initialize_weights": ("1.1", FILL_IN, ("np.sqrt", "np.random.uniform")),
        "NN.relu": ("1.2", "return max(x, 0), or its derivative"),
        "NN.sigmoid": ("1.2", "return the sigmoid of x, or its derivative"),
        "NN.tanh": ("1.2", "return tanh(x), or its derivative"),
        "NN.activation": ("1.2", "apply the activation that activation_str names"),
        "NN.softmax": ("1.2", "return the softmax of x over the last axis"),
        "NN.forward": ("1.3", "compute A and Z of each layer"),
        "NN.loss": ("1.4", "compute the cross-entropy"),
        "NN.backward": ("1.5", "compute the gradients, from the last layer to the first"),
        "NN.update": ("1.6", "take a step of gradient descent"),
        "Convolution2dLayer.initialize_weights": ("2.1", "create the weights of the filters"),
        "Convolution2dLayer.forward": ("2.1", "apply each filter at each position"),
        "Convolution2dLayer.backward": ("2.2", "compute the gradient with respect to the weights"),
        "MaxPooling2dLayer.forward": ("2.3", "compute the maximum of each window"),
        "MaxPooling2dLayer.backward": ("2.4", "compute the gradient with respect to the input"),
        "ResidualBlock.__init__": ("3.1", FILL_IN, ("nn.Conv2d", "nn.BatchNorm2d"), ("bias",)),
        "ResidualBlock.activation": ("3.1", "apply the activation that activation_str names"),
        "ResidualBlock.residual": ("3.1", "return the layers of the residual connection"),
        "ResidualBlock.forward": ("3.1", "follow Figure 1 of the sheet"),
        "ResNet18.__init__": (
            "3.2",
            FILL_IN,
            (
                "nn.Conv2d",
                "nn.BatchNorm2d",
                "self._create_layer",
                "nn.AdaptiveAvgPool2d",
                "nn.Linear",
            ),
            ("bias",),
        ),
        "ResNet18._create_layer": ("3.2", "return two residual blocks"),
        "ResNet18.forward": ("3.2", "follow Figure 2 of the sheet"),
        "train_loop": ("3.3", "train for one epoch"),
        "valid_loop": ("3.3", "measure the accuracy and the loss"),
    },
}
