# SPDX-License-Identifier: Apache-2.0
"""The tables of operations that tests of what holds for every one of them run over.

A new public operation gets an entry of TABLE: its arguments in Python, those of each overload of
its dispatcher op, and whether it is random, differentiable, and defined for DTensors; types of its
arguments are those of its annotations. A new private one gets an entry of PRIVATE.
"""

from __future__ import annotations

from typing import Any

import torch
from operation import Operation, index_of, of_draw, of_gate, of_rows

ops = torch.ops.torch_gumbel

TABLE = [
    Operation(
        "gumbel_softmax",
        lambda i: (i.logits, 0.7),
        {
            "default": lambda i: (i.logits, 0.7),
            "tensor_tau": lambda i: (i.logits, i.rows, True),
        },
        takes_dtensors=True,
        variants=({"hard": True}, {"hard": True, "recompute": True}),
    ),
    Operation(
        "gumbel_argmax",
        lambda i: (i.logits,),
        {
            "default": lambda i: (i.logits,),
            "tensor_temperature": lambda i: (i.logits, i.rows.detach()),
        },
        differentiable=False,
        takes_dtensors=True,
        variants=({"num_samples": 3},),
        takes_zero=True,
    ),
    Operation(
        "gumbel_topk",
        lambda i: (i.logits, 2),
        {
            "default": lambda i: (i.logits, 2),
            "tensor_temperature": lambda i: (i.logits, i.rows, 2),
        },
        takes_zero=True,
    ),
    Operation(
        "gumbel_subset",
        lambda i: (i.logits, 2),
        {
            "default": lambda i: (i.logits, 3),
            "tensor_tau": lambda i: (i.logits, 2, i.rows, True),
        },
        variants=({"k": 1}, {"hard": True}, {"k": 4, "tau": 0.1}),
    ),
    Operation(
        "gumbel_posterior",
        lambda i: (i.logits, i.index),
        {"default": lambda i: (i.logits, i.index)},
        variants=({"max_value": 0.5}, {"num_samples": 3}),
    ),
    Operation(
        "gumbel_topk_log_prob",
        lambda i: (i.logits, i.drawn),
        {
            "default": lambda i: (i.logits, i.drawn),
            "tensor_temperature": lambda i: (i.logits, i.drawn, i.rows),
        },
        random=False,
    ),
    Operation(
        "gumbel_sigmoid",
        lambda i: (i.logits, 0.7),
        {
            "default": lambda i: (i.logits, 0.7),
            "tensor_tau": lambda i: (i.logits, i.rows, True),
        },
        variants=({"hard": True}, {"hard": True, "recompute": True}),
        elementwise=True,
    ),
    Operation(
        "hard_concrete",
        lambda i: (i.logits, 0.7),
        {
            "default": lambda i: (i.logits, 0.7),
            "tensor_tau": lambda i: (i.logits, i.rows, -0.2, 1.0),
        },
        elementwise=True,
    ),
    Operation(
        "hard_concrete_penalty",
        lambda i: (i.logits, 0.7),
        {
            "default": lambda i: (i.logits, 0.7),
            "tensor_tau": lambda i: (i.logits, i.rows, -0.2, 1.0),
        },
        random=False,
        elementwise=True,
    ),
    Operation(
        "sample_categorical",
        lambda i: (i.probs, 0.5),
        {
            "default": lambda i: (i.probs, 0.5, True),
            "tensor_temperature": lambda i: (i.probs, i.rows),
        },
        variants=({"hard": True},),
    ),
    Operation(
        "straight_through_lookup",
        lambda i: (i.logits, i.codebook),
        {
            "default": lambda i: (i.logits, i.codebook, 0.7, False),
            "tensor_tau": lambda i: (i.logits, i.codebook, i.rows),
        },
        variants=(
            {"return_index": True},
            {"hard": False, "return_index": True},
            {"estimator": "straight-through"},
        ),
    ),
    Operation(
        "sample_one_hot",
        lambda i: (i.logits,),
        {
            "default": lambda i: (i.logits, "reinmax"),
            "tensor_tau": lambda i: (i.logits, i.rows, "gapped"),
        },
        variants=(
            {"estimator": "gumbel", "return_index": True},
            {"estimator": "gumbel-rao", "samples": 3},
            {"estimator": "gapped"},
            {"estimator": "decoupled", "tau_forward": 2.0},
            {"uniform_mix": 0.1, "return_index": True},
        ),
    ),
    Operation(
        "sample_logits",
        lambda i: (i.logits,),
        {
            "default": lambda i: (i.logits,),
            "tensor_temperature": lambda i: (i.logits, i.rows.detach()),
        },
        differentiable=False,
        variants=(
            {"top_p": 0.8},
            {"top_k": 2, "min_p": 0.1, "return_log_prob": True, "return_entropy": True},
            {"top_p": 0.7, "num_samples": 3},
        ),
        takes_zero=True,
    ),
    Operation(
        "filter_logits",
        lambda i: (i.logits,),
        {
            "default": lambda i: (i.logits,),
            "tensor_temperature": lambda i: (i.logits, i.rows),
        },
        random=False,
        variants=({"top_k": 3, "top_p": 0.9, "min_p": 0.1},),
        takes_zero=True,
    ),
    Operation(
        "gumbel_like",
        lambda i: (i.logits,),
        {"default": lambda i: (i.logits.detach(),)},
        differentiable=False,
    ),
    Operation(
        "kl_categorical",
        lambda i: (i.logits,),
        {"default": lambda i: (None, i.probs, i.prior)},
        random=False,
    ),
    Operation(
        "categorical_elbo",
        lambda i: (i.log_likelihood, i.logits),
        {"default": lambda i: (i.log_likelihood, i.logits)},
        random=False,
    ),
    Operation(
        "log_prob_entropy",
        lambda i: (i.logits, i.index),
        {
            "default": lambda i: (i.logits, i.index),
            "tensor_temperature": lambda i: (i.logits, i.index, i.rows),
        },
        random=False,
        takes_dtensors=True,
    ),
    Operation(
        "perplexity",
        lambda i: (i.probs,),
        {"default": lambda i: (i.probs,)},
        random=False,
    ),
]
OPERATIONS = {operation.name: operation for operation in TABLE}
FORMS = [(operation, options) for operation in TABLE for options in ({}, *operation.variants)]
OF_ROWS = [(operation, options) for operation, options in FORMS if not operation.elementwise]
AT_TEMPERATURE = [operation for operation in TABLE if operation.temperature]
# Without a tensor among its arguments, it has only its overload in common with the others.
SAMPLE_GUMBEL = Operation(
    "sample_gumbel",
    lambda i: (i.logits.shape,),
    {"default": lambda i: (torch.empty(0), i.logits.shape)},
    differentiable=False,
)
# Its tensor is an index.
GUMBEL_AT = Operation(
    "gumbel_at",
    lambda i: (i.index, 4),
    {"default": lambda i: (i.index, 4)},
    differentiable=False,
    keyed=True,
)
ALL = [*TABLE, SAMPLE_GUMBEL, GUMBEL_AT]
OVERLOADS = [(operation, overload) for operation in ALL for overload in operation.overloads]


