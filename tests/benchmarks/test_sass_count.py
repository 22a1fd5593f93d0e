"""Counting machine code, on the text that cuobjdump prints."""

import pytest

from benchmarks import sass_count

NAME = "_ZN9motionops12_GLOBAL__N_125flow_edges_forward_kernelIfLi4EEEvNS_9FlowEdgesE"
# an outer loop from 0x10 on, around one from 0x20 on; another that touches shared memory alone; a branch forward
SASS = f"""
	code for sm_90
		Function : {NAME}
	.headerflags	@"EF_CUDA_SM90"
        /*0000*/                   S2R R0, SR_TID.X ;            /* 0x0000000000007919 */
                                                                 /* 0x000ff00000000800 */
        /*0010*/                   IADD3 R1, R1, 0x1, RZ ;       /* 0x0000000000007919 */
        /*0020*/             @!P0  LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ; /* 0x0000000000007919 */
        /*0030*/                   FFMA R4, R4, R4, R5 ;         /* 0x0000000000007919 */
        /*0040*/                   MUFU.SQRT R4, R4 ;            /* 0x0000000000007919 */
        /*0050*/               @P1 BRA 0x70 ;                    /* 0x0000000000007919 */
        /*0060*/                   IMAD.MOV.U32 R6, RZ, RZ, R4 ; /* 0x0000000000007919 */
        /*0070*/                   STG.E.128 desc[UR4][R8.64], R4 ; /* 0x0000000000007919 */
        /*0080*/               @P0 BRA 0x20 ;                    /* 0x0000000000007919 */
        /*0090*/              @!P2 BRA 0x10 ;                    /* 0x0000000000007919 */
        /*00a0*/                   LDS R3, [R0] ;                /* 0x0000000000007919 */
        /*00b0*/               @P0 BRA 0xa0 ;                    /* 0x0000000000007919 */
        /*00c0*/                   EXIT ;                        /* 0x0000000000007919 */
		Function : _Z5otherv
        /*0000*/                   EXIT ;                        /* 0x0000000000007919 */
"""
USAGE = f"""
Resource usage:
 Common:
  GLOBAL:0
 Function {NAME}:
  REG:56 STACK:16 SHARED:0 LOCAL:0 CONSTANT[0]:628 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _Z5otherv:
  REG:8 STACK:0 SHARED:0 LOCAL:0 CONSTANT[0]:528 TEXTURE:0 SURFACE:0 SAMPLER:0
"""


@pytest.fixture
def kernels():
    return list(sass_count.parse(SASS, USAGE))


def test_registers_and_stack(kernels):
    first, other = kernels
    assert (first.registers, first.stack, len(first.instructions)) == (56, 16, 13)
    assert (other.registers, other.stack, other.hot_loops()) == (8, 0, [])


def test_the_hot_loop_is_the_inner_one_that_touches_global_memory(kernels):
    (loop,) = kernels[0].hot_loops()
    assert [i.address for i in loop] == list(range(0x20, 0x90, 0x10))


def test_loops_of_products_are_hot():
    products = [sass_count.Instruction(16 * n, "FFMA", None) for n in range(128)]
    looped = sass_count.Kernel("k", 8, 0, (*products, sass_count.Instruction(2048, "BRA", 0)))
    assert [len(loop) for loop in looped.hot_loops()] == [129]
    less = sass_count.Kernel("k", 8, 0, (*products[:120], sass_count.Instruction(2048, "BRA", 0)))
    assert less.hot_loops() == []


def test_classes(kernels):
    (loop,) = kernels[0].hot_loops()
    classes = [sass_count.class_of(i.opcode) for i in loop]
    assert classes == ["global", "float32", "special", "control", "move", "global", "control"]
    assert sass_count.class_of("LDL.64") == "local"
    assert sass_count.class_of("DFMA") == "float64"
    assert sass_count.class_of("I2FP.F32.U32") == "convert"
    assert sass_count.class_of("QUUX") == "other"


def test_an_element_costs_its_share_of_the_loop_and_of_what_is_outside(kernels):
    (loop,) = kernels[0].hot_loops()
    first = sass_count.Kernel("flow_edges_forward_kernel<float, 4>", 56, 0, kernels[0].instructions)
    # a store of 4 columns a pass of 7 instructions; 16 rows share the 6 others
    assert sass_count.per_element(first, loop) == pytest.approx(7 / 4 + 6 / (4 * 16))
    backward = sass_count.Kernel("flow_edges_backward_kernel<float, 4>", 56, 0, kernels[0].instructions)
    assert sass_count.per_element(backward, loop) == pytest.approx(7 / 2 * 18 / 16 + 6 / (4 * 16))
    assert sass_count.per_element(sass_count.Kernel("another<float>", 8, 0, ()), loop) is None
    assert sass_count.per_element(first, loop[1:3]) is None  # a loop that makes nothing


def test_the_table_gives_the_time_to_issue(kernels):
    line = next(line for line in sass_count.report(kernels, 10**9).splitlines() if "flow_edges" in line)
    assert "| 56 | 16 | 7 | 6 |" in line
    seconds = (7 / 4 + 6 / 64) * 1e9 / 32 / (132 * 4 * 1.755e9)
    if "<float, 4>" in line:  # where names can be told
        assert f"| {seconds * 1e6:.0f} |" in line
