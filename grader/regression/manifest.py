"""The assignment: its files, its points, and the functions that students write.

Plain data, from which ``grader/handout.py`` builds the students' version.
"""

NAME = "regression"
SOLUTION = "regression"  # folder of the solution, from the root of the project

# Files that students submit and the grader imports.
SUBMITTED = ("solution.py",)

# Question of section 1 on the sheet: points of its code.
POINTS = {"1.1": 1, "1.2": 5, "1.3": 6, "1.4": 4, "1.5": 6, "1.6": 3}

# Other files that students receive, unchanged; README.md comes from this folder.
HANDOUT = (
    "test.py",
    "train.py",
    "solution.ipynb",
    "docs/assignment.md",
    "docs/devoir.md",
    "docs/networks.svg",
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

# File: function: problem and task, which become the message of its NotImplementedError.
BLANKS = {
    "solution.py": {
        "Trainer.create_activation_function": (
            "1.1",
            "return the module of the requested activation",
        ),
        "Trainer.create_mlp": ("1.2", "build the MLP, with its flattening inside"),
        "Trainer.create_cnn": ("1.3", "build the CNN, with its pooling and flattening inside"),
        "Trainer.compute_loss_and_mae": ("1.4", "compute the loss and the MAE of a batch"),
        "Trainer.training_step": ("1.5", "compute the gradients and take one step"),
        "Trainer.evaluate": ("1.6", "compute the loss and the MAE without training"),
    },
}
