"""Typical mistakes of students, for ``grader/mutants.py``.

Plain data. Each mistake must cost points in its own part of the assignment only.
"""

# Mistakes are easier to read on one line.
# ruff: noqa: E501

# Everything that students write is graded.
NOT_GRADED: frozenset[str] = frozenset()

# Function: parts that may lose points with its own; each question is graded separately.
ALSO: dict[str, tuple[str, ...]] = {}

# Reason: the generated mutants that rightly lose no points for it.
EQUIVALENT = {
    "PyTorch converts the type itself.": (
        "Trainer.compute_loss_and_mae: y.reshape(prediction.shape).to(prediction)"
        " -> y.reshape(prediction.shape)",
    ),
    "The sheet does not ask for detached errors, and the given code works with attached ones.": (
        "Trainer.training_step: loss.detach() -> loss",
        "Trainer.training_step: mae.detach() -> mae",
    ),
    "The networks of the sheet compute the same in both modes.": (
        "Trainer.evaluate: self.network.eval() dropped",
        "Trainer.evaluate: self.network.eval() -> self.network",
        "Trainer.evaluate: self.network.train(training) dropped",
        "Trainer.evaluate: self.network.train(training) -> self.network",
    ),
}

# Code that the mistakes below change.
MLP = """widths = (input_dim, *net_config.dense_hiddens)
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), activation]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 1))"""
CONVOLUTION = """            layers += [nn.Conv2d(channels_in, channels_out, kernel_size, stride), activation]
            layers.append(nn.MaxPool2d(kernel_size=2))
"""
ADAPTIVE = "layers[-1] = nn.AdaptiveMaxPool2d((4, 4))  # not 2 x 2 after the last one"
DENSE = """widths = (4 * 4 * channels[-1], *net_config.dense_hiddens)
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), activation]
        return nn.Sequential(*layers, nn.Linear(widths[-1], 1))"""
HIDDEN = "layers += [nn.Linear(width_in, width_out), activation]"
LAST = "return nn.Sequential(*layers, nn.Linear(widths[-1], 1))"
ERROR = "error = prediction - y.reshape(prediction.shape).to(prediction)"
MEANS = "return error.square().mean(), error.abs().mean()"
STEP = """        self.optimizer.zero_grad()
        loss, mae = self.compute_loss_and_mae(X_batch, y_batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach(), mae.detach()
"""
EVALUATE = """        with torch.no_grad():
            loss, mae = self.compute_loss_and_mae(X, y)
        self.network.train(training)
        return loss, mae
"""
BY_BATCHES = """        pairs = [self.compute_loss_and_mae(*pair) for pair in zip(X.split(4), y.split(4))]
        loss, mae = (torch.stack(values).detach().mean() for values in zip(*pairs))
        return loss, mae
"""

