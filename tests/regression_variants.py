"""Right submissions of "Regression with a Trainer" that are written differently.

A variant is the solution with some pieces changed, each of which occurs once in it. ``TEMPLATE`` is
a whole submission, on a template like that of the course, which knows nothing of this project.
"""

# ruff: noqa: E501

ACTIVATIONS = """        if activation_str == "relu":
            return nn.ReLU()
        if activation_str == "tanh":
            return nn.Tanh()
        if activation_str == "sigmoid":
            return nn.Sigmoid()
        raise ValueError(
            f"activation_name is {activation_str!r}; choose from {', '.join(ACTIVATIONS)}"
        )
"""
MLP = """        layers: list[nn.Module] = [nn.Flatten()]
        widths = (input_dim, *net_config.dense_hiddens)
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), activation]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    @staticmethod
    def create_cnn("""
CNN = """        layers: list[nn.Module] = []
        channels = (in_channels, *net_config.n_channels)
        for (channels_in, channels_out), kernel_size, stride in zip(
            pairwise(channels), net_config.kernel_sizes, net_config.strides
        ):
            layers += [nn.Conv2d(channels_in, channels_out, kernel_size, stride), activation]
            layers.append(nn.MaxPool2d(kernel_size=2))
        layers[-1] = nn.AdaptiveMaxPool2d((4, 4))  # not 2 x 2 after the last one
        layers.append(nn.Flatten())
        widths = (4 * 4 * channels[-1], *net_config.dense_hiddens)
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), activation]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def compute_loss_and_mae("""
LOSS = """        error = prediction - y.reshape(prediction.shape).to(prediction)
        return error.square().mean(), error.abs().mean()
"""
CHECKED_LOSS = (
    """        prediction = self.network(X)  # (B, 1)
        # (B, 1) minus (B,) would broadcast to (B, B), every prediction minus every label.
"""
    + LOSS
)
STEP = """        self.optimizer.zero_grad()
        loss, mae = self.compute_loss_and_mae(X_batch, y_batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), mae.detach()
"""
EVALUATE = """        training = self.network.training
        self.network.eval()  # other networks may have dropout
        with torch.no_grad():
            loss, mae = self.compute_loss_and_mae(X, y)
        self.network.train(training)
        return loss, mae
"""
LOGS = "        self.train_logs: dict[str, list[float]] = {\n"
TRAINER = "class Trainer:\n"

OWN_CLASSES = '''class Net(nn.Module):
    """Both networks; the dense layers are registered before the convolutions."""

    def __init__(self, dense, activation, convs=()):
        super().__init__()
        self.out = nn.Linear(dense[-1], 1)
        self.dense = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dense[:-1], dense[1:])])
        self.convs = nn.ModuleList(convs)
        self.act = activation

    def forward(self, x):
        for i, conv in enumerate(self.convs):
            x = self.act(conv(x))
            if i < len(self.convs) - 1:
                x = nn.functional.max_pool2d(x, 2)
            else:
                x = nn.functional.adaptive_max_pool2d(x, 4)
        x = x.view(x.size(0), -1)
        for layer in self.dense:
            x = self.act(layer(x))
        return self.out(x)


'''

