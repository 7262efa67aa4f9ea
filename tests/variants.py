"""Right submissions that are written differently: none of them may lose a point.

A variant is the solution with some pieces changed, each of which occurs once in its file. ``STARTER``
is a whole submission, in the style of the course's own template and with what that leaves open.
"""

# ruff: noqa: E501

AFFINE = "return nn.functional.linear(input, self.weight, self.bias)"
DRAW = "nn.init.xavier_normal_(module.weight)"
ZERO = "nn.init.zeros_(module.bias)\n\n    def activation_fn"
BUILD = """        hidden_layers = nn.ModuleList(
            Linear(width_in, width_out) for width_in, width_out in pairwise(widths)
        )
"""
ACTIVATE = "hidden = self.activation_fn(self.activation, layer(hidden))"
RELU, TANH = "return torch.relu(inputs)", "return torch.tanh(inputs)"
SIGMOID = "return torch.sigmoid(inputs)"
FLATTEN = "hidden = images.flatten(start_dim=1)"
BLOCK = """        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + self.shortcut(x))
"""
SHORTCUT = """        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, kernel_size=1, stride=stride, bias=False),
                nn.BatchNorm2d(planes),
            )
"""
CONV1 = """        self.conv1 = nn.Conv2d(
            in_planes, planes, kernel_size=3, stride=stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(planes)
"""
CONV2 = """        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
"""
POOL = "out = out.mean(dim=(2, 3))"
PATCHES = "return self.proj(x).flatten(start_dim=2).transpose(1, 2)"
MLP_FORWARD = """        x = self.drop1(self.act(self.fc1(x)))
        return self.drop2(self.fc2(x))
"""
MIX = """        mixed = self.mlp_tokens(self.norm1(x).transpose(1, 2))  # (B, D, N)
        x = x + self._skip_at_random(mixed.transpose(1, 2))  # (B, N, D)
        return x + self._skip_at_random(self.mlp_channels(self.norm2(x)))
"""
HEAD = "return self.head(x.mean(dim=1))"
NORMALIZER = "log_normalizer = shifted.exp().sum(dim=1).log()"
TARGET = "target = shifted.gather(1, labels.long().unsqueeze(1)).squeeze(1)"
MEAN = "return _mean(log_normalizer - target, dim=0)"
ACCURACY = "return (logits.argmax(dim=1) == labels).float().mean()"

