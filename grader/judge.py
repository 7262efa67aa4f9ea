"""Compare the record of a submission with that of the solution and describe the first difference.

Runs in its own process after the student's was killed: no other process reads the expected numbers.
"""

import io
import json
import math
from typing import Any

import numpy as np

# Probability that a correct random weight fails the test of its distribution.
FALSE_ALARM = 1e-8

Record = list[tuple[str, dict[str, Any], np.ndarray]]


def read_record(content: bytes) -> Record:
    """Read what ``Trial.to_bytes`` wrote, without running any code in it.

    Raises:
        ValueError, KeyError, OSError: it is not such a record.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        index = json.loads(str(archive["index"]))
        return [(what, meta, archive[str(i)]) for i, (what, meta) in enumerate(index)]


def compare(found: Record, expected: Record, brief: bool = False) -> str:
    """Return the first difference in one sentence, or only its place; "" if there is none.

    The expected record alone decides how to compare, and holds all that a brief answer says.
    """
    # By name, not by position: modules may register their parts in any order.
    arrays: dict[str, list[np.ndarray]] = {}
    for what, _, array in reversed(found):
        arrays.setdefault(what, []).append(array)
    for what, meta, wanted in expected:
        if not arrays.get(what):
            return what if brief else f"{what}: nothing was computed"
        difference = _COMPARE[meta["kind"]](what, arrays[what].pop(), wanted, meta)
        if difference:
            return what if brief else difference
    return ""


def _close(what: str, found: np.ndarray, wanted: np.ndarray, meta: dict[str, Any]) -> str:
    if found.shape != wanted.shape:
        text = f"{what} has shape {found.shape}; expected {wanted.shape}"
        return text + "; it is transposed" * _is_near(found, wanted.T, meta["tolerance"])
    if found.dtype.kind != "f":
        return f"{what} has numbers of type {found.dtype}; expected float32"
    if wanted.size == 0:
        return ""
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(found.astype(np.float64) - wanted)
    gap = np.where(np.isfinite(gap), gap, np.inf)  # NaN differs from everything
    limit = max(
        meta["tolerance"] * max(float(np.abs(wanted).max()), 1e-3), meta.get("absolute", 0.0)
    )
    if gap.max() <= limit:
        return ""
    place = np.unravel_index(int(np.argmax(gap > limit)), gap.shape)
    where = f" at index {tuple(int(i) for i in place)}" if place else ""
    text = f"{what} is {found[place]:.6g}{where}; expected {wanted[place]:.6g}"
    if words := _recognise(found, wanted, meta["tolerance"]):
        return f"{text}. {words}"
    if gap.size > 1:
        text += f". {np.count_nonzero(gap > limit)} of {gap.size} entries differ"
        if (np.abs(np.sort(found, axis=None) - np.sort(wanted, axis=None)) <= limit).all():
            text += "; the numbers are correct, their order is not"
        elif np.isfinite(found).all():
            text += f"; yours lie in {_range(found)}, expected in {_range(wanted)}"
        else:
            text += f"; {np.count_nonzero(~np.isfinite(found))} of yours are NaN or infinite"
    return text


def _recognise(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> str:
    """Return in words what turns all of the expected numbers into those found, "" if unknown."""
    if wanted.size < 2 or not np.isfinite(found).all():
        return ""
    wanted = wanted.astype(np.float64)
    if wanted.ndim == 2 and _is_near(found, wanted.T, tolerance):
        return "It is the transpose of what is expected"
    with np.errstate(over="ignore", invalid="ignore"):
        exponentials = np.exp(wanted - wanted.max(axis=-1, keepdims=True))
        factor = float((found * wanted).sum() / max(float((wanted**2).sum()), 1e-300))
    if _is_near(found, exponentials / exponentials.sum(axis=-1, keepdims=True), tolerance):
        return "It is the softmax of what is expected"
    if abs(factor) > tolerance and _is_near(found, factor * wanted, tolerance):
        return f"All numbers are {factor:.4g} times the expected ones"
    return ""


def _is_near(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    """Return whether two arrays have the same shape and nearly the same numbers."""
    if found.shape != wanted.shape or wanted.size == 0 or found.dtype.kind != "f":
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        gap = np.abs(found.astype(np.float64) - wanted).max()
    return bool(gap <= max(tolerance, 1e-6) * np.abs(wanted).max())


def _range(numbers: np.ndarray) -> str:
    return f"[{numbers.min():.4g}, {numbers.max():.4g}]"


def _same(what: str, found: np.ndarray, wanted: np.ndarray, meta: dict[str, Any]) -> str:
    return "" if str(found) == str(wanted) else f"{what} is {str(found)[:200]}; expected {wanted}"


def _test(what: str, found: np.ndarray, wanted: np.ndarray, meta: dict[str, Any]) -> str:
    return "" if str(found) == str(wanted) else f"{what}: {str(found)[:600]}"


def _parameters(what: str, found: np.ndarray, wanted: np.ndarray, meta: dict[str, Any]) -> str:
    has, needs = (str(text).split("\n") if str(text) else [] for text in (found, wanted))
    for parameter in needs:
        if parameter not in has:
            listed = ", ".join(has[:6]) + (", ..." if len(has) > 6 else "")
            return f"{what} has no parameter {parameter}; it registers {listed or 'none'}"
    extra = [parameter for parameter in has if parameter not in needs]
    return f"{what} has an extra parameter: {extra[0]}" if extra else ""


def _drawn(what: str, found: np.ndarray, wanted: np.ndarray, meta: dict[str, Any]) -> str:
    """Compare the empirical distribution function of a weight with the expected one.

    For n independent draws from the expected distribution, their largest difference satisfies
    P(gap > limit) <= 2 exp(-2 n limit ** 2) (Dvoretzky, Kiefer and Wolfowitz 1956, with the
    constant of Massart 1990).
    """
    if found.shape != wanted.shape:
        return f"{what} has shape {found.shape}; expected {wanted.shape}"
    distribution, std = meta["distribution"], meta["std"]
    drawn = np.sort(found.astype(np.float64), axis=None) / std
    if distribution == "uniform":
        cdf = np.clip(drawn / math.sqrt(12) + 0.5, 0, 1)
    else:
        cdf = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in drawn.tolist()])
    steps = np.arange(len(drawn) + 1) / len(drawn)
    gap = max((steps[1:] - cdf).max(), (cdf - steps[:-1]).max())
    if gap <= math.sqrt(math.log(2 / FALSE_ALARM) / (2 * len(drawn))):  # false for NaN
        return ""
    return (
        f"{what} has mean {found.mean():.2g}, standard deviation {found.std():.3g} and maximum "
        f"{found.max():.3g}; expected a {distribution} distribution with mean 0 and standard "
        f"deviation {std:.3g}"
    )


def _random(what: str, found: np.ndarray, wanted: np.ndarray, meta: dict[str, Any]) -> str:
    """Check initial values: random, the same for the same seed, different for another."""
    if found.shape != wanted.shape:
        return f"{what} cannot be compared between two instances"
    first, second, other = found
    if not np.isfinite(found).all():
        return f"{what} contains memory that was never set; expected random numbers"
    if np.ptp(found[0, :-2]) == 0 and found.shape[1] > 3:  # with the mean and the deviation
        return f"{what} is {found[0, 0]:.6g} everywhere; expected random numbers"
    if (first != second).any():
        return f"{what} differs between two instances with the same seed; expected the same"
    if (first == other).all():
        return f"{what} is the same for two seeds; expected different random numbers"
    return ""


def _different(what: str, found: np.ndarray, wanted: np.ndarray, meta: dict[str, Any]) -> str:
    if found.shape != wanted.shape:
        return f"{what} have shape {found.shape[1:]}; expected {wanted.shape[1:]}"
    return f"{what} are the same; expected different ones" if (found[0] == found[1]).all() else ""


_COMPARE = {
    "close": _close,
    "same": _same,
    "parameters": _parameters,
    "drawn": _drawn,
    "different": _different,
    "random": _random,
    "test": _test,
}
