"""All pictures of a backbone, chapter by chapter."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from motionops.evaluation.pictures import drawing
from motionops.evaluation.pictures.book.activity import (
    activation_chapter,
    affinity_chapter,
    evidence_chapter,
    foreground_chapter,
)
from motionops.evaluation.pictures.book.gallery import gallery_chapter
from motionops.evaluation.pictures.book.movement import motion_chapter
from motionops.evaluation.pictures.book.scores import (
    confusion_chapter,
    curve_chapter,
    neighbour_chapter,
    score_chapter,
    training_chapter,
)
from motionops.evaluation.pictures.book.subject import PictureSubject
from motionops.evaluation.pictures.page import Section, write_page

_FIRST = (
    score_chapter,
    curve_chapter,
    neighbour_chapter,
    gallery_chapter,
    confusion_chapter,
    activation_chapter,
    evidence_chapter,
    motion_chapter,
)


def write_book(of: PictureSubject, folder: str | os.PathLike, title: str) -> tuple[Path, int]:
    """Draw all pictures of a subject into a folder, and report.html that holds them: the page, and their number."""
    sections = chapters(of, folder)
    page = write_page(title, sections, Path(folder) / "report.html")
    return page, sum(len(section.pictures) for section in sections)


def chapters(of: PictureSubject, folder: str | os.PathLike) -> list[Section]:
    """Draw all pictures of a subject into a folder; the sections of a report, without those that would be empty."""
    own = (foreground_chapter,) if of.parts is None else of.parts.chapters
    every = (*_FIRST, *own, affinity_chapter, training_chapter)
    drawn = [section for chapter in every if (section := chapter(of, Path(folder))) is not None]
    if numbers := drawing.numbers_shown():
        text = "Letters that no font has where the pictures were drawn, and the numbers that stand for them."
        drawn.append(Section("Numbers for letters", text, [("number", "letters"), *_numbered(numbers)]))
    return drawn


def _numbered(numbers: Mapping[str, int]) -> list[tuple[str, str]]:
    return [(f"#{number}", letters) for letters, number in numbers.items()]
