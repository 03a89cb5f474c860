# SPDX-License-Identifier: Apache-2.0
"""The ops of kl_categorical under the dispatcher, torch.func, and torch.compile."""

import pytest
import torch
from common import assert_same_bits, ops
from compiling import counted
from test_kl import MAKE, some_prior
from test_registration import opcheck

from torch_gumbel import kl_categorical


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("with_prior", [False, True])
def test_the_formula_of_other_devices_agrees_with_the_kernel(kind, with_prior):
    """The CompositeExplicitAutograd kernel, by excluding the CPU from dispatch."""
    values = MAKE[kind]((4, 50), 1, torch.float32)
    log_prior = some_prior(50).float().log_softmax(-1) if with_prior else None
    from_probs, grad = kind == "probs", torch.randn(4, 1)
    alone = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)

    def elsewhere(op, *args):
        return op.redispatch(alone, *args)

    kernel = ops._kl_categorical.default(values, log_prior, 1, from_probs)
    other = elsewhere(ops._kl_categorical.default, values, log_prior, 1, from_probs)
    for ours, theirs in zip(kernel, other, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    args = (grad, values, *kernel, log_prior, 1, from_probs)
    torch.testing.assert_close(
        ops._kl_categorical_backward.default(*args),
        elsewhere(ops._kl_categorical_backward.default, *args),
        rtol=1e-4,
        atol=1e-5,
    )


def test_private_ops_pass_opcheck():
    x = torch.randn(3, 4, 5).requires_grad_()
    log_prior = some_prior(5).float().log().requires_grad_()
    rows = [r.detach() for r in ops._kl_categorical(x, None, 1, False)]
    opcheck(ops._kl_categorical.default, (x, log_prior, 2, False))
    opcheck(ops._kl_categorical.default, (x.detach().exp(), None, 1, True))
    opcheck(
        ops._kl_categorical_backward.default,
        (rows[0] + 1, x.detach(), *rows, None, 1, False),
    )
    opcheck(ops.kl_categorical.default, (x,))


def test_it_vmaps_and_is_differentiated_by_torch_func():
    x, prior = torch.randn(4, 5, 6).double(), some_prior((4, 6))
    got = torch.func.vmap(lambda x, p: kl_categorical(x, prior=p))(x, prior)
    torch.testing.assert_close(got, kl_categorical(x, prior=prior[:, None]))
    got = torch.func.vmap(lambda x: kl_categorical(x, dim=0))(x)
    torch.testing.assert_close(got, kl_categorical(x, dim=1))
    grad = torch.func.vmap(torch.func.grad(lambda x: kl_categorical(x).sum()))(x)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(grad, torch.autograd.grad(kl_categorical(leaf).sum(), leaf)[0])
    hessian = torch.func.hessian(kl_categorical)(x[0, 0])
    torch.testing.assert_close(
        hessian, torch.func.jacrev(torch.func.jacrev(kl_categorical))(x[0, 0])
    )


def test_compiled_it_equals_eager():
    def loss(x):
        return kl_categorical(x, prior=torch.arange(1.0, 7)).sum()

    run, counter = counted(loss)
    for rows in (3, 4, 9):
        x = torch.randn(rows, 6, requires_grad=True)
        torch.testing.assert_close(run(x), loss(x))
        grads = [torch.autograd.grad(f(x), x)[0] for f in (run, loss)]
        assert_same_bits(*grads)
    assert counter.frame_count <= 2
