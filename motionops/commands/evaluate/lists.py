"""Which videos a measurement is of."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from motionops.commands.evaluate.flags import Measurement, refuse_given
from motionops.errors import UserError
from motionops.evaluation.protocols.holding_out import hold_out
from motionops.video import Video, find_videos, moving_shapes, read_list
from motionops.video.lists import check_lists, data_place, folder_of


def labelled_videos(config: Measurement) -> tuple[list[Video], list[Video]]:
    """Training and test videos: of two lists, of class folders that are split, or of MovingShapes.

    Raises:
        UserError: no such folder or list; lists that do not go together.
    """
    train, test = _training_and_test(config)
    check_lists(train, test)
    return train, test


def _training_and_test(config: Measurement) -> tuple[list[Video], list[Video]]:
    data = config.data
    if config.split is not None:
        if data is None or config.train or config.test:
            raise UserError("--split: splits the class folders of --data; --train and --test are lists of their own")
        refuse_given(config, ("list_columns",), "of lists; --split takes class folders")
        return hold_out(find_videos(data_place(data)), config.split, config.seed)
    if data is None and config.train is None and config.test is None:
        data = moving_shapes.generate()
    elif data is not None:
        data = Path(folder_of(data_place(data)))
    for given, flag, name in ((config.train, "--train", "train.txt"), (config.test, "--test", "test.txt")):
        if given is None and not ((data or Path()) / name).exists():
            raise UserError(
                f'{flag}: {data or "this folder"} has no {name}, a line "path label" a video; name a list, or '
                "--split 0.2 holds out a fifth of each class folder of --data"
            )
    train = listed_videos(config.train or "train.txt", data, "--train", config.list_columns)
    test = listed_videos(config.test or "test.txt", data, "--test", config.list_columns)
    return train, test


def listed_videos(file: str, data: Path | None, flag: str, columns: Sequence[str] = ()) -> list[Video]:
    """Read a list that is given by its path or by its name in the data folder."""

    def is_there(name: str) -> bool:
        pattern = re.sub(":(train|test|val)$", "", name)
        return os.path.exists(pattern) or bool(glob.glob(pattern))

    if data is not None and not is_there(file) and is_there(str(data / file)):
        file = str(data / file)
    try:
        return read_list(file, root=data, columns=columns)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error
