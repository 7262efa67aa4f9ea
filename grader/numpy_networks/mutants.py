"""Typical mistakes of students, for ``grader/mutants.py``.

Plain data. Each mistake must cost points in its own part of the assignment only.
"""

# Mistakes are easier to read on one line.
# ruff: noqa: E501

# Everything that students write is graded.
NOT_GRADED: frozenset[str] = frozenset()

# Function: parts that may lose points with its own.
ALSO: dict[str, tuple[str, ...]] = {}

DRAW = "np.random.uniform(-bound, bound, size=(size_in, size_out))"

# Reason: the generated mutants that rightly lose no points for it.
EQUIVALENT = {
    "The bounds of a uniform distribution can be swapped.": (
        f"NN.initialize_weights: {DRAW} -> {DRAW.replace('-bound, bound', 'bound, -bound')}",
        "Convolution2dLayer.initialize_weights: np.random.uniform(0, 1, size=shape)"
        " -> np.random.uniform(1, 0, size=shape)",
    ),
    "The condition is the derivative itself, as a boolean.": (
        "NN.relu: np.where(x > 0, 1.0, 0.0) -> np.where(1.0, x > 0, 0.0)",
    ),
    "The maximum of two numbers does not depend on their order.": (
        "NN.loss: np.clip(prediction, self.epsilon, 1 - self.epsilon)"
        " -> np.clip(self.epsilon, prediction, 1 - self.epsilon)",
    ),
    "1 is the default.": (
        "ResidualBlock.__init__: nn.Conv2d without stride=1",
        "ResNet18.__init__: nn.Conv2d without stride=1",
        "ResNet18.__init__: self._create_layer without conv_stride=1",
    ),
    "Submissions are graded on one device.": (
        "train_loop: images, labels = (images.to(device), labels.to(device)) dropped",
        "train_loop: images.to(device) -> images",
        "train_loop: labels.to(device) -> labels",
        "valid_loop: images, labels = (images.to(device), labels.to(device)) dropped",
        "valid_loop: images.to(device) -> images",
        "valid_loop: labels.to(device) -> labels",
    ),
    "A 0-dim tensor counts as a number.": (
        "train_loop: float(correct) -> correct",
        "train_loop: float(total_loss) -> total_loss",
        "valid_loop: float(correct) -> correct",
        "valid_loop: float(total_loss) -> total_loss",
    ),
    "The loss is the same; it only keeps more in memory.": ("train_loop: loss.detach() -> loss",),
}

CONVOLVED = """        height, width = ((size - self.filter_size) // self.stride + 1 for size in x.shape[2:])
        columns = _columns(x, self.filter_size, self.stride)
"""
PADDED = "padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))"
POOLED = """            for pixels, view in places:
                view[...] = grad * (pixels == maxima)"""
CONV1 = "nn.Conv2d(\n            in_channels, channels, kernel_size=3, stride=conv_stride, padding=1, bias=False\n        )"
CONV2 = "self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=1, padding=1, bias=False)"
SECOND = "        out = self.bn2(self.conv2(out))\n"
TRAIN_STEP = """        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
TRAIN_MEANS = """        correct += (logits.argmax(dim=1) == labels).sum()
        total_loss += loss.detach() * len(labels)
        number += len(labels)
"""
VALID_MEANS = """        correct += (logits.argmax(dim=1) == labels).sum()
        total_loss += criterion(logits, labels) * len(labels)
        number += len(labels)
"""
TRAIN_END = """    return float(correct) / number, float(total_loss) / number


@torch.no_grad()
"""
VALID_END = """        total_loss += criterion(logits, labels) * len(labels)
        number += len(labels)
    return float(correct) / number, float(total_loss) / number