# Name: pairs of what the solution has and what this variant has in its place.
VARIANTS = {
    "classes for the networks": [
        (TRAINER, OWN_CLASSES + TRAINER),
        (
            MLP,
            "        return Net([input_dim, *net_config.dense_hiddens], activation)\n\n    @staticmethod\n    def create_cnn(",
        ),
        (
            CNN,
            "        c = [in_channels] + list(net_config.n_channels)\n"
            "        convs = [nn.Conv2d(c[i], c[i + 1], net_config.kernel_sizes[i], net_config.strides[i]) for i in range(len(c) - 1)]\n"
            "        return Net([16 * c[-1], *net_config.dense_hiddens], activation, convs)\n\n"
            "    def compute_loss_and_mae(",
        ),
    ],
    "layers that find their own size": [
        (
            CNN,
            CNN.replace("nn.Linear(width_in, width_out)", "nn.LazyLinear(width_out)").replace(
                "nn.Linear(widths[-1], 1)", "nn.LazyLinear(1)"
            ),
        ),
    ],
    "named layers, each with a copy of the activation": [
        (
            MLP,
            "        import copy\n"
            "        net = nn.Sequential()\n"
            '        net.add_module("flat", nn.Flatten(1, -1))\n'
            "        size = input_dim\n"
            "        for i, h in enumerate(net_config.dense_hiddens):\n"
            '            net.add_module(f"fc{i}", nn.Linear(in_features=size, out_features=h))\n'
            '            net.add_module(f"act{i}", copy.deepcopy(activation))\n'
            "            size = h\n"
            '        net.add_module("out", nn.Linear(size, 1))\n'
            "        return net\n\n    @staticmethod\n    def create_cnn(",
        ),
    ],
    "nested containers": [
        (
            CNN,
            "        features, c = nn.Sequential(), in_channels\n"
            "        n = len(net_config.n_channels)\n"
            "        for i in range(n):\n"
            "            k, s = net_config.kernel_sizes[i], net_config.strides[i]\n"
            "            conv = nn.Conv2d(c, net_config.n_channels[i], kernel_size=(k, k), stride=(s, s), padding=0)\n"
            "            pool = nn.MaxPool2d(2, 2) if i != n - 1 else nn.AdaptiveMaxPool2d(4)\n"
            "            features.append(nn.Sequential(conv, activation, pool))\n"
            "            c = net_config.n_channels[i]\n"
            "        hidden = NetworkConfiguration(dense_hiddens=net_config.dense_hiddens)\n"
            "        return nn.Sequential(features, Trainer.create_mlp(c * 4 * 4, hidden, activation))\n\n"
            "    def compute_loss_and_mae(",
        ),
    ],
    "activations in a dictionary": [
        (
            ACTIVATIONS,
            '        return {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}[activation_str.lower()]()\n',
        ),
    ],
    "activations in place": [
        (ACTIVATIONS, ACTIVATIONS.replace("nn.ReLU()", "nn.ReLU(inplace=True)"))
    ],
    "activations from their formulas": [
        (
            TRAINER,
            "class Function(nn.Module):\n"
            "    def __init__(self, function):\n"
            "        super().__init__()\n"
            "        self.function = function\n\n"
            "    def forward(self, x):\n"
            "        return self.function(x)\n\n\n" + TRAINER,
        ),
        (
            ACTIVATIONS,
            '        if activation_str == "relu":\n'
            "            return Function(lambda x: torch.maximum(x, torch.zeros_like(x)))\n"
            '        elif activation_str == "tanh":\n'
            "            return Function(lambda x: 2 / (1 + torch.exp(-2 * x)) - 1)\n"
            "        else:\n"
            "            return Function(lambda x: 1 / (1 + torch.exp(-x)))\n",
        ),
    ],
    "losses of torch": [
        (
            CHECKED_LOSS,
            "        pred = self.network(X)\n"
            "        y = y.float().view(-1, 1)\n"
            "        return torch.nn.functional.mse_loss(pred, y), torch.nn.functional.l1_loss(pred, y)\n",
        ),
    ],
    "losses of torch, kept by the trainer": [
        (LOGS, "        self.mse, self.mae = nn.MSELoss(), nn.L1Loss()\n" + LOGS),
        (
            CHECKED_LOSS,
            "        out = self.network(X).reshape(-1)\n"
            "        target = y.reshape(-1).type_as(out)\n"
            "        return self.mse(out, target), self.mae(out, target)\n",
        ),
    ],
    "losses by hand, divided by the number of images": [
        (
            CHECKED_LOSS,
            "        y_hat = torch.squeeze(self.network(X), dim=1)\n"
            "        y = y.flatten()\n"
            "        n = X.shape[0]\n"
            "        return torch.sum((y - y_hat) ** 2) / n, torch.sum(torch.abs(y - y_hat)) / n\n",
        ),
    ],
    "losses in double precision, in a list": [
        (
            LOSS,
            "        e = prediction.double().flatten() - y.double().flatten()\n"
            "        return [torch.pow(e, 2).mean(), torch.linalg.vector_norm(e, 1) / e.numel()]\n",
        ),
    ],
    "gradients zeroed after the step, plain numbers returned": [
        (
            STEP,
            "        self.network.train()\n"
            "        loss, mae = self.compute_loss_and_mae(X_batch, y_batch)\n"
            "        loss.backward()\n"
            "        self.optimizer.step()\n"
            "        self.optimizer.zero_grad()\n"
            "        return loss.item(), mae.item()\n",
        ),
    ],
    "gradients zeroed by hand, errors still attached": [
        (
            STEP,
            "        for p in self.network.parameters():\n"
            "            p.grad = None\n"
            "        loss, mae = self.compute_loss_and_mae(X_batch, y_batch)\n"
            "        loss.backward()\n"
            "        self.optimizer.step()\n"
            "        return loss, mae\n",
        ),
    ],
    "gradients by torch.autograd.grad": [
        (
            STEP,
            "        loss, mae = self.compute_loss_and_mae(X_batch, y_batch)\n"
            "        parameters = list(self.network.parameters())\n"
            "        for p, g in zip(parameters, torch.autograd.grad(loss, parameters)):\n"
            "            p.grad = g\n"
            "        self.optimizer.step()\n"
            "        return loss.data, mae.data\n",
        ),
    ],
    "a closure for the optimizer": [
        (
            STEP,
            "        errors = []\n\n"
            "        def closure():\n"
            "            self.optimizer.zero_grad(set_to_none=False)\n"
            "            errors[:] = self.compute_loss_and_mae(X_batch, y_batch)\n"
            "            errors[0].backward()\n"
            "            return errors[0]\n\n"
            "        self.optimizer.step(closure)\n"
            "        return tuple(errors)\n",
        ),
    ],
    "evaluation as it is": [
        (EVALUATE, "        return self.compute_loss_and_mae(X, y)\n"),
    ],
    "evaluation that stays in its mode": [
        (
            EVALUATE,
            "        self.network.eval()\n"
            "        with torch.inference_mode():\n"
            "            loss, mae = self.compute_loss_and_mae(X, y)\n"
            "        return loss.item(), mae.item()\n",
        ),
    ],
    "evaluation in batches": [
        (
            EVALUATE,
            "        total_loss, total_mae = 0.0, 0.0\n"
            "        with torch.no_grad():\n"
            "            for start in range(0, X.shape[0], self.batch_size):\n"
            "                xb, yb = X[start:start + self.batch_size], y[start:start + self.batch_size]\n"
            "                loss, mae = self.compute_loss_and_mae(xb, yb)\n"
            "                total_loss += loss.item() * xb.shape[0]\n"
            "                total_mae += mae.item() * xb.shape[0]\n"
            "        return total_loss / X.shape[0], total_mae / X.shape[0]\n",
        ),
    ],
    "evaluation image by image": [
        (
            EVALUATE,
            "        with torch.no_grad():\n"
            "            pairs = [self.compute_loss_and_mae(X[i:i + 1], y[i:i + 1]) for i in range(len(X))]\n"
            "        return torch.stack([l for l, _ in pairs]).mean(), torch.stack([m for _, m in pairs]).mean()\n",
        ),
    ],
}

