# SPDX-License-Identifier: Apache-2.0
"""Checks of DTensors on two ranks (run by test_distributed.py): the bits of one process."""

import torch
from common import DTYPES, assert_same_bits, make_key
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

import torch_gumbel
from torch_gumbel import gumbel_argmax, gumbel_softmax

KEY = make_key(5)


def line():
    return init_device_mesh("cpu", (2,))


def distributed(x, *placements, mesh=None):
    return distribute_tensor(x, mesh or line(), placements)


def raised(call):
    try:
        call()
    except Exception as error:
        return type(error), str(error)
    raise AssertionError("nothing was raised")


# shape, class dimension, sharded dimension: even, uneven, fewer rows than ranks, 0 rows
ROWS = [
    ((8, 5), 1, 0),
    ((7, 5), 1, 0),
    ((5, 7), 0, 1),
    ((4, 3, 6), 1, 0),
    ((4, 3, 6), 1, 2),
    ((4, 3, 7), -2, -1),
    ((1, 40), 1, 0),
    ((0, 4), 1, 0),
    ((3, 9000), 1, 0),
]


def check_samples_and_gradients_of_sharded_rows_have_the_bits_of_one_process(rank):
    for shape, dim, cut in ROWS:
        for hard in (False, True):
            x, grad = torch.randn(shape), torch.randn(shape)
            leaf = x.clone().requires_grad_()
            wanted = gumbel_softmax(leaf, 0.7, hard, dim=dim, key=KEY)
            (at_x,) = torch.autograd.grad(wanted, leaf, grad)
            part = distributed(x, Shard(cut)).requires_grad_()
            y = gumbel_softmax(part, 0.7, hard, dim=dim, key=KEY)
            assert isinstance(y, DTensor) and y.placements == part.placements
            assert y.shape == x.shape and y.stride() == wanted.stride()
            assert_same_bits(y.full_tensor(), wanted, f"{shape} {dim} {cut} {hard}")
            (got,) = torch.autograd.grad(y, part, distributed(grad, Shard(cut)))
            assert_same_bits(got.full_tensor(), at_x, f"gradient {shape} {dim} {cut} {hard}")


def check_indices_of_sharded_rows_are_those_of_one_process(rank):
    for shape, dim, cut in ROWS:
        x = torch.randn(shape)
        for keepdim in (False, True):
            wanted = gumbel_argmax(x, dim, keepdim, temperature=0.7, key=KEY)
            part = distributed(x, Shard(cut))
            got = gumbel_argmax(part, dim, keepdim, temperature=0.7, key=KEY)
            assert got.shape == wanted.shape
            assert torch.equal(got.full_tensor(), wanted), (shape, dim, cut, keepdim)
            assert got.to_local().shape != wanted.shape or shape[cut] < 2


def check_every_dtype_keeps_its_bits(rank):
    for dtype in DTYPES:
        x = torch.randn(6, 33).to(dtype)
        for hard in (False, True):
            got = gumbel_softmax(distributed(x, Shard(0)), 0.7, hard, key=KEY)
            assert_same_bits(got.full_tensor(), gumbel_softmax(x, 0.7, hard, key=KEY), str(dtype))


def check_replicated_and_partial_tensors_draw_the_global_sample(rank):
    x = torch.randn(6, 5)
    wanted = gumbel_softmax(x, 0.7, key=KEY)
    y = gumbel_softmax(distributed(x, Replicate()), 0.7, key=KEY)
    assert y.placements == (Replicate(),)
    assert_same_bits(y.to_local(), wanted)
    halves = DTensor.from_local(x / 2, line(), [Partial()])
    assert_same_bits(gumbel_softmax(halves, 0.7, key=KEY).full_tensor(), wanted)
    scalar = distributed(torch.tensor(0.3), Replicate())
    assert gumbel_softmax(scalar).full_tensor() == 1
    assert gumbel_argmax(scalar).full_tensor() == 0


def check_a_keyless_call_takes_the_key_of_the_first_rank(rank):
    x = torch.randn(6, 5)
    for draw in (gumbel_softmax, gumbel_argmax):
        torch.manual_seed(0)
        wanted, again = draw(x), draw(x)
        torch.manual_seed(rank)
        part = distributed(x, Shard(0))
        assert torch.equal(draw(part).full_tensor(), wanted)
        assert torch.equal(draw(part).full_tensor(), again)
        torch.manual_seed(rank)
        state = (draw(x), draw(x), torch.get_rng_state())[2]
        torch.manual_seed(rank)
        draw(part), draw(part)
        assert torch.equal(torch.get_rng_state(), state), "each rank's generator moves as alone"


