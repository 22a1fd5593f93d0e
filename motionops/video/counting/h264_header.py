"""What an H.264 stream's header says of its pictures (ITU-T H.264, sections 7.3.2.1.1 and 7.4.1)."""

from __future__ import annotations

from typing import NamedTuple

SEQUENCE = 7  # nal_unit_type of a sequence parameter set
HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))  # say how colour is stored
YUV_444 = 3  # chroma_format_idc


class Sequence(NamedTuple):
    """What a sequence parameter set says: how many earlier pictures one may be predicted from (max_num_ref_frames),
    the bits of a slice's frame_num, and whether all pictures are whole frames of three planes together."""

    references: int
    number_bits: int
    whole_frames: bool


def sequences(extradata: bytes | None) -> list[Sequence]:
    """The sequence parameter sets that are found whole.

    Args:
        extradata: the codec's header as MP4 and Matroska store it (avcC), or as a byte stream (Annex B).
    """
    found = []
    for unit in _sequences(extradata or b""):
        try:
            found.append(_sequence(_Bits(unit)))
        except IndexError:
            continue  # it ends before it says so
    return found


def reference_frames(extradata: bytes | None) -> int | None:
    """How many earlier pictures a picture may be predicted from, by the sequence that allows most; None without any."""
    return max((sequence.references for sequence in sequences(extradata)), default=None)


def _sequences(data: bytes) -> list[bytes]:
    """The sequence parameter sets, without the byte that names their type."""
    units = []
    if data[:1] == b"\x01":  # avcC: version, profile, compatibility, level, size of lengths, then counted sets
        place = 6
        for _ in range(data[5] & 31 if len(data) > 5 else 0):
            length = int.from_bytes(data[place : place + 2], "big")
            units.append(data[place + 2 : place + 2 + length])
            place += 2 + length
    else:
        units = data.split(b"\x00\x00\x01")[1:]
    return [unit[1:].replace(b"\x00\x00\x03", b"\x00\x00") for unit in units if unit and unit[0] & 31 == SEQUENCE]


def _sequence(bits: _Bits) -> Sequence:
    profile, planes_apart = bits.number(8), 0
    bits.number(16)  # constraints, level
    bits.golomb()  # seq_parameter_set_id
    if profile in HIGH_PROFILES:
        chroma = bits.golomb()
        if chroma == YUV_444:
            planes_apart = bits.number(1)
        bits.golomb()  # bit_depth_luma_minus8
        bits.golomb()  # bit_depth_chroma_minus8
        bits.number(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.number(1):
            for matrix in range(12 if chroma == YUV_444 else 8):
                if bits.number(1):
                    _skip_scaling_list(bits, 16 if matrix < 6 else 64)
    number_bits = bits.golomb() + 4
    order = bits.golomb()  # pic_order_cnt_type
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.number(1)
        bits.golomb()
        bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    references = bits.golomb()
    bits.number(1)  # gaps_in_frame_num_value_allowed_flag
    bits.golomb()  # width and height in macroblocks
    bits.golomb()
    return Sequence(references, number_bits, bool(bits.number(1)) and not planes_apart)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.golomb()  # signed: 1, -1, 2, -2, ...
            following = (last + ((code + 1) // 2 if code % 2 else -code // 2)) % 256
        last = following or last


class _Bits:
    """Reads bits; IndexError past the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def number(self, bits: int) -> int:
        value = 0
        for _ in range(bits):
            value = value << 1 | self.data[self.place // 8] >> (7 - self.place % 8) & 1
            self.place += 1
        return value

    def golomb(self) -> int:
        """An unsigned Exp-Golomb code."""
        zeros = 0
        while not self.number(1):
            zeros += 1
        return (1 << zeros) - 1 + self.number(zeros)