"""

# File: question, and questions that necessarily fail with it: a text that occurs once in the
# solution: the mistake in a few words: the text that replaces it.
BY_HAND = {
    "solution.py": {
        "1.1": {
            "bound = 1 / np.sqrt(self.dims[0])": {
                "the bound from the size of the output": "bound = 1 / np.sqrt(self.dims[-1])",
                "the bound without the square root": "bound = 1 / self.dims[0]",
                "Glorot's bound": "bound = np.sqrt(6 / (self.dims[0] + self.dims[1]))",
            },
            DRAW: {
                "weights are positive": "np.random.uniform(0, bound, size=(size_in, size_out))",
                "weights are normal": "np.random.normal(0, bound / np.sqrt(3), size=(size_in, size_out))",
                "weights are (out, in)": "np.random.uniform(-bound, bound, size=(size_out, size_in))",
                "the bound from each layer's own input": "np.random.uniform(-1, 1, size=(size_in, size_out)) / np.sqrt(size_in)",
                "one number for all weights": "np.full((size_in, size_out), np.random.uniform(-bound, bound))",
            },
            "np.zeros((1, size_out))": {
                "biases are one-dimensional": "np.zeros(size_out)",
                "biases are ones": "np.ones((1, size_out))",
                "biases are random": "np.random.uniform(-bound, bound, size=(1, size_out))",
                "biases have the size of the input": "np.zeros((1, size_in))",
            },
            '            self.weights[f"W{layer}"] = np.random': {
                "every layer is seeded again": '            np.random.seed(self.seed)\n            self.weights[f"W{layer}"] = np.random',
            },
            "if self.seed is not None:\n            np.random.seed(self.seed)\n        bound": {
                "the seed 0 is ignored": "if self.seed:\n            np.random.seed(self.seed)\n        bound",
                "None is a seed too": "if True:\n            np.random.seed(self.seed)\n        bound",
                "weights are drawn only once": 'if hasattr(self, "weights"):\n            return\n        if self.seed is not None:\n            np.random.seed(self.seed)\n        bound',
                "None is the seed 0": "np.random.seed(self.seed or 0)\n        bound",
            },
            "        bound = 1 / np.sqrt(self.dims[0])\n": {
                "another seed is used": "        np.random.seed(1234)\n        bound = 1 / np.sqrt(self.dims[0])\n",
            },
            "enumerate(pairwise(self.dims), start=1)": {
                "layers count from 0": "enumerate(pairwise(self.dims))",
                "the last layer is forgotten": "enumerate(pairwise(self.dims[:-1]), start=1)",
            },
        },
        "1.2": {
            "np.where(x > 0, 1.0, 0.0)": {
                "the derivative of relu is relu": "np.maximum(x, 0)",
                "the derivative of relu is a sign": "np.sign(x)",
                "the derivative of relu is one everywhere": "np.ones_like(x)",
                "the derivative of relu at 0 is 1": "np.where(x >= 0, 1.0, 0.0)",
            },
            "return np.maximum(x, 0)": {
                "relu is leaky": "return np.maximum(x, 0.01 * x)",
                "relu is the absolute value": "return np.abs(x)",
                "relu of a whole matrix": "return max(x.max(), 0)",
                "relu in place": "return np.maximum(x, 0, out=x)",
                "relu is cut off at 100": "return np.clip(x, 0, 100)",
            },
            "return small / (1 + small) ** 2": {
                "the sigmoid for its derivative": "return 1 / (1 + np.exp(-x))",
                "the derivative of the sigmoid as if x were its value": "return x * (1 - x)",
                "the derivative of the sigmoid overflows to NaN": "return np.exp(-x) / (1 + np.exp(-x)) ** 2",
            },
            "return np.where(x > 0, 1, small) / (1 + small)": {
                "the sigmoid of the negative": "return 1 / (1 + np.exp(x))",
                "the sigmoid overflows to NaN": "return np.exp(x) / (1 + np.exp(x))",
            },
            "return 1 - np.tanh(x) ** 2": {
                "the derivative of tanh as if x were its value": "return 1 - x**2",
                "the derivative of tanh without the square": "return 1 - np.tanh(x)",
                "the derivative of tanh at tanh(x)": "return 1 - np.tanh(np.tanh(x)) ** 2",
            },
            "return np.tanh(x)": {
                "tanh overflows to NaN": "return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))",
                "tanh is a sigmoid": "return 1 / (1 + np.exp(-x))",
                "tanh by torch": "return torch.tanh(torch.from_numpy(x)).numpy()",
            },
            "return self.relu(x, grad)": {
                "the selector forgets the derivative": "return self.relu(x)",
            },
            "return self.tanh(x, grad)": {
                "the selector mixes up two functions": "return self.sigmoid(x, grad)",
            },
            'return self.tanh(x, grad)\n        raise Exception("Invalid activation")': {
                "unknown names are tanh": "return self.tanh(x, grad)\n        return self.tanh(x, grad)",
            },
            "np.exp(x - x.max(axis=-1, keepdims=True))": {
                "softmax overflows": "np.exp(x)",
                "softmax shifts by the largest number of all": "np.exp(x - x.max())",
                "softmax has the wrong sign": "np.exp(x.min(axis=-1, keepdims=True) - x)",
            },
            "        exponentials = np.exp(x": {
                "softmax shifts its argument": "        x -= x.max()\n        exponentials = np.exp(x",
            },
            "exponentials / exponentials.sum(axis=-1, keepdims=True)": {
                "softmax over all numbers": "exponentials / exponentials.sum()",
                "softmax over the batch": "exponentials / exponentials.sum(axis=0, keepdims=True)",
                "softmax over axis 1": "exponentials / exponentials.sum(axis=1, keepdims=True)",
                "softmax is not normalised": "exponentials",
                "softmax is its logarithm": "np.log(exponentials / exponentials.sum(axis=-1, keepdims=True))",
            },
        },
        "1.3": {
            'cache[f"Z{layer - 1}"] @ self.weights[f"W{layer}"] + self.weights[f"b{layer}"]': {
                "the biases are forgotten": 'cache[f"Z{layer - 1}"] @ self.weights[f"W{layer}"]',
                "the biases are subtracted": 'cache[f"Z{layer - 1}"] @ self.weights[f"W{layer}"] - self.weights[f"b{layer}"]',
                "each layer reads the pre-activation": '(cache[f"A{layer - 1}"] if layer > 1 else x) @ self.weights[f"W{layer}"] + self.weights[f"b{layer}"]',
                "each layer reads the input": 'np.resize(x, (len(x), len(self.weights[f"W{layer}"]))) @ self.weights[f"W{layer}"] + self.weights[f"b{layer}"]',
            },
            'cache[f"A{layer}"] = affine\n': {
                "A is kept after the activation": 'cache[f"A{layer}"] = self.activation(affine)\n',
                "A is not kept": "pass\n",
            },
            "self.activation(affine) if layer < last else self.softmax(affine)": {
                "the softmax is forgotten": "self.activation(affine) if layer < last else affine",
                "the last layer has the hidden activation too": "self.activation(affine) if layer < last else self.softmax(self.activation(affine))",
                "always ReLU": "self.relu(affine) if layer < last else self.softmax(affine)",
                "a sigmoid at the end": "self.activation(affine) if layer < last else self.sigmoid(affine)",
            },
            '            cache[f"Z{layer}"] = self.activation(affine) if layer < last else self.softmax(affine)\n': {
                "A and Z are swapped": '            cache[f"Z{layer}"] = self.activation(affine) if layer < last else self.softmax(affine)\n        for layer in range(1, last + 1):\n            cache[f"A{layer}"], cache[f"Z{layer}"] = cache[f"Z{layer}"], cache[f"A{layer}"]\n',
            },
            '        cache = {"Z0": x}\n        last = self.n_hidden + 1\n': {
                "the cache is that of the first call": '        cache = self.__dict__.setdefault("cache", {})\n        cache["Z0"] = x\n        last = self.n_hidden + 1\n',
                "weights of the first call are kept": '        self.weights = self.__dict__.setdefault("kept", self.weights)\n        cache = {"Z0": x}\n        last = self.n_hidden + 1\n',
                "batches of one lose their dimension": '        x = x.squeeze()\n        cache = {"Z0": x}\n        last = self.n_hidden + 1\n',
                "the images are clipped": '        x = np.clip(x, -100, 100)\n        cache = {"Z0": x}\n        last = self.n_hidden + 1\n',
                "the layers are ten at most": '        cache = {"Z0": x}\n        last = min(self.n_hidden + 1, 10)\n',
                "there are always two hidden layers": '        cache = {"Z0": x}\n        last = 3\n',
                "Z0 is normalised": '        cache = {"Z0": x / 255}\n        last = self.n_hidden + 1\n',
            },
        },
        "1.4": {
            "np.clip(prediction, self.epsilon, 1 - self.epsilon)": {
                "no clipping": "prediction",
                "the epsilon is fixed": "np.clip(prediction, 1e-6, 1 - 1e-6)",
                "epsilon is added": "prediction + self.epsilon",
                "clipping below only": "np.maximum(prediction, self.epsilon)",
            },
            "return -(labels * np.log(probabilities)).sum(axis=1).mean()": {
                "the sum over the batch": "return -(labels * np.log(probabilities)).sum()",
                "a running mean": 'self.losses = [*getattr(self, "losses", []), -(labels * np.log(probabilities)).sum(axis=1).mean()]\n        return np.mean(self.losses)',
                "a loss of shape (1,)": "return -(labels * np.log(probabilities)).sum(axis=1).mean(keepdims=True)",
                "labels are changed": "labels *= np.log(probabilities)\n        return -labels.sum(axis=1).mean()",
                "ten classes always": "return -10 * (labels * np.log(probabilities)).mean()",
                "the mean over all numbers": "return -(labels * np.log(probabilities)).mean()",
                "the sign of the loss": "return (labels * np.log(probabilities)).sum(axis=1).mean()",
                "one loss per example": "return -(labels * np.log(probabilities)).sum(axis=1)",
                "the squared error": "return ((labels - probabilities) ** 2).sum(axis=1).mean()",
                "the binary cross-entropy": "return -(labels * np.log(probabilities) + (1 - labels) * np.log(1 - probabilities)).sum(axis=1).mean()",
                "the logarithm to base 2": "return -(labels * np.log2(probabilities)).sum(axis=1).mean()",
                "labels and predictions are swapped": "return -(probabilities * np.log(np.clip(labels, self.epsilon, 1))).sum(axis=1).mean()",
                "a softmax too many": "return -(labels * np.log(self.softmax(probabilities))).sum(axis=1).mean()",
            },
        },
        "1.5": {
            'cache[f"Z{last}"] - labels}': {
                "labels are subtracted in the cache": 'np.subtract(cache[f"Z{last}"], labels, out=cache[f"Z{last}"])}',
                "confident mistakes have no gradient": '(cache[f"Z{last}"] - labels) * (cache[f"Z{last}"] > self.epsilon)}',
                "the sign of the first gradient": 'labels - cache[f"Z{last}"]}',
                "the gradient with respect to the probabilities": '-labels / cache[f"Z{last}"]}',
                "dA is divided by B": '(cache[f"Z{last}"] - labels) / len(labels)}',
                "the first gradient from the pre-activation": 'cache[f"A{last}"] - labels}',
            },
            'cache[f"Z{layer - 1}"].T @ gradient / len(labels)': {
                "dW is summed over the batch": 'cache[f"Z{layer - 1}"].T @ gradient',
                "dW is clipped": 'np.clip(cache[f"Z{layer - 1}"].T @ gradient / len(labels), -1e3, 1e3)',
                "dW accumulates": 'self.__dict__.setdefault(f"sum{layer}", np.zeros_like(self.weights[f"W{layer}"])) + 0\n            self.__dict__[f"sum{layer}"] += cache[f"Z{layer - 1}"].T @ gradient / len(labels)\n            grads[f"dW{layer}"] = self.__dict__[f"sum{layer}"]',
                "dW is transposed": '(cache[f"Z{layer - 1}"].T @ gradient).T / len(labels)',
                "dW from the pre-activation": 'cache[f"A{layer - 1}" if layer > 1 else "Z0"].T @ gradient / len(labels)',
                "dW is divided by the number of classes": 'cache[f"Z{layer - 1}"].T @ gradient / labels.shape[1]',
            },
            "gradient.mean(axis=0, keepdims=True)": {
                "db is summed over the batch": "gradient.sum(axis=0, keepdims=True)",
                "db is one-dimensional": "gradient.mean(axis=0)",
                "db is a mean over the units": "gradient.mean(axis=1, keepdims=True)",
                "db is the first example's": "gradient[:1]",
            },
            'gradient @ self.weights[f"W{layer}"].T': {
                "the weights of another layer": 'gradient @ np.abs(self.weights[f"W{layer}"].T)',
            },
            'self.activation(cache[f"A{layer - 1}"], grad=True)': {
                "the derivative at the activation": 'self.activation(cache[f"Z{layer - 1}"], grad=True)',
                "the activation for its derivative": 'self.activation(cache[f"A{layer - 1}"])',
                "always the derivative of ReLU": 'self.relu(cache[f"A{layer - 1}"], grad=True)',
            },
            'grads[f"dA{layer - 1}"] = below * slope': {
                "the derivative is forgotten": 'grads[f"dA{layer - 1}"] = below',
            },
            'grads[f"dZ{layer - 1}"] = below\n': {
                "dZ is left out": "pass\n",
                "dZ is clipped": 'below = grads[f"dZ{layer - 1}"] = np.clip(below, -1, 1)\n',
                "dZ is averaged": 'grads[f"dZ{layer - 1}"] = below / len(labels)\n',
            },
        },
        "1.6": {
            'self.weights[name] - self.lr * grads[f"d{name}"]': {
                "gradient ascent": 'self.weights[name] + self.lr * grads[f"d{name}"]',
                "the learning rate is forgotten": 'self.weights[name] - grads[f"d{name}"]',
                "the learning rate is fixed": 'self.weights[name] - 0.01 * grads[f"d{name}"]',
                "the learning rate divides": 'self.weights[name] - grads[f"d{name}"] / self.lr',
                "the weights become the step": '-self.lr * grads[f"d{name}"]',
                "gradients are clipped": 'self.weights[name] - self.lr * np.clip(grads[f"d{name}"], -100, 100)',
                "the gradients are scaled in place": 'self.weights[name] - np.multiply(grads[f"d{name}"], self.lr, out=grads[f"d{name}"])',
                "layers from the tenth on do not learn": 'self.weights[name] - (len(name) < 3) * self.lr * grads[f"d{name}"]',
                "no step if a gradient is large": 'self.weights[name] - self.lr * grads[f"d{name}"] * (np.abs(grads[f"d{name}"]).max() < 1e4)',
                "momentum": 'self.weights[name] - self.lr * self.__dict__.setdefault("v", {}).setdefault(name, 0 * grads[f"d{name}"]).__iadd__(grads[f"d{name}"])',
                "biases do not learn": 'self.weights[name] - (name[0] == "W") * self.lr * grads[f"d{name}"]',
                "the last layer does not learn": 'self.weights[name] - (name[1:] != "3") * self.lr * grads[f"d{name}"]',
            },
        },
        "2.1": {
            "np.random.uniform(0, 1, size=shape)": {
                "filters around 0": "np.random.uniform(-1, 1, size=shape)",
                "normal filters": "np.random.normal(size=shape)",
                "filters scaled by their size": "np.random.uniform(0, 1, size=shape) / self.filter_size",
                "one filter for all units": "np.tile(np.random.uniform(0, 1, size=shape[1:]), (self.n_units, 1, 1))",
                "integers": "np.random.randint(0, 2, size=shape).astype(float)",
            },
            "shape = (self.n_units, self.filter_size, self.filter_size)": {
                "a channel too many": "shape = (self.n_units, 1, self.filter_size, self.filter_size)",
                "the units come last": "shape = (self.filter_size, self.filter_size, self.n_units)",
            },
            "out = self.weights.reshape(self.n_units, self.filter_size**2) @ columns": {
                "the filters are flipped, as in a mathematical convolution": "out = self.weights[:, ::-1, ::-1].reshape(self.n_units, self.filter_size**2) @ columns",
                "the filters are transposed": "out = self.weights.transpose(0, 2, 1).reshape(self.n_units, self.filter_size**2) @ columns",
                "the mean under a filter": "out = self.weights.reshape(self.n_units, self.filter_size**2) @ columns / self.filter_size**2",
                "a ReLU in the convolution": "out = np.maximum(self.weights.reshape(self.n_units, self.filter_size**2) @ columns, 0)",
            },
            CONVOLVED: {
                "the stride is ignored": CONVOLVED.replace("self.stride", "1"),
                "the filter size is fixed": CONVOLVED.replace("self.filter_size", "3"),
                "zeros around the image": CONVOLVED.replace("x.shape", "padded.shape")
                .replace("(x, ", "(padded, ")
                .replace("        height", f"        {PADDED}\n        height"),
                "the image is transposed": CONVOLVED.replace(
                    "x.shape[2:]", "x.shape[:1:-1]"
                ).replace("(x, ", "(x.swapaxes(2, 3), "),
                "the first image for all": CONVOLVED.replace(
                    "(x, ", "(np.repeat(x[:1], len(x), axis=0), "
                ),
            },
            'return {"x": x, "out": out.reshape(len(x), self.n_units, height, width)}': {
                "the units come last in the output": 'return {"x": x, "out": out.reshape(len(x), self.n_units, height, width).transpose(0, 2, 3, 1)}',
                "one output for all calls": 'self.out = getattr(self, "out", np.zeros((len(x), self.n_units, height, width)))\n        self.out = self.out if self.out.shape[0] == len(x) else np.zeros((len(x), self.n_units, height, width))\n        self.out[...] = out.reshape(len(x), self.n_units, height, width)\n        return {"x": x, "out": self.out}',
                "the output is clipped": 'return {"x": x, "out": out.reshape(len(x), self.n_units, height, width).clip(-1000, 1000)}',
                "the random state is set": 'np.random.seed(0)\n        return {"x": x, "out": out.reshape(len(x), self.n_units, height, width)}',
                "the image is changed": 'x *= 0.5\n        return {"x": 2 * x, "out": out.reshape(len(x), self.n_units, height, width)}',
                "the array for the cache": "return out.reshape(len(x), self.n_units, height, width)",
                "x is left out of the cache": 'return {"out": out.reshape(len(x), self.n_units, height, width)}',
            },
        },
        "2.2": {
            "return (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape)": {
                "gradients accumulate": 'self.sum = getattr(self, "sum", 0) + (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape)\n        return self.sum',
                "the gradient is clipped": "return (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape).clip(-1e3, 1e3)",
                "the mean over the images": "return (flat @ columns.transpose(0, 2, 1)).mean(axis=0).reshape(self.weights.shape)",
                "the mean over the positions": "return (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape) / columns.shape[2]",
                "the gradient of the last image": "return (flat @ columns.transpose(0, 2, 1))[-1].reshape(self.weights.shape)",
                "the gradient is transposed": "return (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape).transpose(0, 2, 1)",
                "the gradient is flipped": "return (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape)[:, ::-1, ::-1]",
                "the sign of the gradient": "return -(flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape)",
                "a channel too many in the gradient": "return (flat @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape)[:, None]",
                "one gradient per image": "return (flat @ columns.transpose(0, 2, 1)).reshape(len(columns), *self.weights.shape)",
                "the gradient of the sum of the outputs": "return (np.ones_like(flat) @ columns.transpose(0, 2, 1)).sum(axis=0).reshape(self.weights.shape)",
                "all units have the same gradient": "return np.tile((flat @ columns.transpose(0, 2, 1)).sum(axis=(0, 1)), self.n_units).reshape(self.weights.shape)",
            },
            'columns = _columns(cache["x"], self.filter_size, self.stride)': {
                "the backward pass ignores the stride": 'height, width = (size + self.filter_size - 1 for size in grad_output.shape[2:])\n        columns = _columns(cache["x"][:, :, :height, :width], self.filter_size, 1)',
            },
        },
        "2.3": {
            'return {"x": x, "out": np.max(_pixels(x, self.filter_size), axis=0)}': {
                "the mean of a window": 'return {"x": x, "out": np.mean(_pixels(x, self.filter_size), axis=0)}',
                "the minimum of a window": 'return {"x": x, "out": np.min(_pixels(x, self.filter_size), axis=0)}',
                "the first pixel of a window": 'return {"x": x, "out": _pixels(x, self.filter_size)[0].copy()}',
                "the largest absolute value": 'return {"x": x, "out": np.max(np.abs(_pixels(x, self.filter_size)), axis=0)}',
                "maxima start at -1,000": 'return {"x": x, "out": np.max(_pixels(x, self.filter_size), axis=0, initial=-1000)}',
                "the mask of the last call is kept": 'self.x = x\n        return {"x": self.__dict__.setdefault("first", x), "out": np.max(_pixels(x, self.filter_size), axis=0)}',
                "maxima start at 0": 'return {"x": x, "out": np.max(_pixels(x, self.filter_size), axis=0, initial=0)}',
                "the position of the maximum": 'return {"x": x, "out": np.argmax(_pixels(x, self.filter_size), axis=0)}',
                "the maximum over the channels": 'return {"x": x, "out": np.max(_pixels(x, self.filter_size), axis=(0, 2))[:, None]}',
                "the last row of windows is left out": 'return {"x": x, "out": np.max(_pixels(x, self.filter_size), axis=0)[:, :, :-1]}',
                "the diagonal of a window only": 'return {"x": x, "out": np.max(_pixels(x, self.filter_size)[:: self.filter_size + 1], axis=0)}',
                "the largest pixel of the whole image": 'return {"x": x, "out": np.broadcast_to(x.max(axis=(2, 3), keepdims=True), _pixels(x, self.filter_size)[0].shape)}',
            },
            "_pixels(x, self.filter_size)": {
                "always windows of 2 x 2 pixels": "_pixels(x, 2)",
            },
        },
        "2.4": {
            "view[...] = grad * (pixels == maxima)": {
                "the gradient is shared by all pixels": "view[...] = grad",
                "several maxima share it": "view[...] = grad * (pixels == maxima) / np.equal(_pixels(image, self.filter_size), maxima).sum(axis=0)",
                "the mask without the gradient": "view[...] = pixels == maxima",
                "the maximum is multiplied in": "view[...] = grad * maxima * (pixels == maxima)",
                "all but the maximum": "view[...] = grad * (pixels != maxima)",
                "the gradient is averaged over the images": "view[...] = grad * (pixels == maxima) / len(grad_output)",
                "the gradient is averaged over the window": "view[...] = grad * (pixels == maxima) / self.filter_size**2",
                "all pixels above the mean": "view[...] = grad * (pixels >= np.mean(_pixels(image, self.filter_size), axis=0))",
            },
            POOLED: {
                "only the first maximum receives it": POOLED.replace(
                    "            for",
                    "            free = np.ones(grad.shape, bool)\n            for",
                )
                + " * free\n                free &= pixels != maxima",
            },
            "        return gradient\n": {
                "gradients accumulate": '        return self.__dict__.setdefault("sums", {}).setdefault(gradient.shape, 0 * gradient).__iadd__(gradient) + 0\n',
                "the gradient is clipped": "        return gradient.clip(-100, 100)\n",
                "the gradient has the shape of the output": "        return gradient[:, :, :: self.filter_size, :: self.filter_size]\n",
            },
        },
        "3.1": {
            CONV1: {
                "the first convolution has no stride": "nn.Conv2d(in_channels, channels, kernel_size=3, stride=1, padding=1, bias=False)",
                "the first convolution has a bias": "nn.Conv2d(in_channels, channels, kernel_size=3, stride=conv_stride, padding=1)",
                "the first convolution is not padded": "nn.Conv2d(in_channels, channels, kernel_size=3, stride=conv_stride, bias=False)",
            },
            CONV2: {
                "the second convolution has the stride too": "self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=conv_stride, padding=1, bias=False)",
                "the second convolution is 1 x 1": "self.conv2 = nn.Conv2d(channels, channels, kernel_size=1, bias=False)",
                "the second convolution has a bias": "self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, stride=1, padding=1)",
            },
            "        self.bn2 = nn.BatchNorm2d(channels)\n": {
                "one batch norm for both": "        self.bn2 = self.bn1\n",
                "the second batch norm has no parameters": "        self.bn2 = nn.BatchNorm2d(channels, affine=False)\n",
                "layers are kept in a list": "        self.bn2 = [nn.BatchNorm2d(channels)]\n        self.bn2[0].double()\n",
            },
            "if conv_stride == 1 and in_channels == channels:": {
                "a residual connection only where the channels change": "if in_channels == channels:",
                "a residual connection only where the stride changes": "if conv_stride == 1:",
                "always a residual convolution": "if False:",
            },
            "            nn.Conv2d(in_channels, channels, kernel_size=1, stride=conv_stride, bias=False),\n            nn.BatchNorm2d(channels),\n": {
                "the residual connection has no batch norm": "            nn.Conv2d(in_channels, channels, kernel_size=1, stride=conv_stride, bias=False),\n",
                "the residual connection is 3 x 3": "            nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, stride=conv_stride, bias=False),\n            nn.BatchNorm2d(channels),\n",
                "the residual convolution has a bias": "            nn.Conv2d(in_channels, channels, kernel_size=1, stride=conv_stride),\n            nn.BatchNorm2d(channels),\n",
                "the residual connection has an activation": "            nn.Conv2d(in_channels, channels, kernel_size=1, stride=conv_stride, bias=False),\n            nn.BatchNorm2d(channels),\n            nn.ReLU(),\n",
            },
            "out = self.activation(self.bn1(self.conv1(x)))\n        out = self.bn2": {
                "the first batch norm is forgotten": "out = self.activation(self.conv1(x))\n        out = self.bn2",
                "the first activation is forgotten": "out = self.bn1(self.conv1(x))\n        out = self.bn2",
                "batch norm after the activation": "out = self.bn1(self.activation(self.conv1(x)))\n        out = self.bn2",
                "always ReLU in the middle": "out = torch.relu(self.bn1(self.conv1(x)))\n        out = self.bn2",
            },
            SECOND: {
                "the second batch norm is missing": "        out = self.conv2(out)\n",
                "an activation before the sum": "        out = self.activation(self.bn2(self.conv2(out)))\n",
            },
            "return self.activation(out + self.residual_connection(x))": {
                "the residual connection is forgotten": "return self.activation(out)",
                "no activation at the end": "return out + self.residual_connection(x)",
                "the sum after the activation": "return self.activation(out) + self.residual_connection(x)",
                "the residual connection is subtracted": "return self.activation(out - self.residual_connection(x))",
                "the residual connection is detached in training": "return self.activation(out + (self.residual_connection(x).detach() if self.training else self.residual_connection(x)))",
                "the output is clipped": "return self.activation(out + self.residual_connection(x)).clamp(-50, 50)",
                "batch norm is frozen after the first batch": "result = self.activation(out + self.residual_connection(x))\n        self.bn1.momentum = self.bn2.momentum = 0.0\n        return result",
                "always in training": "result = self.activation(out + self.residual_connection(x))\n        return result if self.training or len(x) < 30 else self.train()(x)",
                "the residual connection is detached": "return self.activation(out + self.residual_connection(x).detach())",
            },
            "nn.init.xavier_normal_(convolution.weight)": {
                "two initializations are mixed up": "nn.init.kaiming_normal_(convolution.weight)",
            },
            "nn.init.kaiming_normal_(convolution.weight)": {
                "uniform for normal": "nn.init.kaiming_uniform_(convolution.weight)",
            },
            "for convolution in (self.conv1, self.conv2):": {
                "only one convolution is initialised": "for convolution in (self.conv1,):",
                "the residual convolution is initialised too": "for convolution in [m for m in self.modules() if isinstance(m, nn.Conv2d)]:",
                "blocks set the seed": "torch.manual_seed(0)\n        for convolution in (self.conv1, self.conv2):",
            },
        },
        "3.2": {
            "self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)": {
                "the stem has a bias": "self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1)",
                "the stem of ImageNet": "self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)",
            },
            "self.layer2 = self._create_layer(64, 128, conv_stride=2)": {
                "layer2 does not halve the resolution": "self.layer2 = self._create_layer(64, 128, conv_stride=1)",
            },
            "self.layer1 = self._create_layer(64, 64, conv_stride=1)": {
                "layer1 halves the resolution": "self.layer1 = self._create_layer(64, 64, conv_stride=2)",
            },
            "self.avgpool = nn.AdaptiveAvgPool2d(1)": {
                "max for average pooling": "self.avgpool = nn.AdaptiveMaxPool2d(1)",
            },
            "self.linear = nn.Linear(512, self.n_classes)": {
                "the classifier has no bias": "self.linear = nn.Linear(512, self.n_classes, bias=False)",
                "100 classes": "self.linear = nn.Linear(512, 100)",
            },
            "            ResidualBlock(channels, channels, **options),\n": {
                "one block per layer": "",
                "three blocks per layer": "            ResidualBlock(channels, channels, **options),\n            ResidualBlock(channels, channels, **options),\n",
                "the second block forgets the arguments": "            ResidualBlock(channels, channels),\n",
                "both blocks have the stride": "            ResidualBlock(channels, channels, conv_stride, **options),\n",
            },
            'options = {"activation_str": self.activation_str, "initialization": self.initialization}': {
                "the blocks forget the activation": 'options = {"initialization": self.initialization}',
                "the blocks forget the initialization": 'options = {"activation_str": self.activation_str}',
            },
            "self.activation(self.bn1(self.conv1(input)))": {
                "the stem is detached in training": "self.activation(self.bn1(self.conv1(input))).detach() if self.training else self.activation(self.bn1(self.conv1(input)))",
                "the stem has no batch norm": "self.activation(self.conv1(input))",
                "the stem has no activation": "self.bn1(self.conv1(input))",
                "the stem always has ReLU": "torch.relu(self.bn1(self.conv1(input)))",
            },
            "        out = self.layer4(out)  # (B, 512, 4, 4)\n": {
                "the gradient stops before the last layer": "        out = self.layer4(out.detach())\n",
            },
            "        return self.linear(out)\n": {
                "a softmax at the end": "        return torch.softmax(self.linear(out), dim=1)\n",
                "an activation at the end": "        return self.activation(self.linear(out))\n",
                "a softmax in evaluation": "        return self.linear(out) if self.training else self.linear(out).softmax(1)\n",
                "a single image loses its dimension": "        return self.linear(out.squeeze(0))\n",
                "dropout before the classifier": "        return self.linear(nn.functional.dropout(out))\n",
            },
        },
        "3.3": {
            TRAIN_STEP: {
                "gradients are never set to zero": "        loss.backward()\n        optimizer.step()\n",
                "gradients are set to zero before the step": "        loss.backward()\n        optimizer.zero_grad()\n        optimizer.step()\n",
                "gradients are clipped": "        optimizer.zero_grad()\n        loss.backward()\n        nn.utils.clip_grad_norm_(model.parameters(), 100)\n        optimizer.step()\n",
                "no step is taken": "        optimizer.zero_grad()\n        loss.backward()\n",
                "two steps per batch": "        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n        optimizer.step()\n",
            },
            "        loss = criterion(logits, labels)\n": {
                "no step if the loss is large": "        loss = criterion(logits, labels)\n        if loss > 1000:\n            loss = loss.detach().requires_grad_()\n",
                "the criterion is ignored": "        loss = nn.functional.cross_entropy(logits, labels)\n",
                "each epoch sets the seed": "        loss = criterion(logits, labels)\n        torch.manual_seed(0)\n",
            },
            "    device = next(model.parameters()).device\n    model.train()\n": {
                "training in evaluation mode": "    device = next(model.parameters()).device\n    model.eval()\n",
                "the mode of training is not set": "    device = next(model.parameters()).device\n",
            },
            "    device = next(model.parameters()).device\n    model.eval()\n": {
                "validation in training mode": "    device = next(model.parameters()).device\n    model.train()\n",
                "the mode of validation is not set": "    device = next(model.parameters()).device\n",
            },
            TRAIN_MEANS: {
                "the training loss of the last batch": "        correct += (logits.argmax(dim=1) == labels).sum()\n        number += len(labels)\n        total_loss = loss.detach() * number\n",
                "the training loss is summed over batches": "        correct += (logits.argmax(dim=1) == labels).sum()\n        total_loss += loss.detach()\n        number += len(labels)\n",
                "training counts the batches": "        correct += (logits.argmax(dim=1) == labels).float().mean()\n        total_loss += loss.detach()\n        number += 1\n",
                "training counts the smallest logit": "        correct += (logits.argmin(dim=1) == labels).sum()\n        total_loss += loss.detach() * len(labels)\n        number += len(labels)\n",
            },
            VALID_MEANS: {
                "validation leaves gradients": "        correct += (logits.argmax(dim=1) == labels).sum()\n        with torch.enable_grad():\n            criterion(model(images), labels).backward()\n        total_loss += criterion(logits, labels) * len(labels)\n        number += len(labels)\n",
                "validation freezes the model": VALID_MEANS
                + "        model.requires_grad_(False)\n",
                "validation counts the batches": "        correct += (logits.argmax(dim=1) == labels).float().mean()\n        total_loss += criterion(logits, labels)\n        number += 1\n",
                "validation of the first batch": VALID_MEANS + "        break\n",
            },
            TRAIN_END: {
                "training returns the loss first": TRAIN_END.replace(
                    "float(correct) / number, float(total_loss) / number",
                    "float(total_loss) / number, float(correct) / number",
                ),
                "the training accuracy in percent": TRAIN_END.replace(
                    "float(correct)", "100 * float(correct)"
                ),
                "training returns the accuracy only": TRAIN_END.replace(
                    ", float(total_loss) / number", ""
                ),
            },
            VALID_END: {
                "validation returns the loss first": VALID_END.replace(
                    "float(correct) / number, float(total_loss) / number",
                    "float(total_loss) / number, float(correct) / number",
                ),
                "the validation accuracy in percent": VALID_END.replace(
                    "float(correct)", "100 * float(correct)"
                ),
                "validation returns the number of correct images": VALID_END.replace(
                    "float(correct) / number", "float(correct)"
                ),
            },
        },
    }
}
