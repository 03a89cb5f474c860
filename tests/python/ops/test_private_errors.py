# SPDX-License-Identifier: Apache-2.0
"""Private ops refuse invalid arguments, and never crash."""

import pathlib

import pytest
from common import run_python

# Compilers and users of torch.ops call private ops. A crash would end this process, so cases run in
# another one, which is restarted after a crash.

TRY_ALL = """
import sys, torch
from common import make_key, ops, tau_of
x, t, k = torch.zeros(2, 3), tau_of(1.0), make_key(5)
i = torch.zeros(2, 1, dtype=torch.int64)
for call in sys.stdin.read().splitlines():
    try:
        line = f"accepted {eval(call)}"
    except (ValueError, TypeError, IndexError, RuntimeError) as error:
        line = f"refused: {type(error).__name__} {error}"
    print(line.replace(chr(10), " "), flush=True)
"""

REFUSED = {
    "key without elements": "ops._gumbel_noise(x, k[:0])",
    "key of one element": "ops._gumbel_noise(x, k[:1])",
    "0-d key": "ops._gumbel_noise(x, k[0])",
    "float key": "ops._gumbel_noise(x, k.float())",
    "key batch of another size": "ops._gumbel_softmax(x, t, k.expand(3, 2), 1, False)",
    "key batch over dim": "ops._gumbel_softmax(x, t, k.expand(2, 2), 0, False)",
    "key on another device": "ops._gumbel_softmax(x, t, k.to('meta'), 1, False)",
    "tau on another device": "ops._gumbel_softmax(x, t.to('meta'), k, 1, False)",
    "tau of another shape": "ops._gumbel_softmax(x, torch.ones(2), k, 1, False)",
    "tau along dim": "ops._gumbel_softmax(x, torch.ones(3), k, 1, False)",
    "complex tau": "ops._gumbel_softmax(x, t.to(torch.complex64), k, 1, False)",
    "integer tau rows": "ops._gumbel_softmax(x, torch.ones(2, 1).int(), k, 1, False)",
    "integer logits": "ops._gumbel_softmax(x.int(), t, k, 1, False)",
    "integer output": "ops._gumbel_softmax(x, t, k, 1, False, dtype=torch.int32)",
    "integer pair": "ops._gumbel_softmax_hard_soft(x, t, k, 1, dtype=torch.int32)",
    "integer one-hot": "ops._gumbel_softmax_hard(x, t, k, 1, dtype=torch.int32)",
    "dim beyond, pair": "ops._gumbel_softmax_hard_soft(x, t, k, 10**6)",
    "negative dim": "ops._gumbel_softmax(x, t, k, -1, False)",
    "dim beyond, lse": "ops._gumbel_softmax_lse(x, t, k, 10**6)",
    "dim beyond, index": "ops._gumbel_max(x, t, k, 10**6, True)",
    "dim beyond, index dropped": "ops._gumbel_max(x, t, k, 10**6, False)",
    "dim beyond, backward": "ops._gumbel_softmax_backward(x, x, t, 10**6, tau_grad=True)",
    "no class": "ops._gumbel_max(x[:, :0], t, k, 1, False)",
    "dim beyond, index alone": "ops._gumbel_argmax(x, t, k, 10**6, True)",
    "dim beyond, index alone dropped": "ops._gumbel_argmax(x, t, k, 10**6, False)",
    "no class, index alone": "ops._gumbel_argmax(x[:, :0], t, k, 1, False)",
    "grad of another shape": "ops._gumbel_softmax_backward(x[:1], x, t, 1)",
    "integer grad": "ops._gumbel_softmax_backward(x.int(), x, t, 1)",
    "grad of another shape, hard": "ops._gumbel_softmax_hard_backward(x[:1], x, t, k, 1)",
    "shard outside": "ops._gumbel_noise(x, k, full_shape=[2, 3], start=[1, 0])",
    "shard before": "ops._gumbel_noise(x, k, full_shape=[2, 3], start=[-1, 0])",
    "shard of another rank": "ops._gumbel_noise(x, k, full_shape=[2, 3, 1], start=[0, 0])",
    "whole too large": "ops._gumbel_noise(x, k, full_shape=[2**40, 2**40], start=[0, 0])",
    "negative whole": "ops._gumbel_noise(x, k, full_shape=[-5, 3], start=[0, 0])",
    "noise at: index of floats": "ops._gumbel_at(x, 3, k, torch.float32)",
    "noise at: no class": "ops._gumbel_at(x.long(), 0, k, torch.float32)",
    "noise at: half type": "ops._gumbel_at(x.long(), 3, k, torch.float16)",
    "noise at: key over all dims": "ops._gumbel_at(x.long(), 3, k.expand(2, 3, 2), torch.double)",
    "noise at: key of another size": "ops._gumbel_at(x.long(), 3, k.expand(3, 2), torch.float32)",
    "noise at: key on another device": "ops._gumbel_at(x.long(), 3, k.to('meta'), torch.float32)",
    "noise at: too many positions": "ops._gumbel_at(x.long(), 2**62 + 1, k, torch.float32)",
    "kl: dim beyond": "ops._kl_categorical(x, None, 10**6, False)",
    "kl: integers": "ops._kl_categorical(x.int(), None, 1, False)",
    "kl: prior of another shape": "ops._kl_categorical(x, torch.zeros(2), 1, False)",
    "kl: prior on another device": "ops._kl_categorical(x, torch.zeros(3).to('meta'), 1, False)",
    "kl: rows of another shape": "ops._kl_categorical_backward(x, x, x, x, x, None, 1, False)",
    "kl: rows on another device": "ops._kl_categorical_backward(x[:, :1], x, x[:, :1], "
    "x[:, :1].to('meta'), x[:, :1], None, 1, False)",
    "log_prob: index of another shape": "ops._log_prob_entropy(x, i[:1], t, 1)",
    "log_prob: index out of range": "ops._log_prob_entropy(x, i + 3, t, 1)",
    "log_prob: float index": "ops._log_prob_entropy(x, i.float(), t, 1)",
    "log_prob: integers": "ops._log_prob_entropy(x.int(), i, t, 1)",
    "log_prob: dim beyond": "ops._log_prob_entropy(x, i, t, 10**6)",
    "log_prob: temperature along dim": "ops._log_prob_entropy(x, i, torch.ones(3), 1)",
    "log_prob: rows of another shape": "ops._log_prob_entropy_backward(x, None, x, i, t, "
    "i.float(), i.float(), i.float(), 1)",
    "log_prob: rows on another device": "ops._log_prob_entropy_backward(None, None, x, i, t, "
    "i.float().to('meta'), i.float(), i.float(), 1)",
    "lookup: codebook of other classes": "ops._straight_through_lookup(x, x, t, k)",
    "lookup: codebook of one dimension": "ops._straight_through_lookup(x, x[0], t, k)",
    "lookup: codebook of integers": "ops._straight_through_lookup(x, x.t().int(), t, k)",
    "lookup: codebook elsewhere": "ops._straight_through_lookup(x, x.t().to('meta'), t, k)",
    "lookup: scalar": "ops._straight_through_lookup(x[0, 0], x[:1, :1], t, k)",
    "lookup: tau along dim": "ops._straight_through_lookup(x, x.t(), torch.ones(3), k)",
    "too many keys": "ops._split_key(k, 2**62)",
    "no keys": "ops._split_key(k, 0)",
}


@pytest.fixture(scope="module")
def outcomes():
    left, lines = list(REFUSED.values()), []
    while left:
        done = run_python(TRY_ALL, stdin="\n".join(left))
        answers = done.stdout.splitlines()
        if len(answers) < len(left):
            answers.append(f"crashed: exit status {done.returncode} {done.stderr[-300:]}")
        lines += answers
        left = left[len(answers) :]
    return dict(zip(REFUSED, lines, strict=True))


@pytest.mark.parametrize("what", REFUSED)
def test_a_private_op_refuses(what, outcomes):
    assert outcomes[what].startswith("refused:"), outcomes[what]


def test_private_ops_survive_random_arguments():
    script = pathlib.Path(__file__).with_name("fuzz_private_ops.py")
    done = run_python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-3000:]}"
    assert "accepted" in done.stdout
