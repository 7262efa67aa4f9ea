"""More right submissions: other algorithms, whole files, other bytes.

Each is the text of the files that it changes; the others are the solution's. What they compute is
what the sheet asks for, and the names of the parameters are the public ones.
"""

import ast
import re

from grading import SOLUTION, edit

LINEAR = "return nn.functional.linear(input, self.weight, self.bias)"
FLATTEN = "hidden = images.flatten(start_dim=1)"
LAYERS = (
    "        for layer in self.hidden_layers:\n"
    "            hidden = self.activation_fn(self.activation, layer(hidden))\n"
    "        return self.output_layer(hidden)\n"
)
POOL = "out = out.mean(dim=(2, 3))  # (B, 512)"
PATCHES = "return self.proj(x).flatten(start_dim=2).transpose(1, 2)  # (B, D, H, W) to (B, N, D)"
MIX = (
    "        mixed = self.mlp_tokens(self.norm1(x).transpose(1, 2))  # (B, D, N)\n"
    "        x = x + self._skip_at_random(mixed.transpose(1, 2))  # (B, N, D)\n"
    "        return x + self._skip_at_random(self.mlp_channels(self.norm2(x)))\n"
)
HEAD = "return self.head(x.mean(dim=1))  # (B, D) to (B, K)"
ACTIVATION = SOLUTION["mlp.py"][
    SOLUTION["mlp.py"].index('        if activation == "relu":\n') : SOLUTION["mlp.py"].index(
        "        raise ValueError(f\"activation is {activation!r}; choose from {', '.join("
        'ACTIVATIONS)}")\n\n    def forward'
    )
]


def _mlp(*pairs: tuple[str, str]) -> dict[str, str]:
    return {"mlp.py": edit(SOLUTION["mlp.py"], *pairs)}


def _resnet18(*pairs: tuple[str, str]) -> dict[str, str]:
    return {"resnet18.py": edit(SOLUTION["resnet18.py"], *pairs)}


def _mixer(*pairs: tuple[str, str]) -> dict[str, str]:
    return {"mlpmixer.py": edit(SOLUTION["mlpmixer.py"], *pairs)}


def _utils(loss: str, accuracy: str = "return (logits.argmax(1) == labels).float().mean()"):
    """A short utils.py, with these bodies."""
    loss, accuracy = (body.strip().replace("\n", "\n    ") for body in (loss, accuracy))
    return {
        "utils.py": "import numpy as np\nimport torch\nimport torch.nn.functional as F\n\n\n"
        f"def cross_entropy_loss(logits, labels):\n    {loss}\n\n\n"
        f"def compute_accuracy(logits, labels):\n    {accuracy}\n"
    }


def _without_docstrings() -> dict[str, str]:
    """The solution without docstrings, comments, type hints of arguments and blank lines."""
    files = {}
    for name, text in SOLUTION.items():
        tree = ast.parse(text)
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                first = body[0].value
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    del body[0]
                    if not body:
                        body.append(ast.Pass())
            if isinstance(node, ast.FunctionDef):
                node.returns = None
                for argument in (*node.args.args, *node.args.kwonlyargs):
                    argument.annotation = None
        files[name] = ast.unparse(tree) + "\n"
    return files


def _renamed() -> dict[str, str]:
    """The solution with other names for all that is internal."""
    names = {
        "mlp.py": (
            "bound",
            "hidden",
            "images",
            "layer",
            "widths",
            "width_in",
            "width_out",
            "module",
        ),
        "resnet18.py": ("out", "kernels", "grey", "blocks"),
        "mlpmixer.py": ("mixed", "branch", "kept", "tokens_dim", "channels_dim", "act_layer"),
        "utils.py": ("shifted", "constant", "lowest", "target", "log_normalizer"),
    }
    public = {"act_layer": r"(?=\s*=\s*ACTIVATIONS)|(?<=act_layer=)act_layer(?=, drop)"}
    files = {}
    for name, text in SOLUTION.items():
        for word in names[name]:
            if word not in public:
                text = re.sub(rf"(?<![.\w]){word}\b(?!=\w)", f"my_{word}", text)
        files[name] = text
    return files


