"""Class folders without lists: split by themselves, clips of one recording on one side."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("tyro")
from motionops.commandline import run_commands
from motionops.commands.evaluate.lists import labelled_videos
from motionops.commands.evaluate.retrieval import Retrieval
from motionops.commands.prepare import COMMANDS
from motionops.errors import UserError
from motionops.evaluation.protocols.holding_out import hold_out, source
from motionops.evaluation.protocols.splits import split_warnings
from motionops.video import Video, read_list

UCF = [
    Video(f"d/{c}/v_{c}_g{g:02d}_c{n:02d}.avi", c) for c in ("Run", "Jump") for g in range(1, 11) for n in range(1, 5)
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/v_Run_g01_c03.avi", "v_Run_g01"),
        ("a/abcdefghijk_000012_000022.mp4", "abcdefghijk"),
        ("a/holiday (2).mp4", "holiday"),
        ("a/holiday - Copy.mp4", "holiday"),
        ("a/goal_clip03.mp4", "goal"),
        ("a/copy.mp4", "copy"),
        ("a/video17.mp4", "video17"),
    ],
)
def test_the_source_of_a_video(name, expected):
    assert source(name) == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_share_of_each_class_is_held_out_and_groups_stay_whole(seed):
    train, test = hold_out(UCF, 0.2, seed)
    assert sorted([*train, *test], key=UCF.index) == UCF
    assert Counter(video.label for video in test) == {"Run": 8, "Jump": 8}  # 2 of 10 groups of 4
    assert not {source(video.path) for video in train} & {source(video.path) for video in test}
    assert split_warnings(train, test) == []
    assert hold_out(UCF[::-1], 0.2, seed)[1] == test[::-1]
    assert hold_out(UCF, 0.2, seed + 1)[1] != test


def test_what_cannot_be_held_out(capsys):
    few = [Video("d/a/x.mp4", "a"), Video("d/a/y.mp4", "a"), Video("d/b/z.mp4", "b"), Video("d/b/z (1).mp4", "b")]
    train, test = hold_out(few, 0.1)
    assert len(test) == 1
    assert test[0].label == "a"
    assert [video.label for video in train] == ["a", "b", "b"]
    assert "1 classes have videos of one source alone, none is held out (b)" in capsys.readouterr().err
    assert len(hold_out(few, 0.9)[0]) == 3  # something to learn from is left
    with pytest.raises(UserError, match="no class has videos of two sources"):
        hold_out(few[2:], 0.5)
    with pytest.raises(UserError, match=r"1 videos lie in no class folder, the first is d/x\.mp4"):
        hold_out([*few, Video("d/x.mp4")], 0.5)


@pytest.fixture
def folders(tiny_shapes, tmp_path):
    """Class folders and nothing else."""
    for video in read_list(tiny_shapes / "train.txt", root=tiny_shapes):
        to = tmp_path / "data" / f"class {video.label}" / Path(video.path).name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video.path, to)
    return tmp_path / "data"


def test_lists_are_written_once_and_say_the_same_as_the_evaluation(folders, tmp_path, capsys):
    argv = ["split", "--data", str(folders), "--output", str(tmp_path / "lists"), "--share", "0.25", "--seed", "3"]
    assert run_commands(COMMANDS, "Prepare.", argv, "prepare") == 0
    assert capsys.readouterr().out.endswith("test.txt (8 videos), 8 classes\n")  # no source has several videos
    written = [read_list(tmp_path / "lists" / f"{name}.txt", root=folders) for name in ("train", "test")]
    assert list(map(len, written)) == [24, 8]
    split = labelled_videos(Retrieval("random", data=folders, split=0.25, seed=3))
    assert [[(v.path, v.label) for v in part] for part in split] == [[(v.path, v.label) for v in p] for p in written]
    shutil.copy(train := Path(written[0][0].path), train.with_stem(f"{train.stem} (1)"))
    again = [*argv[:4], str(tmp_path / "again"), *argv[5:]]
    assert run_commands(COMMANDS, "Prepare.", again, "prepare") == 0
    assert capsys.readouterr().out.endswith(" 8 classes; 1 sources of several videos are each on one side\n")
    assert run_commands(COMMANDS, "Prepare.", argv, "prepare") == 2
    assert "train.txt is there already" in capsys.readouterr().err


def test_folders_without_lists_are_told_of_both_ways(folders, tmp_path):
    with pytest.raises(UserError, match=r'data has no train.txt, a line "path label" a video; .* --split 0.2 holds'):
        labelled_videos(Retrieval("random", data=folders))
    with pytest.raises(UserError, match="--split: splits the class folders of --data"):
        labelled_videos(Retrieval("random", data=folders, split=0.2, train="a.txt"))
