"""Figures without a display: panels, frames in them, and the file that they become."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from motionops.commandline import warn

DOTS_PER_INCH = 100


def figure(lines: int, columns: int, *, width: float, height: float):
    """A figure of lines x columns panels of the given size in inches, and its axes as a flat list."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'motionops[train]'") from error
    # A Figure of its own, without pyplot: no display, no state shared with a user's own figures.
    made = Figure(figsize=(width * columns, height * lines), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(made)
    return made, list(made.subplots(lines, columns, squeeze=False).flat)


def written(text: str) -> str:
    """A name as a picture can show it: `$` begins no formula, and letters that no font here has are a number.

    The numbers are the same in all pictures; a line on stderr says which is which.
    """
    pieces = []
    for known, letters in groupby(" ".join(text.split()), lambda letter: ord(letter) in _usual_letters()):
        piece = "".join(letters)
        if not known and (font := _font_of(piece)) is None:
            if piece not in _numbers:
                _numbers[piece] = len(_numbers) + 1
                warn(f"no font here has {piece}: pictures show it as #{_numbers[piece]}; a font of its script mends it")
            piece = f"#{_numbers[piece]}"
        elif not known:
            _further[font] = None
        pieces.append(piece)
    return "".join(pieces).replace("$", r"\$")


_numbers: dict[str, int] = {}  # of what no font has
_further: dict[str, None] = {}  # families that were needed, in their order


@cache
def _usual_letters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont

    return _letters(findfont(FontProperties()))


@cache
def _letters(file: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(file).get_charmap())


@cache
def _font_of(letters: str) -> str | None:
    """The family of a font that has all the letters; None where there is none."""
    from matplotlib.font_manager import fontManager

    wanted = set(map(ord, letters))
    for font in sorted(fontManager.ttflist, key=lambda font: (font.style, font.weight != 400, font.name)):
        # It has every letter, as a box.
        if not font.name.startswith("Last Resort"):
            with suppress(OSError, RuntimeError):
                if wanted <= _letters(font.fname):
                    return font.name
    return None


def show(axis, frame: Tensor) -> None:
    axis.imshow(frame.cpu().numpy())
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def check_frames(name: str, frames: Tensor, rank: int) -> None:
    axes = {3: "[H, W, 3]", 4: "[N, H, W, 3]", 5: "[B, T, H, W, 3]"}[rank]
    if frames.ndim != rank or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or 0 in frames.shape:
        raise ValueError(f"{name}: frames must be uint8 {axes}, got {frames.dtype} {list(frames.shape)}")


def save(figure, file: str | os.PathLike) -> Path:
    if _further:
        from matplotlib.text import Text

        for text in figure.findobj(Text):
            text.set_fontfamily([*text.get_fontfamily(), *_further])
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed, so that a viewer never opens half a picture.
    part = file.with_name(f".{file.name}.part")
    figure.savefig(part, format="png")
    os.replace(part, file)
    return file