def _moved(text: str, first: str, second: str) -> str:
    """Exchange two pieces of a text."""
    text = edit(text, (first, "\0"), (second, "\1"))
    return text.replace("\0", second).replace("\1", first)


_STARTER_MLP = '''
import math
from collections import OrderedDict
import torch
import torch.nn as nn
import torch.nn.functional as F


class Linear(nn.Module):
    def __init__(self, in_features, out_features):
        """
            Args:
                in_features (int): size of each input sample
                out_features (int): size of each output sample
        """
        super(Linear, self).__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.randn((out_features, in_features)))
        self.bias = nn.Parameter(torch.zeros((out_features)))

    def forward(self, input):
        return torch.matmul(input, self.weight.t()) + self.bias


class MLP(torch.nn.Module):
    def __init__(self, input_size, hidden_sizes, num_classes, activation="relu"):
        super(MLP, self).__init__()
        assert len(hidden_sizes) > 1, "You should at least have one hidden layer"
        self.num_classes = num_classes
        self.activation = activation
        assert activation in ["tanh", "relu", "sigmoid"], "Invalid choice of activation"
        self.hidden_layers, self.output_layer = self._build_layers(
            input_size, hidden_sizes, num_classes)
        for layer in self.hidden_layers:
            self._initialize_linear_layer(layer)
        self._initialize_linear_layer(self.output_layer)

    def _build_layers(self, input_size, hidden_sizes, num_classes):
        layers = nn.ModuleList()
        layers.append(Linear(input_size, hidden_sizes[0]))
        for i in range(len(hidden_sizes) - 1):
            layers.append(Linear(hidden_sizes[i], hidden_sizes[i + 1]))
        output_layer = Linear(hidden_sizes[-1], num_classes)
        return layers, output_layer

    def activation_fn(self, activation, inputs):
        if activation == "relu":
            return torch.clamp(inputs, min=0)
        elif activation == "tanh":
            e = torch.exp(-2 * inputs.abs())
            return torch.sign(inputs) * (1 - e) / (1 + e)
        elif activation == "sigmoid":
            return (1 + torch.tanh(inputs / 2)) / 2

    def _initialize_linear_layer(self, module):
        fan_out, fan_in = module.weight.shape
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / (fan_in + fan_out)))
        module.bias.data.fill_(0)

    def forward(self, images):
        batch_size = images.shape[0]
        x = images.view(batch_size, -1)
        for i, layer in enumerate(self.hidden_layers):
            x = layer(x)
            x = self.activation_fn(self.activation, x)
        return self.output_layer(x)
'''

_STARTER_RESNET18 = """
import torch
import torch.nn as nn
import torch.nn.functional as F


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super(BasicBlock, self).__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        residual = x
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(residual)
        return F.relu(out)


class ResNet18(nn.Module):
    def __init__(self, num_classes=10):
        super(ResNet18, self).__init__()
        self.in_planes = 64
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._make_layer(64, 64, stride=1)
        self.layer2 = self._make_layer(64, 128, stride=2)
        self.layer3 = self._make_layer(128, 256, stride=2)
        self.layer4 = self._make_layer(256, 512, stride=2)
        self.linear = nn.Linear(512, num_classes)

    def _make_layer(self, in_planes, planes, stride):
        layers = []
        layers.append(BasicBlock(in_planes, planes, stride))
        layers.append(BasicBlock(planes, planes, 1))
        return nn.Sequential(*layers)

    def forward(self, images):
        x = F.relu(self.bn1(self.conv1(images)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = F.adaptive_avg_pool2d(x, (1, 1))
        x = torch.flatten(x, 1)
        return self.linear(x)

    def visualize(self, logdir):
        raise NotImplementedError
"""

