# SPDX-License-Identifier: Apache-2.0
"""The cases of every CUDA kernel, run on the PTX interpreter and compared (see run_ptx.py)."""

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import chain
from typing import ClassVar, NamedTuple

import filter_cases
import log_prob_cases
import noise_at_cases
import subset_cases
import torch
from device import Device, memory
from inputs import KEY, Case, keys, normal
from interpreter import ORDERS
from kernel_cases import all_cases
from reference import INF, OPS, Reference, close, folded, same_bits

# csrc/math/rows.h: Estimator.
ESTIMATORS = ["straight-through", "zgr", "reinmax", "gapped", "gumbel-rao"]
TAU = torch.tensor(1.3, dtype=torch.float64)
ONE_HOT_KEY = torch.tensor([5, 0], dtype=torch.uint64)


class Job(NamedTuple):
    """Something to run and compare; `run` raises an AssertionError for a wrong result."""

    name: str
    run: Callable
    size: int  # of the logits


@lru_cache(maxsize=1)
def reference(case):
    return Reference(case)


class Runner:
    def __init__(self):
        self.device = Device()

    def run(self, name, case, outputs, **tensors):
        """{output: tensor} of a launch, equal in all orders. outputs: {name: (shape, dtype)}."""
        results = []
        for order in ORDERS:
            made = {k: torch.empty(shape, dtype=dtype) for k, (shape, dtype) in outputs.items()}
            for tensor in made.values():
                memory(tensor)[:] = 0xCB
            self.device.run(name, case.dim, order, multiprocessors=case.multiprocessors,
                            clusters=case.clusters, **made, **tensors)  # fmt: skip
            results.append(made)
        for other in results[1:]:
            for k, tensor in other.items():
                assert (memory(tensor) == memory(results[0][k])).all(), f"{k} depends on the order"
        return results[0]

    def drawing(self, name, case, outputs, **tensors):
        batch = {"batch_dims": case.batch_dims}
        shard = {"full_shape": case.full_shape, "start": case.start}
        return self.run(name, case, outputs, key=case.key, tau=case.tau, input=case.logits,
                        **batch, **shard, **tensors)  # fmt: skip

    def noise(self, case, want):
        batch = {"batch_dims": case.batch_dims}
        outputs = {"output": (case.logits.shape, case.out_dtype)}
        got = self.run("kNoise", case, outputs, key=case.key, **batch, **want.shard)
        same_bits(got["output"], want.noise(case.out_dtype).to(case.out_dtype), "noise")

    def soft_forward(self, case, want):
        outputs = {"output": (case.logits.shape, case.out_dtype)}
        if case.name != "one row":
            outputs["row_value"] = (want.lse.shape, want.compute)
        got = self.drawing("kSoft", case, outputs)
        close(
            got["output"], want.y, want.bound(want.y, 1.2e-5, want.exact, want.rounding()), "soft"
        )
        assert (got["output"][case.logits == -INF].nan_to_num(0) == 0).all(), "masked class drawn"
        if "row_value" in got:
            close(got["row_value"], want.lse, want.bound_lse(), "log-sum-exp")

    def hard_forward(self, case, want):
        outputs = {"output": (case.logits.shape, case.out_dtype)}
        got = self.drawing("kHard", case, outputs)["output"]
        op = OPS._gumbel_softmax
        same_bits(got, op(case.logits, want.tau, want.key, case.dim, True, dtype=case.out_dtype,
                          **want.shard), "hard")  # fmt: skip

    def hard_soft_forward(self, case, want):
        made = (case.logits.shape, case.out_dtype)
        got = self.drawing("kHardSoft", case, {"output": made, "one_hot": made})
        soft = got["output"]
        close(soft, want.y, want.bound(want.y, 1.2e-5, want.exact, want.rounding()), "soft")
        assert (soft[case.logits == -INF].nan_to_num(0) == 0).all(), "masked class drawn"
        op = OPS._gumbel_softmax
        same_bits(got["one_hot"], op(case.logits, want.tau, want.key, case.dim, True,
                                     dtype=case.out_dtype, **want.shard), "one-hot")  # fmt: skip

    def argmax(self, case, want):
        outputs = {
            "row_value": (want.lse.shape, want.compute),
            "index": (want.lse.shape, torch.int64),
        }
        got = self.drawing("kArgmax", case, outputs)
        op = OPS._gumbel_max
        value, index = op(case.logits, want.tau, want.key, case.dim, False, **want.shard)
        assert torch.equal(got["index"], index), "index"
        same_bits(got["row_value"], value, "best score")
        del outputs["row_value"]  # as the public op asks
        assert torch.equal(self.drawing("kArgmax", case, outputs)["index"], index), "index alone"

    def check_gradient(self, want, y, got, exact, rounding=0):
        at_logits, bound, at_tau, bound_tau = want.gradient(y, exact, rounding)
        close(got["output"], at_logits, bound, "gradient")
        close(got["row_value"], at_tau, bound_tau, "gradient at tau")
        zero = (y == 0).broadcast_to(got["output"].shape)
        assert (got["output"][zero] == 0).all(), "masked class has a gradient"

    def backward(self, case, want):
        y = want.y.to(case.out_dtype)
        compute = torch.float64 if y.dtype == torch.float64 else torch.float32
        outputs = {
            "output": (case.logits.shape, case.logits.dtype),
            "row_value": (want.lse.shape, compute),
        }
        got = self.run("kBackward", case, outputs, input=y, grad=case.grad, tau=case.tau)
        self.check_gradient(want, y.double(), got, exact=y.dtype == torch.float64)

    def hard_backward(self, case, want):
        outputs = {
            "output": (case.logits.shape, case.logits.dtype),
            "row_value": (want.lse.shape, want.compute),
        }
        got = self.drawing("kHardBackward", case, outputs, grad=case.grad)
        self.check_gradient(want, want.y, got, want.exact, want.rounding())

    def gates(self, op, x, tau=0.7, key=KEY, keeps=False, **settings):
        """op: 0 samples, 1 the backward from what is kept, 2 that from the logits."""
        grad, results, made = normal(*x.shape, dtype=x.dtype, seed=5), [], {}
        given = {"input": x, **({"grad": grad} if op else {})}
        for order in ORDERS:
            made = {"output": torch.empty(x.shape, dtype=x.dtype)}
            if keeps:
                made["one_hot"] = torch.empty(x.shape, dtype=x.dtype)
            if op:
                wide = torch.float64 if x.dtype == torch.float64 else torch.float32
                made["row_value"] = torch.empty(x.shape, dtype=wide)
            self.device.gates(op, order, tau=tau, key=None if op == 1 else key, **given, **made,
                              **settings)  # fmt: skip
            results.append(made)
        for other in results[1:]:
            for k, tensor in other.items():
                assert torch.equal(tensor, results[0][k]), f"{k} depends on the order"
        wanted = self.gates_on_cpu(op, x, grad, tau, key, keeps, **settings)
        hard = settings.get("hard", False)
        for name, got, right in zip(made, results[0].values(), wanted, strict=True):
            if hard and name == "output":
                same_bits(got, right, "hard gate")
            else:
                # The CPU's result is rounded too: next to a tie, to the other side.
                rounding = torch.finfo(right.dtype).eps / 2 if right.element_size() == 2 else 0
                bound = (1e-5 + rounding) * right.double().abs() + 2e-6
                close(got, right.double(), bound, name)

    @staticmethod
    def gates_on_cpu(op, x, grad, tau, key, keeps, hard=False, lower=0.0, upper=1.0):
        t = torch.as_tensor(tau, dtype=None if torch.is_tensor(tau) else torch.float64)
        k = key if torch.is_tensor(key) else torch.tensor(key, dtype=torch.uint64)
        if op == 0:
            made = (OPS._gumbel_gate_keep if keeps else OPS._gumbel_gate)(
                x, t, k, hard, 0.5, lower, upper)  # fmt: skip
            return made if keeps else (made,)
        if op == 1:
            return OPS._gumbel_gate_backward(grad, x, t, lower, upper, tau_grad=True)
        return OPS._gumbel_gate_recompute_backward(grad, x, t, k, tau_grad=True)

    def gate_jobs(self):
        stretch = {"lower": -0.1, "upper": 1.1}
        forms = {
            "soft": (0, {}), "stretched": (0, stretch), "hard": (0, {"hard": True}),
            "soft kept": (0, {"keeps": True, **stretch}),
            "hard kept": (0, {"keeps": True, "hard": True}),
            "backward": (1, stretch), "recomputed": (2, {}),
        }  # fmt: skip
        for dtype in [torch.float32, torch.float16, torch.bfloat16, torch.float64]:
            for name, (op, settings) in forms.items():
                for size in [37, 1030]:
                    x = normal(size, dtype=dtype)
                    above = (x > 0).to(dtype) * (dtype.itemsize == 2)
                    x = x.sigmoid() - above if op == 1 else x
                    job = partial(self.gates, op, x, **settings)
                    yield Job(f"gates, {name} {dtype} {size}", job, size)
                    many = partial(self.gates, op, x, tau=torch.linspace(0.5, 2, size), **settings)
                    yield Job(f"gates, {name}, taus {dtype} {size}", many, size)
                    on_device = partial(self.gates, op, x, key=keys(), **settings)
                    yield Job(f"gates, {name}, device key {dtype} {size}", on_device, size)

    def fold_in(self, keys, first, per_key, number=None):
        """`number`, if there is one, is a tensor on the device and counts instead of `first`."""
        count = keys.numel() // 2
        start = first if number is None else number.item()
        wanted = folded(keys, range(start, start + per_key))
        for order in ORDERS:
            out = torch.zeros(per_key, count, 2, dtype=torch.uint64)
            self.device.fold_in(keys, first, per_key, number, out, order)
            assert torch.equal(out, wanted), "fold_in"

    def write_key(self, seed, offset):
        pair = seed, offset
        number, position = (v.item() if isinstance(v, torch.Tensor) else v for v in pair)
        key = torch.tensor([[number, 0]], dtype=torch.uint64)
        wanted = folded(key, [position // 4])[0, 0]
        for order in ORDERS:
            out = torch.zeros(2, dtype=torch.uint64)
            self.device.write_key(seed, offset, out, order)
            assert torch.equal(out, wanted), "write_key"

    def one_hot_backward(self, number, estimator, dtype):
        """Beside the CPU op, on rows of strided classes too."""
        for dim in (0, 1):
            x, grad = normal(5, 21, dtype=dtype), normal(5, 21, dtype=dtype).flip(0).contiguous()
            index = torch.ops.torch_gumbel._gumbel_argmax(x, TAU, ONE_HOT_KEY, dim, True)
            at_tau = estimator not in ("zgr", "reinmax")
            want, want_rows = torch.ops.torch_gumbel._sample_one_hot_backward(
                grad, x, index, TAU, ONE_HOT_KEY, dim, estimator, samples=11, tau_grad=at_tau
            )
            outputs = {"output": (x.shape, dtype)}
            if at_tau:
                outputs["row_value"] = (index.shape, dtype)
            case = Case("one-hot", x, dim=dim, tau=1.3, key=(5, 0))
            got = self.run("one_hot_backward", case, outputs, key=case.key, tau=case.tau, input=x,
                           grad=grad, index=index,
                           settings={"estimator": number, "draws": 11, "gap": 1.0})  # fmt: skip
            torch.testing.assert_close(got["output"], want, atol=1e-5, rtol=1e-5)
            if at_tau:
                torch.testing.assert_close(got["row_value"], want_rows, atol=1e-4, rtol=1e-4)

    def check(self, kernel, case):
        kernel(self, case, reference(case))

    KERNELS: ClassVar = [noise, soft_forward, hard_forward, hard_soft_forward, argmax, backward,
                         hard_backward]  # fmt: skip

    def jobs(self):
        """Everything to run."""
        for case in all_cases():
            for kernel in Runner.KERNELS:
                if case.only in ("", kernel.__name__):
                    name = f"{kernel.__name__}, {case.name}"
                    yield Job(name, partial(self.check, kernel, case), case.logits.numel())
        yield from self.gate_jobs()
        number = torch.tensor([2**64 - 1], dtype=torch.uint64)
        splits = {
            "split": (keys(), 0, 700),
            "split of many": (keys(5), 0, 3),
            "one": (keys(), 77, 1),
            "negative number": (keys(2), -3, 2),
            "number on the device": (keys(7), 12345, 1, number),
        }
        for name, arguments in splits.items():
            size = arguments[0].numel() * arguments[2]
            yield Job(f"fold_in, {name}", partial(self.fold_in, *arguments), size)

        for dtype in [torch.float32, torch.float64]:
            for number, estimator in enumerate(ESTIMATORS):
                run = partial(self.one_hot_backward, number, estimator, dtype)
                name = "gumbel_rao" if estimator == "gumbel-rao" else "one_hot_backward"
                yield Job(f"{name}, {estimator} {dtype}", run, 105)

        more = (log_prob_cases, noise_at_cases, filter_cases, subset_cases)
        for case in chain.from_iterable(cases.cases(self.device) for cases in more):
            yield Job(*case)
        yield Job("write_key, numbers", partial(self.write_key, 9, 2**34 + 4), 2)
        words = [torch.tensor([value], dtype=torch.uint64) for value in (2**64 - 1, 2**40)]
        yield Job("write_key, of a captured graph", partial(self.write_key, *words), 2)

    def one_per_family(self):
        """Some of the jobs, the smaller rather than the larger, that run every kernel's family."""
        families = self.device.families()
        missing, chosen = set(families.values()), []
        jobs = [(job, self.device.kernels_of(job.run)) for job in self.jobs()]
        for job, kernels in sorted(jobs, key=lambda pair: pair[0].size):
            found = {families[kernel] for kernel in kernels}
            if found & missing:
                missing -= found
                chosen.append(job)
        return chosen
