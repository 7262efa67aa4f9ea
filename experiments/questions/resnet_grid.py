"""Which activation and which initialisation are best for ResNet-18?

2022, Questions 3.4 and 3.7. The network of the second assignment: ReLU and tanh, each with three
initialisations of the convolutions.
"""

from numpy_networks.solution import ResNet18

EPOCHS = 25
NETWORKS = {"resnet18_a2022": ResNet18}
RUNS = {
    f"{activation}, {initialization}": {
        "model": "resnet18_a2022",
        "activation_str": activation,
        "initialization": initialization,
    }
    for activation in ("relu", "tanh")
    for initialization in ("xavier_uniform", "xavier_normal", "kaiming_normal")
}


def report(page, groups):
    page.curves(groups, legend="activation, initialisation")
    page.table(groups, "activation, initialisation")
    page.say_best(groups)
    page.say_gap(groups)
