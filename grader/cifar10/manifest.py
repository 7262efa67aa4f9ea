"""The assignment: its files, its points, and the functions that students write.

Plain data, from which ``grader/handout.py`` builds the students' version.
"""

NAME = "cifar10"
SOLUTION = "."  # folder of the solution, from the root of the project

# Files that students submit and the grader imports.
SUBMITTED = ("mlp.py", "resnet18.py", "mlpmixer.py", "utils.py")

# Problem on the sheet: points of its code.
POINTS = {"1": 5, "2": 15, "3": 20, "4.1": 5}

# Other files that students receive, unchanged; README.md comes from this folder.
HANDOUT = (
    "main.py",
    "main.ipynb",
    "test.py",
    "training/__init__.py",
    "training/arguments.py",
    "training/augment.py",
    "training/batches.py",
    "training/board.py",
    "training/checkpoint.py",
    "training/config.py",
    "training/data.py",
    "training/device.py",
    "training/figures.py",
    "training/files.py",
    "training/interrupt.py",
    "training/mistakes.py",
    "training/precision.py",
    "training/progress.py",
    "training/reload.py",
    "training/results.py",
    "training/run.py",
    "training/shapes.py",
    "training/source.py",
    "training/testing.py",
    "training/units.py",
    "docs/assignment.md",
    "docs/devoir.md",
    "docs/resnet18.svg",
    "docs/mlpmixer.svg",
    "model_configs/mlp.json",
    "model_configs/resnet18.json",
    "model_configs/mlpmixer.json",
    "requirements.txt",
)

FILL_IN = "replace each ... below, then delete this line"

# File: function: problem and task, which become the message of its NotImplementedError. As in the
# course's first version, two more entries keep lines to fill in: the calls whose arguments students
# find, and the keyword arguments that are given because the sheet does not state them.
BLANKS = {
    "mlp.py": {
        "Linear.__init__": (
            "1.1",
            "create weight and bias, with random initial values",
        ),
        "Linear.forward": ("1.1", "apply the affine map"),
        "MLP._build_layers": ("1.2", "build the hidden layers and the output layer"),
        "MLP._initialize_linear_layer": ("1.2", "initialise the bias and the weight"),
        "MLP.activation_fn": ("1.3", "apply the requested activation"),
        "MLP.forward": ("1.3", "flatten the images and apply the layers"),
    },
    "resnet18.py": {
        "BasicBlock.__init__": ("2.1", FILL_IN, ("nn.Conv2d", "nn.BatchNorm2d"), ("bias",)),
        "BasicBlock.forward": ("2.1", "follow the diagram of the block in Figure 1"),
        "ResNet18.__init__": (
            "2.2",
            FILL_IN,
            ("nn.Conv2d", "nn.BatchNorm2d", "self._make_layer", "nn.Linear"),
            ("bias",),
        ),
        "ResNet18.forward": ("2.2", "follow the diagram of the network in Figure 1"),
        "ResNet18.visualize": ("4.5", "draw the kernels of the first convolution"),
    },
    "mlpmixer.py": {
        "PatchEmbed.__init__": ("3.1", FILL_IN, ("nn.Conv2d",)),
        "PatchEmbed.forward": ("3.1", "embed the patches of the images"),
        "Mlp.forward": ("3.2", "apply the layers of __init__ in order"),
        "MixerBlock.__init__": (
            "3.2",
            FILL_IN,
            ("nn.LayerNorm", "Mlp"),
            ("eps", "act_layer", "drop"),
        ),
        "MixerBlock.forward": (
            "3.2",
            "follow Figure 2; pass the output of each MLP through _skip_at_random",
        ),
        "MLPMixer.__init__": (
            "3.2",
            FILL_IN,
            ("PatchEmbed", "MixerBlock", "nn.LayerNorm", "nn.Linear"),
            ("eps", "drop_path", "tokens_mlp_dim", "channels_mlp_dim"),
        ),
        "MLPMixer.forward": ("3.2", "follow the network in Figure 2"),
        "MLPMixer.visualize": ("4.6", "draw the token-mixing weights of the first block"),
    },
    "utils.py": {
        "cross_entropy_loss": ("4.1", "compute the loss without torch's own"),
    },
}
