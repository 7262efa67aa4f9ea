"""Where to compute, and how precisely: the fastest that the hardware has."""

import faulthandler
import multiprocessing
import platform
import re
import warnings
from pathlib import Path

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA, then MPS, then the CPU.

    Raises:
        ValueError: no such device, or it is not on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"--device is {name!r}; choose auto, cpu, cuda, cuda:N or mps")
    number = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= number:
        raise ValueError(
            f"--device is {name!r}, but PyTorch finds {number} devices of this kind here; "
            "--device auto takes what there is"
        )
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the precision called ``name``; "auto" is the fastest the device has in hardware.

    Raises:
        ValueError: float16 on a device other than CUDA, or bfloat16 on a CPU that it crashes.
    """
    if name == "float16" and device.type != "cuda":
        raise ValueError(f"--precision float16 needs a CUDA device, this is {device.type}")
    if name == "bfloat16" and device.type == "cpu" and _survives_bfloat16() is False:
        raise ValueError("--precision bfloat16 crashes on this CPU; choose float32 or auto")
    if name != "auto":
        return PRECISIONS[name]
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        has_tensor_cores = torch.cuda.get_device_capability(device) >= (7, 0)
        return torch.float16 if has_tensor_cores else torch.float32
    if device.type == "cpu" and _has_bfloat16_units():
        return torch.bfloat16
    return torch.float32


def _has_bfloat16_units() -> bool:
    """Return whether the CPU has matrix units for bfloat16 (AMX) that work.

    Without them bfloat16 is slower on a CPU than float32.
    """
    if not hasattr(torch.cpu, "get_capabilities"):  # PyTorch too old to ask
        return False
    announced = torch.cpu.get_capabilities().get("amx_bf16", False)
    return announced and _survives_bfloat16() is True


def _survives_bfloat16() -> bool | None:
    """Multiply in bfloat16 in a child process and return whether it lived, None if none can be had.

    A hypervisor may announce AMX and not set it up: the first product then kills the process with
    SIGILL (seen on a virtual machine whose CPUID leaf 0x1D is empty, PyTorch 2.13 and 2.15).
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return None
    child = multiprocessing.get_context("fork").Process(target=_multiply_in_bfloat16)
    with warnings.catch_warnings():
        # Python 3.12 warns that locks of other threads stay locked in the child: it takes none.
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


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out; PyTorch has a class for it on CUDA only."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(
        words in str(error)
        for words in ("out of memory", "not enough memory", "can't allocate memory")
    )


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of the random numbers that a model on ``device`` may draw, by device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Go back to a state, as far as it is one of this device."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def describe_device(device: torch.device) -> str:
    """Return the name of the hardware, for the results."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")  # Linux; platform knows no more there than the architecture
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        name = found[1] if found else name
    return f"{name}, {torch.get_num_threads()} threads"
