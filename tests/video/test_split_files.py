"""Split files as UCF101, HMDB51, Kinetics, Diving48 and Something-Something v2 distribute them."""

import json
import os

import pytest

from motionops.errors import UserError
from motionops.video import read_list


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def pairs(videos, root):
    return [(os.path.relpath(video.path, root), video.label) for video in videos]


def test_ucf101(tmp_path):
    splits = tmp_path / "ucfTrainTestlist"
    make(splits)
    splits.mkdir()
    (splits / "classInd.txt").write_text("1 ApplyEyeMakeup\r\n2 ApplyLipstick\r\n")
    (splits / "trainlist01.txt").write_text("ApplyLipstick/v_ApplyLipstick_g08_c01.avi 2\r\n")
    (splits / "testlist01.txt").write_text(
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\nApplyLipstick/v_ApplyLipstick_g01_c01.avi\r\n"
    )
    root = tmp_path / "UCF-101"
    assert pairs(read_list(splits / "trainlist01.txt", root), root) == [
        ("ApplyLipstick/v_ApplyLipstick_g08_c01.avi", "2"),
    ]
    assert pairs(read_list(splits / "testlist01.txt", root), root) == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "1"),
        ("ApplyLipstick/v_ApplyLipstick_g01_c01.avi", "2"),
    ]
    (splits / "testlist02.txt").write_text("Unknown/v.avi\n")
    with pytest.raises(UserError, match=r"class 'Unknown' of Unknown/v\.avi is not in"):
        read_list(splits / "testlist02.txt", root)
    (splits / "classInd.txt").unlink()
    assert [video.label for video in read_list(splits / "testlist01.txt", root)] == [None, None]


def test_hmdb51(tmp_path):
    (tmp_path / "brush_hair_test_split1.txt").write_text("a_1.avi 1 \nb_2.avi 2 \nc_3.avi 0 \n")
    (tmp_path / "cartwheel_test_split1.txt").write_text("d d&4.avi 1 \n")
    (tmp_path / "cartwheel_test_split2.txt").write_text("other.avi 1 \n")
    root = tmp_path / "hmdb"
    assert pairs(read_list(tmp_path / "*_test_split1.txt:train", root), root) == [
        ("brush_hair/a_1.avi", "brush_hair"),
        ("cartwheel/d d&4.avi", "cartwheel"),
    ]
    assert pairs(read_list(tmp_path / "*_test_split1.txt:test", root), root) == [("brush_hair/b_2.avi", "brush_hair")]
    assert len(read_list(tmp_path / "brush_hair_test_split1.txt", root)) == 2
    (tmp_path / "clap_test_split1.txt").write_text("#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi 1\n#4_clap.avi 2\n")
    assert pairs(read_list(tmp_path / "clap_test_split1.txt", root), root) == [
        ("clap/#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi", "clap"),
        ("clap/#4_clap.avi", "clap"),
    ]
    with pytest.raises(UserError, match="names no video of the part 'test'"):
        read_list(tmp_path / "cartwheel_test_split1.txt:test", root)
    (tmp_path / "x_test_split1.txt").write_text("a.avi 5\n")
    with pytest.raises(UserError, match=r"expected 'file.avi 0\|1\|2'"):
        read_list(tmp_path / "x_test_split1.txt")


def test_kinetics(tmp_path):
    table = tmp_path / "kinetics_train.csv"
    table.write_text(
        "label,youtube_id,time_start,time_end,split\n"
        '"playing guitar",---QUuC4vJs,84,94,train\n'
        "testifying,--3ouPhoy2A,20,30,train\n"
        "testifying,-missing_id,0,10,validate\n"
    )
    root = tmp_path / "videos"
    make(root, "playing_guitar/---QUuC4vJs_000084_000094.mp4", "train/testifying/--3ouPhoy2A.mkv")
    assert pairs(read_list(table, root), root) == [
        ("playing_guitar/---QUuC4vJs_000084_000094.mp4", "playing guitar"),
        ("train/testifying/--3ouPhoy2A.mkv", "testifying"),
        ("testifying/-missing_id_000000_000010.mp4", "testifying"),
    ]
    assert len(read_list(f"{table}:train", root)) == 2
    assert len(read_list(f"{table}:val", root)) == 1
    table.write_text("youtube_id,time_start,time_end,split\nabc,1,11,test\n")
    assert pairs(read_list(table, root), root) == [("abc_000001_000011.mp4", None)]
    table.write_text("label,youtube_id,time_start,time_end,split\nx,abc,start,11,test\n")
    with pytest.raises(UserError, match="abc: time_start and time_end must be numbers"):
        read_list(table, root)


def test_diving48(tmp_path):
    records = [
        {"vid_name": "8mO4zUuMm3c_00000", "label": 27, "start_frame": 0, "end_frame": 105},
        {"vid_name": "missing_00001", "label": 0, "start_frame": 0, "end_frame": 9},
    ]
    (tmp_path / "Diving48_V2_train.json").write_text(json.dumps(records))
    make(tmp_path, "rgb/8mO4zUuMm3c_00000.mp4")
    assert pairs(read_list(tmp_path / "Diving48_V2_train.json", tmp_path), tmp_path) == [
        ("rgb/8mO4zUuMm3c_00000.mp4", "27"),
        ("missing_00001.mp4", "0"),
    ]


def test_something_something_v2(tmp_path):
    records = [
        {"id": "78687", "label": "holding potato", "template": "Holding [something] next to [something]"},
        {"id": "42326", "label": "spilling", "template": "Spilling [something] onto [something]"},
    ]
    (tmp_path / "something-something-v2-train.json").write_text(json.dumps(records))
    (tmp_path / "something-something-v2-test.json").write_text(json.dumps([{"id": "1420"}]))
    make(tmp_path, "20bn-something-something-v2/78687.webm", "20bn-something-something-v2/42326.webm")
    train = tmp_path / "something-something-v2-train.json"
    assert pairs(read_list(train, tmp_path), tmp_path) == [
        ("20bn-something-something-v2/78687.webm", "Holding something next to something"),
        ("20bn-something-something-v2/42326.webm", "Spilling something onto something"),
    ]
    labels = {"Holding something next to something": "0", "Spilling something onto something": "1"}
    (tmp_path / "something-something-v2-labels.json").write_text(json.dumps(labels))
    assert [video.label for video in read_list(train)] == ["0", "1"]
    assert [video.label for video in read_list(tmp_path / "something-something-v2-test.json")] == [None]
    (tmp_path / "something-something-v2-labels.json").write_text(json.dumps({"Else": "0"}))
    with pytest.raises(UserError, match="template 'Holding something next to something' of video 78687 is not in"):
        read_list(train)


@pytest.mark.parametrize("text", ["{not json", "3", '[{"name": "x"}]', "[[1]]"])
def test_other_json(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x.json: (is not json|expected)"):
        read_list(tmp_path / "x.json")
