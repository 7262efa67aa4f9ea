"""The MLP-Mixer against timm's, and what timm's does not have: widths, drop path by block."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mlpmixer import MixerBlock, Mlp, MLPMixer, PatchEmbed

from oracles import (
    SMALL,
    agree,
    agree_forward_and_backward,
    agree_in_distribution,
    configured,
    count_parameters,
    draw,
    few_examples,
    normal_cdf,
    share_weights,
    stir,
    uniform_cdf,
)

MIXER_PARAMETERS = {
    1: 3_163_658,
    2: 2_376_458,
    4: 2_188_298,
    8: 2_175_818,
    16: 2_310_938,
    32: 2_897_678,
}


def mixer_and_reference(
    activation: str = "gelu",
    tokens_mlp_dim: int | None = None,
    channels_mlp_dim: int | None = None,
    drop: float = 0.0,
    **config: int,
) -> tuple[MLPMixer, nn.Module, dict[str, str]]:
    """Return the model, timm's with the same weights, and the map of names."""
    pytest.importorskip("timm")
    from timm.models.mlp_mixer import MlpMixer

    torch.manual_seed(0)
    config = {**SMALL, **config}
    model = stir(
        MLPMixer(
            **config,
            drop_rate=drop,
            activation=activation,
            tokens_mlp_dim=tokens_mlp_dim,
            channels_mlp_dim=channels_mlp_dim,
        )
    )
    # timm takes ratios only: half a unit more makes int() round down to the width.
    dim = config["embed_dim"]
    tokens = 0.5 if tokens_mlp_dim is None else (tokens_mlp_dim + 0.5) / dim
    channels = 4.0 if channels_mlp_dim is None else (channels_mlp_dim + 0.5) / dim
    reference = MlpMixer(
        **config,
        mlp_ratio=(tokens, channels),
        act_layer={"gelu": nn.GELU, "relu": nn.ReLU}[activation],
        proj_drop_rate=drop,
    )
    return model, reference, share_weights(model, reference, patchemb="stem")


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("patch_size", [2, 4, 16, 32])
def test_mlpmixer_equals_timm_in_outputs_and_gradients(patch_size, activation):
    model, reference, names = mixer_and_reference(activation, patch_size=patch_size)
    agree_forward_and_backward(model, reference, draw(3, 3, 32, 32), names)


@pytest.mark.parametrize(
    "config",
    [
        dict(img_size=12, patch_size=4, embed_dim=9, num_classes=3, num_blocks=1),
        dict(tokens_mlp_dim=29),
        dict(channels_mlp_dim=5),
        dict(tokens_mlp_dim=1, channels_mlp_dim=1),
    ],
    ids=lambda config: "-".join(config),
)
def test_mlpmixer_equals_timm_for_other_sizes_and_widths(config):
    model, reference, names = mixer_and_reference(**config)
    size = config.get("img_size", 32)
    agree_forward_and_backward(model, reference, draw(3, 3, size, size), names)


def test_mlpmixer_drops_the_same_numbers_as_timm_in_training():
    """The same seed and the same order of dropout layers: the same random numbers."""
    model, reference, _ = mixer_and_reference(drop=0.3)
    images = draw(4, 3, 32, 32)
    with torch.no_grad():
        torch.manual_seed(5)
        output = model.train()(images)
        torch.manual_seed(5)
        agree(output, reference.train()(images), "output in training")
        agree(model.eval()(images), reference.eval()(images), "output in evaluation")


@pytest.mark.parametrize("patch_size", MIXER_PARAMETERS)
def test_mlpmixer_has_the_published_number_of_parameters_at_each_patch_size(patch_size):
    model = MLPMixer(10, 32, patch_size, embed_dim=256, num_blocks=4)
    assert count_parameters(model) == MIXER_PARAMETERS[patch_size]


@pytest.mark.parametrize("patch_size", [1, 2, 4, 8, 16, 32])
def test_patch_embed_equals_a_linear_map_of_each_patch_row_by_row(patch_size):
    embed = stir(PatchEmbed(32, patch_size, in_chans=2, embed_dim=5))
    images = draw(2, 2, 32, 32)
    patches = nn.functional.unfold(images, patch_size, stride=patch_size).transpose(1, 2)
    expected = nn.functional.linear(patches, embed.proj.weight.flatten(1), embed.proj.bias)
    agree(embed(images), expected, "patches")
    grid = 32 // patch_size
    assert (embed.img_size, embed.patch_size) == (32, patch_size)
    assert (embed.grid_size, embed.num_patches) == (grid, grid**2)


def test_patch_embed_has_the_documented_defaults():
    assert PatchEmbed(8, 4).proj.weight.shape == (768, 3, 4, 4)


def test_mlpmixer_weights_are_glorot_uniform_or_kaiming_normal_and_biases_zero():
    """False alarm: 1.7e-8 at most, 17 samples. The head has too few weights to tell."""
    torch.manual_seed(0)
    model = configured("mlpmixer")
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name != "head":
            variance = 2 / sum(module.weight.shape)
            agree_in_distribution(module.weight, uniform_cdf(variance))
        if isinstance(module, nn.Conv2d):
            agree_in_distribution(module.weight, normal_cdf(2 / (3 * 4 * 4)))
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            assert not module.bias.any(), name
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and not module.bias.any(), name


