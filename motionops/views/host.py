"""Draws are made on the CPU, whatever torch's default device is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

CPU = torch.device("cpu")

Given = ParamSpec("Given")
Result = TypeVar("Result")


def on_the_cpu(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """``function``, whose new tensors are on the CPU unless it says otherwise."""

    @functools.wraps(function)
    def call(*arguments: Given.args, **named: Given.kwargs) -> Result:
        if torch.get_default_device() == CPU:  # as nearly always: a context doubles what a small call costs
            return function(*arguments, **named)
        with CPU:
            return function(*arguments, **named)

    return call