def form_id(value: Any) -> str:
    """Of an operation, options, or a shape."""
    if isinstance(value, dict):
        return " ".join(value) or "plain"
    return value.name if isinstance(value, Operation) else str(value)


# Private ops of logits or their sample: arguments and options, made of `tensors`.
PRIVATE = {
    "_gumbel_softmax": lambda t: ((*of_draw(t), t.flag), {"dtype": t.dtype, **t.place}),
    "_gumbel_softmax_hard": lambda t: (of_draw(t), {"dtype": t.dtype, **t.place}),
    "_gumbel_softmax_hard_soft": lambda t: (of_draw(t), {"dtype": t.dtype, **t.place}),
    "_gumbel_softmax_lse": lambda t: (of_draw(t), {"dtype": t.dtype, **t.place}),
    "_gumbel_softmax_backward": lambda t: (
        (t.grad, t.y, t.tau, t.dim),
        {"dtype": t.dtype, "tau_grad": t.flag},
    ),
    "_gumbel_softmax_hard_backward": lambda t: (
        (t.grad, *of_draw(t)),
        {"tau_grad": t.flag, **t.place},
    ),
    "_gumbel_gate": lambda t: ((*of_gate(t), t.flag, 0.4, -0.1, 1.1), t.place),
    "_gumbel_gate_keep": lambda t: ((*of_gate(t), t.flag, 0.4, -0.1, 1.1), t.place),
    "_gumbel_gate_backward": lambda t: ((t.grad, t.y, t.tau, -0.1, 1.1), {"tau_grad": t.flag}),
    "_gumbel_gate_recompute": lambda t: ((*of_gate(t), t.flag, 0.5), t.place),
    "_gumbel_gate_recompute_backward": lambda t: (
        (t.grad, *of_gate(t)),
        {"tau_grad": t.flag, **t.place},
    ),
    "_gumbel_max": lambda t: ((*of_draw(t), t.flag), t.place),
    "_gumbel_argmax": lambda t: ((*of_draw(t), t.flag), t.place),
    "_gumbel_noise": lambda t: ((t.x, t.key), t.place),
    "_gumbel_at": lambda t: ((index_of(t), 3, t.key, torch.float64), {}),
    "_sample_logits": lambda t: (
        (*of_draw(t), None, t.tau.detach() / 2, t.tau.detach() / 9, t.flag, True),
        t.place,
    ),
    "_filter_logits": lambda t: (
        (t.x, t.tau, t.dim, index_of(t) + 2, t.tau.detach() / 2, None),
        {},
    ),
    "_sample_one_hot": lambda t: (
        (*of_draw(t), "straight-through"),
        {"dtype": t.dtype, "keep": t.flag, **t.place},
    ),
    "_sample_one_hot_backward": lambda t: (
        (t.grad, t.x, index_of(t), *of_draw(t)[1:], "gapped"),
        {"tau_grad": t.flag, **t.place},
    ),
    "_gumbel_subset": lambda t: ((t.x, t.tau, 2, t.dim), {}),
    "_gumbel_subset_backward": lambda t: (
        (t.grad, t.x, t.tau, 2, t.dim),
        {"tau_grad": t.flag},
    ),
    "_log_prob_entropy": lambda t: ((t.x, index_of(t), t.tau, t.dim), {}),
    "_log_prob_entropy_backward": lambda t: (
        (of_rows(t), None, t.x, index_of(t), t.tau, *[of_rows(t)] * 3, t.dim),
        {"temperature_grad": t.flag},
    ),
}