@pytest.mark.parametrize(
    ("module", "cdf"),
    [
        (nn.Linear(256, 60), uniform_cdf(2 / 316)),
        (nn.Conv2d(3, 100, kernel_size=(4, 8)), normal_cdf(2 / (3 * 32))),
    ],
    ids=["linear", "convolution"],
)
def test_init_weights_sets_one_layer_anew(module, cdf):
    """False alarm: 1e-9 at most."""
    torch.manual_seed(0)
    nn.init.constant_(module.weight, 7)
    nn.init.constant_(module.bias, 7)
    MLPMixer(**SMALL).init_weights(module)
    agree_in_distribution(module.weight, cdf)
    assert not module.bias.any()


@pytest.mark.parametrize(
    ("ratio", "dim", "widths"),
    [
        ((0.5, 4.0), 256, (128, 1024)),
        ((0.5, 4.0), 9, (4, 36)),
        ((0.29, 1.1), 100, (28, 110)),  # 0.29 * 100 is 28.999999999999996 in floating point
        ((0.07, 0.3), 100, (7, 30)),
        ((2, 3), 5, (10, 15)),
    ],
)
def test_mlp_ratio_times_dim_is_rounded_down(ratio, dim, widths):
    block = MixerBlock(dim, seq_len=4, mlp_ratio=ratio)
    assert (block.mlp_tokens.fc1.out_features, block.mlp_channels.fc1.out_features) == widths
    assert widths == tuple(int(r * dim) for r in ratio)


@few_examples
@given(dim=st.sampled_from([7, 100, 256]), tokens=st.integers(1, 64), channels=st.integers(1, 64))
def test_the_two_widths_are_met_exactly(dim, tokens, channels):
    model = MLPMixer(10, 8, 4, dim, 1, tokens_mlp_dim=tokens, channels_mlp_dim=channels)
    assert model.blocks[0].mlp_tokens.fc1.weight.shape == (tokens, 4)
    assert model.blocks[0].mlp_channels.fc1.weight.shape == (channels, dim)


def test_awkward_widths_are_met_exactly():
    """A width turned into a ratio and back loses one: int(29 / 100 * 100) is 28."""
    assert int(29 / 100 * 100) == 28
    model = MLPMixer(10, 8, 4, 100, 2, tokens_mlp_dim=29, channels_mlp_dim=57)
    for block in model.blocks:
        assert block.mlp_tokens.fc1.out_features == 29
        assert block.mlp_channels.fc1.out_features == 57


def test_one_width_leaves_the_other_at_its_default():
    block = MLPMixer(10, 8, 4, 20, 1, tokens_mlp_dim=3).blocks[0]
    assert (block.mlp_tokens.fc1.out_features, block.mlp_channels.fc1.out_features) == (3, 80)
    block = MLPMixer(10, 8, 4, 20, 1, channels_mlp_dim=3).blocks[0]
    assert (block.mlp_tokens.fc1.out_features, block.mlp_channels.fc1.out_features) == (10, 3)


def test_mixer_layer_norms_have_eps_1e_6():
    norms = [m for m in MLPMixer(**SMALL).modules() if isinstance(m, nn.LayerNorm)]
    assert [norm.eps for norm in norms] == [1e-6] * 5


def test_mlp_block_takes_another_activation_class():
    mlp = Mlp(4, 6, act_layer=nn.Tanh).double()
    x = draw(2, 3, 4)
    agree(mlp(x), mlp.fc2(torch.tanh(mlp.fc1(x))), "output")


def test_dropout_is_active_in_training_only():
    torch.manual_seed(0)
    model = MLPMixer(**SMALL, drop_rate=0.5)
    plain = MLPMixer(**SMALL)
    plain.load_state_dict(model.state_dict())
    images = draw(2, 3, 32, 32, dtype=torch.float32)
    with torch.no_grad():
        assert not torch.equal(model.train()(images), model.train()(images))
        assert torch.equal(model.eval()(images), plain.eval()(images))


def test_by_default_nothing_is_drawn_in_training():
    model, block, mlp = MLPMixer(**SMALL), MixerBlock(6, seq_len=4), Mlp(6, 6)
    for module, shape in ((model, (8, 3, 32, 32)), (block, (8, 4, 6)), (mlp, (8, 6))):
        inputs = draw(*shape, dtype=torch.float32)
        with torch.no_grad():
            assert torch.equal(module.train()(inputs), module.eval()(inputs))


def test_dropout_follows_each_of_the_two_layers():
    """The middle is 3 and fc2 adds 1: drop1 makes the 3 a 0 or a 6, drop2 the sum a 0 or twice it.

    False alarm: one value in 200 draws is missing with probability 2 * 0.75 ** 200, or 2e-25.
    """
    torch.manual_seed(0)
    mlp = Mlp(1, 1, act_layer=nn.Identity, drop=0.5).train()
    for tensor, value in zip(mlp.parameters(), (0.0, 3.0, 1.0, 1.0), strict=True):
        nn.init.constant_(tensor, value)
    assert set(mlp(torch.zeros(200, 1)).flatten().tolist()) == {0.0, 2.0, 14.0}