TEMPLATE = """import random
from typing import NamedTuple, Tuple

import numpy as np
import torch

seed = 197331
np.random.seed(seed)
torch.manual_seed(seed)
random.seed(seed)


class NetworkConfiguration(NamedTuple):
    n_channels: Tuple[int, ...] = (16, 32, 48)
    kernel_sizes: Tuple[int, ...] = (3, 3, 3)
    strides: Tuple[int, ...] = (1, 1, 1)
    dense_hiddens: Tuple[int, ...] = (256, 256)


class Trainer:
    def __init__(self,
                 network_type: str = "mlp",
                 net_config: NetworkConfiguration = NetworkConfiguration(),
                 lr: float = 0.001,
                 batch_size: int = 128,
                 activation_name: str = "relu"):

        self.lr = lr
        self.batch_size = batch_size
        self.train, self.test = self.load_dataset(self)
        dataiter = iter(self.train)
        images, labels = next(dataiter)
        input_dim = images.shape[1:]
        self.network_type = network_type
        activation_function = self.create_activation_function(activation_name)
        if network_type == "mlp":
            self.network = self.create_mlp(input_dim[0] * input_dim[1] * input_dim[2], net_config,
                                           activation_function)
        elif network_type == "cnn":
            self.network = self.create_cnn(input_dim[0], net_config, activation_function)
        else:
            raise ValueError("Network type not supported")

        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr)
        self.train_logs = {'train_loss': [], 'test_loss': [], 'train_mae': [], 'test_mae': []}

    @staticmethod
    def load_dataset(self):
        import torchvision
        import torchvision.transforms as transforms
        transform = transforms.Compose([
            transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))])
        trainset = torchvision.datasets.CIFAR10(root='./data', train=True, download=True, transform=transform)
        testset = torchvision.datasets.CIFAR10(root='./data', train=False, download=True, transform=transform)
        return (torch.utils.data.DataLoader(trainset, batch_size=self.batch_size, shuffle=True),
                torch.utils.data.DataLoader(testset, batch_size=self.batch_size, shuffle=False))

    @staticmethod
    def create_mlp(input_dim: int, net_config: NetworkConfiguration, activation: torch.nn.Module) -> torch.nn.Module:
        sizes = [input_dim] + list(net_config.dense_hiddens)
        modules = [torch.nn.Flatten()]
        for i in range(len(sizes) - 1):
            modules.append(torch.nn.Linear(sizes[i], sizes[i + 1]))
            modules.append(activation)
        modules.append(torch.nn.Linear(sizes[-1], 1))
        return torch.nn.Sequential(*modules)

    @staticmethod
    def create_cnn(in_channels: int, net_config: NetworkConfiguration, activation: torch.nn.Module) -> torch.nn.Module:
        modules = []
        n = len(net_config.n_channels)
        prev = in_channels
        for i, (out, k, s) in enumerate(zip(net_config.n_channels, net_config.kernel_sizes, net_config.strides)):
            modules.append(torch.nn.Conv2d(prev, out, kernel_size=k, stride=s))
            modules.append(activation)
            if i < n - 1:
                modules.append(torch.nn.MaxPool2d(kernel_size=2))
            prev = out
        modules.append(torch.nn.AdaptiveMaxPool2d((4, 4)))
        modules.append(torch.nn.Flatten())
        sizes = [prev * 16] + list(net_config.dense_hiddens)
        for i in range(len(sizes) - 1):
            modules.append(torch.nn.Linear(sizes[i], sizes[i + 1]))
            modules.append(activation)
        modules.append(torch.nn.Linear(sizes[-1], 1))
        return torch.nn.Sequential(*modules)

    @staticmethod
    def create_activation_function(activation_str: str) -> torch.nn.Module:
        if activation_str == "relu":
            return torch.nn.ReLU()
        elif activation_str == "tanh":
            return torch.nn.Tanh()
        elif activation_str == "sigmoid":
            return torch.nn.Sigmoid()

    def compute_loss_and_mae(self, X: torch.Tensor, y: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        pred = self.network(X)
        y = y.view(pred.shape).float()
        loss = torch.nn.MSELoss()(pred, y)
        mae = torch.mean(torch.abs(pred - y))
        return loss, mae

    def training_step(self, X_batch: torch.Tensor, y_batch: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        loss, mae = self.compute_loss_and_mae(X_batch, y_batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss, mae

    def train_loop(self, n_epochs: int) -> dict:
        N = len(self.train)
        for epoch in range(n_epochs):
            train_loss, train_mae = 0.0, 0.0
            for i, data in enumerate(self.train):
                inputs, labels = data
                loss, mae = self.training_step(inputs, labels)
                train_loss += loss
                train_mae += mae
            self.train_logs['train_mae'].append(train_mae / N)
            self.train_logs['train_loss'].append(train_loss / N)
            self.evaluation_loop()
        return self.train_logs

    def evaluation_loop(self) -> None:
        self.network.eval()
        N = len(self.test)
        with torch.inference_mode():
            test_loss, test_mae = 0.0, 0.0
            for data in self.test:
                inputs, labels = data
                loss, mae = self.evaluate(inputs, labels)
                test_mae += mae
                test_loss += loss
            self.train_logs['test_mae'].append(test_mae / N)
            self.train_logs['test_loss'].append(test_loss / N)

    def evaluate(self, X: torch.Tensor, y: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        return self.compute_loss_and_mae(X, y)
"""