_STARTER_MIXER = """
from torch import nn
import torch
import math


class PatchEmbed(nn.Module):
    def __init__(self, img_size, patch_size, in_chans=3, embed_dim=768):
        super().__init__()
        self.img_size = img_size
        self.patch_size = patch_size
        assert img_size % patch_size == 0, "img_size must be divisible by patch_size"
        self.grid_size = img_size // patch_size
        self.num_patches = self.grid_size * self.grid_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x):
        _, _, H, W = x.shape
        assert H == self.img_size and W == self.img_size
        x = self.proj(x)
        b, d, h, w = x.shape
        return x.permute(0, 2, 3, 1).reshape(b, h * w, d)


class Mlp(nn.Module):
    def __init__(self, in_features, hidden_features, act_layer=nn.GELU, drop=0.):
        super(Mlp, self).__init__()
        out_features = in_features
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_features, out_features)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x):
        x = self.fc1(x)
        x = self.act(x)
        x = self.drop1(x)
        x = self.fc2(x)
        x = self.drop2(x)
        return x


class MixerBlock(nn.Module):
    def __init__(self, dim, seq_len, mlp_ratio=(0.5, 4.0), activation="gelu", drop=0.,
                 drop_path=0.):
        super(MixerBlock, self).__init__()
        act_layer = {"gelu": nn.GELU, "relu": nn.ReLU}[activation]
        tokens_dim, channels_dim = int(mlp_ratio[0] * dim), int(mlp_ratio[1] * dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_tokens = Mlp(seq_len, tokens_dim, act_layer=act_layer, drop=drop)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_channels = Mlp(dim, channels_dim, act_layer=act_layer, drop=drop)

    def forward(self, x):
        y = self.norm1(x)
        y = y.permute(0, 2, 1)
        y = self.mlp_tokens(y)
        y = y.permute(0, 2, 1)
        x = x + y
        y = self.norm2(x)
        y = self.mlp_channels(y)
        return x + y


class MLPMixer(nn.Module):
    def __init__(self, num_classes, img_size, patch_size, embed_dim, num_blocks,
                 drop_rate=0., activation="gelu"):
        super(MLPMixer, self).__init__()
        self.patchemb = PatchEmbed(img_size=img_size, patch_size=patch_size, in_chans=3,
                                   embed_dim=embed_dim)
        self.blocks = nn.Sequential(*[
            MixerBlock(dim=embed_dim, seq_len=self.patchemb.num_patches, activation=activation,
                       drop=drop_rate)
            for _ in range(num_blocks)])
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        self.num_classes = num_classes
        self.apply(self.init_weights)

    def init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, images):
        x = self.patchemb(images)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        x = torch.mean(x, dim=1)
        x = self.head(x)
        return x

    def visualize(self, logdir):
        raise NotImplementedError
"""

_STARTER_UTILS = """
import os
import json
import random
import numpy as np
import torch
import matplotlib.pyplot as plt


def seed_experiment(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def to_device(tensors, device):
    return [tensor.to(device) for tensor in tensors]


def cross_entropy_loss(logits, labels):
    max_logits, _ = torch.max(logits, dim=1, keepdim=True)
    shifted = logits - max_logits
    log_probs = shifted - torch.log(torch.sum(torch.exp(shifted), dim=1, keepdim=True))
    return -log_probs[range(len(labels)), labels].mean()


def compute_accuracy(logits, labels):
    preds = torch.argmax(logits, dim=1)
    correct = (preds == labels).sum()
    return correct.float() / labels.shape[0]
"""

STARTER = {
    "mlp.py": _STARTER_MLP,
    "resnet18.py": _STARTER_RESNET18,
    "mlpmixer.py": _STARTER_MIXER,
    "utils.py": _STARTER_UTILS,
}

