# SPDX-License-Identifier: Apache-2.0
"""The PTX interpreter of tests/ptx on threads: branches, warps, barriers, memory, and faults."""

import numpy as np
import pytest
from test_ptx_interpreter import interpreter, launch

ORDERS, PtxError = interpreter.ORDERS, interpreter.PtxError

SHARED = ".shared .align 4 .b8 scratch[512];"
STORE = "st.global.u32 [%rd9], %r4;"


def in_every_order(body, **options):
    """The result, equal in all orders."""
    results = [launch(body, order=order, **options) for order in ORDERS]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    return results[0]


def test_threads_have_their_indices():
    body = f"""
        mov.u32 %r4, %ctaid.x; mov.u32 %r5, %nctaid.x; mad.lo.s32 %r4, %r4, 10, %r5;
        mov.u32 %r5, %laneid; mad.lo.s32 %r4, %r4, 100, %r5;
        mov.u32 %r5, %warpid; mad.lo.s32 %r4, %r4, 10, %r5; {STORE}"""
    got = in_every_order(body, blocks=3, threads=40)
    n = np.arange(40)
    wanted = [((b * 10 + 3) * 100 + n % 32) * 10 + n // 32 for b in range(3)]
    np.testing.assert_array_equal(got, np.concatenate(wanted))


def test_threads_loop_as_often_as_each_must_and_meet_again():
    """Thread n counts to n mod 5 in a loop; odd ones add 100; then all shuffle together."""
    got = in_every_order(f"""
        rem.u32 %r5, %r0, 5; mov.u32 %r4, 0;
    $loop:
        setp.ge.u32 %p1, %r4, %r5;
        @%p1 bra $done;
        add.s32 %r4, %r4, 1;
        bra.uni $loop;
    $done:
        and.b32 %r6, %r0, 1; setp.eq.s32 %p2, %r6, 0;
        @%p2 bra $even;
        {{ .reg .b32 more; mov.u32 more, 100; add.s32 %r4, %r4, more; }}
    $even:
        @!%p2 add.s32 %r4, %r4, 1000;
        shfl.sync.bfly.b32 %r4|%p3, %r4, 1, 31, -1; {STORE}""", threads=64)  # fmt: skip
    n = np.arange(64) ^ 1
    np.testing.assert_array_equal(got, n % 5 + n % 2 * 1100)


def test_threads_that_return_write_nothing_more():
    got = in_every_order(f"""
        mov.u32 %r4, 1; {STORE} setp.gt.u32 %p1, %r0, 2;
        @%p1 ret;
        mov.u32 %r4, 2; {STORE}""", threads=5)  # fmt: skip
    assert got.tolist() == [2, 2, 2, 1, 1]


@pytest.mark.parametrize("shuffle, source", [
    ("up.b32 %r4|%p1, %r0, 3, 0", lambda n: np.where(n >= 3, n - 3, n)),
    ("down.b32 %r4|%p1, %r0, 3, 31", lambda n: np.where(n < 29, n + 3, n)),
    ("bfly.b32 %r4|%p1, %r0, 16, 31", lambda n: n ^ 16),
    ("idx.b32 %r4|%p1, %r0, 5, 31", lambda n: 0 * n + 5),
    # Segments of 8 lanes: operand c is (32 - 8) << 8 | 31.
    ("idx.b32 %r4|%p1, %r0, 5, 6175", lambda n: n // 8 * 8 + 5),
    ("down.b32 %r4|%p1, %r0, 3, 6175", lambda n: np.where(n % 8 < 5, n + 3, n)),
])  # fmt: skip
def test_shuffles(shuffle, source):
    got = in_every_order(f"""
        shfl.sync.{shuffle}, 0xffffffff; selp.b32 %r5, 0, 1000, %p1;
        add.s32 %r4, %r4, %r5; {STORE}""", threads=64)  # fmt: skip
    n = np.arange(64)
    lane = source(n % 32)
    outside = (lane == n % 32) & ("idx" not in shuffle)
    np.testing.assert_array_equal(got, n // 32 * 32 + lane + 1000 * outside)


@pytest.mark.parametrize("vote, wanted", [
    ("ballot.b32 %r4", [0b11100, 0xFFFFFFFF]),
    ("all.pred %p2", [0, 1]),
    ("any.pred %p2", [1, 1]),
])  # fmt: skip
def test_votes(vote, wanted):
    """Lanes 2 to 4 of the first warp, all of the second."""
    got = in_every_order(f"""
        sub.s32 %r5, %r0, 2; setp.lt.u32 %p1, %r5, 3; setp.ge.u32 %p3, %r0, 32;
        or.pred %p1, %p1, %p3; vote.sync.{vote}, %p1, -1;
        {"selp.b32 %r4, 1, 0, %p2;" if "pred" in vote else ""} {STORE}""", threads=64)  # fmt: skip
    assert got.tolist() == [wanted[0]] * 32 + [wanted[1]] * 32


def reversed_by_shared_memory(barrier):
    """Each thread writes its index and reads that of the mirrored thread in its block."""
    return f"""
        shl.b32 %r5, %r1, 2; mov.u32 %r6, scratch; add.s32 %r7, %r6, %r5;
        st.shared.u32 [%r7], %r0; {barrier}
        sub.s32 %r5, 508, %r5; add.s32 %r7, %r6, %r5; ld.shared.u32 %r4, [%r7]; {STORE}"""


def test_barriers_order_shared_memory_of_each_block():
    body = reversed_by_shared_memory("bar.sync 0;")
    got = in_every_order(body, blocks=2, threads=128, declarations=SHARED)
    np.testing.assert_array_equal(got, np.arange(256).reshape(2, 128)[:, ::-1].ravel())


def test_atomic_additions_wrap_and_return_what_they_found():
    """Thread n adds n to a word of its parity; sums found by 0, 2, 4, ... and 1, 3, 5, ..."""
    body = f"""
        setp.gt.u32 %p1, %r1, 1; shl.b32 %r5, %r1, 2; mov.u32 %r6, scratch; add.s32 %r7, %r6, %r5;
        mov.u32 %r4, -2; @!%p1 st.shared.u32 [%r7], %r4; bar.sync 0;
        and.b32 %r5, %r5, 4; add.s32 %r7, %r6, %r5; atom.shared.add.u32 %r4, [%r7], %r1; {STORE}"""
    found = launch(body, threads=40, blocks=2, declarations=SHARED).astype(np.int64)
    wanted = [sum(range(n % 2, n, 2)) - 2 for n in range(40)]
    np.testing.assert_array_equal(found, [n % 2**32 for n in wanted * 2])


def test_a_missing_barrier_shows_as_a_difference_between_orders():
    body = reversed_by_shared_memory("")
    with pytest.raises(AssertionError):
        in_every_order(body, threads=128, declarations=SHARED)


# Each thread reads what its counterpart in the next block of the cluster wrote, at [%rd1].
NEXT_BLOCK = """
    mov.b32 %r5, %cluster_ctarank; mov.b32 %r6, %cluster_nctarank;
    mov.u32 %r7, scratch; mad.lo.s32 %r7, %r1, 4, %r7; st.shared.u32 [%r7], %r0;
    add.s32 %r5, %r5, 1; rem.u32 %r5, %r5, %r6;
    cvt.u64.u32 %rd1, %r7; cvta.shared.u64 %rd2, %rd1; mapa.u64 %rd1, %rd2, %r5;"""
MEET = "barrier.cluster.arrive; barrier.cluster.wait;"


def test_blocks_of_a_cluster_read_each_other_after_its_barrier():
    body = f"{NEXT_BLOCK} {MEET} ld.u32 %r4, [%rd1]; ld.u32 %r6, [%rd2]; {STORE}"
    got = in_every_order(body, blocks=6, threads=40, declarations=SHARED, cluster=3)
    of_block = np.arange(240).reshape(2, 3, 40)
    np.testing.assert_array_equal(got, np.roll(of_block, -1, axis=1).ravel())


def test_a_missing_barrier_of_a_cluster_shows_as_a_difference_between_orders():
    """Each thread reads what the other warp wrote."""
    read = f"xor.b64 %rd1, %rd1, 128; ld.u32 %r4, [%rd1]; {STORE}"
    two = {"blocks": 2, "threads": 64, "declarations": SHARED, "cluster": 2}
    got = in_every_order(f"{NEXT_BLOCK} {MEET} {read}", **two)
    np.testing.assert_array_equal(got, np.arange(128) ^ (64 + 32))
    with pytest.raises(AssertionError):
        in_every_order(f"{NEXT_BLOCK} {read}", **two)


@pytest.mark.parametrize("body, message", [
    (f"mov.u32 %r2, %ctaid.x; setp.eq.u32 %p1, %r2, 0; @%p1 bar.sync 0; {MEET}",
     "a block of a cluster does not come to its barrier"),
    (f"mov.u32 %r2, %ctaid.x; setp.eq.u32 %p1, %r2, 0; @%p1 ret; {MEET}",
     "a block of a cluster does not come to its barrier"),
    (f"{NEXT_BLOCK} {MEET} mapa.u64 %rd1, %rd2, 2; ld.u32 %r4, [%rd1];", "or of no block"),
    (f"{NEXT_BLOCK} mapa.u64 %rd1, %rd1, 0;", "an address of another block's shared memory"),
    (f"{NEXT_BLOCK} ld.u32 %r4, [%rd1+512];", "shared memory out of bounds"),
    ("barrier.red.popc.u32 %r4, 0, %p1;", "unknown barrier"),
])  # fmt: skip
def test_faults_of_clusters_stop_the_launch(body, message):
    with pytest.raises(PtxError, match=message):
        launch(body, blocks=2, threads=32, declarations=SHARED, cluster=2)
    with pytest.raises(PtxError, match="clusters of 2 blocks in a grid of 3"):
        launch(body, blocks=3, cluster=2)


def test_dynamic_shared_memory_lies_behind_the_static():
    declarations = f"{SHARED}\n.extern .shared .align 16 .b8 more[];"
    body = f"""
        mov.u32 %r5, more; mov.u32 %r6, scratch; sub.s32 %r5, %r5, %r6;
        st.shared.v2.u32 [more+8], {{%r5, 7}}; ld.shared.v2.u32 {{%r4, %r6}}, [more+8];
        add.s32 %r4, %r4, %r6; {STORE}"""
    assert launch(body, declarations=declarations, dynamic_shared=16) == [519]


def test_vectors_and_pairs_go_through_memory():
    got = launch("""
        mov.b64 %rd1, 0x1122334455667788; mov.b64 {%r4, %r5}, %rd1;
        mov.b32 {%h1, %h2}, %r5; mov.b32 %r5, {%h2, %h1}; st.global.v2.u32 [%rd9], {%r5, %r4};
        ld.global.v4.u16 {%h1, %h2, %h3, %h4}, [%rd9]; mov.b64 %rd1, {%h4, %h3, %h2, %h1};
        st.global.u64 [%rd9], %rd1;""")  # fmt: skip
    assert hex(int(got[0])) == "0x1122334477885566"


@pytest.mark.parametrize("body, message", [
    ("frobnicate.b32 %r4, %r5;", "k: frobnicate.b32 %r4, %r5: unknown opcode frobnicate"),
    ("add.cc.u32 %r4, %r5, %r6;", "unknown modifier .cc"),
    ("cvt.rz.f32.f64 %f1, %fd1;", "unknown modifier .rz"),
    ("mov.u32 %r4, %clock;", "unknown operand %clock"),
    ("mov.u64 %rd1, %r4;", "register %r4 of type .b32 as uint64"),
    ("mov.b32 %r99, 1;", "unknown register %r99"),
    ("bra $nowhere;", r"no label \$nowhere"),
    ("ld.global.u32 %r4, [%rd9+8];", "global memory out of bounds, thread 31 of block 0, address"),
    ("ld.global.u32 %r4, [%rd9+2];", "misaligned access of 4 bytes"),
    ("ld.shared.u32 %r4, [512];", "shared memory out of bounds"),
    ("ld.param.u64 %rd1, [out+8];", "param memory out of bounds"),
    ("ld.local.u32 %r4, [%rd9];", "unknown modifier .local"),
    ("setp.gt.u32 %p1, %r0, 9; @%p1 shfl.sync.idx.b32 %r4, %r0, 0, 31, -1;",
     "a lane named in the member mask is not here"),
    ("setp.gt.u32 %p1, %r0, 9; @%p1 shfl.sync.idx.b32 %r4, %r0, 0, 31, 0xfffffc00;",
     "it reads a lane that is not here"),
    ("setp.eq.u32 %p1, %r0, 0; @%p1 bra $a; bar.sync 0; $a: bar.sync 0;",
     "threads of a block wait at different barriers"),
])  # fmt: skip
def test_faults_stop_the_launch(body, message):
    with pytest.raises(PtxError, match=message):
        launch(body, threads=32, declarations=SHARED)


def test_launches_must_match_the_declaration_of_the_kernel():
    with pytest.raises(PtxError, match="k: 129 threads in a block, at most 128"):
        launch("", threads=129)
    module = interpreter.Module(
        ".visible .entry f(.param .u32 a, .param .align 8 .b8 b[16]) { ret; }"
    )
    assert module.kernels == ["f"]
    with pytest.raises(PtxError, match="f: 2 parameters, got 1 arguments"):
        module.launch("f", (1,), (1,), [1], {})
    with pytest.raises(PtxError, match="an argument of 8 bytes for b, which has 16"):
        module.launch("f", (1,), (1,), [1, [("u64", 1)]], {})
    module.launch("f", (1,), (1,), [1, [("u32", 1), ("f64", 0.5)]], {})
    with pytest.raises(ValueError, match="order must be one of all, forward, reverse, got 'odd'"):
        module.launch("f", (1,), (1,), [], {}, order="odd")