# Name: file, and pairs of what the solution has and what this variant has in its place.
VARIANTS = {
    "affine map by matmul": ("mlp.py", [(AFFINE, "return input @ self.weight.t() + self.bias")]),
    "affine map by einsum": (
        "mlp.py",
        [(AFFINE, 'return torch.einsum("...i,oi->...o", input, self.weight) + self.bias')],
    ),
    "affine map by addmm": (
        "mlp.py",
        [
            (
                AFFINE,
                "flat = input.reshape(-1, input.shape[-1])\n"
                "        out = torch.addmm(self.bias, flat, self.weight.T)\n"
                "        return out.view(*input.shape[:-1], -1)",
            )
        ],
    ),
    "affine map by a sum of products": (
        "mlp.py",
        [(AFFINE, "return (input.unsqueeze(-2) * self.weight).sum(dim=-1).add(self.bias)")],
    ),
    "Glorot by hand": (
        "mlp.py",
        [
            (
                DRAW,
                "fan_out, fan_in = module.weight.shape\n"
                "        with torch.no_grad():\n"
                "            module.weight.normal_(0, math.sqrt(2 / (fan_in + fan_out)))",
            ),
            (ZERO, ZERO.replace("nn.init.zeros_(module.bias)", "module.bias.data.fill_(0.0)")),
        ],
    ),
    "layers appended in a loop": (
        "mlp.py",
        [
            (
                BUILD,
                "        hidden_layers = nn.ModuleList()\n"
                "        for i in range(len(hidden_sizes)):\n"
                "            hidden_layers.append(Linear(widths[i], widths[i + 1]))\n",
            )
        ],
    ),
    "activations from nn": (
        "mlp.py",
        [
            (RELU, "return nn.ReLU()(inputs)"),
            (TANH, "return nn.Tanh()(inputs)"),
            (SIGMOID, "return nn.Sigmoid()(inputs)"),
        ],
    ),
    "activations from their formulas": (
        "mlp.py",
        [
            (RELU, "return inputs.clamp(min=0)"),
            (TANH, "return 2 * torch.sigmoid(2 * inputs) - 1"),
            (SIGMOID, "return (1 + torch.tanh(inputs / 2)) / 2"),
        ],
    ),
    "images flattened by view, in-place ReLU": (
        "mlp.py",
        [
            (FLATTEN, "hidden = images.contiguous().view(images.size(0), -1)"),
            (RELU, "return nn.functional.relu(inputs, inplace=True)"),
        ],
    ),
    "layers applied by index": (
        "mlp.py",
        [
            ("for layer in self.hidden_layers:", "for i in range(len(self.hidden_layers)):"),
            (
                ACTIVATE,
                "hidden = self.activation_fn(self.activation, self.hidden_layers[i](hidden))",
            ),
        ],
    ),
    "block with in-place ReLU and sum": (
        "resnet18.py",
        [
            (
                BLOCK,
                "        identity = self.shortcut(x)\n"
                "        out = nn.functional.relu(self.bn1(self.conv1(x)), inplace=True)\n"
                "        out = self.bn2(self.conv2(out))\n"
                "        out += identity\n"
                "        return nn.functional.relu(out, inplace=True)\n",
            )
        ],
    ),
    "block with its members in another order": (
        "resnet18.py",
        [
            (CONV1, SHORTCUT + CONV2),
            (CONV2 + "        self.shortcut", CONV1 + "        self.shortcut"),
        ],
    ),
    "block with a condition for the shortcut": (
        "resnet18.py",
        [
            (
                BLOCK,
                "        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))\n"
                "        if len(self.shortcut) > 0:\n"
                "            x = self.shortcut(x)\n"
                "        return torch.maximum(out + x, torch.zeros_like(x))\n",
            )
        ],
    ),
    "pooling by adaptive_avg_pool2d": (
        "resnet18.py",
        [(POOL, "out = nn.functional.adaptive_avg_pool2d(out, 1).flatten(1)")],
    ),
    "pooling for 32 x 32 pixels": (
        "resnet18.py",
        [(POOL, "out = nn.functional.avg_pool2d(out, 4).flatten(1)")],
    ),
    "pooling by avg_pool2d": (
        "resnet18.py",
        [
            (
                POOL,
                "out = nn.functional.avg_pool2d(out, out.shape[2:])\n"
                "        out = out.view(out.size(0), -1)",
            )
        ],
    ),
    "patches by permute": (
        "mlpmixer.py",
        [
            (
                PATCHES,
                "x = self.proj(x)\n"
                "        b, d = x.shape[:2]\n"
                "        return x.permute(0, 2, 3, 1).reshape(b, self.num_patches, d)",
            )
        ],
    ),
    "patches cut by unfold and a linear map": (
        "mlpmixer.py",
        [
            (
                PATCHES,
                "cut = nn.functional.unfold(x, self.patch_size, stride=self.patch_size)\n"
                "        weight = self.proj.weight.flatten(1)\n"
                "        return cut.transpose(1, 2) @ weight.T + self.proj.bias",
            )
        ],
    ),
    "patches rearranged by hand": (
        "mlpmixer.py",
        [
            (
                PATCHES,
                "b, c, g, p = x.shape[0], x.shape[1], self.grid_size, self.patch_size\n"
                "        x = x.reshape(b, c, g, p, g, p).permute(0, 2, 4, 1, 3, 5)\n"
                "        x = x.reshape(b, g * g, c * p * p)\n"
                "        return nn.functional.linear(x, self.proj.weight.flatten(1), self.proj.bias)",
            )
        ],
    ),
    "mixer MLP by a Sequential": (
        "mlpmixer.py",
        [
            (
                MLP_FORWARD,
                "        steps = (self.fc1, self.act, self.drop1, self.fc2, self.drop2)\n"
                "        return nn.Sequential(*steps)(x)\n",
            )
        ],
    ),
    "mixing by einsum": (
        "mlpmixer.py",
        [
            (
                MIX,
                "        y = self.norm1(x)\n"
                "        t = self.mlp_tokens\n"
                '        y = torch.einsum("bnd,tn->bdt", y, t.fc1.weight) + t.fc1.bias\n'
                "        y = t.drop1(t.act(y))\n"
                '        y = torch.einsum("bdt,nt->bnd", y, t.fc2.weight)\n'
                "        x = x + t.drop2(y + t.fc2.bias[None, :, None])\n"
                "        return x + self.mlp_channels(self.norm2(x))\n",
            )
        ],
    ),
    "mixing by permute, without drop path": (
        "mlpmixer.py",
        [
            (
                MIX,
                "        residual = x\n"
                "        out = self.norm1(x).permute(0, 2, 1)\n"
                "        out = self.mlp_tokens(out).permute(0, 2, 1) + residual\n"
                "        return self.mlp_channels(self.norm2(out)) + out\n",
            )
        ],
    ),
    "blocks applied in a loop, mean by sum": (
        "mlpmixer.py",
        [
            (
                "x = self.norm(self.blocks(x))",
                "for block in self.blocks:\n            x = block(x)\n        x = self.norm(x)",
            ),
            (HEAD, "return self.head(x.sum(dim=1) / x.shape[1])"),
        ],
    ),
    "loss by logsumexp": (
        "utils.py",
        [
            (NORMALIZER, "log_normalizer = torch.logsumexp(shifted, dim=1)"),
            (MEAN, "return (log_normalizer - target).mean()"),
        ],
    ),
    "loss by log_softmax and indexing": (
        "utils.py",
        [
            (NORMALIZER, "log_p = torch.log_softmax(logits, dim=1)"),
            (TARGET, "rows = torch.arange(len(labels), device=labels.device)"),
            (MEAN, "return -log_p[rows, labels].mean()"),
            ("        target = (1 - label_smoothing) * target", "        target ="),
        ],
    ),
    "loss by one-hot labels": (
        "utils.py",
        [
            (
                TARGET,
                "one_hot = torch.nn.functional.one_hot(labels, logits.shape[1])\n"
                "    target = (one_hot * shifted).sum(dim=1)",
            ),
        ],
    ),
    "loss image by image": (
        "utils.py",
        [
            (
                MEAN,
                "losses = [torch.logsumexp(row, 0) - row[k] for row, k in zip(logits, labels)]\n"
                "    return sum(losses) / len(losses)",
            )
        ],
    ),
    "accuracy as a number of Python": (
        "utils.py",
        [(ACCURACY, "return (logits.max(1)[1] == labels).sum().item() / labels.size(0)")],
    ),
}

