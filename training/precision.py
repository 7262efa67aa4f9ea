"""How precisely to multiply: the precisions of a device, and which of them is the fastest."""

import contextlib
import faulthandler
import functools
import math
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

PRECISIONS = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
WORTHWHILE = 1.2  # times the speed of float32 that another precision must have for auto
PATIENCE = 600  # seconds for the child process, whose 0.2 s take long on a busy machine
REPEATS = 8  # of a measurement; the first also builds the kernels
ISA_LIMIT = "ONEDNN_MAX_CPU_ISA"  # oneDNN reads it when it first computes


class Precision:
    """The precision of matrix products and convolutions; weights and their updates stay in float32.

    Args:
        name: one of ``PRECISIONS``; tf32 is float32 of which an NVIDIA GPU multiplies only the
            first 10 bits of the fraction.
        device: of the model.
        speeds: as ``measure_speeds`` returns them, {} if nothing was measured.

    Attributes:
        dtype: of the products.
        scaler: multiplies the loss in float16, whose small gradients would vanish otherwise
            (P. Micikevicius et al., "Mixed Precision Training", ICLR 2018, section 3.2).
    """

    def __init__(
        self, name: str, device: torch.device | str, speeds: dict[str, float] | None = None
    ):
        self.name, self.dtype, self.speeds = name, PRECISIONS[name], speeds or {}
        self.device_type = torch.device(device).type
        # Disabled, it passes loss and step on unchanged.
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=name == "float16")

    def __str__(self) -> str:
        return self.name

    def describe(self) -> str:
        """Return the name and the speed that was measured: "bfloat16 (2.9x float32)"."""
        if self.name != "float32" and self.name in self.speeds:
            return f"{self} ({self.speeds[self.name]:.1f}x float32)"
        others = [f"{n} {speed:.1f}x" for n, speed in self.speeds.items() if n != "float32"]
        return f"{self} ({', '.join(others)})" if others else self.name

    def autocast(self) -> AbstractContextManager:
        """Return the context of the forward pass; a GPU keeps its flags for the backward pass."""
        if self.device_type == "cuda":
            set_cuda_flags(tf32=self.name == "tf32")
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


def set_cuda_flags(tf32: bool) -> None:
    """Allow or forbid TF32 in this process, and let cuDNN try its kernels on each new shape.

    PyTorch's default is TF32 in convolutions only.
    """
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def pick_precision(name: str, device: torch.device, previous: str | None = None) -> Precision:
    """Return the precision called ``name``; "auto" is the fastest, float32 unless it is worthwhile.

    Args:
        name: one of ``PRECISIONS``, or "auto".
        device: of the model.
        previous: of the run that resumes; "auto" keeps it where the device has it.

    Raises:
        ValueError: the device does not have the precision, or bfloat16 crashes.
    """
    if name != "auto":
        _require(name, device)
        return Precision(name, device)
    speeds = measure_speeds(device)
    if previous is not None:
        with contextlib.suppress(ValueError):
            _require(previous, device)
            return Precision(previous, device, speeds)
    fastest = max(speeds, key=lambda name: speeds[name])
    return Precision(fastest if speeds[fastest] >= WORTHWHILE else "float32", device, speeds)


def _require(name: str, device: torch.device) -> None:
    """Raise ValueError if the device does not have the precision, or bfloat16 crashes."""
    if name == "float16" and device.type != "cuda":
        raise ValueError(f"--precision float16 needs a CUDA device, this is {device.type}")
    if name == "tf32" and not _has_tf32(device):
        raise ValueError("--precision tf32 needs an NVIDIA GPU, Ampere or later")
    if name == "bfloat16" and device.type == "cpu" and measure_speeds(device).get(name) == 0:
        raise ValueError("--precision bfloat16 crashes on this CPU; choose float32 or auto")


def _has_tf32(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


@functools.cache
def measure_speeds(device: torch.device) -> dict[str, float]:
    """Return the speeds of the precisions that the device has, over that of float32.

    On a CPU a child process goes first: a hypervisor may announce AMX and not set it up, and the
    first product in bfloat16 then kills the process with SIGILL (seen on a virtual machine whose
    CPUID leaf 0x1D is empty, PyTorch 2.13 and 2.15). If it dies, oneDNN is limited to the
    instructions before AMX, also in this process; if it dies again, the speed of bfloat16 is 0.
    """
    if device.type == "cuda":
        return _time(_names_on_cuda(device), device)
    if device.type != "cpu":
        return {"float32": 1.0}
    if "fork" not in multiprocessing.get_all_start_methods():  # Windows
        return {"float32": 1.0} if _announces_amx() else _time(["float32", "bfloat16"], device)
    speeds = _time_in_child()
    if speeds is None and ISA_LIMIT not in os.environ:
        os.environ[ISA_LIMIT] = "AVX512_CORE_BF16"
        speeds = _time_in_child()
        if speeds is None:
            del os.environ[ISA_LIMIT]
    return speeds or {"float32": 1.0, "bfloat16": 0.0}


def _names_on_cuda(device: torch.device) -> list[str]:
    """Return the precisions that the GPU has in hardware; float16 only in place of bfloat16."""
    names = ["float32", *["tf32"] * _has_tf32(device)]
    with torch.cuda.device(device):  # the next line asks the current GPU
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return [*names, "bfloat16"]
    has_tensor_cores = torch.cuda.get_device_capability(device) >= (7, 0)
    return [*names, *["float16"] * has_tensor_cores]


def _announces_amx() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # PyTorch too old to ask
        return True
    return torch.cpu.get_capabilities().get("amx_bf16", False)


def _time_in_child() -> dict[str, float] | None:
    """Return the speeds on the CPU, as a forked process measures them, None if it dies.

    A fork takes milliseconds; a new interpreter would import PyTorch for seconds. What oneDNN has
    read from the environment is also as in this process.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_speeds, args=(sender,))
    with warnings.catch_warnings():
        # Python 3.12 warns that locks of other threads stay locked in the child: it uses none.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(PATIENCE) else None
    except EOFError:
        return None
    finally:
        receiver.close()
        child.kill()
        child.join()


def _send_speeds(sender: Connection) -> None:
    """Measure on one thread, because the thread pool does not survive the fork."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    faulthandler.disable()
    torch.set_num_threads(1)
    # Its own time on the processor: others may use the machine.
    sender.send(_time(["float32", "bfloat16"], torch.device("cpu"), time.process_time))


@torch.no_grad()
def _time(
    names: Sequence[str], device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the speed of a product and a convolution, from the shortest of several times."""
    side, batch = (512, 32) if device.type == "cpu" else (2048, 512)
    matrix = torch.ones(side, side, device=device)
    images = torch.ones(batch, 64, 16, 16, device=device).to(memory_format=torch.channels_last)
    kernels = torch.ones(64, 64, 3, 3, device=device)
    seconds: dict[str, float] = {}
    for _ in range(REPEATS):
        for name in names:  # in turn: a slow moment of the machine affects each of them
            if seconds.get(name, 0) > 3 * seconds.get("float32", math.inf):
                continue  # emulated: once is enough
            with Precision(name, device).autocast():
                _synchronize(device)
                started = clock()
                F.linear(matrix, matrix)
                F.conv2d(images, kernels, padding=1)
                _synchronize(device)
            seconds[name] = min(seconds.get(name, math.inf), clock() - started)
    return {name: round(seconds["float32"] / seconds[name], 2) for name in names}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
