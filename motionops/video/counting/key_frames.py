"""Where decoding of a video may begin: its key frames' numbers and times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

RECORD = re.compile(r"(\d+:-?\d+(\+\d+)?( \d+:-?\d+(\+\d+)?)*)?")
APART = 16  # frames from one that is kept to the next: fewer are decoded in the time that seeking takes


class KeyFrame(NamedTuple):
    """The number of a frame, when it is shown, and the time that leads to it, in units of the stream's clock.

    MP4's demuxer looks for times of decoding, which lag behind by more where frame rates vary.
    """

    number: int
    shown: int
    sought: int


class KeyFrames(str):
    """As text, "250:128000 500:256000+512" (number, time, what is added to it to find the frame): lists of a million
    videos need it small. Frame 0 is not in it."""

    __slots__ = ()

    @classmethod
    def of(cls, keys: Iterable[KeyFrame]) -> KeyFrames:
        """Of all key frames, in rising order, those that are kept."""
        kept, last = [], 0
        for number, shown, sought in keys:
            if number >= last + APART:
                kept.append(f"{number}:{shown}" + (f"+{sought - shown}" if sought > shown else ""))
                last = number
        return cls(" ".join(kept))

    @classmethod
    def read(cls, text: object) -> KeyFrames:
        """Those of a record; ValueError where it holds none."""
        if not isinstance(text, str) or not RECORD.fullmatch(text):
            raise ValueError(f"{text!r} names no key frames")
        return cls(text)

    def up_to(self, number: int) -> list[KeyFrame]:
        """Those at or before a frame; without any, decoding begins at the video's beginning."""
        found = []
        for pair in self.split():
            key, _, times = pair.partition(":")
            if int(key) > number:
                break
            shown, _, later = times.partition("+")
            found.append(KeyFrame(int(key), int(shown), int(shown) + int(later or 0)))
        return found


NOT_KNOWN = KeyFrames()


class Run(NamedTuple):
    """Frames that are decoded in one go: from the last of these key frames on, without any from the beginning."""

    numbers: list[int]
    keys: list[KeyFrame]


def runs_by_key_frame(numbers: Sequence[int], keys: KeyFrames) -> list[Run]:
    """Rising frame numbers as runs: where a key frame lies between two of them, decoding may begin anew."""
    if not keys or not numbers:
        return [Run(list(numbers), [])]
    known = keys.up_to(numbers[-1])
    runs: list[Run] = []
    place = 0
    for number in numbers:
        before = place
        while place < len(known) and known[place].number <= number:
            place += 1
        if runs and place == before:
            runs[-1].numbers.append(number)
        else:
            runs.append(Run([number], known[:place]))
    return runs
