"""main.py in a process of its own, forked from one that has imported everything."""

import multiprocessing
import os
import resource
import sys
from pathlib import Path

import torch

# One server for all tests of a process; it starts when the first of them needs it.
processes = multiprocessing.get_context("forkserver")
# The optimizers of PyTorch import torch._dynamo when the first of them is made.
processes.set_forkserver_preload(["main", "torch._dynamo", "experiments.execute"])


def run_main(arguments, output, memory=None):
    """Be main.py.

    Args:
        arguments: of the command line.
        output: file to which everything that is printed is appended.
        memory: bytes that the process may allocate beyond those that it has.
    """
    import main

    with open(output, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)  # threads do not survive the fork
    if memory is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory,) * 2)
    sys.exit(main.main([str(argument) for argument in arguments]))
