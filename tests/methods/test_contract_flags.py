"""Every flag that has a range refuses what lies beyond each of its bounds, and holds the bounds that belong to it.

The bounds are read out of the sentence that a user is told, and not out of the numbers that are compared.
"""

import math
import re
from dataclasses import replace
from typing import get_args, get_origin, get_type_hints

import pytest

from motionops.commands.train import exported
from motionops.errors import UserError
from motionops.flags import Range
from motionops.training.config import TrainConfig
from tests.methods.tiny import NAMES, package_of

SENTENCES = {
    r"must be positive": lambda: (0.0, True, math.inf, True),
    r"must not be negative": lambda: (0.0, False, math.inf, True),
    r"must be at least (\S+)": lambda low: (low, False, math.inf, False),
    r"must be at most (\S+)": lambda high: (-math.inf, False, high, False),
    r"must be epochs from (\S+) on": lambda low: (low, False, math.inf, False),
    r"must be in ([\[(])(\S+), (\S+?)([\])])": lambda left, low, high, right: (low, left == "(", high, right == ")"),
}


def bounds(words):
    """(low, whether it is out, high, whether it is out)."""
    ((bound, found),) = [(b, m) for pattern, b in SENTENCES.items() if (m := re.fullmatch(pattern, words))]
    return bound(*(part if part in "[]()" else float(part) for part in found.groups()))


def default(name):
    return exported(package_of(name), TrainConfig)()


def ranges(config):
    """(flag's field, its range, whether it is of whole numbers) of each range."""
    for field, hint in get_type_hints(type(config), include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Range):
                kind = get_args(hint)[0]
                kind = get_args(kind)[0] if get_origin(kind) is tuple else kind
                yield field, mark, kind is int


CASES = [(name, *each) for name in NAMES for each in ranges(default(name))]


def with_value(config, field, value):
    """A tuple's last value is the one; () is a tuple of any length."""
    held = getattr(config, field)
    return replace(config, **{field: (*held[:-1], value) if isinstance(held, tuple) else value})


def said(config, field, value):
    """What the configuration is refused with, if it is."""
    try:
        with_value(config, field, value).check()
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("method", "field", "mark", "whole"), CASES, ids=[f"{method}-{field}" for method, field, *_ in CASES]
)
def test_a_flag_refuses_what_lies_beyond_its_bounds(method, field, mark, whole):
    config = default(method)
    low, low_is_out, high, high_is_out = bounds(mark.words)
    beyond, held = [], []
    for bound, outward, is_out in ((low, -math.inf, low_is_out), (high, math.inf, high_is_out)):
        if math.isfinite(bound):
            (beyond if is_out else held).append(bound)
            beyond.append(bound + math.copysign(1, outward) if whole else math.nextafter(bound, outward))
    if whole:
        beyond, held = [int(value) for value in beyond], [int(value) for value in held]
    else:
        beyond += [math.nan, -math.inf, math.inf]
    assert beyond
    flag = f"--{field.replace('_', '-')}"
    for value in beyond:
        text = said(config, field, value)
        assert re.fullmatch(rf"{flag}: {re.escape(mark.words)}, got (\S+ )*{re.escape(str(value))}", text), value
    for value in held:
        assert not said(config, field, value).startswith(f"{flag}: {mark.words}"), value


@pytest.mark.parametrize("method", NAMES)
def test_a_number_without_a_range_has_a_check_of_its_own(method):
    config = default(method)
    hints = get_type_hints(type(config), include_extras=True)
    numbers = {field for field, hint in hints.items() if hint in (int, float)}
    for field in numbers:
        assert said(config, field, -1), f"--{field.replace('_', '-')}: -1 is taken"
