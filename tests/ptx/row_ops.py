# SPDX-License-Identifier: Apache-2.0
"""The ops of device.Device whose parameters are more than KernelParams: tensors of rows."""

import ctypes
import functools

import numpy as np
import torch
from params import (
    DTYPES,
    FilterParams,
    LogProbParams,
    SubsetParams,
    make_rows,
    memory,
    word_strides,
)


class RowOps:
    def log_prob(self, backward, dim, order, **tensors):
        """Log-probabilities and entropies of `input` and `index`, which write log_prob, entropy,
        max, sum, and mean, or their backward, which reads the last three and writes `output`."""
        run = functools.partial(self._library.run_log_prob, backward)
        self._rows(run, LogProbParams(), dim, order, **tensors)

    def filtered(self, dim, order, **tensors):
        """A filtered draw, which writes index, row_value, entropy, or `output` if there is one."""
        self._rows(self._library.run_filtered, FilterParams(), dim, order, **tensors)

    def subset(self, k, dim, order, **tensors):
        """Relaxed k-hots of `input`, or, with `grad`, their gradient, which also writes row_value
        if there is one."""
        library = self._library
        self._rows(library.run_subset, SubsetParams(k=k), dim, order,
                   workspace_bytes=library.subset_workspace_bytes, **tensors)  # fmt: skip

    def _rows(self, run, of, dim, order, *, tau=1.0, key=(0, 0), workspace_bytes=None, **tensors):
        a, x = of.a, tensors["input"]
        a.host_tau, a.host_key[:] = 1.0 if isinstance(tau, torch.Tensor) else tau, key
        if isinstance(tau, torch.Tensor):
            tensors["tau"] = tau
        strides = {"word": word_strides(list(x.shape), 0, None, None)[0]}
        for operand in {"input", "grad", "output", "tau"} & tensors.keys():
            strides[operand] = tensors[operand].expand(x.shape).stride()
            setattr(a, f"{operand}_type", DTYPES.index(tensors[operand].dtype))
        a.rows = make_rows(list(x.shape), dim, strides, 0)
        for name, tensor in tensors.items():
            set_pointer = of.point if name in of.ROWS else functools.partial(setattr, a)
            set_pointer(name, tensor.data_ptr())
        buffers = {name: memory(tensor) for name, tensor in tensors.items()}
        arguments = [ctypes.byref(of)]
        if workspace_bytes is not None:
            buffers["workspace"] = np.full(workspace_bytes(*arguments), 0xCB, np.uint8)
            arguments.append(ctypes.c_void_p(buffers["workspace"].ctypes.data))
        self._call(buffers, order, run, *arguments)
