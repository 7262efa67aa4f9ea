"""The arithmetic of a network, and the rate of the hardware, in multiply-adds.

Only matrix products and convolutions are counted: the rest is one percent or less in these
networks. A convolution counts by its definition, even if the library uses a faster algorithm.
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
    """Return the multiply-adds per image, ``forward`` and ``backward``.

    Backward does not include the gradient with respect to the image, which is not needed.
    """
    image = torch.zeros(1, 3, SIZE, SIZE, device=next(network.parameters()).device)
    network.eval()  # batch norm cannot train on a single image where one pixel is left
    with FlopCounterMode(display=False) as counter:
        loss = network(image).sum()
        forward = counter.get_total_flops()
        loss.backward()
    network.zero_grad(set_to_none=True)
    # PyTorch counts a multiply-add as two operations.
    return {"forward": forward // 2, "backward": (counter.get_total_flops() - forward) // 2}


def measure_limit(device: torch.device, precision: torch.dtype) -> dict[str, float]:
    """Return the highest rate of square matrix products of several sizes.

    In float32 on CUDA it uses TF32 if the GPU has it: convolutions do, linear layers do not
    (PyTorch's default).

    Returns:
        ``rate`` in multiply-adds per second, and ``side`` of the matrices.
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