def check_a_generator_of_the_first_rank_decides(rank):
    x = torch.randn(6, 5)
    wanted = gumbel_softmax(x, generator=torch.Generator().manual_seed(30))
    before = torch.get_rng_state()
    own = torch.Generator().manual_seed(30 + rank)
    got = gumbel_softmax(distributed(x, Shard(0)), generator=own)
    assert_same_bits(got.full_tensor(), wanted)
    assert torch.equal(torch.get_rng_state(), before)


def check_a_batch_of_keys_is_cut_with_its_rows(rank):
    x, keys = torch.randn(5, 3, 7), torch.randint(0, 2**60, (5, 2))
    for given in (keys, keys.view(5, 1, 1, 2), distributed(keys, Shard(0))):
        whole = given.full_tensor() if isinstance(given, DTensor) else given
        for cut in (0, 1):
            got = gumbel_softmax(distributed(x, Shard(cut)), 0.7, True, key=given)
            assert_same_bits(got.full_tensor(), gumbel_softmax(x, 0.7, True, key=whole))
            index = gumbel_argmax(distributed(x, Shard(cut)), key=given)
            assert torch.equal(index.full_tensor(), gumbel_argmax(x, key=whole))
    both = torch.randint(0, 2**60, (5, 3, 2))
    got = gumbel_softmax(distributed(x, Shard(1)), key=both)
    assert_same_bits(got.full_tensor(), gumbel_softmax(x, key=both))


def replicated(leaf):
    return DTensor.from_local(leaf, line(), [Replicate()], run_check=False)


def taus(rows):
    shape = (rows, 1, 1)
    return {
        "0-d": torch.tensor(0.7),
        "0-d double": torch.tensor(0.7, dtype=torch.float64),
        "per row": torch.rand(shape) + 0.5,
        "per last": torch.rand(1, 4) + 0.5,
    }


def check_every_form_of_tau_gets_the_gradient_of_one_process(rank):
    x, grad = torch.randn(5, 3, 4), torch.randn(5, 3, 4)
    for cut in (0, 1, 2):  # rows, classes, rows
        for name, value in taus(5).items():
            for kind in ("plain", "dtensor"):
                tau = value.clone().requires_grad_()
                wanted = gumbel_softmax(x, tau, dim=1, key=KEY)
                (at_tau,) = torch.autograd.grad(wanted, tau, grad)
                leaf = value.clone().requires_grad_()
                given = leaf if kind == "plain" else replicated(leaf)
                y = gumbel_softmax(distributed(x, Shard(cut)), given, dim=1, key=KEY)
                assert torch.allclose(y.full_tensor(), wanted, rtol=1e-5, atol=1e-9)
                (got,) = torch.autograd.grad(y, leaf, distributed(grad, Shard(cut)))
                assert got.shape == at_tau.shape and got.dtype == at_tau.dtype
                assert torch.allclose(got, at_tau, rtol=1e-4, atol=1e-6), (cut, name, kind)


def check_meshes_of_two_dimensions_and_odd_placements(rank):
    x = torch.randn(6, 4, 5)
    wanted, index = gumbel_softmax(x, 0.7, True, key=KEY), gumbel_argmax(x, key=KEY)
    for shape in ((2, 1), (1, 2)):
        mesh = init_device_mesh("cpu", shape)
        for placements in [
            (Shard(0), Shard(1)),
            (Shard(1), Shard(0)),
            (Shard(0), Shard(0)),
            (Shard(0), Shard(2)),
            (Shard(2), Shard(1)),
            (Shard(2), Shard(2)),
            (Replicate(), Shard(0)),
        ]:
            part = distributed(x, *placements, mesh=mesh)
            y = gumbel_softmax(part, 0.7, True, key=KEY)
            assert_same_bits(y.full_tensor(), wanted, str((shape, placements)))
            assert torch.equal(gumbel_argmax(part, key=KEY).full_tensor(), index)
            torch.manual_seed(rank)
            keyless = gumbel_softmax(part, 0.7).full_tensor()
            torch.manual_seed(0)
            assert torch.allclose(keyless, gumbel_softmax(x, 0.7), rtol=1e-5)


