"""Operations and bytes of a network, beside a count by hand."""

import pytest

from benchmarks.step_model import PRESETS, Call, calls, cost, preset

# C3D's eight convolutions of 3 x 3 x 3 (Tran et al. 2015): inputs, outputs, and the cells of their outputs.
C3D = [
    (3, 64, 16 * 112 * 112),
    (64, 128, 16 * 56 * 56),
    (128, 256, 8 * 28 * 28),
    (256, 256, 8 * 28 * 28),
    (256, 512, 4 * 14 * 14),
    (512, 512, 4 * 14 * 14),
    (512, 512, 2 * 7 * 7),
    (512, 512, 2 * 7 * 7),
]


def test_c3d_by_hand():
    found = cost(Call("c3d", 1, (3, 16, 112, 112), True))
    operations = [2 * 27 * inputs * outputs * cells for inputs, outputs, cells in C3D]
    assert found.forward_operations == sum(operations)
    # Both gradients cost what the forward pass does; pixels get none.
    assert found.backward_operations == 2 * sum(operations) - operations[0]
    elements = sum(outputs * cells for _, outputs, cells in C3D)
    assert found.outputs == elements
    assert found.passes(trained=False) == [(sum(operations), 10 * elements)]
    assert found.passes(trained=True)[1] == (found.backward_operations, 18 * elements)


def test_a_pass_takes_as_long_as_what_there_is_more_of():
    found = cost(Call("c3d", 1, (3, 16, 112, 112), True))
    (done, moved), (back, back_moved) = found.passes(trained=True)
    assert done / 400e12 > moved / 3e12
    assert found.seconds(trained=False) == pytest.approx(done / 400e12)
    assert found.seconds(trained=True) == pytest.approx(done / 400e12 + max(back / 400e12, back_moved / 3e12))


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        # (clips a video, trained): FIMA's Fig. 2, eight keys; MCL's one; MoDist's two pathways; a global view and four
        # clips; clip, key frame, and a motion clip with three hard negatives.
        ("fima", [(2, True), (8, False)]),
        ("mcl", [(1, True), (1, False)]),
        ("modist", [(1, True), (1, False), (1, True), (1, False)]),
        ("controllable", [(4, True), (1, True)]),
        ("context_motion", [(1, True), (1, True), (4, True)]),
    ],
)
def test_what_the_networks_see(trainer, expected):
    assert trainer in PRESETS
    assert [(call.clips, call.trained) for call in calls(trainer, preset(trainer))] == expected
