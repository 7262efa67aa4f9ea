"""MLP-Mixer: an image classifier built from MLPs alone (Problem 3).

Shapes: B batch, C channels, H, W height and width, N patches, D embedding width, K classes.

Sources:
1. I. Tolstikhin et al., "MLP-Mixer: An all-MLP Architecture for Vision", NeurIPS 2021:
   section 2 and figure 1 the network, section 3 stochastic depth, figure 5 the units.
2. G. Huang, Y. Sun, Z. Liu, D. Sedra and K. Weinberger, "Deep Networks with Stochastic Depth",
   ECCV 2016: section 3, ``drop_path``.
"""

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}


class PatchEmbed(nn.Module):
    """Cut an image into square patches and embed each with the same linear map.

    Args:
        img_size: height and width of the image in pixels.
        patch_size: height and width of a patch in pixels; it divides img_size.
        in_chans: C, channels of the image.
        embed_dim: D, width of the embedding of a patch.

    Attributes:
        grid_size: patches along one side of the image.
        num_patches: N = grid_size ** 2

    Raises:
        ValueError: patch_size does not divide img_size.
    """

    def __init__(self, img_size: int, patch_size: int, in_chans: int = 3, embed_dim: int = 768):
        super().__init__()
        _check_positive(img_size=img_size)
        if patch_size < 1 or img_size % patch_size != 0:
            divisors = [size for size in range(1, img_size + 1) if img_size % size == 0]
            raise ValueError(
                f"patch_size is {patch_size}; it must divide img_size, {img_size}: "
                f"choose from {', '.join(map(str, divisors))}"
            )
        _check_positive(in_chans=in_chans, embed_dim=embed_dim)
        self.img_size = img_size
        self.patch_size = patch_size
        self.grid_size = img_size // patch_size
        self.num_patches = self.grid_size**2
        # Kernel and stride are one patch: the patches do not overlap, each is mapped separately.
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to patches (B, N, D), row by row.

        Raises:
            ValueError: the images are not img_size pixels high and wide.
        """
        if x.shape[-2:] != (self.img_size, self.img_size):
            raise ValueError(
                f"images are {x.shape[-2]} x {x.shape[-1]} pixels; img_size is {self.img_size}"
            )
        return self.proj(x).flatten(start_dim=2).transpose(1, 2)  # (B, D, H, W) to (B, N, D)


class Mlp(nn.Module):
    """Two linear layers with a non-linearity between them, on the last dimension of the input.

    Args:
        in_features: width of the input and of the output.
        hidden_features: width between the two layers.
        act_layer: class of the non-linearity, built without arguments.
        drop: probability of dropout after each layer.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        act_layer: type[nn.Module] = nn.GELU,
        drop: float = 0.0,
    ):
        super().__init__()
        _check_positive(in_features=in_features, hidden_features=hidden_features)
        _check_probability(drop=drop)
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = act_layer()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden_features, in_features)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., in_features)."""
        x = self.drop1(self.act(self.fc1(x)))
        return self.drop2(self.fc2(x))


class MixerBlock(nn.Module):
    """An MLP that mixes the patches and one that mixes the channels, each with a skip connection.

    Args:
        dim: D, width of the embedding.
        seq_len: N, number of patches.
        mlp_ratio: hidden widths of the token-mixing and of the channel-mixing MLP, both as
            multiples of ``dim``, rounded down.
        activation: "gelu" or "relu".
        drop: probability of dropout in the MLPs.
        drop_path: probability that a training image skips an MLP (source 2).
        tokens_mlp_dim: hidden width of the token-mixing MLP, in place of mlp_ratio.
        channels_mlp_dim: hidden width of the channel-mixing MLP, in place of mlp_ratio.

    Raises:
        ValueError: unknown activation, a width smaller than 1, or a probability outside [0, 1).
    """

    def __init__(
        self,
        dim: int,
        seq_len: int,
        mlp_ratio: Sequence[float] = (0.5, 4.0),
        activation: str = "gelu",
        drop: float = 0.0,
        drop_path: float = 0.0,
        tokens_mlp_dim: int | None = None,
        channels_mlp_dim: int | None = None,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; choose from {', '.join(ACTIVATIONS)}")
        _check_positive(dim=dim, seq_len=seq_len)
        _check_probability(drop_path=drop_path)
        if len(mlp_ratio) != 2:
            raise ValueError(f"mlp_ratio is {mlp_ratio}; it must hold two numbers")
        tokens_dim, channels_dim = (int(ratio * dim) for ratio in mlp_ratio)
        if tokens_mlp_dim is not None:
            tokens_dim = tokens_mlp_dim
        if channels_mlp_dim is not None:
            channels_dim = channels_mlp_dim
        _check_positive(tokens_mlp_dim=tokens_dim, channels_mlp_dim=channels_dim)
        act_layer = ACTIVATIONS[activation]
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_tokens = Mlp(seq_len, tokens_dim, act_layer=act_layer, drop=drop)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp_channels = Mlp(dim, channels_dim, act_layer=act_layer, drop=drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        mixed = self.mlp_tokens(self.norm1(x).transpose(1, 2))  # (B, D, N)
        x = x + self._skip_at_random(mixed.transpose(1, 2))  # (B, N, D)
        return x + self._skip_at_random(self.mlp_channels(self.norm2(x)))

    def _skip_at_random(self, branch: Tensor) -> Tensor:
        """In training, set random images of ``branch`` (B, N, D) to 0 and scale the others up.

        The scale keeps the expected value, so that evaluation needs no change.
        """
        if not self.training or self.drop_path == 0:
            return branch
        kept = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.drop_path
        return branch * kept.to(branch.dtype) / (1 - self.drop_path)


class MLPMixer(nn.Module):
    """Patch embedding, mixer blocks, layer norm, mean over the patches and a linear classifier.

    Args:
        num_classes: K, number of logits.
        img_size: height and width of the images in pixels.
        patch_size: height and width of a patch in pixels; it divides img_size.
        embed_dim: D, width of the embedding.
        num_blocks: number of mixer blocks.
        drop_rate: probability of dropout in the MLPs.
        activation: "gelu" or "relu".
        tokens_mlp_dim: hidden width of the token-mixing MLPs; by default embed_dim / 2.
        channels_mlp_dim: hidden width of the channel-mixing MLPs; by default 4 * embed_dim.
        drop_path_rate: probability that a training image skips an MLP of the last block; it grows
            linearly from 0 in the first block (section 3 of source 1).

    Raises:
        ValueError: unknown activation, patch_size does not divide img_size, a size smaller than 1
            or a probability outside [0, 1).
    """

    def __init__(
        self,
        num_classes: int,
        img_size: int,
        patch_size: int,
        embed_dim: int,
        num_blocks: int,
        drop_rate: float = 0.0,
        activation: str = "gelu",
        tokens_mlp_dim: int | None = None,
        channels_mlp_dim: int | None = None,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        _check_positive(num_classes=num_classes, num_blocks=num_blocks)
        _check_probability(drop_rate=drop_rate, drop_path_rate=drop_path_rate)
        self.num_classes = num_classes
        self.patchemb = PatchEmbed(img_size=img_size, patch_size=patch_size, embed_dim=embed_dim)
        self.blocks = nn.Sequential(
            *(
                MixerBlock(
                    dim=embed_dim,
                    seq_len=self.patchemb.num_patches,
                    activation=activation,
                    drop=drop_rate,
                    drop_path=drop_path_rate * index / max(num_blocks - 1, 1),
                    tokens_mlp_dim=tokens_mlp_dim,
                    channels_mlp_dim=channels_mlp_dim,
                )
                for index in range(num_blocks)
            )
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head = nn.Linear(embed_dim, num_classes)
        self.apply(self.init_weights)

    def init_weights(self, module: nn.Module) -> None:
        """Initialise one layer: linear Glorot uniform, convolution Kaiming normal, biases zero."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        x = self.patchemb(images)  # (B, N, D)
        x = self.norm(self.blocks(x))
        return self.head(x.mean(dim=1))  # (B, D) to (B, K)

    def visualize(self, logdir: str | PathLike[str]) -> Path:
        """Draw the first token-mixing layer as in figure 5 of source 1, in the order of its rows.

        A unit is a row of ``blocks[0].mlp_tokens.fc1.weight``: one weight per patch, drawn where
        the patch lies in the image.

        Args:
            logdir: folder of the figure; made if it does not exist.

        Returns:
            The path of the figure, ``logdir/token_mixing_units.png``.
        """
        weight = self.get_parameter("blocks.0.mlp_tokens.fc1.weight").detach().float().cpu()
        grid, columns = self.patchemb.grid_size, 16
        rows = math.ceil(len(weight) / columns)
        # A grey line (NaN) right of and below each unit, and empty places after the last one.
        sheet = torch.full((rows * columns, grid + 1, grid + 1), math.nan)
        sheet[: len(weight), :grid, :grid] = weight.reshape(-1, grid, grid)
        sheet = sheet.reshape(rows, columns, grid + 1, grid + 1).transpose(1, 2)
        limit = weight.abs().quantile(0.99).item()
        figure = Figure(figsize=(8, 0.8 + 0.42 * rows), layout="constrained")
        ax = figure.subplots()
        colours = matplotlib.colormaps["RdBu_r"].with_extremes(bad="0.8")
        picture = sheet.reshape(rows * (grid + 1), -1)[:-1, :-1].numpy()
        shown = ax.imshow(picture, cmap=colours, vmin=-limit, vmax=limit)
        figure.colorbar(shown, label="weight", extend="both", shrink=0.8)
        ax.set_title(f"MLP-Mixer: the {len(weight)} token-mixing units of the first block")
        ax.set_axis_off()
        path = Path(logdir) / "token_mixing_units.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        return path


def _check_positive(**sizes: int) -> None:
    """Raise ValueError naming the first size that is smaller than 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}; it must be at least 1")


def _check_probability(**probabilities: float) -> None:
    """Raise ValueError naming the first probability outside [0, 1)."""
    for name, probability in probabilities.items():
        if not 0 <= probability < 1:
            raise ValueError(f"{name} is {probability}; it must be at least 0 and less than 1")
