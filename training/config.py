"""Model configurations: from a JSON file to a model, with every mistake named.

The keys of a configuration are the arguments of the model's class; the type hints say which values
are allowed. A new argument of a model is a new key, and nothing changes here.
"""

import inspect
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mlp import MLP
from mlpmixer import MLPMixer
from resnet18 import ResNet18
from training.data import SIZE
from training.device import is_out_of_memory

MODELS: dict[str, type[nn.Module]] = {"mlp": MLP, "resnet18": ResNet18, "mlpmixer": MLPMixer}
# A larger integer is a slip, and would fill the memory for minutes.
LARGEST = 100_000


def default_path(model: str) -> Path:
    """Return the configuration that comes with the project for a model."""
    return Path(__file__).resolve().parent.parent / "model_configs" / f"{model}.json"


def read_config(
    path: str | Path, model: str, network: type[nn.Module] | None = None
) -> dict[str, Any]:
    """Read the configuration of a model and check its keys and the types of its values.

    Args:
        path: a JSON file.
        model: name of the model, one of ``MODELS`` unless ``network`` is given.
        network: class of the model.

    Raises:
        ValueError: not JSON, or a key that is unknown, missing, of the wrong type or far too large.
        OSError: the file cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        config = json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8") from error
    except json.JSONDecodeError as error:
        place = f"{path}, line {error.lineno}, column {error.colno}"
        comma = text[: error.pos].rstrip().endswith(",")  # the most frequent mistake by far
        hint = "; is the comma before it one too many?" if comma else ""
        raise ValueError(f"{place}: not JSON: {error.msg}{hint}") from error
    except (ValueError, RecursionError) as error:  # 5,000 digits, 1,000 open brackets
        raise ValueError(f"{path}: not JSON that can be read: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold an object, {{...}}, with the arguments of {model}")

    network = network or MODELS[model]
    parameters = inspect.signature(network).parameters
    hints = typing.get_type_hints(network.__init__)
    for key, value in config.items():
        if key not in parameters:
            known = ", ".join(parameters)
            raise ValueError(f"{path}: {key!r} is not a key of {model}; the keys are {known}")
        if not _fits(value, hints[key]):
            raise ValueError(
                f"{path}: {key!r} is {json.dumps(value)}; it must be {_in_words(hints[key])}"
            )
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int) and number > LARGEST for number in numbers):
            raise ValueError(f"{path}: {key!r} is {json.dumps(value)}; the limit is {LARGEST:,}")
    for key, parameter in parameters.items():
        if key not in config and parameter.default is inspect.Parameter.empty:
            raise ValueError(f"{path}: {key!r} is missing; {model} needs it")
    return config


def build_model(path: str | Path, network: type[nn.Module], config: dict[str, Any]) -> nn.Module:
    """Build a model and try it on one image.

    Args:
        path: where the configuration comes from, for the message.
        network: class of the model.
        config: its arguments.

    Raises:
        ValueError: a value that the model refuses, a model for images of another size, or one that
            does not fit into memory.
    """
    try:
        model = network(**config)
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, SIZE, SIZE))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(f"{path}: there is no memory for this model: {config}") from error
    return model


def _refuse_constant(name: str) -> None:
    """Raise ValueError: Python's reader accepts NaN and Infinity, JSON has neither."""
    raise ValueError(f"{name} is not a number in JSON")


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value from JSON has the type of a hint."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Sequence:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if isinstance(value, bool):  # true and false would pass as 1 and 0
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float))
    return isinstance(value, hint)


def _in_words(hint: Any) -> str:
    """Return the name of a type in JSON."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_in_words(argument) for argument in arguments)
    if origin is Sequence:
        return f"a list, [...], each of which is {_in_words(arguments[0])}"
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    return names.get(hint, "null")
