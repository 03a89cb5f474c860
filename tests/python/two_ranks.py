# SPDX-License-Identifier: Apache-2.0
"""Runs the checks of a module on two processes: python two_ranks.py MODULE RESULTS.

A check is a function `check_*(rank)` that asserts. Both ranks run all of them in order; what
failed, with its traceback, is written to RESULTS.<rank> as JSON.
"""

from __future__ import annotations

import datetime
import importlib
import json
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


def run_rank(rank, module_name, results):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(f"{results}.store", RANKS),
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=60),
    )
    module = importlib.import_module(module_name)
    told = {name: run_check(getattr(module, name), rank) for name in checks_of(module)}
    with open(f"{results}.{rank}", "w") as file:
        json.dump(told, file)
    dist.barrier()
    dist.destroy_process_group()


def main(module_name, results):
    torch.multiprocessing.spawn(run_rank, (module_name, results), nprocs=RANKS)


if __name__ == "__main__":
    main(*sys.argv[1:])