def check_a_rank_outside_the_mesh_holds_nothing(rank):
    x = torch.randn(6, 5)
    for inside in (0, 1):
        mesh = DeviceMesh("cpu", [inside])
        part = distribute_tensor(x, mesh, [Shard(0)])
        y, index = gumbel_softmax(part, 0.7, key=KEY), gumbel_argmax(part, key=KEY)
        assert y.shape == (6, 5) and index.shape == (6,) and index.dtype == torch.int64
        if rank == inside:
            assert_same_bits(y.to_local(), gumbel_softmax(x, 0.7, key=KEY))
            assert torch.equal(index.to_local(), gumbel_argmax(x, key=KEY))
        else:
            assert y.to_local().numel() == index.to_local().numel() == 0


def check_wrong_arguments_are_refused_as_by_one_process_and_move_no_generator(rank):
    x, own = torch.randn(6, 5), torch.Generator()
    part = distributed(x, Shard(0))
    before = torch.get_rng_state(), own.get_state()
    for wrong in [
        lambda x: gumbel_softmax(x, -1.0),
        lambda x: gumbel_softmax(x, torch.ones(5)),
        lambda x: gumbel_softmax(x, "warm"),
        lambda x: gumbel_softmax(x, dim=2),
        lambda x: gumbel_softmax(x, key=torch.zeros(6, 5, 2, dtype=torch.int64)),
        lambda x: gumbel_softmax(x, key=KEY, generator=own),
        lambda x: gumbel_softmax(x, generator=5),
        lambda x: gumbel_argmax(x, temperature=-1.0),
        lambda x: gumbel_argmax(x[:, :0]),
    ]:
        kind, words = raised(lambda wrong=wrong: wrong(part))
        wanted_kind, wanted_words = raised(lambda wrong=wrong: wrong(x))
        assert kind is wanted_kind, (kind, words, wanted_words)
        assert words.splitlines()[0] == wanted_words.splitlines()[0]
    integers = distributed(torch.zeros(6, 5, dtype=torch.int64), Shard(0))
    assert raised(lambda: gumbel_softmax(integers))[0] is TypeError
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(own.get_state(), before[1])


def check_a_trained_model_of_dtensors_equals_one_process(rank):
    x, weight = torch.randn(6, 5), torch.randn(5, 7)

    def train(x, weight):
        for step in range(3):
            key = torch_gumbel.fold_in(KEY, step)
            loss = (gumbel_softmax(x @ weight, 0.7, key=key) ** 2).sum()
            (grad,) = torch.autograd.grad(loss, weight)
            weight = (weight - 0.1 * grad).detach().requires_grad_()
        return weight

    wanted = train(x, weight.clone().requires_grad_())
    got = train(distributed(x, Shard(0)), distributed(weight, Replicate()).requires_grad_())
    assert torch.allclose(got.full_tensor(), wanted, rtol=1e-5, atol=1e-6)


def check_compiled_calls_equal_eager_ones(rank):
    x = torch.randn(6, 8)
    for cut in (0, 1):
        part = distributed(x, Shard(cut)).requires_grad_()
        for hard in (False, True):
            torch._dynamo.reset()

            def run(x, key, hard=hard):
                return gumbel_softmax(x * 2, 0.7, hard, key=key)

            compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
            y, wanted = compiled(part, KEY), run(part, KEY)
            grad = distributed(torch.randn(6, 8), Shard(cut))
            got, at = (torch.autograd.grad(t, part, grad)[0].full_tensor() for t in (y, wanted))
            if cut == 0:
                assert_same_bits(y.full_tensor(), wanted.full_tensor())
                assert_same_bits(got, at)
                continue
            # A compiler may merge the shards by other operations.
            assert not hard or torch.equal(y.full_tensor(), wanted.full_tensor())
            assert torch.allclose(y.full_tensor(), wanted.full_tensor(), rtol=1e-6)
            assert torch.allclose(got, at, rtol=1e-6, atol=1e-6)


def check_a_compiled_keyless_call_takes_the_key_of_the_first_rank(rank):
    x = torch.randn(6, 8)
    for cut in (0, 1):
        compiled = torch.compile(gumbel_argmax, fullgraph=True, backend="aot_eager")
        torch.manual_seed(0)
        wanted = gumbel_argmax(x), gumbel_argmax(x)
        torch.manual_seed(rank)
        part = distributed(x, Shard(cut))
        for index in wanted:
            assert torch.equal(compiled(part).full_tensor(), index)
