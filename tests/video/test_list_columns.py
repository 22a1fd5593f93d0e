"""Lists of more than a path and a label, with headers, quotes, and in the encodings that people save them in."""

import os

import pytest

from motionops.errors import UserError
from motionops.evaluation import check_lists
from motionops.video import Video, read_list


def read(folder, text, columns=None, name="list.txt", encoding="utf-8"):
    """What a list of this text holds, by names below its folder."""
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    videos = read_list(folder / name, columns=columns)
    return [(os.path.relpath(video.path, folder), video.labels or video.label) for video in videos]


FRAMES = "left/a b.mp4 40 0\nup/c.mp4 39 12\n"


@pytest.mark.parametrize(
    "text",
    [
        FRAMES,  # TSM, UniFormer, mmaction2
        "left/a.mp4,40,0\n",
        "a.mp4 1 3\nb.mp4 2\n",
        "v_without_suffix 40 0\nw_without_suffix 39 1\n",
        "a.mp4,playing guitar,12\nb.mp4,running,3\n",
        "a.mp4\t40\trunning\nb.mp4\t3\tto sit\n",
        '"a, b.mp4",40,3\n',
    ],
)
def test_a_third_column_is_refused_and_not_guessed(tmp_path, text):
    with pytest.raises(UserError, match=r"third column; --list-columns path,frames,label .* path,labels") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "columns", "found"),
    [
        (FRAMES, "path,frames,label", [("left/a b.mp4", "0"), ("up/c.mp4", "12")]),
        (FRAMES, ("path", "labels"), [("left/a b.mp4", ("40", "0")), ("up/c.mp4", ("39", "12"))]),
        ("a.mp4 1 3\nb.mp4 2\nc.mp4\n", "path,labels", [("a.mp4", ("1", "3")), ("b.mp4", ("2",)), ("c.mp4", None)]),
        ("a.mp4,to run;to sit\n", "path,labels", [("a.mp4", ("to run", "to sit"))]),
        ('"a, b.mp4","1,3"\n', "path,labels", [("a, b.mp4", ("1", "3"))]),
        ("a, b.mp4,40,3\n", "path,frames,label", [("a, b.mp4", "3")]),
        ("a.mp4 30 playing guitar\n", "path,frames,label", [("a.mp4", "playing guitar")]),
        ("no suffix 30 7\n", "path,frames,label", [("no suffix", "7")]),
        ("to run,a b.mp4\nsit,c.mp4\n", "label,path", [("a b.mp4", "to run"), ("c.mp4", "sit")]),
        ("a.mp4,running,12\n", "path,ignore,label", [("a.mp4", "12")]),
        ("path,frames,label\na.mp4,30,x\n", None, [("a.mp4", "x")]),
        ("video_path num_frames class\na b.mp4 30 x\n", None, [("a b.mp4", "x")]),
        ('"file","label"\n"a.mp4","x"\n', None, [("a.mp4", "x")]),
        ("path\na.mp4\n", None, [("a.mp4", None)]),
        ("path,n,label\na.mp4,30,x\n", "path,ignore,label", [("a.mp4", "x")]),
        ('"a, b.mp4","playing guitar"\n"c d.mp4",run\n', None, [("a, b.mp4", "playing guitar"), ("c d.mp4", "run")]),
        ('"a b.mp4" 3\n', None, [("a b.mp4", "3")]),
    ],
)
def test_columns(tmp_path, text, columns, found):
    assert read(tmp_path, text, columns) == found


def test_columns_that_are_none(tmp_path):
    for columns, text in (
        ("path,foo", "unknown column 'foo'"),
        ("frames,label", "one path and at most one label"),
        ("path,label,labels", "one path and at most one label"),
        ("labels,path", "so they come last"),
        ("path,frames,label", r"'a.mp4 x 1' does not have the columns path,frames,label"),
    ):
        with pytest.raises(UserError, match=text):
            read(tmp_path, "a.mp4 x 1\n", columns)
    with pytest.raises(UserError, match=r"its header .* names several labels"):
        read(tmp_path, "video,class_id,class\na.mp4,3,x\n")
    with pytest.raises(UserError, match="a json list has no columns"):
        read(tmp_path, "[]", "path,label", name="list.json")


def test_several_labels_do_for_training_and_not_for_an_evaluation(tmp_path):
    several = [Video("a.mp4", None, labels=("1", "3")), Video("b.mp4", "2", labels=("2",))]
    with pytest.raises(UserError, match=r"test list has 1 videos with several labels, the first is a\.mp4 \(1, 3\)"):
        check_lists(several[1:], several)
    check_lists(several[1:], several[1:])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path, encoding):
    assert read(tmp_path, "走/a b.mp4 走路\r\nc\u2028d.mp4 1\r\n", encoding=encoding) == [
        ("走/a b.mp4", "走路"),
        ("c\u2028d.mp4", "1"),
    ]


@pytest.mark.parametrize("on_disk", ["jos\xe9.mp4".encode(), "jos\xe9.mp4".encode("latin-1")])
def test_names_in_latin_1_lead_to_the_file(tmp_path, on_disk):
    """To one of the same letters, or of the same bytes, as archives of other systems leave them."""
    (tmp_path / os.fsdecode(on_disk)).touch()
    (tmp_path / "list.txt").write_bytes("jos\xe9.mp4 caf\xe9\n".encode("latin-1"))
    (video,) = read_list(tmp_path / "list.txt")
    assert os.path.exists(video.path)
    assert video.label == "café"


def test_what_is_no_text(tmp_path):
    (tmp_path / "video.txt").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(range(256)))
    (tmp_path / "half.txt").write_bytes("a.mp4 1\n".encode("utf-16")[:-1])
    for name, text in (("video.txt", "is not a text file"), ("half.txt", "is not whole UTF-16")):
        with pytest.raises(UserError, match=text):
            read_list(tmp_path / name)


def test_names_that_begin_with_a_number_sign(tmp_path):
    """As 16 of HMDB51's do; a line that was taken out is none of them."""
    for name in ("#20_Rhythm_clap.avi", "taken out.mp4", "#folder/v.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    text = "# a comment\n#20_Rhythm_clap.avi 1\n#taken out.mp4 2\n#missing.avi 3\n#\n## x.mp4 1\n"
    text += "#no video\n#folder/v.mp4 4"
    assert read(tmp_path, text) == [("#20_Rhythm_clap.avi", "1"), ("#missing.avi", "3"), ("#folder/v.mp4", "4")]