IMAGES = 4000
# Hoeffding: the share of IMAGES coin flips is this far from its mean with probability 1e-9 at most.
SHARE_LIMIT = math.sqrt(math.log(2e9) / (2 * IMAGES))


def block_with_one_branch(branch: str, drop_path: float) -> MixerBlock:
    """Return a block in float64 of which only one MLP does something."""
    torch.manual_seed(0)
    block = stir(MixerBlock(6, seq_len=4, drop_path=drop_path))
    other = block.mlp_channels if branch == "tokens" else block.mlp_tokens
    nn.init.zeros_(other.fc2.weight)
    nn.init.zeros_(other.fc2.bias)
    return block


@pytest.mark.parametrize("branch", ["tokens", "channels"])
@pytest.mark.parametrize("drop_path", [0.1, 0.6])
def test_drop_path_skips_whole_images_and_scales_the_others(branch, drop_path):
    """Each image is x or x + branch / (1 - p) in all of its numbers. False alarm: 1e-9 at most."""
    block = block_with_one_branch(branch, drop_path)
    x = draw(IMAGES, 4, 6)
    with torch.no_grad():
        mixed = block.eval()(x) - x
        difference = block.train()(x) - x
    skipped = (difference == 0).flatten(1).all(dim=1)
    agree(difference[~skipped], mixed[~skipped] / (1 - drop_path), "images that are kept")
    assert abs(skipped.double().mean() - drop_path) < SHARE_LIMIT


def test_drop_path_preserves_the_mean_over_the_draws():
    """One image many times: the mean over the draws is the output of evaluation.

    A draw scales the branch by 0 or by 1 / (1 - p); Hoeffding's limit for the mean of such
    factors is SHARE_LIMIT / (1 - p). False alarm: 1e-9 at most.
    """
    block = block_with_one_branch("tokens", 0.25)
    x = draw(1, 4, 6)
    with torch.no_grad():
        branch = block.eval()(x) - x
        mean = (block.train()(x.expand(IMAGES, 4, 6)) - x).mean(dim=0, keepdim=True)
    factor = (mean / branch).mean()
    agree(mean, factor * branch, "mean, up to a factor")
    assert abs(factor - 1) < SHARE_LIMIT / 0.75


def test_drop_path_draws_for_the_two_branches_separately():
    """Both skip an image with probability p squared. False alarm: 1e-9 at most."""
    torch.manual_seed(0)
    block = stir(MixerBlock(6, seq_len=4, drop_path=0.5)).train()
    x = draw(IMAGES, 4, 6)
    with torch.no_grad():
        untouched = (block(x) == x).flatten(1).all(dim=1)
    assert abs(untouched.double().mean() - 0.25) < SHARE_LIMIT


def test_drop_path_is_the_identity_in_evaluation():
    with_drop, without = block_with_one_branch("tokens", 0.9), block_with_one_branch("tokens", 0.0)
    x = draw(5, 4, 6)
    with torch.no_grad():
        expected = without.eval()(x)
        assert torch.equal(with_drop.eval()(x), expected)
        assert torch.equal(without.train()(x), expected)


def test_drop_path_rate_grows_linearly_over_the_blocks():
    """Measured: the share of images that both branches of a block skip. False alarm: 4e-9."""
    torch.manual_seed(0)
    model = MLPMixer(10, 8, 4, embed_dim=6, num_blocks=4, drop_path_rate=0.6).train()
    x = draw(IMAGES, 4, 6, dtype=torch.float32)
    for block, expected in zip(model.blocks, [0.0, 0.2, 0.4, 0.6], strict=True):
        assert block.drop_path == pytest.approx(expected)
        with torch.no_grad():
            untouched = (block(x) == x).flatten(1).all(dim=1)
        assert abs(untouched.double().mean() - expected**2) < SHARE_LIMIT


def test_drop_path_rate_is_drawn_in_training_only():
    torch.manual_seed(0)
    model = MLPMixer(**SMALL, drop_path_rate=0.5)
    plain = MLPMixer(**SMALL)
    plain.load_state_dict(model.state_dict())
    images = draw(64, 3, 32, 32, dtype=torch.float32)
    with torch.no_grad():
        assert not torch.equal(model.train()(images), model.train()(images))
        assert torch.equal(model.eval()(images), plain.eval()(images))


def test_one_block_with_a_drop_path_rate_is_the_first_block_and_skips_nothing():
    model = MLPMixer(**{**SMALL, "num_blocks": 1}, drop_path_rate=0.5)
    images = draw(64, 3, 32, 32, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(model.train()(images), model.eval()(images))


def test_every_parameter_receives_a_gradient_with_dropout_and_drop_path():
    torch.manual_seed(0)
    model = MLPMixer(**SMALL, drop_rate=0.1, drop_path_rate=0.3).train()
    model(draw(8, 3, 32, 32, dtype=torch.float32)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.any()] == []