_SEQUENTIAL_MLP = """
import torch
from torch import nn


class Linear(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.bias = nn.Parameter(torch.rand(out_features) - 0.5)
        self.weight = nn.Parameter(torch.rand(out_features, in_features) - 0.5)

    def forward(self, x):
        return (self.weight @ x.unsqueeze(-1)).squeeze(-1) + self.bias


class MLP(nn.Module):
    def __init__(self, input_size, hidden_sizes, num_classes, activation="relu"):
        super().__init__()
        self.activation = activation
        hidden, out = self._build_layers(input_size, hidden_sizes, num_classes)
        self.output_layer = out  # before the hidden layers
        self.hidden_layers = hidden
        for module in self.modules():
            if isinstance(module, Linear):
                self._initialize_linear_layer(module)

    def _build_layers(self, input_size, hidden_sizes, num_classes):
        sizes = list(hidden_sizes)
        pairs = zip([input_size] + sizes, sizes)
        return nn.ModuleList([Linear(a, b) for a, b in pairs]), Linear(sizes[-1], num_classes)

    def _initialize_linear_layer(self, module):
        with torch.no_grad():
            std = (2 / sum(module.weight.shape)) ** 0.5
            module.weight.copy_(torch.randn_like(module.weight) * std)
            module.bias.zero_()

    def activation_fn(self, activation, inputs):
        return {"relu": nn.ReLU(), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()}[activation](inputs)

    def forward(self, images):
        layers = [nn.Flatten()]
        act = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[self.activation]
        for layer in self.hidden_layers:
            layers += [layer, act()]
        return nn.Sequential(*layers, self.output_layer)(images)
"""

_SUBCLASS_OF_BASE = '''
import torch
import torch.nn.functional as F
from torch import nn


class Base(nn.Module):
    """What all classes of this file share."""

    def weights(self):
        return dict(self.named_parameters())


class Linear(Base):
    __constants__ = ["in_features", "out_features"]
    in_features: int
    out_features: int

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_parameter("weight", nn.Parameter(torch.randn(out_features, in_features)))
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_features)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        nn.init.zeros_(self.bias)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return F.linear(input, **self.weights())


class MLP(Base):
    def __init__(self, input_size, hidden_sizes, num_classes, activation="relu"):
        super().__init__()
        self.activation = activation
        (self.hidden_layers, self.output_layer) = self._build_layers(
            input_size, hidden_sizes, num_classes
        )
        self.hidden_layers.apply(self._initialize_linear_layer)
        self.output_layer.apply(self._initialize_linear_layer)

    def _build_layers(self, input_size, hidden_sizes, num_classes):
        hidden_layers = nn.ModuleList([])
        for size in hidden_sizes:
            hidden_layers.append(Linear(input_size, size))
            input_size = size
        return hidden_layers, Linear(input_size, num_classes)

    def _initialize_linear_layer(self, module):
        if isinstance(module, Linear):
            module.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty_like(module.weight)))
            module.bias = nn.Parameter(torch.zeros_like(module.bias))

    def activation_fn(self, activation, inputs):
        return getattr(torch, activation)(inputs)

    def forward(self, images):
        x = images.reshape(len(images), -1)
        for layer in self.hidden_layers:
            x = self.activation_fn(self.activation, layer(x))
        return self.output_layer(x)
'''

_PRE_SUM = "        return torch.relu(out + self.shortcut(x))\n"
_CONVS = """        self.conv1 = nn.Conv2d(
            in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(planes)
"""
_FC2 = "        self.fc2 = nn.Linear(hidden_features, in_features)\n"
_FC1 = "        self.fc1 = nn.Linear(in_features, hidden_features)\n"
_NORM1 = "        self.norm1 = nn.LayerNorm(dim, eps=1e-6)\n"
_NORM2 = "        self.norm2 = nn.LayerNorm(dim, eps=1e-6)\n"

