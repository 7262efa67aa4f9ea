"""Typical mistakes of students, for ``grader/mutants.py``.

Plain data. Each mistake must cost points in its own part of the assignment only.
"""

# Mistakes are easier to read on one line.
# ruff: noqa: E501

# Functions, and arguments with the code that depends on them, that are not graded: the sheet leaves
# them open, or they are extensions of this project.
NOT_GRADED = frozenset(
    {
        "ResNet18.visualize",
        "MLPMixer.visualize",
        "label_smoothing",
        "drop_path",
        "drop_path_rate",
        "tokens_mlp_dim",
        "channels_mlp_dim",
    }
)

# Function: parts that may lose points with its own, because no stand-in can replace it.
ALSO = {"MLP._build_layers": ("1.3",)}

# Reason: the generated mutants that rightly lose no points for it.
EQUIVALENT = {
    "The sheet asks for weight and bias only.": (
        "Linear.__init__: self.in_features = in_features dropped",
        "Linear.__init__: in_features -> out_features",
        "Linear.__init__: self.out_features = out_features dropped",
        "Linear.__init__: out_features -> in_features",
    ),
    "A Linear outside an MLP may start with any finite weights that differ, and any bias.": (
        "Linear.__init__: 1 / math.sqrt(in_features) -> 1 * math.sqrt(in_features)",
        "Linear.__init__: 1 -> 2",
        "Linear.__init__: math.sqrt(in_features) -> in_features",
        "Linear.__init__: in_features -> out_features (no. 2)",
        "Linear.__init__: -bound -> bound (no. 2)",
    ),
    "1 is the default.": (
        "BasicBlock.__init__: nn.Conv2d without stride=1",
        "ResNet18.__init__: nn.Conv2d without stride=1",
    ),
    "Stochastic depth is not graded.": (
        "MixerBlock.forward: self._skip_at_random(mixed.transpose(1, 2)) -> mixed.transpose(1, 2)",
        "MixerBlock.forward: self._skip_at_random(self.mlp_channels(self.norm2(x)))"
        " -> self.mlp_channels(self.norm2(x))",
    ),
    "Versions of the starter differ in the eps of the last norm.": (
        "MLPMixer.__init__: nn.LayerNorm without eps=1e-06",
        "MLPMixer.__init__: 1e-06 -> 1e-05",
    ),
    "Half precision is not graded.": (
        "cross_entropy_loss: if logits.dtype in (torch.float16, torch.bfloat16):"
        " logits = logits.float() dropped",
        "cross_entropy_loss: logits.dtype in (torch.float16, torch.bfloat16)"
        " -> logits.dtype not in (torch.float16, torch.bfloat16)",
        "cross_entropy_loss: logits -> labels",
        "cross_entropy_loss: logits = logits.float() dropped",
        "cross_entropy_loss: logits.float() -> logits",
        "cross_entropy_loss: logits -> labels (no. 2)",
    ),
    "Neither the loss nor its gradient depends on the constant.": (
        "cross_entropy_loss: logits.detach() -> logits",
    ),
    "Logits near the largest float are not graded.": (
        "cross_entropy_loss: torch.finfo(logits.dtype).min / 2 -> torch.finfo(logits.dtype).min * 2",
        "cross_entropy_loss: 2 -> 3",
        "cross_entropy_loss: 2 -> 1",
        "cross_entropy_loss: lowest - constant -> lowest + constant",
    ),
    "Labels already have this type.": ("cross_entropy_loss: labels.long() -> labels",),
    "The first dimension is also the last.": ("cross_entropy_loss: 0 -> -1",),
    "Students are given this attribute; only a message depends on it.": (
        "PatchEmbed.__init__: self.patch_size = patch_size dropped",
        "PatchEmbed.__init__: patch_size -> in_chans",
    ),
}

