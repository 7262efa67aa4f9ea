#!/usr/bin/env bash
# Runs once, as root, when Gradescope builds the image of the autograder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if ! python3 -m venv --help >/dev/null 2>&1 || ! python3 -c "import ensurepip" 2>/dev/null; then
    apt-get update -q && apt-get install -y -q --no-install-recommends python3 python3-venv
fi
if ! python3 -c "import sys; sys.exit(sys.version_info < (3, 10))"; then
    echo "The grader needs Python 3.10 or later; this image has $(python3 --version 2>&1)." >&2
    echo "Choose Ubuntu 22.04 or later as the base image, then build again." >&2
    exit 1
fi
# Outside the folder of this script, which students' code must not be able to read.
venv="$here/../python"
python3 -m venv "$venv"
"$venv/bin/pip" install --no-cache-dir -r "$here/requirements.txt"
# For students' figures: the version and build that belong to PyTorch's, since no other can be imported.
# Without it, a stand-in takes its place.
"$venv/bin/pip" install --no-cache-dir --no-deps --extra-index-url https://download.pytorch.org/whl/cpu \
    torchvision==0.28.0+cpu || echo "torchvision is not available"
chmod -R go-rwx "$here"
# The grader clears what students' code leaves in /tmp and its like; it must not write elsewhere.
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -name tmp \) -prune -o \
    -type d -perm -0002 -exec chmod o-w {} +
"$venv/bin/python" -c "import torch, numpy; print('torch', torch.__version__, 'numpy', numpy.__version__)"
