"""Figures without a display: panels, frames in them, and the file that they become."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from motionops.commandline import warn

DOTS_PER_INCH = 100
# Colours of a quantity: as even to the eye as the quantity is, also in grey and to those who see no red or green.
HEAT = "inferno"
_fineness: ContextVar[tuple[int, bool]] = ContextVar("fineness", default=(DOTS_PER_INCH, False))


@contextmanager
def drawn_for(dots_per_inch: int = DOTS_PER_INCH, svg: bool = False) -> Iterator[None]:
    """Within it pictures have that many dots per inch, and with ``svg`` each PNG has an SVG beside it, for a paper."""
    before = _fineness.set((dots_per_inch, svg))
    try:
        yield
    finally:
        _fineness.reset(before)


def figure(lines: int, columns: int, *, width: float, height: float, title: str | None = None):
    """A figure of lines x columns panels of the given size in inches, and its axes as a flat list."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'motionops[train]'") from error
    # A Figure of its own, without pyplot: no display, no state shared with a user's own figures.
    head = 0.3 if title else 0.0
    made = Figure(figsize=(width * columns, height * lines + head), dpi=_fineness.get()[0], layout="constrained")
    FigureCanvasAgg(made)
    if title:
        made.suptitle(written(title), fontsize=9)
    return made, list(made.subplots(lines, columns, squeeze=False).flat)


def written(text: str, within: float | None = None, *, size: float = 8.0) -> str:
    """A name as a picture can show it: `$` begins no formula, and letters that no font here has are a number.

    The numbers are the same in all pictures; a line on stderr says which is which. Of what is wider than ``within``
    inches in letters of that size, the middle is left out.
    """
    pieces = []
    for known, letters in groupby(" ".join(text.split()), lambda letter: ord(letter) in _usual_letters()):
        piece = "".join(letters)
        if not known and (font := _font_of(piece)) is None:
            if piece not in _numbers:
                _numbers[piece] = len(_numbers) + 1
                warn(f"no font here has {piece}: pictures show it as #{_numbers[piece]}; {_mending(piece)} mends it")
            piece = f"#{_numbers[piece]}"
        elif not known:
            _further[font] = None
        pieces.append(piece)
    shown = "".join(pieces)
    if within is not None:
        shown = _without_its_middle(shown, within, size)
    return shown.replace("$", r"\$")


def _without_its_middle(text: str, inches: float, size: float) -> str:
    """Names often differ in their last words alone, so both ends stay."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=["sans-serif", *_further], size=size)
    shown, left = text, len(text)
    while left > 2 and text_to_path.get_text_width_height_descent(shown, font, False)[0] > 0.95 * 72 * inches:
        left -= 1
        shown = f"{text[: (left + 1) // 2].rstrip()}…{text[-(left // 2) :].lstrip()}"
    return shown


def numbers_shown() -> dict[str, int]:
    """The numbers that pictures of this process show, by what they stand for."""
    return dict(_numbers)


def _mending(letters: str) -> str:
    """A font for letters that none has: of free ones, Noto's are named by the scripts."""
    script = unicodedata.name(letters[0], "").partition(" ")[0]
    if script in ("CJK", "HANGUL", "HIRAGANA", "KATAKANA"):
        return "Noto Sans CJK (Debian's fonts-noto-cjk)"
    return f"a font of {script.lower() or 'its script'}, as Noto has them,"


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
    for fonts in (lambda: fontManager.ttflist, _new_fonts):
        for font in sorted(fonts(), key=lambda font: (font.style, font.weight != 400, font.name)):
            # It has every letter, as a box.
            if not font.name.startswith("Last Resort"):
                with suppress(OSError, RuntimeError):
                    if wanted <= _letters(font.fname):
                        return font.name
    return None


@cache
def _new_fonts() -> list:
    """Fonts that were installed since matplotlib first looked for them: it keeps what it found then, for ever."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    before = len(fontManager.ttflist)
    for file in sorted({*findSystemFonts()} - {font.fname for font in fontManager.ttflist}):
        with suppress(OSError, RuntimeError):
            fontManager.addfont(file)
    return fontManager.ttflist[before:]


def show(axis, frame: Tensor) -> None:
    axis.imshow(frame.cpu().numpy())
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def cover(axis, values: Tensor) -> None:
    """A map ``[H, W]`` in 0..1 over the frame of ``axis``: the less there is of it, the more of the frame is seen."""
    values = values.cpu().numpy()
    axis.imshow(values, cmap=HEAT, vmin=0, vmax=1, alpha=0.35 + 0.5 * values)


def check_frames(name: str, frames: Tensor, rank: int) -> None:
    axes = {3: "[H, W, 3]", 4: "[N, H, W, 3]", 5: "[B, T, H, W, 3]"}[rank]
    if frames.ndim != rank or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or 0 in frames.shape:
        raise ValueError(f"{name}: frames must be uint8 {axes}, got {frames.dtype} {list(frames.shape)}")


def colour_bar(figure, axes, name: str, *, low: float = 0.0, high: float = 1.0, colours: str = HEAT) -> None:
    """A bar at the right of ``axes`` that says what the colours between ``low`` and ``high`` mean."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    # Of one height on the page, however many lines the figure has.
    lines = len({axis.get_subplotspec().rowspan.start for axis in axes})
    scale = ScalarMappable(Normalize(low, high), cmap=colours)
    bar = figure.colorbar(scale, ax=axes, fraction=0.04, pad=0.02, shrink=min(1.0, 2.0 / lines), anchor=(0.0, 1.0))
    bar.set_label(name, fontsize=7)
    bar.ax.tick_params(labelsize=6)


def save(figure, file: str | os.PathLike) -> Path:
    if _further:
        from matplotlib.text import Text

        # A family of one weight that is not "normal" does, too.
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        for text in figure.findobj(Text):
            text.set_fontfamily([*text.get_fontfamily(), *_further])
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    for target in (file, file.with_suffix(".svg")) if _fineness.get()[1] else (file,):
        # Written beside and renamed, so that a viewer never opens half a picture.
        part = target.with_name(f".{target.name}.part")
        figure.savefig(part, format=target.suffix.removeprefix(".") or "png")
        os.replace(part, target)
    return file
