"""``results.json``: what a run measured. Its entries, and the one function that reads it."""

import json
from pathlib import Path
from typing import Any

RESULTS = "results.json"
FINISHED = "finished"  # how the run ended; the entry is missing while it has not
TRAINED = "trained to the end"

# The entries that grow with each epoch, and the best epoch: they are in the checkpoint too.
HISTORY = (
    "train_losses", "valid_losses", "train_accs", "valid_accs", "learning_rates", "train_seconds",
    "valid_seconds", "best_epoch",
)  # fmt: skip


def read_results(logdir: str | Path) -> dict[str, Any]:
    """Return the content of ``results.json`` in the folder of a run.

    Raises:
        ValueError: the file is damaged, or not that of a run.
        OSError: it cannot be read; there is none.
    """
    path = Path(logdir) / RESULTS
    if not path.exists():
        raise FileNotFoundError(f"{logdir} holds no run: it has no {RESULTS}")
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not the results.json of a run: {error}") from error
    if not isinstance(results, dict) or "train_seconds" not in results:
        raise ValueError(f"{path} is not the results.json of a run")
    return results
