"""How much arithmetic a network takes, and how much the hardware can do.

Both are counted in multiply-adds, of matrix products and convolutions alone: all else in these
networks is a percent of it or less. A convolution is counted by its definition, also where the
library computes it in a way that needs fewer.
"""

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import synchronize
from training.data import SIZE

SIDES = {"cpu": (512, 1024, 2048), "other": (2048, 4096, 8192)}
TRIES = 5


def count_multiply_adds(network: nn.Module) -> dict[str, int]:
    """Return the multiply-adds of one image, ``forward`` and ``backward``.

    Backward has no gradient of the image itself, which nobody needs.
    """
    image = torch.zeros(1, 3, SIZE, SIZE, device=next(network.parameters()).device)
    network.eval()  # batch norm cannot train on a single image where one pixel is left
    with FlopCounterMode(display=False) as counter:
        loss = network(image).sum()
        forward = counter.get_total_flops()
        loss.backward()
    network.zero_grad(set_to_none=True)
    # PyTorch counts the multiplication and the addition apart.
    return {"forward": forward // 2, "backward": (counter.get_total_flops() - forward) // 2}


def measure_limit(device: torch.device, precision: torch.dtype) -> dict[str, float]:
    """Return the most multiply-adds a second, of square matrix products, best of some sizes.

    In float32 on CUDA it is the product with TF32 where the GPU has that: convolutions use it,
    linear layers do not (PyTorch's default).

    Returns:
        ``rate`` in multiply-adds a second, and ``side`` of the matrices.
    """
    best = {"rate": 0.0, "side": 0}
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        for side in SIDES.get(device.type, SIDES["other"]):
            first, second = (torch.randn(side, side, device=device).to(precision) for _ in "12")
            product = first @ second
            for _ in range(TRIES):
                synchronize(device)
                started = time.perf_counter()
                torch.matmul(first, second, out=product)
                synchronize(device)
                rate = side**3 / (time.perf_counter() - started)
                best = max(best, {"rate": rate, "side": side}, key=lambda entry: entry["rate"])
    finally:
        torch.set_float32_matmul_precision(before)
    return best
