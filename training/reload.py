"""Load the four files of the assignment again, in a notebook whose kernel goes on running.

The autoreload of IPython does not do it: it patches the old classes, and fails for a method that
calls ``super()`` where there was none. And the version on Colab does not run on its Python.
"""

import importlib
import sys
from pathlib import Path

WRITTEN = ("utils", "mlp", "resnet18", "mlpmixer")
# What imports them, each after what it imports itself.
USERS = ("training.config", "training.run", "training.mistakes", "main")

_loaded: dict[str, str] = {}  # the text of each file when it was loaded


def reload_files() -> list[str]:
    """Load the four files, and what imports them, if one of the four has changed.

    Returns:
        The names of those that have changed since the last time; at first, of all.

    Raises:
        Exception: whatever a file raises that cannot be imported.
    """
    folder = Path(__file__).resolve().parent.parent
    texts = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in WRITTEN}
    changed = [name for name, text in texts.items() if _loaded.get(name) != text]
    if changed:
        for name in (*WRITTEN, *USERS):
            _loaded.pop(name, None)  # if it fails, it counts as changed the next time
            if name in sys.modules:
                importlib.reload(sys.modules[name])
            else:
                importlib.import_module(name)
            _loaded[name] = texts.get(name, "")
    return [f"{name}.py" for name in changed]