STARTER = {
    "mlp.py": """
import torch
import torch.nn as nn
from typing import List, Tuple


class Linear(nn.Module):
    def __init__(self, in_features, out_features):
        super(Linear, self).__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, input):
        output = input.matmul(self.weight.transpose(0, 1)) + self.bias
        return output


class MLP(torch.nn.Module):
    def __init__(self, input_size: int, hidden_sizes: List[int], num_classes: int, activation: str = "relu"):
        super(MLP, self).__init__()
        self.input_size = input_size
        self.num_classes = num_classes
        assert len(hidden_sizes) > 1, "You should at least have one hidden layer"
        self.hidden_sizes = hidden_sizes
        self.activation = activation
        assert activation in ["tanh", "relu", "sigmoid"], "Invalid choice of activation"
        self.hidden_layers, self.output_layer = self._build_layers(input_size, hidden_sizes, num_classes)
        for layer in self.hidden_layers:
            self._initialize_linear_layer(layer)
        self._initialize_linear_layer(self.output_layer)

    def _build_layers(self, input_size, hidden_sizes, num_classes) -> Tuple[nn.ModuleList, nn.Module]:
        layers = [Linear(input_size, hidden_sizes[0])]
        for a, b in zip(hidden_sizes[:-1], hidden_sizes[1:]):
            layers.append(Linear(a, b))
        return nn.ModuleList(layers), Linear(hidden_sizes[-1], num_classes)

    def activation_fn(self, activation, inputs):
        activations = {"relu": torch.nn.functional.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
        return activations[activation](inputs)

    def _initialize_linear_layer(self, module):
        torch.nn.init.constant_(module.bias, 0)
        torch.nn.init.xavier_normal_(module.weight, gain=1.0)

    def forward(self, images):
        x = images.reshape(images.shape[0], -1)
        for hidden in self.hidden_layers:
            x = self.activation_fn(self.activation, hidden(x))
        return self.output_layer(x)
""",
    "resnet18.py": """
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
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self, num_classes=10):
        super(ResNet18, self).__init__()
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
        out = F.relu(self.bn1(self.conv1(images)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        out = F.adaptive_avg_pool2d(out, (1, 1)).squeeze(-1).squeeze(-1)
        return self.linear(out)

    def visualize(self, logdir):
        raise NotImplementedError
""",
    "mlpmixer.py": """
import torch
from torch import nn


class PatchEmbed(nn.Module):
    def __init__(self, img_size, patch_size, in_chans=3, embed_dim=768):
        super(PatchEmbed, self).__init__()
        assert img_size % patch_size == 0
        self.img_size = img_size
        self.patch_size = patch_size
        self.grid_size = (img_size // patch_size)
        self.num_patches = self.grid_size * self.grid_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x):
        _, _, H, W = x.shape
        assert H == self.img_size, "wrong image size"
        x = torch.flatten(self.proj(x), 2)
        return x.swapaxes(1, 2)


class Mlp(nn.Module):
    def __init__(self, in_features, hidden_features, act_layer=nn.GELU, drop=0.):
        super(Mlp, self).__init__()
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_features, in_features)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x):
        x = self.fc1(x)
        x = self.act(x)
        x = self.drop1(x)
        x = self.fc2(x)
        x = self.drop2(x)
        return x


class MixerBlock(nn.Module):
    def __init__(self, dim, seq_len, mlp_ratio=(0.5, 4.0), activation="gelu", drop=0., drop_path=0.):
        super(MixerBlock, self).__init__()
        act_layer = {"gelu": nn.GELU, "relu": nn.ReLU}[activation]
        tokens_dim, channels_dim = int(mlp_ratio[0] * dim), int(mlp_ratio[1] * dim)
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_tokens = Mlp(seq_len, tokens_dim, act_layer=act_layer, drop=drop)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_channels = Mlp(dim, channels_dim, act_layer=act_layer, drop=drop)

    def forward(self, x):
        y = self.norm1(x)
        y = torch.transpose(y, 1, 2)
        y = self.mlp_tokens(y)
        y = torch.transpose(y, 1, 2)
        x = x + y
        y = self.norm2(x)
        return x + self.mlp_channels(y)


class MLPMixer(nn.Module):
    def __init__(self, num_classes, img_size, patch_size, embed_dim, num_blocks, drop_rate=0., activation="gelu"):
        super(MLPMixer, self).__init__()
        self.patchemb = PatchEmbed(img_size=img_size, patch_size=patch_size, in_chans=3, embed_dim=embed_dim)
        self.blocks = nn.Sequential(*[
            MixerBlock(dim=embed_dim, seq_len=self.patchemb.num_patches, activation=activation, drop=drop_rate)
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
        x = self.blocks(x)
        x = self.norm(x)
        x = torch.mean(x, 1)
        return self.head(x)

    def visualize(self, logdir):
        raise NotImplementedError
""",
    "utils.py": """
import torch


def compute_accuracy(logits: torch.Tensor, labels: torch.Tensor):
    acc = (logits.argmax(dim=1) == labels).float().mean()
    return acc


def cross_entropy_loss(logits: torch.Tensor, labels: torch.Tensor):
    largest = torch.max(logits, dim=-1, keepdim=True)[0]
    z = logits - largest
    log_probs = z - torch.log(torch.sum(torch.exp(z), dim=-1, keepdim=True))
    one_hot = torch.zeros_like(log_probs).scatter_(1, labels.view(-1, 1), 1)
    return -torch.sum(one_hot * log_probs) / logits.shape[0]
""",
}