# File: question, and questions that necessarily fail with it: a text that occurs once in the
# solution: the mistake in a few words: the text that replaces it.
BY_HAND = {
    "solution.py": {
        "1.4": {
            ERROR: {
                "labels (B,) broadcast against predictions (B, 1)": "error = prediction - y.to(prediction)",
                "labels in a column broadcast against predictions (B,)": "error = prediction.squeeze(1) - y",
                "labels (B,) are required": "error = prediction.squeeze(1) - y.squeeze(1) if y.ndim == 2 else prediction - y",
                "labels in a column are refused": "error = prediction - (y.unsqueeze(1) if y.ndim == 1 else y.reshape(-1, 2))",
                "labels broadcast unless the batch has one image": "error = prediction.squeeze() - y.reshape(prediction.shape).squeeze(0)",
                "labels are truncated to integers": "error = prediction - y.reshape(prediction.shape).long()",
                "labels are scaled to [0, 1]": "error = prediction - y.reshape(prediction.shape).to(prediction) / 9",
                "the prediction is rounded": "error = prediction.round() - y.reshape(prediction.shape).to(prediction)",
                "the prediction is detached": "error = prediction.detach() - y.reshape(prediction.shape).to(prediction)",
                "the prediction is clamped to the labels' range": "error = prediction.clamp(0, 9) - y.reshape(prediction.shape).to(prediction)",
                "an activation after the network": "error = prediction.relu() - y.reshape(prediction.shape).to(prediction)",
                "the sum for the difference": "error = prediction + y.reshape(prediction.shape).to(prediction)",
            },
            MEANS: {
                "sums over the batch": "return error.square().sum(), error.abs().sum()",
                "half of the squared error": "return error.square().mean() / 2, error.abs().mean()",
                "the root of the squared error": "return error.square().mean().sqrt(), error.abs().mean()",
                "MAE first": "return error.abs().mean(), error.square().mean()",
                "the squared mean": "return error.mean().square(), error.abs().mean()",
                "the mean without its sign": "return error.square().mean(), error.mean().abs()",
                "the mean with its sign": "return error.square().mean(), error.mean()",
                "the median": "return error.square().mean(), error.abs().median()",
                "the largest error": "return error.square().mean(), error.abs().max()",
                "Huber's loss": "return nn.functional.smooth_l1_loss(error, 0 * error), error.abs().mean()",
                "the loss only": "return error.square().mean()",
                "plain numbers": "return error.square().mean().item(), error.abs().mean().item()",
                "detached": "return error.square().mean().detach(), error.abs().mean().detach()",
                "the MAE is detached": "return error.square().mean(), error.abs().mean().detach()",
                "one error for each image": "return error.square().mean(dim=1), error.abs().mean(dim=1)",
                "errors of shape (1,)": "return error.square().mean(dim=0), error.abs().mean(dim=0)",
                "a dictionary": 'return {"loss": error.square().mean(), "mae": error.abs().mean()}',
                "a missing return": "(error.square().mean(), error.abs().mean())",
                "weight decay in the loss": "return error.square().mean() + sum(p.square().sum() for p in self.network.parameters()), error.abs().mean()",
                "the loss is clipped": "return error.square().mean().clamp(max=1e4), error.abs().mean()",
                "large errors are clipped": "error = error.clamp(-100, 100)\n        return error.square().mean(), error.abs().mean()",
                "the mean over all calls": 'self.sums = getattr(self, "sums", []) + [error.square().mean()]\n        return torch.stack([sum.detach() for sum in self.sums[:-1]] + self.sums[-1:]).mean(), error.abs().mean()',
                "the labels' shape is changed": "y.resize_(y.numel(), 1)\n        return error.square().mean(), error.abs().mean()",
                "the seed is set": "torch.manual_seed(0)\n        return error.square().mean(), error.abs().mean()",
                "detached in evaluation": "error = error if self.network.training else error.detach()\n        return error.square().mean(), error.abs().mean()",
                "divided by the batch size of the trainer": "return error.square().sum() / self.batch_size, error.abs().sum() / self.batch_size",
            },
            "prediction = self.network(X)  # (B, 1)": {
                "without gradients": "with torch.no_grad():\n            prediction = self.network(X)",
                "softmax over the batch": "prediction = self.network(X).softmax(dim=0)",
            },
        },
        "1.1": {
            "return nn.ReLU()": {
                "a class, not an instance": "return nn.ReLU",
                "a function": "return torch.relu",
                "leaky ReLU": "return nn.LeakyReLU()",
                "ReLU that drops in training": "return nn.Sequential(nn.ReLU(), nn.Dropout(0.1))",
                "ReLU up to 100": "return nn.Hardtanh(0, 100)",
                "the seed is set": "return torch.manual_seed(0) and nn.ReLU()",
                "GELU for ReLU": "return nn.GELU()",
                "ReLU6": "return nn.ReLU6()",
                "a missing return": "nn.ReLU()",
            },
            "return nn.Tanh()": {
                "tanh overflows to NaN": 'return type("T", (nn.Module,), {"forward": lambda self, x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())})()',
                "hard tanh": "return nn.Hardtanh()",
                "a function for tanh": "return torch.tanh",
                "tanh shrink": "return nn.Tanhshrink()",
            },
            "return nn.Sigmoid()": {
                "sigmoid overflows to NaN": 'return type("S", (nn.Module,), {"forward": lambda self, x: x.exp() / (1 + x.exp())})()',
                "hard sigmoid": "return nn.Hardsigmoid()",
                "softmax for sigmoid": "return nn.Softmax(dim=-1)",
                "log sigmoid": "return nn.LogSigmoid()",
                "SiLU for sigmoid": "return nn.SiLU()",
            },
            'if activation_str == "relu":': {
                "a name in capitals": 'if activation_str == "ReLU":',
            },
        },
        "1.2": {
            "layers: list[nn.Module] = [nn.Flatten()]": {
                "no flattening": "layers: list[nn.Module] = []",
                "the batch is flattened too": "layers: list[nn.Module] = [nn.Flatten(0)]",
                "each channel separately": "layers: list[nn.Module] = [nn.Flatten(2)]",
                "an activation on the images": "layers: list[nn.Module] = [nn.Flatten(), activation]",
                "the images are standardised": "layers: list[nn.Module] = [nn.Flatten(), nn.LayerNorm(input_dim, elementwise_affine=False)]",
            },
            MLP: {
                "an activation after the last layer": MLP.replace(
                    "[-1], 1))", "[-1], 1), activation)"
                ),
                "no activation": MLP.replace(", activation]", "]"),
                "the activation before each layer": MLP.replace(
                    HIDDEN, "layers += [activation, nn.Linear(width_in, width_out)]"
                ),
                "no activation after the last hidden layer": MLP.replace(
                    "(*layers,", "(*layers[:-1],"
                ),
                "the activation only once": MLP.replace(
                    HIDDEN, "layers += [nn.Linear(width_in, width_out)]"
                ).replace("(*layers,", "(*layers, activation,"),
                "always ReLU": MLP.replace(", activation]", ", nn.ReLU()]"),
                "an additional ReLU": MLP.replace(", activation]", ", activation, nn.ReLU()]"),
                "the last hidden layer is missing": MLP.replace(
                    "pairwise(widths)", "pairwise(widths[:-1])"
                ).replace("nn.Linear(widths[-1], 1)", "nn.Linear(widths[-2], 1)"),
                "the hidden layers in reverse": MLP.replace(
                    "*net_config.dense_hiddens)", "*net_config.dense_hiddens[::-1])"
                ),
                "the first width everywhere": MLP.replace(
                    "*net_config.dense_hiddens)",
                    "*[net_config.dense_hiddens[0]] * len(net_config.dense_hiddens))",
                ),
                "always the default widths": MLP.replace(
                    "net_config.dense_hiddens", "NetworkConfiguration().dense_hiddens"
                ),
                "two hidden layers at most": MLP.replace(
                    "*net_config.dense_hiddens)", "*net_config.dense_hiddens[:2])"
                ),
                "a hidden layer too many": MLP.replace(
                    "(*layers,", "(*layers, nn.Linear(widths[-1], widths[-1]), activation,"
                ),
                "the widths of the convolutions": MLP.replace("dense_hiddens", "n_channels"),
                "ten outputs": MLP.replace("[-1], 1))", "[-1], 10))"),
                "predictions (B,)": MLP.replace("[-1], 1))", "[-1], 1), nn.Flatten(0))"),
                "no biases": MLP.replace("width_out)", "width_out, bias=False)"),
                "no bias in the last layer": MLP.replace("[-1], 1))", "[-1], 1, bias=False))"),
                "in and out are swapped": MLP.replace(
                    "(width_in, width_out)", "(width_out, width_in)"
                ),
                "dropout": MLP.replace(", activation]", ", activation, nn.Dropout(0.2)]"),
                "batch norm": MLP.replace(
                    ", activation]", ", nn.BatchNorm1d(width_out), activation]"
                ),
                "images of CIFAR-10 only": MLP.replace("(input_dim, ", "(3072, "),
                "the seed is set": MLP.replace(
                    "widths = ", "torch.manual_seed(0)\n        widths = "
                ),
                "weights start at 0": MLP.replace(
                    LAST,
                    "network = nn.Sequential(*layers, nn.Linear(widths[-1], 1))\n        for p in network.parameters():\n            nn.init.zeros_(p)\n        return network",
                ),
                "hidden layers of equal width are shared": MLP.replace(
                    HIDDEN,
                    "same = [m for m in layers if isinstance(m, nn.Linear) and m.weight.shape == (width_out, width_in)]\n            layers += [same[0] if same else nn.Linear(width_in, width_out), activation]",
                ),
                "dropout of a thousandth": MLP.replace(
                    ", activation]", ", activation, nn.Dropout(0.001)]"
                ),
                "four hidden layers at most": MLP.replace(
                    "*net_config.dense_hiddens)", "*net_config.dense_hiddens[:4])"
                ),
                "the prediction is clipped": MLP.replace(
                    "[-1], 1))", "[-1], 1), nn.Hardtanh(-2, 2))"
                ),
                "a list of layers": MLP.replace(
                    "nn.Sequential(*layers, nn.Linear(widths[-1], 1))",
                    "[*layers, nn.Linear(widths[-1], 1)]",
                ),
                "a function": MLP.replace(
                    LAST,
                    "network = nn.Sequential(*layers, nn.Linear(widths[-1], 1))\n        return lambda X: network(X)",
                ),
                "a missing return": MLP.replace("return nn", "nn"),
            },
        },
        "1.3": {
            CONVOLUTION: {
                "padding": CONVOLUTION.replace("stride)", "stride, padding=1)"),
                "padding that keeps the size": CONVOLUTION.replace(
                    "stride)", "stride, padding=kernel_size // 2)"
                ),
                "strides of 3 count as 2": CONVOLUTION.replace("stride)", "min(stride, 2))"),
                "the seed is set": CONVOLUTION.replace(
                    "            layers +=",
                    "            torch.manual_seed(0)\n            layers +=",
                    1,
                ),
                "batch norm without parameters": CONVOLUTION.replace(
                    ", activation]", ", nn.BatchNorm2d(channels_out, affine=False), activation]"
                ),
                "convolutions of equal size are shared": CONVOLUTION.replace(
                    "            layers += [nn.Conv2d(channels_in, channels_out, kernel_size, stride)",
                    "            same = [m for m in layers if isinstance(m, nn.Conv2d) and m.weight.shape == (channels_out, channels_in, kernel_size, kernel_size)]\n            layers += [same[0] if same else nn.Conv2d(channels_in, channels_out, kernel_size, stride)",
                ),
                "the stride is forgotten": CONVOLUTION.replace(", stride)", ")"),
                "stride and kernel are swapped": CONVOLUTION.replace(
                    "kernel_size, stride)", "stride, kernel_size)"
                ),
                "the stride is the padding": CONVOLUTION.replace("stride)", "padding=stride)"),
                "kernels of three": CONVOLUTION.replace("kernel_size, stride", "3, stride"),
                "no bias": CONVOLUTION.replace("stride)", "stride, bias=False)"),
                "dilation": CONVOLUTION.replace("stride)", "stride, dilation=2)"),
                "no activation after the convolutions": CONVOLUTION.replace(", activation]", "]"),
                "always ReLU after the convolutions": CONVOLUTION.replace(
                    ", activation]", ", nn.ReLU()]"
                ),
                "the activation before the convolution": CONVOLUTION.replace(
                    "[nn.Conv2d(channels_in, channels_out, kernel_size, stride), activation]",
                    "[activation, nn.Conv2d(channels_in, channels_out, kernel_size, stride)]",
                ),
                "pooling before the activation": (
                    "            layers += [nn.Conv2d(channels_in, channels_out, kernel_size, stride)]\n"
                    "            layers += [nn.MaxPool2d(kernel_size=2), activation]\n"
                    "        layers += [nn.Identity()]\n"
                    "        layers[-3:] = [activation, nn.Identity()]\n"
                ),
                "pooling with stride 1": CONVOLUTION.replace(
                    "kernel_size=2", "kernel_size=2, stride=1"
                ),
                "pooling of 3 x 3": CONVOLUTION.replace("kernel_size=2", "kernel_size=3"),
                "average pooling": CONVOLUTION.replace("MaxPool2d", "AvgPool2d"),
                "pooling rounds up": CONVOLUTION.replace(
                    "kernel_size=2", "kernel_size=2, ceil_mode=True"
                ),
                "no max pooling": CONVOLUTION.replace(
                    "nn.MaxPool2d(kernel_size=2)", "nn.Identity()"
                ),
                "adaptive pooling after each convolution": CONVOLUTION.replace(
                    "nn.MaxPool2d(kernel_size=2)", "nn.AdaptiveMaxPool2d((4, 4))"
                ),
                "batch norm": CONVOLUTION.replace(
                    ", activation]", ", nn.BatchNorm2d(channels_out), activation]"
                ),
                "dropout": CONVOLUTION.replace(", activation]", ", activation, nn.Dropout2d(0.2)]"),
                "grouped convolutions": CONVOLUTION.replace(
                    "stride)", "stride, groups=__import__('math').gcd(channels_in, channels_out))"
                ),
                "only the first convolution": CONVOLUTION
                + "            channels = channels[:2]\n            break\n",
            },
            ADAPTIVE: {
                "max pooling after the last convolution too": ADAPTIVE.replace(
                    "layers[-1] = nn.AdaptiveMaxPool2d((4, 4))",
                    "layers.append(nn.AdaptiveMaxPool2d((4, 4)))",
                ),
                "adaptive average pooling": ADAPTIVE.replace("Max", "Avg"),
                "no adaptive pooling": "",
                "adaptive pooling of rows only": ADAPTIVE.replace("(4, 4)", "(4, None)"),
                "adaptive pooling to 16 x 1": ADAPTIVE.replace("(4, 4)", "(16, 1)"),
                "adaptive pooling to 2 x 8": ADAPTIVE.replace("(4, 4)", "(2, 8)"),
                "the last activation is lost": ADAPTIVE.replace(
                    "layers[-1] = nn.AdaptiveMaxPool2d((4, 4))",
                    "layers[-2:] = [nn.AdaptiveMaxPool2d((4, 4))]",
                ),
                "ReLU after the adaptive pooling": ADAPTIVE.replace("(4, 4)", "(4, 4)")
                + "\n        layers.append(nn.ReLU())",
            },
            "layers.append(nn.Flatten())": {
                "no flattening": "pass",
                "the batch is flattened too": "layers.append(nn.Flatten(0))",
            },
            "channels = (in_channels, *net_config.n_channels)": {
                "colour images only": "channels = (3, *net_config.n_channels)",
                "the channels in reverse": "channels = (in_channels, *net_config.n_channels[::-1])",
                "always the default channels": "channels = (in_channels, *NetworkConfiguration().n_channels)",
                "three convolutions at most": "channels = (in_channels, *net_config.n_channels[:3])",
            },
            DENSE: {
                "an activation after the last layer": DENSE.replace(
                    "[-1], 1))", "[-1], 1), activation)"
                ),
                "no activation in the dense part": DENSE.replace(", activation]", "]"),
                "always ReLU in the dense part": DENSE.replace(", activation]", ", nn.ReLU()]"),
                "no hidden dense layer": DENSE.replace(", *net_config.dense_hiddens)", ",)"),
                "one hidden dense layer": DENSE.replace("dense_hiddens)", "dense_hiddens[:1])"),
                "always the default dense layers": DENSE.replace(
                    "net_config.dense_hiddens", "NetworkConfiguration().dense_hiddens"
                ),
                "ten outputs": DENSE.replace("[-1], 1))", "[-1], 10))"),
                "predictions (B,)": DENSE.replace("[-1], 1))", "[-1], 1), nn.Flatten(0))"),
                "the channels without their positions": DENSE.replace(
                    "4 * 4 * channels", "channels"
                ),
                "no bias in the dense part": DENSE.replace(
                    "nn.Linear(width_in, width_out)", "nn.Linear(width_in, width_out, bias=False)"
                ),
                "a missing return": DENSE.replace("return nn", "nn"),
            },
        },
        "1.5": {
            STEP: {
                "gradients accumulate": STEP.replace("        self.optimizer.zero_grad()\n", ""),
                "no step": STEP.replace("        self.optimizer.step()\n", ""),
                "no backward pass": STEP.replace("        loss.backward()\n", ""),
                "zeroed between backward and step": STEP.replace(
                    "        self.optimizer.zero_grad()\n", ""
                ).replace(
                    "        self.optimizer.step",
                    "        self.optimizer.zero_grad()\n        self.optimizer.step",
                ),
                "the step before the backward pass": STEP.replace(
                    "        self.optimizer.step()\n", ""
                ).replace(
                    "        loss.backward()",
                    "        self.optimizer.step()\n        loss.backward()",
                ),
                "two steps": STEP.replace(".step()", ".step()\n        self.optimizer.step()"),
                "a new optimizer each time": STEP.replace(
                    "        self.optimizer.zero",
                    "        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.lr)\n        self.optimizer.zero",
                ),
                "the default learning rate": STEP.replace(
                    "        self.optimizer.zero",
                    "        self.optimizer.param_groups[0]['lr'] = 0.001\n        self.optimizer.zero",
                ),
                "plain gradient descent": STEP.replace(
                    "self.optimizer.step()",
                    "torch.optim.SGD(self.network.parameters(), lr=self.lr).step()",
                ),
                "gradient descent by hand": STEP.replace(
                    "self.optimizer.step()",
                    "with torch.no_grad():\n            for p in self.network.parameters():\n                p -= self.lr * p.grad",
                ),
                "the MAE is minimised": STEP.replace("loss.backward()", "mae.backward()"),
                "both are minimised": STEP.replace("loss.backward()", "(loss + mae).backward()"),
                "half of the loss is minimised": STEP.replace(
                    "loss.backward()", "(loss / 2).backward()"
                ),
                "the root of the loss is minimised": STEP.replace(
                    "loss.backward()", "loss.sqrt().backward()"
                ),
                "the loss is maximised": STEP.replace("loss.backward()", "(-loss).backward()"),
                "gradients are clipped": STEP.replace(
                    "loss.backward()",
                    "loss.backward()\n        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)",
                ),
                "large gradients are clipped": STEP.replace(
                    "loss.backward()",
                    "loss.backward()\n        nn.utils.clip_grad_norm_(self.network.parameters(), 1e3)",
                ),
                "no step if the loss is large": STEP.replace(
                    "        self.optimizer.step()",
                    "        if loss < 1e4:\n            self.optimizer.step()",
                ),
                "the images are standardised in place": STEP.replace(
                    "        loss, mae", "        X_batch -= 1e-7 * X_batch\n        loss, mae"
                ),
                "the seed is set": STEP.replace(
                    "        loss, mae", "        torch.manual_seed(0)\n        loss, mae"
                ),
                "the mean over all steps": STEP.replace(
                    "        return loss",
                    '        self.losses = [*getattr(self, "losses", []), loss.detach()]\n        loss = torch.stack(self.losses).mean()\n        return loss',
                ),
                "the rate decays": STEP.replace(
                    "        return loss",
                    '        self.optimizer.param_groups[0]["lr"] *= 0.99\n        return loss',
                ),
                "two backward passes": STEP.replace(
                    "loss.backward()", "loss.backward(retain_graph=True)\n        loss.backward()"
                ),
                "the first weight is not trained": STEP.replace(
                    "loss.backward()",
                    "loss.backward()\n        next(self.network.parameters()).grad = None",
                ),
                "errors after the step": STEP.replace(
                    "        return loss",
                    "        loss, mae = self.compute_loss_and_mae(X_batch, y_batch)\n        return loss",
                ),
                "MAE first": STEP.replace(
                    "return loss.detach(), mae.detach()", "return mae.detach(), loss.detach()"
                ),
                "the loss only": STEP.replace(
                    "return loss.detach(), mae.detach()", "return loss.detach()"
                ),
                "a missing return": STEP.replace("return loss.detach(), mae.detach()", "pass"),
                "sums over the batch": STEP.replace(
                    "return loss.detach(), mae.detach()",
                    "return len(X_batch) * loss.detach(), len(X_batch) * mae.detach()",
                ),
                "weight decay": STEP.replace(
                    "        self.optimizer.step",
                    "        for p in self.network.parameters():\n            p.grad += 1e-2 * p.detach()\n        self.optimizer.step",
                ),
                "half of the batch": STEP.replace(
                    "(X_batch, y_batch)",
                    "(X_batch[: len(X_batch) // 2 + 1], y_batch[: len(X_batch) // 2 + 1])",
                ),
                "no training in batches of one": STEP.replace(
                    "        loss.backward()",
                    "        loss = loss * (len(X_batch) > 1)\n        loss.backward()",
                ),
            },
        },
        "1.6": {
            EVALUATE: {
                "evaluate trains": EVALUATE.replace(
                    "        with torch.no_grad():\n            loss, mae = self.compute_loss_and_mae(X, y)",
                    "        loss, mae = self.training_step(X, y)",
                ),
                "a backward pass": EVALUATE.replace(
                    "        with torch.no_grad():\n            loss, mae = self.compute_loss_and_mae(X, y)",
                    "        loss, mae = self.compute_loss_and_mae(X, y)\n        loss.backward()",
                ),
                "sums over the images": EVALUATE.replace(
                    "return loss, mae", "return len(X) * loss, len(X) * mae"
                ),
                "divided by the number of images again": EVALUATE.replace(
                    "return loss, mae", "return loss / len(X), mae / len(X)"
                ),
                "MAE first": EVALUATE.replace("return loss, mae", "return mae, loss"),
                "the loss only": EVALUATE.replace("return loss, mae", "return loss"),
                "the root of the loss": EVALUATE.replace(
                    "return loss, mae", "return loss.sqrt(), mae"
                ),
                "a missing return": EVALUATE.replace("return loss, mae", "pass"),
                "the first image only": EVALUATE.replace("(X, y)", "(X[:1], y[:1])"),
                "the first batch only": EVALUATE.replace(
                    "(X, y)", "(X[: self.batch_size], y[: self.batch_size])"
                ),
                "the last, smaller batch is dropped": EVALUATE.replace(
                    "(X, y)", "(X[: max(len(X) // 4 * 4, 1)], y[: max(len(X) // 4 * 4, 1)])"
                ),
                "a smaller batch counts as a whole one": BY_BATCHES,
                "the sum over batches": EVALUATE.replace(
                    "return loss, mae",
                    "return loss * -(-len(X) // self.batch_size), mae * -(-len(X) // self.batch_size)",
                ),
                "the images of the trainer, not its arguments": EVALUATE.replace(
                    "(X, y)", "(*self.test[0])"
                ),
                "gradients are set to zero": EVALUATE.replace(
                    "        return", "        self.network.zero_grad()\n        return"
                ),
                "the network is frozen": EVALUATE.replace(
                    "        return", "        self.network.requires_grad_(False)\n        return"
                ),
                "gradients stay off": EVALUATE.replace(
                    "        return", "        torch.set_grad_enabled(False)\n        return"
                ),
                "the logs are filled": EVALUATE.replace(
                    "        return",
                    '        self.train_logs["test_loss"].append(loss.item())\n        return',
                ),
                "the mean over all calls": EVALUATE.replace(
                    "        return",
                    '        self.losses = [*getattr(self, "losses", []), loss]\n        loss = torch.stack(self.losses).mean()\n        return',
                ),
                "1,000 images at most": EVALUATE.replace("(X, y)", "(X[:1000], y[:1000])"),
                "the logs": EVALUATE.replace("return loss, mae", "return self.train_logs"),
                "the network is initialised again": EVALUATE.replace(
                    "        return", "        self.network[1].reset_parameters()\n        return"
                ),
                "the labels are rounded up": EVALUATE.replace("(X, y)", "(X, y + 1)"),
            },
        },
    },
}