# File: problem, and problems that necessarily fail with it: a text that occurs once in the solution:
# the mistake in a few words: the text that replaces it.
BY_HAND = {
    "mlp.py": {
        "1.1": {
            "(input, self.weight, self.bias)": {
                "the bias is forgotten": "(input, self.weight)",
                "the weight is detached": "(input, self.weight.detach(), self.bias)",
                "the bias is read from .data": "(input, self.weight, self.bias.data)",
                "the input is detached": "(input.detach(), self.weight, self.bias)",
            },
            "nn.functional.linear(input, self.weight, self.bias)": {
                "the weight is not transposed": "input @ self.weight + self.bias",
                "the bias is subtracted": "input @ self.weight.T - self.bias",
                "the bias multiplies": "input @ self.weight.T * self.bias",
                "ReLU in Linear": "torch.relu(nn.functional.linear(input, self.weight, self.bias))",
                "the batch size is fixed": "torch.addmm(self.bias.expand(5, -1), input, self.weight.T)",
                "the output is scaled": "input @ self.weight.T / math.sqrt(self.in_features) + self.bias",
            },
            "        return nn.functional.linear(input, self.weight, self.bias)": {
                "Linear without gradients": (
                    "        with torch.no_grad():\n"
                    "            return nn.functional.linear(input, self.weight, self.bias)"
                ),
            },
            "torch.empty(out_features, in_features)": {
                "the weight is (in, out)": "torch.empty(in_features, out_features)",
            },
            "self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))": {
                "the bias is no parameter": "self.bias = torch.empty(out_features).uniform_(-bound, bound)",
                "the bias is a buffer": 'self.register_buffer("bias", torch.zeros(out_features))',
            },
            "nn.Parameter(torch.empty(out_features, in_features).uniform_(-bound, bound))": {
                "the weight is no parameter": "torch.empty(out_features, in_features).uniform_(-bound, bound)",
            },
            "torch.empty(out_features).uniform_(-bound, bound))": {
                "the bias does not learn": "torch.empty(out_features).uniform_(-bound, bound), requires_grad=False)",
            },
            "torch.empty(out_features).": {
                "one bias for all": "torch.empty(1).",
                "the bias is a row": "torch.empty(1, out_features).",
                "a bias per input": "torch.empty(in_features).",
            },
            "        self.bias = nn": {
                "a parameter too many": (
                    "        self.gain = nn.Parameter(torch.ones(out_features))\n"
                    "        self.bias = nn"
                ),
            },
            "        self.bias = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))": {
                "nn.Linear behind Linear": (
                    "        layer = nn.Linear(in_features, out_features)\n"
                    "        self.weight, self.bias = layer.weight, layer.bias"
                ),
            },
            "class MLP(nn.Module):": {
                "nn.Linear under another name": ("Linear = nn.Linear\n\n\nclass MLP(nn.Module):"),
            },
        },
        "1.2 1.3": {
            (
                "hidden_layers = nn.ModuleList(\n"
                "            Linear(width_in, width_out) for width_in, width_out in pairwise(widths)\n"
                "        )"
            ): {
                "the hidden layers are a plain list": (
                    "hidden_layers = [\n"
                    "            Linear(width_in, width_out) for width_in, width_out in pairwise(widths)\n"
                    "        ]"
                ),
            },
            "pairwise(widths)": {
                "the last hidden layer is missing": "pairwise(widths[:-1])",
            },
            "widths = [input_size, *hidden_sizes]": {
                "the output layer is a hidden layer too": "widths = [input_size, *hidden_sizes, num_classes]",
                "the first hidden layer is missing": "widths = list(hidden_sizes)",
                "the hidden layers are in reverse": "widths = [input_size, *hidden_sizes[::-1]]",
            },
            "Linear(widths[-1], num_classes)": {
                "the output layer from the input": "Linear(input_size, num_classes)",
            },
            "Linear(width_in, width_out) for": {
                "all hidden layers are as wide as the first": "Linear(width_in, widths[1]) for",
                "in and out are swapped": "Linear(width_out, width_in) for",
            },
            (
                "nn.ModuleList(\n"
                "            Linear(width_in, width_out) for width_in, width_out in pairwise(widths)\n"
                "        )"
            ): {
                "all hidden layers are the same one": "nn.ModuleList([Linear(input_size, hidden_sizes[0])] * len(hidden_sizes))",
            },
        },
        "1.2": {
            (
                "hidden_layers = nn.ModuleList(\n"
                "            Linear(width_in, width_out) for width_in, width_out in pairwise(widths)\n"
                "        )"
            ): {
                "nn.Sequential for nn.ModuleList": (
                    "hidden_layers = nn.Sequential(\n"
                    "            *(Linear(width_in, width_out) for width_in, width_out in pairwise(widths))\n"
                    "        )"
                ),
            },
            "return hidden_layers, Linear(widths[-1], num_classes)": {
                "_build_layers uses self, not its arguments": "return hidden_layers, Linear(self.hidden_sizes[-1], self.num_classes)",
            },
            "nn.init.xavier_normal_": {
                "Glorot uniform": "nn.init.xavier_uniform_",
                "Kaiming normal": "nn.init.kaiming_normal_",
                "the default of nn.init.normal_": "nn.init.normal_",
            },
            "nn.init.xavier_normal_(module.weight)": {
                "a fixed standard deviation": "nn.init.normal_(module.weight, std=0.01)",
                "the variance as standard deviation": "nn.init.normal_(module.weight, 0, 2 / (module.in_features + module.out_features))",
                "the fan-in alone": "nn.init.normal_(module.weight, 0, module.in_features**-0.5)",
                "1 for 2 in the variance": "nn.init.xavier_normal_(module.weight, gain=0.5**0.5)",
                "Glorot with the gain for ReLU": 'nn.init.xavier_normal_(module.weight, nn.init.calculate_gain("relu"))',
                "a copy of the weight is drawn": "nn.init.xavier_normal_(module.weight.clone())",
            },
            "nn.init.zeros_(module.bias)": {
                "the bias starts at 0.01": "nn.init.constant_(module.bias, 0.01)",
                "the bias is random": "nn.init.normal_(module.bias, std=0.1)",
            },
            "        nn.init.zeros_(module.bias)\n": {
                "the bias is not initialised": "",
            },
            (
                "        nn.init.xavier_normal_(module.weight)\n        nn.init.zeros_(module.bias)"
            ): {
                "only nn.Linear is initialised": (
                    "        if isinstance(module, nn.Linear):\n"
                    "            nn.init.xavier_normal_(module.weight)\n"
                    "            nn.init.zeros_(module.bias)"
                ),
            },
            "for layer in (*self.hidden_layers, self.output_layer):": {
                "the output layer is not initialised": "for layer in self.hidden_layers:",
            },
        },
        "1.3": {
            "torch.relu(inputs)": {
                "leaky ReLU": "nn.functional.leaky_relu(inputs)",
                "GELU for ReLU": "nn.functional.gelu(inputs)",
                "softplus for ReLU": "nn.functional.softplus(inputs)",
                "the absolute value": "inputs.abs()",
                "ReLU of detached inputs": "torch.relu(inputs.detach())",
            },
            "torch.tanh(inputs)": {
                "tanh as a sigmoid": "2 * torch.sigmoid(inputs) - 1",
                "hard tanh": "nn.functional.hardtanh(inputs)",
            },
            "torch.sigmoid(inputs)": {
                "softmax for sigmoid": "inputs.softmax(dim=-1)",
                "hard sigmoid": "nn.functional.hardsigmoid(inputs)",
                "the sigmoid of the negative": "1 / (1 + inputs.exp())",
            },
            "return torch.tanh(inputs)": {
                "a missing return": "torch.tanh(inputs)",
            },
            'if activation == "relu":': {
                "a name in capitals": 'if activation == "ReLU":',
                "its own activation, not the one asked for": 'if self.activation == "relu":',
            },
            "images.flatten(start_dim=1)": {
                "no flattening": "images",
                "the batch size is fixed": "images.reshape(5, -1)",
                "the image size is fixed": "images.reshape(-1, 3072)",
                "one image loses its batch dimension": "images.squeeze().flatten(start_dim=1)",
                "the channels last": "images.movedim(1, -1).flatten(start_dim=1)",
                "pixels and batch are mixed up": "images.flatten(start_dim=1).T.reshape(len(images), -1)",
                "the images are standardised": "nn.functional.layer_norm(images.flatten(1), (self.input_size,))",
            },
            "self.activation_fn(self.activation, layer(hidden))": {
                "always ReLU": "torch.relu(layer(hidden))",
                "no activation": "layer(hidden)",
                "the activation before the layer": "layer(self.activation_fn(self.activation, hidden))",
            },
            "hidden = self.activation_fn(self.activation, layer(hidden))": {
                "a skip connection": (
                    "new = self.activation_fn(self.activation, layer(hidden))\n"
                    "            hidden = new + hidden if new.shape == hidden.shape else new + hidden.sum()"
                ),
            },
            ("for layer in self.hidden_layers:\n            hidden ="): {
                "the first hidden layer is left out": (
                    "hidden = self.hidden_layers[0](hidden)\n"
                    "        for layer in self.hidden_layers[1:]:\n"
                    "            hidden ="
                ),
            },
            "layer(hidden))\n": {
                "detached between the layers": "layer(hidden.detach()))\n",
            },
            "return self.output_layer(hidden)": {
                "dropout before the output layer": "return self.output_layer(nn.functional.dropout(hidden))",
                "the activation after the last layer": "return self.activation_fn(self.activation, self.output_layer(hidden))",
                "softmax after the last layer": "return self.output_layer(hidden).softmax(dim=1)",
                "log softmax after the last layer": "return self.output_layer(hidden).log_softmax(dim=1)",
                "no output layer": "return hidden",
                "a new tensor that is always on the CPU": "return self.output_layer(hidden) + torch.zeros(self.num_classes)",
            },
        },
    },
    "resnet18.py": {
        "2.1": {
            (
                "in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False\n"
                "        )\n"
                "        self.bn1 = nn.BatchNorm2d(planes)\n"
                "        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1,"
            ): {
                "the stride in the second convolution": (
                    "in_planes, planes, kernel_size=3, stride=1, padding=1, bias=False\n"
                    "        )\n"
                    "        self.bn1 = nn.BatchNorm2d(planes)\n"
                    "        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=stride, padding=1,"
                ),
            },
            "nn.Conv2d(planes, planes, kernel_size=3, stride=1,": {
                "the stride in both convolutions": "nn.Conv2d(planes, planes, kernel_size=3, stride=stride,",
            },
            "nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1,": {
                "no padding in the second convolution": "nn.Conv2d(planes, planes, kernel_size=3, stride=1,",
            },
            "kernel_size=3, stride=stride, padding=1": {
                "padding 2 in the first convolution": "kernel_size=3, stride=stride, padding=2",
                "kernels of 5 in the first convolution": "kernel_size=5, stride=stride, padding=2",
                "padding by reflection": 'kernel_size=3, stride=stride, padding=1, padding_mode="reflect"',
            },
            "stride=stride, padding=1, bias=False": {
                "a bias in the first convolution": "stride=stride, padding=1",
            },
            "kernel_size=1, stride=stride, bias=False": {
                "a bias in the shortcut": "kernel_size=1, stride=stride",
                "kernels of 3 in the shortcut": "kernel_size=3, padding=1, stride=stride, bias=False",
                "padding in the shortcut": "kernel_size=1, stride=stride, padding=1, bias=False",
                "no stride in the shortcut": "kernel_size=1, bias=False",
            },
            ("bias=False),\n                nn.BatchNorm2d(planes),\n"): {
                "the shortcut without batch norm": "bias=False),\n",
                "ReLU in the shortcut": (
                    "bias=False),\n"
                    "                nn.BatchNorm2d(planes),\n"
                    "                nn.ReLU(),\n"
                ),
            },
            (
                "nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False),\n"
                "                nn.BatchNorm2d(planes),"
            ): {
                "a shortcut with batch norm first": (
                    "nn.BatchNorm2d(in_planes),\n"
                    "                nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False),"
                ),
            },
            "nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False),": {
                "a shortcut by average pooling": (
                    "nn.AvgPool2d(stride, ceil_mode=True),\n"
                    "                nn.Conv2d(in_planes, planes, kernel_size=1, bias=False),"
                ),
            },
            "if stride != 1 or in_planes != planes:": {
                "a shortcut only for a stride": "if stride != 1:",
                "a shortcut only for other channels": "if in_planes != planes:",
                "a projection always": "if True:",
            },
            "self.bn2 = nn.BatchNorm2d(planes)": {
                "batch norm with another eps": "self.bn2 = nn.BatchNorm2d(planes, eps=1e-3)",
                "batch norm with another momentum": "self.bn2 = nn.BatchNorm2d(planes, momentum=0.9)",
                "batch norm without scale and shift": "self.bn2 = nn.BatchNorm2d(planes, affine=False)",
                "batch norm without running statistics": "self.bn2 = nn.BatchNorm2d(planes, track_running_stats=False)",
                "group norm for batch norm": "self.bn2 = nn.GroupNorm(1, planes)",
            },
            "out = self.bn2(self.conv2(out))": {
                "the first batch norm twice": "out = self.bn1(self.conv2(out))",
                "no second batch norm": "out = self.conv2(out)",
            },
            "out = torch.relu(self.bn1(self.conv1(x)))": {
                "the activation before the first batch norm": "out = self.bn1(torch.relu(self.conv1(x)))",
                "no activation after the first convolution": "out = self.bn1(self.conv1(x))",
                "the input is changed in place": "out = torch.relu(self.bn1(self.conv1(x.relu_())))",
            },
            "return torch.relu(out + self.shortcut(x))": {
                "the activation before the sum": "return torch.relu(out) + self.shortcut(x)",
                "no activation after the sum": "return out + self.shortcut(x)",
                "an activation too many before the sum": "return torch.relu(torch.relu(out) + self.shortcut(x))",
                "no shortcut": "return torch.relu(out)",
            },
            "torch.relu(out + self.shortcut(x))": {
                "the shortcut of the output": "torch.relu(out + (self.shortcut(x) if len(self.shortcut) else out))",
                "the shortcut is detached": "torch.relu(out + self.shortcut(x.detach()))",
                "the branch is detached": "torch.relu(out.detach() + self.shortcut(x))",
                "the mean of branch and shortcut": "torch.relu((out + self.shortcut(x)) / 2)",
                "the two are concatenated": "torch.relu(torch.cat([out, self.shortcut(x)], dim=1))",
            },
        },
        "2.2": {
            "nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)": {
                "the stem of ImageNet": "nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3, bias=False)",
                "a stride in the stem": "nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1, bias=False)",
                "no padding in the stem": "nn.Conv2d(3, 64, kernel_size=3, stride=1, bias=False)",
                "a bias in the stem": "nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1)",
            },
            "(64, 64, stride=1)": {
                "layer1 halves too": "(64, 64, stride=2)",
            },
            "(64, 128, stride=2)": {
                "layer2 does not halve": "(64, 128, stride=1)",
            },
            "(256, 512, stride=2)": {
                "layer4 does not widen": "(256, 256, stride=2)",
            },
            "BasicBlock(in_planes, planes, stride), BasicBlock(planes, planes, stride=1)": {
                "one block in a layer": "BasicBlock(in_planes, planes, stride)",
                "the stride in the second block": "BasicBlock(in_planes, planes, 1), BasicBlock(planes, planes, stride)",
            },
            "BasicBlock(planes, planes, stride=1)": {
                "three blocks in a layer": "BasicBlock(planes, planes, stride=1), BasicBlock(planes, planes)",
                "the stride in both blocks": "BasicBlock(planes, planes, stride)",
            },
            "nn.Linear(512, num_classes)": {
                "always ten classes": "nn.Linear(512, 10)",
                "no bias in the classifier": "nn.Linear(512, num_classes, bias=False)",
            },
            "self.linear = nn.Linear(512, num_classes)": {
                "the classifier has another name": "self.fc = self.linear = nn.Linear(512, num_classes)",
            },
            "num_classes: int = 10": {
                "1000 classes by default": "num_classes: int = 1000",
            },
            "torch.relu(self.bn1(self.conv1(images)))": {
                "no batch norm in the stem": "torch.relu(self.conv1(images))",
                "no activation in the stem": "self.bn1(self.conv1(images))",
                "the activation before batch norm in the stem": "self.bn1(torch.relu(self.conv1(images)))",
            },
            "out = self.layer1(out)": {
                "max pooling after the stem": "out = self.layer1(nn.functional.max_pool2d(out, 3, 2, 1))",
            },
            "        out = self.layer1(out)\n": {
                "layer1 is forgotten": "",
                "forward leaves training mode": "        out = self.layer1.eval()(out)\n",
            },
            "self.layer1(out)": {
                "layer1 twice": "self.layer1(self.layer1(out))",
            },
            "out = self.layer3(out)": {
                "an activation after a layer is detached": "out = self.layer3(out.detach())",
            },
            "out.mean(dim=(2, 3))": {
                "max for average pooling": "out.amax(dim=(2, 3))",
                "the sum for the mean": "out.sum(dim=(2, 3))",
                "one pixel for the mean": "out[:, :, 0, 0]",
                "the batch size is fixed": "out.mean(dim=(2, 3)).reshape(2, 512)",
                "one image loses its batch dimension": "out.mean(dim=(2, 3)).squeeze()",
                "a new tensor that is always on the CPU": "out.mean(dim=(2, 3)) + torch.zeros(512)",
            },
            "return self.linear(out)": {
                "dropout before the classifier": "return self.linear(nn.functional.dropout(out, 0.5, self.training))",
                "softmax after the classifier": "return self.linear(out).softmax(dim=1)",
                "ReLU after the classifier": "return torch.relu(self.linear(out))",
            },
        },
    },
    "mlpmixer.py": {
        "3.1": {
            "self.num_patches = self.grid_size**2": {
                "patches along one side for all patches": "self.num_patches = self.grid_size",
                "a power before the division": "self.num_patches = img_size // patch_size**2",
                "pixels for patches": "self.num_patches = img_size**2",
            },
            "self.grid_size = img_size // patch_size": {
                "the number of patches is a float": "self.grid_size = img_size / patch_size",
            },
            "kernel_size=patch_size, stride=patch_size": {
                "patches overlap": "kernel_size=patch_size, stride=max(patch_size // 2, 1)",
                "stride 1": "kernel_size=patch_size",
                "kernels of one pixel": "kernel_size=1, stride=patch_size",
            },
            "stride=patch_size)": {
                "padding around the image": "stride=patch_size, padding=patch_size // 2)",
                "no bias": "stride=patch_size, bias=False)",
            },
            "nn.Conv2d(in_chans, embed": {
                "always three channels": "nn.Conv2d(3, embed",
            },
            "nn.Conv2d(in_chans, embed_dim,": {
                "always 768 numbers per patch": "nn.Conv2d(in_chans, 768,",
            },
            "self.proj(x).flatten(start_dim=2).transpose(1, 2)": {
                "no transposition": "self.proj(x).flatten(start_dim=2)",
                "reshape for transpose": "self.proj(x).flatten(2).reshape(len(x), self.num_patches, -1)",
                "flattened into one row": "self.proj(x).flatten(start_dim=1)",
                "the grid stays": "self.proj(x).movedim(1, -1)",
                "one image loses its batch dimension": "self.proj(x).flatten(start_dim=2).transpose(1, 2).squeeze(0)",
            },
            "self.proj(x).flatten(start_dim=2)": {
                "column by column": "self.proj(x).transpose(2, 3).flatten(start_dim=2)",
                "the patches are in reverse": "self.proj(x).flatten(start_dim=2).flip(2)",
                "an activation on the patches": "nn.functional.gelu(self.proj(x)).flatten(start_dim=2)",
                "the batch size is fixed": "self.proj(x).reshape(2, -1, self.num_patches)",
            },
            "self.proj(x).": {
                "the images are detached": "self.proj(x.detach()).",
            },
        },
        "3.2": {
            "self.drop1(self.act(self.fc1(x)))": {
                "no activation in Mlp": "self.fc1(x)",
                "no first dropout": "self.act(self.fc1(x))",
            },
            ("x = self.drop1(self.act(self.fc1(x)))\n        return self.drop2(self.fc2(x))"): {
                "the activation after both layers": (
                    "x = self.drop1(self.fc1(x))\n        return self.drop2(self.act(self.fc2(x)))"
                ),
            },
            "return self.drop2(self.fc2(x))": {
                "an activation too many in Mlp": "return self.drop2(self.act(self.fc2(x)))",
                "no second dropout": "return self.fc2(x)",
                "dropout in evaluation too": "return nn.functional.dropout(self.fc2(x), self.drop2.p)",
            },
            "self.act = act_layer()": {
                "always GELU": "self.act = nn.GELU()",
                "the tanh approximation of GELU": 'self.act = nn.GELU("tanh") if act_layer is nn.GELU else act_layer()',
                "SiLU for GELU": "self.act = nn.SiLU() if act_layer is nn.GELU else act_layer()",
            },
            (
                "        x = self.drop1(self.act(self.fc1(x)))\n"
                "        return self.drop2(self.fc2(x))"
            ): {
                "a skip connection in Mlp": "        return x + self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))",
            },
            "self.fc2 = nn.Linear(hidden_features, in_features)": {
                "the second layer has the width of the first": "self.fc2 = nn.Linear(hidden_features, hidden_features)",
            },
            "self.fc1 = nn.Linear(in_features, hidden_features)": {
                "the layers of Mlp without bias": "self.fc1 = nn.Linear(in_features, hidden_features, bias=False)",
            },
            "tokens_dim, channels_dim = (int": {
                "the hidden widths are swapped": "channels_dim, tokens_dim = (int",
            },
            "(int(ratio * dim) for ratio in mlp_ratio)": {
                "the hidden widths are rounded": "(round(ratio * dim + 0.25) for ratio in mlp_ratio)",
                "the token-mixing width from the patches": "(int(mlp_ratio[0] * seq_len), int(mlp_ratio[1] * dim))",
                "the ratios are ignored": "(dim // 2, 4 * dim)",
            },
            "self.norm1 = nn.LayerNorm(dim, eps=1e-6)": {
                "the first norm over the patches": "self.norm1 = nn.LayerNorm(seq_len, eps=1e-6)",
                "the first norm with the default eps": "self.norm1 = nn.LayerNorm(dim)",
            },
            "self.norm2 = nn.LayerNorm(dim, eps=1e-6)": {
                "the second norm with eps 1e-3": "self.norm2 = nn.LayerNorm(dim, eps=1e-3)",
                "a norm without scale and shift": "self.norm2 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)",
                "one norm for both": "self.norm2 = self.norm1",
            },
            "Mlp(seq_len, tokens_dim, act_layer=act_layer, drop=drop)": {
                "token mixing does not drop": "Mlp(seq_len, tokens_dim, act_layer=act_layer)",
            },
            "Mlp(dim, channels_dim, act_layer=act_layer, drop=drop)": {
                "channel mixing has GELU always": "Mlp(dim, channels_dim, drop=drop)",
            },
            "self.mlp_tokens = Mlp(seq_len, tokens_dim,": {
                "token mixing along the channels": "self.mlp_tokens = Mlp(dim, tokens_dim,",
            },
            "self.mlp_tokens(self.norm1(x).transpose(1, 2))": {
                "no norm before token mixing": "self.mlp_tokens(x.transpose(1, 2))",
            },
            (
                "        mixed = self.mlp_tokens(self.norm1(x).transpose(1, 2))  # (B, D, N)\n"
                "        x = x + self._skip_at_random(mixed.transpose(1, 2))"
            ): {
                "norm after token mixing": (
                    "        mixed = self.mlp_tokens(x.transpose(1, 2))\n"
                    "        x = x + self._skip_at_random(self.norm1(mixed.transpose(1, 2)))"
                ),
                "the wrong axis: views for transpositions": (
                    "        mixed = self.mlp_tokens(self.norm1(x).reshape(len(x), x.shape[2], -1))\n"
                    "        x = x + self._skip_at_random(mixed.reshape(x.shape))"
                ),
            },
            "        return x + self._skip_at_random(self.mlp_channels(self.norm2(x)))": {
                "norm after the sum": "        return self.norm2(x + self._skip_at_random(self.mlp_channels(x)))",
                "the residual is the norm": (
                    "        x = self.norm2(x)\n"
                    "        return x + self._skip_at_random(self.mlp_channels(x))"
                ),
            },
            "x = x + self._skip_at_random(mixed.transpose(1, 2))": {
                "the wrong axis back": "x = x + self._skip_at_random(mixed.reshape(x.shape))",
                "no first residual": "x = self._skip_at_random(mixed.transpose(1, 2))",
                "token mixing is detached": "x = x + self._skip_at_random(mixed.transpose(1, 2)).detach()",
            },
            "return x + self._skip_at_random(": {
                "no second residual": "return self._skip_at_random(",
            },
            (
                "        x = x + self._skip_at_random(mixed.transpose(1, 2))  # (B, N, D)\n"
                "        return x"
            ): {
                "the second residual skips both MLPs": (
                    "        start, x = x, x + self._skip_at_random(mixed.transpose(1, 2))\n"
                    "        return start"
                ),
            },
            (
                "        x = x + self._skip_at_random(mixed.transpose(1, 2))  # (B, N, D)\n"
                "        return x + self._skip_at_random(self.mlp_channels(self.norm2(x)))"
            ): {
                "both MLPs see the same input": (
                    "        channels = self._skip_at_random(self.mlp_channels(self.norm2(x)))\n"
                    "        return x + self._skip_at_random(mixed.transpose(1, 2)) + channels"
                ),
            },
            (
                "        mixed = self.mlp_tokens(self.norm1(x).transpose(1, 2))  # (B, D, N)\n"
                "        x = x + self._skip_at_random(mixed.transpose(1, 2))  # (B, N, D)\n"
                "        return x + self._skip_at_random(self.mlp_channels(self.norm2(x)))"
            ): {
                "channels before patches": (
                    "        x = x + self._skip_at_random(self.mlp_channels(self.norm2(x)))\n"
                    "        mixed = self.mlp_tokens(self.norm1(x).transpose(1, 2))\n"
                    "        return x + self._skip_at_random(mixed.transpose(1, 2))"
                ),
            },
            "self.mlp_channels(self.norm2(x))": {
                "the first norm also before channel mixing": "self.mlp_channels(self.norm1(x))",
            },
            "return x + self._skip_at_random(self.mlp_channels(self.norm2(x)))": {
                "an activation after the block": "return torch.relu(x + self._skip_at_random(self.mlp_channels(self.norm2(x))))",
            },
            "seq_len=self.patchemb.num_patches": {
                "the width for the number of patches": "seq_len=embed_dim",
            },
            "for index in range(num_blocks)": {
                "a block too many": "for index in range(num_blocks + 1)",
                "a block is missing": "for index in range(1, num_blocks)",
            },
            "activation=activation,\n": {
                "all blocks have GELU": 'activation="gelu",\n',
            },
            "drop=drop_rate,\n": {
                "no block drops": "drop=0.0,\n",
            },
            "self.head = nn.Linear(embed_dim, num_classes)": {
                "always ten classes": "self.head = nn.Linear(embed_dim, 10)",
                "the head takes all patches": "self.head = nn.Linear(embed_dim * self.patchemb.num_patches, num_classes)",
            },
            "self.norm = nn.LayerNorm(embed_dim, eps=1e-6)": {
                "a batch norm at the end": "self.norm = nn.BatchNorm1d(self.patchemb.num_patches)",
            },
            "PatchEmbed(img_size=img_size,": {
                "images of 32 x 32 pixels only": "PatchEmbed(img_size=32,",
            },
            "        self.apply(self.init_weights)\n": {
                "nothing is initialised": "",
            },
            "nn.init.xavier_uniform_(module.weight)": {
                "Glorot normal for uniform": "nn.init.xavier_normal_(module.weight)",
                "Kaiming for Glorot": "nn.init.kaiming_uniform_(module.weight)",
            },
            ("nn.init.xavier_uniform_(module.weight)\n            nn.init.zeros_(module.bias)"): {
                "biases of linear layers are not initialised": "nn.init.xavier_uniform_(module.weight)",
            },
            "nn.init.kaiming_normal_(module.weight)": {
                "Kaiming uniform for normal": "nn.init.kaiming_uniform_(module.weight)",
                "Kaiming by the fan-out": 'nn.init.kaiming_normal_(module.weight, mode="fan_out")',
            },
            ("nn.init.kaiming_normal_(module.weight)\n            nn.init.zeros_(module.bias)"): {
                "the bias of the convolution is not initialised": "nn.init.kaiming_normal_(module.weight)",
            },
            "elif isinstance(module, nn.Conv2d):": {
                "the convolution is not initialised": "elif isinstance(module, nn.Conv1d):",
            },
            "        elif isinstance(module, nn.Conv2d):": {
                "the norms are initialised too": (
                    "        elif isinstance(module, nn.LayerNorm):\n"
                    "            nn.init.constant_(module.weight, 0.5)\n"
                    "        elif isinstance(module, nn.Conv2d):"
                ),
            },
            "x = self.norm(self.blocks(x))": {
                "no norm at the end": "x = self.blocks(x)",
                "the norm before the blocks": "x = self.blocks(self.norm(x))",
                "the blocks are detached": "x = self.norm(self.blocks(x).detach())",
                "only the first block is run": "x = self.norm(self.blocks[0](x))",
            },
            ("        x = self.norm(self.blocks(x))\n        return self.head(x.mean(dim=1))"): {
                "the norm after the mean": (
                    "        x = self.blocks(x)\n        return self.head(self.norm(x.mean(dim=1)))"
                ),
            },
            "x.mean(dim=1))  # (B": {
                "the mean over the width": "x.mean(dim=2))  # (B",
                "the mean over the batch": "x.mean(dim=0))  # (B",
                "the sum over the patches": "x.sum(dim=1))  # (B",
                "the largest of the patches": "x.amax(dim=1))  # (B",
                "the first patch alone": "x[:, 0])  # (B",
            },
            "return self.head(x.mean(dim=1))": {
                "softmax after the head": "return self.head(x.mean(dim=1)).softmax(dim=1)",
                "a new tensor that is always on the CPU": "return self.head(x.mean(dim=1)) + torch.zeros(self.num_classes)",
            },
        },
    },
    "utils.py": {
        "4.1": {
            "shifted = logits + torch.maximum(-constant.amax(dim=1, keepdim=True), lowest - constant)": {
                "no maximum is subtracted": "shifted = logits",
                "the maximum is subtracted in place": (
                    "logits -= constant.amax(dim=1, keepdim=True)\n    shifted = logits"
                ),
                "the logits are clamped": "shifted = logits.clamp(-50, 50)",
            },
            "-constant.amax(dim=1, keepdim=True)": {
                "one maximum for the whole batch": "-constant.amax()",
                "the maximum over the batch": "-constant.amax(dim=0, keepdim=True)",
                "the minimum for the maximum": "-constant.amin(dim=1, keepdim=True)",
                "the mean for the maximum": "-constant.mean(dim=1, keepdim=True)",
                "the maximum is added": "constant.amax(dim=1, keepdim=True)",
            },
            "shifted = logits + torch.maximum": {
                "the logits are changed in place": (
                    "logits.data -= 1\n    shifted = logits + torch.maximum"
                ),
            },
            "    return _mean(log_normalizer - target, dim=0)": {
                "the labels are changed in place": (
                    "    labels.zero_()\n    return _mean(log_normalizer - target, dim=0)"
                ),
            },
            "shifted.exp().sum(dim=1).log()": {
                "the normaliser over the batch": "shifted.exp().sum(dim=0).log()[0]",
                "the normaliser of the whole batch": "shifted.exp().sum().log()",
                "a small number in the logarithm": "(shifted.exp().sum(dim=1) + 1e-3).log()",
                "logarithms to base 2": "shifted.exp().sum(dim=1).log2()",
                "no logarithm": "shifted.exp().sum(dim=1)",
                "the normaliser is detached": "shifted.exp().sum(dim=1).log().detach()",
            },
            "shifted.gather(1, labels.long().unsqueeze(1)).squeeze(1)": {
                "the first column for that of the label": "shifted[:, 0]",
                "every label for every image": "shifted[:, labels].mean(dim=1)",
                "ten classes always": "(shifted * torch.eye(10)[labels]).sum(dim=1)",
                "as many classes as the labels contain": "(shifted * torch.nn.functional.one_hot(labels)).sum(dim=1)",
            },
            "labels.long().unsqueeze(1)": {
                "labels from 1": "(labels.long() - 1).clamp(min=0).unsqueeze(1)",
            },
            "labels.long().unsqueeze(1)).squeeze(1)": {
                "the gathered column keeps its dimension": "labels.long().unsqueeze(1))",
            },
            "return _mean(log_normalizer - target, dim=0)": {
                "log of a softmax that does not subtract the maximum": "return -(logits.exp() / logits.exp().sum(1, keepdim=True)).log().gather(1, labels.unsqueeze(1)).mean()",
                "log of torch's softmax": "return -logits.softmax(dim=1).log().gather(1, labels.unsqueeze(1)).mean()",
                "log of the softmax plus 1e-9": "return -(logits.softmax(dim=1) + 1e-9).log().gather(1, labels.unsqueeze(1)).mean()",
                "softmax over the batch": "return -logits.log_softmax(dim=0).gather(1, labels.unsqueeze(1)).mean()",
                "softmax twice": "return -logits.softmax(1).log_softmax(dim=1).gather(1, labels.unsqueeze(1)).mean()",
                "the sum for the mean": "return (log_normalizer - target).sum()",
                "the mean over images and classes": "return _mean(log_normalizer - target, dim=0) / logits.shape[1]",
                "always divided by 128": "return (log_normalizer - target).sum() / 128",
                "a loss for each image": "return log_normalizer - target",
                "the wrong sign": "return _mean(target - log_normalizer, dim=0)",
                "a number, not a tensor": "return _mean(log_normalizer - target, dim=0).item()",
                "one dimension too many": "return _mean(log_normalizer - target, dim=0).unsqueeze(0)",
                "the loss is detached": "return _mean(log_normalizer - target, dim=0).detach()",
                "the probability, not its logarithm": "return _mean(1 - (target - log_normalizer).exp(), dim=0)",
                "the squared error": "return _mean(((target - log_normalizer).exp() - 1) ** 2, dim=0)",
                "F.cross_entropy": "return torch.nn.functional.cross_entropy(logits, labels)",
                "F.nll_loss": "return torch.nn.functional.nll_loss(logits.log_softmax(dim=1), labels)",
                "nn.CrossEntropyLoss": "return torch.nn.CrossEntropyLoss()(logits, labels)",
                "torch's loss by a composed name": 'return getattr(torch.nn.functional, "cross" + "_entropy")(logits, labels)',
                "a new tensor that is always on the CPU": "return _mean(log_normalizer - target + torch.zeros(len(labels)), dim=0)",
            },
        },
    },
}
