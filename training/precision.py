"""How precisely to multiply: the fastest precision that the hardware has."""

import contextlib
import faulthandler
import multiprocessing
import warnings
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.optim import Optimizer

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """The precision of matrix products and convolutions; weights and their updates stay in float32.

    Args:
        dtype: float32, bfloat16 or float16.
        device: of the model.

    Attributes:
        scaler: multiplies the loss in float16, whose small gradients would vanish otherwise
            (P. Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2).
    """

    def __init__(self, dtype: torch.dtype, device: torch.device | str):
        self.dtype = dtype
        self.device_type = torch.device(device).type
        # Disabled, it passes loss and step on unchanged.
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == torch.float16)

    def __str__(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager:
        """Return the context of the forward pass."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, self.dtype)

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss to call ``backward`` on."""
        return self.scaler.scale(loss)

    def step(self, optimizer: Optimizer) -> None:
        """Update the weights; in float16 not where a gradient has overflowed."""
        self.scaler.step(optimizer)
        self.scaler.update()


def pick_precision(name: str, device: torch.device) -> Precision:
    """Return the precision called ``name``; "auto" is the fastest the device has in hardware.

    Raises:
        ValueError: float16 on a device other than CUDA, or bfloat16 on a CPU that it crashes.
    """
    if name == "float16" and device.type != "cuda":
        raise ValueError(f"--precision float16 needs a CUDA device, this is {device.type}")
    if name == "bfloat16" and device.type == "cpu" and _survives_bfloat16() is False:
        raise ValueError("--precision bfloat16 crashes on this CPU; choose float32 or auto")
    return Precision(_fastest(device) if name == "auto" else PRECISIONS[name], device)


def _fastest(device: torch.device) -> torch.dtype:
    if device.type == "cuda":
        with torch.cuda.device(device):  # the next line asks the current GPU
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return torch.bfloat16
        has_tensor_cores = torch.cuda.get_device_capability(device) >= (7, 0)
        return torch.float16 if has_tensor_cores else torch.float32
    if device.type == "cpu" and _has_bfloat16_units():
        return torch.bfloat16
    return torch.float32


def _has_bfloat16_units() -> bool:
    """Return whether the CPU has matrix units for bfloat16 (AMX) that work."""
    if not hasattr(torch.cpu, "get_capabilities"):  # PyTorch too old to ask
        return False
    announced = torch.cpu.get_capabilities().get("amx_bf16", False)
    return announced and _survives_bfloat16() is True


def _survives_bfloat16() -> bool | None:
    """Return whether a child process survives a product in bfloat16, None if it cannot be tried.

    A hypervisor may announce AMX and not set it up: the first product then kills the process with
    SIGILL (seen on a virtual machine whose CPUID leaf 0x1D is empty, PyTorch 2.13 and 2.15).
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return None
    child = multiprocessing.get_context("fork").Process(target=_multiply_in_bfloat16)
    with warnings.catch_warnings():
        # Python 3.12 warns that locks of other threads stay locked in the child: it uses none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    child.join(timeout=10)  # seconds; it takes about 0.02
    if child.is_alive():
        child.kill()
    return child.exitcode == 0


def _multiply_in_bfloat16() -> None:
    """Multiply two matrices on one thread: the thread pool does not survive the fork."""
    faulthandler.disable()
    torch.set_num_threads(1)
    torch.ones(64, 64, dtype=torch.bfloat16) @ torch.ones(64, 64, dtype=torch.bfloat16)