REWRITTEN: dict[str, dict[str, str | bytes]] = {
    # ------------------------------------------------------------------------------ mlp.py
    "addmm": _mlp((LINEAR, "return torch.addmm(self.bias, input, self.weight.t())")),
    "einsum": _mlp(
        (LINEAR, 'return torch.einsum("...i,oi->...o", input, self.weight) + self.bias')
    ),
    "matmul with T": _mlp((LINEAR, "return input @ self.weight.T + self.bias")),
    "a sum of products": _mlp(
        (LINEAR, "return (input.unsqueeze(-2) * self.weight).sum(-1).add(self.bias)")
    ),
    "a loop over the units": _mlp(
        (
            LINEAR,
            "return torch.stack([(input * w).sum(-1) + b for w, b in zip(self.weight, self.bias)], "
            "dim=-1)",
        )
    ),
    "added in place": _mlp(
        (LINEAR, "out = input.matmul(self.weight.transpose(0, 1))\n        out += self.bias"),
        ("out += self.bias\n", "out += self.bias\n        return out\n"),
    ),
    "reshape": _mlp((FLATTEN, "hidden = images.reshape(images.size(0), -1)")),
    "view": _mlp((FLATTEN, "hidden = images.contiguous().view(len(images), self.input_size)")),
    "the last layer in the loop": _mlp(
        (
            LAYERS,
            "        layers = [*self.hidden_layers, self.output_layer]\n"
            "        for number, layer in enumerate(layers):\n"
            "            hidden = layer(hidden)\n"
            "            if number < len(layers) - 1:\n"
            "                hidden = self.activation_fn(self.activation, hidden)\n"
            "        return hidden\n",
        )
    ),
    "activations in place": _mlp(
        (
            ACTIVATION,
            '        if activation == "relu":\n'
            "            return nn.functional.relu(inputs, inplace=True)\n"
            '        if activation == "tanh":\n'
            "            return inputs.tanh_()\n"
            '        if activation == "sigmoid":\n'
            "            return inputs.sigmoid_()\n",
        )
    ),
    "activations by hand": _mlp(
        (
            ACTIVATION,
            '        if activation == "relu":\n'
            "            return torch.where(inputs > 0, inputs, torch.zeros_like(inputs))\n"
            '        if activation == "tanh":\n'
            "            return 2 * torch.sigmoid(2 * inputs) - 1\n"
            '        if activation == "sigmoid":\n'
            "            return torch.special.expit(inputs)\n",
        )
    ),
    "Glorot by hand": _mlp(
        (
            "nn.init.xavier_normal_(module.weight)",
            "module.weight.data = torch.randn(module.weight.shape) * math.sqrt(\n"
            "            2 / (module.in_features + module.out_features)\n        )",
        )
    ),
    "nn.Sequential": {"mlp.py": _SEQUENTIAL_MLP},
    "a base class and register_parameter": {"mlp.py": _SUBCLASS_OF_BASE},
    # ------------------------------------------------------------------------- resnet18.py
    "relu in place": _resnet18(
        (_PRE_SUM, "        out += self.shortcut(x)\n        return out.relu_()\n")
    ),
    "functional relu and a branch": _resnet18(
        (
            _PRE_SUM,
            "        residual = x\n        if len(self.shortcut) > 0:\n"
            "            residual = self.shortcut(x)\n"
            "        return nn.functional.relu(torch.add(residual, out))\n",
        )
    ),
    "adaptive pooling": _resnet18(
        (POOL, "out = nn.functional.adaptive_avg_pool2d(out, 1).flatten(1)")
    ),
    "pooling over the whole map": _resnet18(
        (POOL, "out = nn.functional.avg_pool2d(out, out.shape[2:])[:, :, 0, 0]")
    ),
    "two means": _resnet18((POOL, "out = out.mean(-1).mean(-1)")),
    "a pooling layer and an identity": _resnet18(
        (
            "        self.linear = nn.Linear",
            "        self.pool = nn.AdaptiveAvgPool2d((1, 1))\n        self.linear = nn.Linear",
        ),
        (POOL, "out = self.pool(out).squeeze(-1).squeeze(-1)"),
        (
            "        self.shortcut = nn.Sequential()\n",
            "        self.shortcut = nn.Sequential(nn.Identity())\n",
        ),
    ),
    "the shortcut first": _resnet18(
        (
            _CONVS,
            "        self.shortcut = nn.Sequential()\n"
            "        if stride != 1 or in_planes != planes:\n"
            "            self.shortcut = nn.Sequential(\n"
            "                nn.Conv2d(in_planes, planes, 1, stride, bias=False),\n"
            "                nn.BatchNorm2d(planes),\n"
            "            )\n"
            "        self.bn1 = nn.BatchNorm2d(planes)\n"
            "        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, padding=1, bias=False)\n",
        ),
        (
            "        self.shortcut = nn.Sequential()\n"
            "        if stride != 1 or in_planes != planes:\n"
            "            self.shortcut = nn.Sequential(\n"
            "                nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, "
            "bias=False),\n"
            "                nn.BatchNorm2d(planes),\n"
            "            )\n",
            "",
        ),
    ),
    "batch norm by its function": _resnet18(
        (
            "out = self.bn2(self.conv2(out))",
            "out = nn.functional.batch_norm(\n"
            "            self.conv2(out), self.bn2.running_mean, self.bn2.running_var, "
            "self.bn2.weight,\n            self.bn2.bias, self.training, self.bn2.momentum, "
            "self.bn2.eps\n        )",
        )
    ),
    "convolution by its function": _resnet18(
        (
            "out = torch.relu(self.bn1(self.conv1(x)))\n        out = self.bn2",
            "out = nn.functional.conv2d(\n            x, self.conv1.weight, "
            "stride=self.conv1.stride, padding=1\n        )\n"
            "        out = torch.relu(self.bn1(out))\n        out = self.bn2",
        )
    ),
    # ------------------------------------------------------------------------- mlpmixer.py
    "permute": _mixer((PATCHES, "return self.proj(x).flatten(2).permute(0, 2, 1)")),
    "movedim": _mixer((PATCHES, "return self.proj(x).movedim(1, -1).flatten(1, 2)")),
    "einsum of patches": _mixer(
        (PATCHES, 'return torch.einsum("bdhw->bhwd", self.proj(x)).flatten(1, 2)')
    ),
    "patches by hand": _mixer(
        (
            PATCHES,
            "b, c, g, p = len(x), x.shape[1], self.grid_size, self.patch_size\n"
            "        x = x.reshape(b, c, g, p, g, p).permute(0, 2, 4, 1, 3, 5)\n"
            "        x = x.reshape(b, g * g, c * p * p)\n"
            "        return x @ self.proj.weight.flatten(1).T + self.proj.bias",
        )
    ),
    "unfold": _mixer(
        (
            PATCHES,
            "x = nn.functional.unfold(x, self.patch_size, stride=self.patch_size).mT\n"
            "        return nn.functional.linear(x, self.proj.weight.flatten(1), self.proj.bias)",
        )
    ),
    "a loop over the patches": _mixer(
        (
            PATCHES,
            "p, patches = self.patch_size, []\n"
            "        for i in range(self.grid_size):\n"
            "            for j in range(self.grid_size):\n"
            "                patch = x[:, :, i * p : (i + 1) * p, j * p : (j + 1) * p]\n"
            "                patches.append(self.proj(patch)[:, :, 0, 0])\n"
            "        return torch.stack(patches, dim=1)",
        )
    ),
    "swapaxes": _mixer(
        (
            MIX,
            "        x = x + self.mlp_tokens(self.norm1(x).swapaxes(-1, -2)).swapaxes(-1, -2)\n"
            "        return x + self.mlp_channels(self.norm2(x))\n",
        )
    ),
    "einsum of tokens": _mixer(
        (
            MIX,
            "        t = self.mlp_tokens\n"
            '        y = torch.einsum("bnd,hn->bhd", self.norm1(x), t.fc1.weight)\n'
            "        y = t.drop1(t.act(y + t.fc1.bias[:, None]))\n"
            '        y = torch.einsum("bhd,nh->bnd", y, t.fc2.weight) + t.fc2.bias[:, None]\n'
            "        x = x + t.drop2(y)\n"
            "        return x + self.mlp_channels(self.norm2(x))\n",
        )
    ),
    "layer norm by hand": _mixer(
        (
            MIX,
            "        def norm(layer, x):\n"
            "            x = x - x.mean(-1, keepdim=True)\n"
            "            variance = x.pow(2).mean(-1, keepdim=True)\n"
            "            return x / torch.sqrt(variance + 1e-6) * layer.weight + layer.bias\n\n"
            "        x = x + self.mlp_tokens(norm(self.norm1, x).mT).mT\n"
            "        return x + self.mlp_channels(norm(self.norm2, x))\n",
        )
    ),
    "GELU by its formula": _mixer(
        (
            "x = self.drop1(self.act(self.fc1(x)))",
            "x = self.fc1(x)\n"
            "        if isinstance(self.act, nn.GELU):\n"
            "            x = x * (1 + torch.erf(x / 2**0.5)) / 2\n"
            "        else:\n            x = self.act(x)\n        x = self.drop1(x)",
        )
    ),
    "other order in the Mixer": {
        "mlpmixer.py": _moved(_moved(SOLUTION["mlpmixer.py"], _FC1, _FC2), _NORM1, _NORM2)
    },
    "pooling of the patches": _mixer(
        (HEAD, "return self.head(nn.functional.adaptive_avg_pool1d(x.mT, 1).squeeze(-1))")
    ),
    "the head before the mean": _mixer((HEAD, "return self.head(x).mean(dim=1)")),
    # ---------------------------------------------------------------------------- utils.py
    "logsumexp": _utils(
        "return (torch.logsumexp(logits, 1) - logits[torch.arange(len(labels)), labels]).mean()"
    ),
    "log_softmax and gather": _utils(
        "return -F.log_softmax(logits, dim=1).gather(1, labels.view(-1, 1)).mean()",
        "return (logits.max(dim=1).indices == labels).sum() / len(labels)",
    ),
    "one-hot": _utils(
        "one_hot = F.one_hot(labels, logits.shape[1])\n"
        "return -(one_hot * torch.log_softmax(logits, -1)).sum(1).mean()",
        "return torch.eq(torch.argmax(logits, 1), labels).double().mean()",
    ),
    "scatter": _utils(
        "one_hot = torch.zeros_like(logits).scatter_(1, labels.unsqueeze(1), 1.0)\n"
        "return -(one_hot * torch.log_softmax(logits, 1)).sum() / logits.size(0)"
    ),
    "a loop over the batch": _utils(
        "losses = []\nfor row, label in zip(logits, labels):\n"
        "    row = row - row.max()\n"
        "    losses.append(torch.log(torch.exp(row).sum()) - row[label])\n"
        "return sum(losses) / len(losses)",
        "right = 0\nfor row, label in zip(logits, labels):\n"
        "    right += int(row.argmax() == label)\nreturn right / len(labels)",
    ),
    "a matrix of the batch": _utils(
        "table = logits.log_softmax(1)[:, labels]\nreturn -table.diagonal().mean()",
        "return np.mean(logits.detach().cpu().numpy().argmax(1) == labels.cpu().numpy())",
    ),
    "logaddexp": _utils(
        "total = logits[:, 0]\nfor column in logits.T[1:]:\n"
        "    total = torch.logaddexp(total, column)\n"
        "return torch.mean(total - torch.take_along_dim(logits, labels[:, None], 1)[:, 0])"
    ),
    "differences of logits": _utils(
        "own = logits.gather(1, labels[:, None])\n"
        "return torch.logsumexp(logits - own, dim=1).mean()"
    ),
    "names like those of the built-ins": _utils(
        "cross_entropy = -F.log_softmax(logits, 1)[torch.arange(len(labels)), labels]\n"
        "nll_loss = cross_entropy.mean()\nreturn nll_loss"
    ),
    # ------------------------------------------------------------------------ whole files
    "the course's starter": STARTER,
    "without docstrings and hints": _without_docstrings(),
    "other names inside": _renamed(),
    "line ends of Windows and a byte order mark": {
        name: b"\xef\xbb\xbf" + SOLUTION[name].replace("\n", "\r\n").encode()
        for name in ("mlp.py", "utils.py")
    },
    "tabs": {
        name: re.sub(r"(?m)^( {4})+", lambda found: "\t" * (len(found[0]) // 4), text)
        for name, text in STARTER.items()
        if name in ("mlp.py", "utils.py")
    },
    "another encoding": {
        "utils.py": "# -*- coding: latin-1 -*-\n# Problème 4.1\n".encode("latin-1")
        + _STARTER_UTILS.encode()
    },
    "a main part": {
        "utils.py": _STARTER_UTILS + '\n\nif __name__ == "__main__":\n    print(input("Name? "))\n'
    },
    "imports among the files": {
        "mlpmixer.py": "from utils import compute_accuracy\nfrom mlp import MLP\n" + _STARTER_MIXER,
        "mlp.py": "from utils import *\n" + _STARTER_MLP,
    },
}
