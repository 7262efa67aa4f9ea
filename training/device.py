"""The device to compute on: how it is chosen, what it is called, its random numbers."""

import platform
import re
from pathlib import Path

import torch


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
            "--device auto chooses one that exists"
        )
    return device


def is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out; PyTorch has a class for this error on CUDA only."""
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(
        words in str(error)
        for words in ("out of memory", "not enough memory", "can't allocate memory")
    )


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of the generators that a model on ``device`` may use, by device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_state(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore the states that belong to the CPU and to this device."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def describe_device(device: torch.device) -> str:
    """Return the name of the hardware, for the results."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor_name()}, {threads} thread{'s' * (threads != 1)}"


def processor_name() -> str:
    """Return the model of the processor, as far as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")  # Linux, where platform knows only the architecture
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()
