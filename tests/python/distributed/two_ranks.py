# SPDX-License-Identifier: Apache-2.0
"""Runs the checks of modules on two processes: python two_ranks.py RESULTS MODULE...

A check is a function `check_*(rank)` that asserts. Both ranks run all of them in order;
failures, with their tracebacks, are written to RESULTS.<rank> as JSON.
"""

from __future__ import annotations

import datetime
import importlib
import json
import os
import sys
import traceback

import torch
import torch.distributed as dist
import torch.multiprocessing

RANKS = 2


def checks_of(module):
    return [name for name in vars(module) if name.startswith("check_")]


def run_check(check, rank):
    torch.manual_seed(2016)
    try:
        check(rank)
        return None
    except Exception:
        return traceback.format_exc()


def run_rank(rank, results, modules):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(f"{results}.store", RANKS),
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=60),
    )
    failures = {}
    for module in map(importlib.import_module, modules):
        for name in checks_of(module):
            failures[f"{module.__name__}.{name}"] = run_check(getattr(module, name), rank)
    with open(f"{results}.{rank}", "w") as file:
        json.dump(failures, file)
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # threads of gloo sometimes outlive the interpreter and abort it (torch 2.11)


if __name__ == "__main__":
    torch.multiprocessing.spawn(run_rank, (sys.argv[1], sys.argv[2:]), nprocs=RANKS)
