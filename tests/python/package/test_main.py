# SPDX-License-Identifier: Apache-2.0
"""The commands of python -m torch_gumbel: files, output, and errors."""

import json
import os
import subprocess
import sys

import pytest
import torch

import torch_gumbel
from torch_gumbel import _bench, _self_check
from torch_gumbel.__main__ import main


def test_plot_writes_the_pictures(tmp_path, capsys, monkeypatch):
    from torch_gumbel import plots

    for name in plots.__all__:
        whole = getattr(plots, name)
        monkeypatch.setattr(plots, name, lambda key, whole=whole: whole(draws=2000, key=key))
    out = tmp_path / "new" / "pictures"
    assert main(["plot", "--out", str(out)]) == 0
    written = sorted(path.name for path in out.iterdir())
    assert written == ["noise.png", "simplex.png", "temperatures.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out.iterdir())
    assert capsys.readouterr().out.split() == [str(out / f"{name}.png") for name in plots.__all__]


def test_info_prints_build_and_devices(capsys):
    assert main(["info"]) == 0
    shown = dict(
        (part.strip() for part in (line[:22], line[22:]))
        for line in capsys.readouterr().out.splitlines()
    )
    build = torch_gumbel.build_info()
    assert shown["torch_gumbel"] == torch_gumbel.__version__
    assert shown["running torch"] == torch.__version__
    assert shown["instruction set used"] == build["cpu_selected"]
    assert shown["instruction sets"].split(", ") == build["cpu_builds"].split()
    assert shown["code for CUDA devices"] == "none" or torch.cuda.is_available()
    assert (shown["CUDA kernels"] == "not loaded") == (not build["cuda"])
    assert main(["info", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == [name.replace(" ", "_").lower() for name in shown]
    assert ".".join(build["torch"].split(".")[:2]) in told["built_for_torch"]
    assert told["code_for_cuda_devices"] == {} or torch.cuda.is_available()


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        ("8.0 9.0", (8, 6), True),
        ("8.6", (8, 0), False),
        ("9.0", (10, 0), False),
        ("7.5 9.0+PTX", (12, 0), True),
        ("12.0+PTX", (9, 0), False),
        ("9.0a", (9, 0), True),
        ("", (9, 0), False),
    ],
)
def test_a_gpu_runs_code_of_its_major_version_and_older_ptx(
    monkeypatch, architectures, capability, runs
):
    info = {"cuda_architectures": architectures}
    monkeypatch.setattr(torch_gumbel, "build_info", lambda: info)
    assert _self_check._runs_on(capability) == runs


def test_check_finds_this_installation_right(capsys):
    assert main(["check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 + torch.cuda.device_count()
    assert all(line[14:].startswith("ok ") for line in lines)


@pytest.mark.parametrize(
    ("function", "name", "message"),
    [
        ("sample_gumbel", "known words", "wanted noise [0.67"),
        ("gumbel_softmax", "gradient", "wanted an error below 1e-12, got "),
        ("gumbel_argmax", "distribution", "wanted choices by probability [0.5, "),
    ],
)
def test_check_names_what_is_wrong(capsys, monkeypatch, function, name, message):
    whole = getattr(torch_gumbel, function)

    def wrong(x, *arguments, **options):
        if isinstance(x, torch.Tensor):
            x = x * 1.01
        if function == "sample_gumbel":
            options["key"] = torch_gumbel.key(9)
        return whole(x, *arguments, **options)

    monkeypatch.setattr(torch_gumbel, function, wrong)
    assert main(["check"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "FAILED" in line]
    assert line.startswith(name) and line[14:].startswith(f"FAILED  {message}")


def test_bench_compares_every_case(capsys, monkeypatch):
    monkeypatch.setattr(_bench, "_ELEMENTS", 65_536)
    monkeypatch.setattr(_bench, "_compiled", lambda device: torch.softmax)
    monkeypatch.setattr(_bench, "_cases", keep_eager(_bench._cases))
    assert main(["bench", "--seconds", "0.1"]) == 0
    head, size, titles, *lines = capsys.readouterr().out.splitlines()
    assert torch.__version__ in head and "65,536 logits" in size and "F.gumbel_softmax" in titles
    assert len(lines) == 7
    for line in lines:
        *_, ours, unit, ratio = line.split()
        assert unit == "ns" and float(ours) > 0 and ratio.endswith("x") and float(ratio[:-1]) > 0


def keep_eager(cases):
    return lambda compiled: cases(None)


def test_bench_does_without_a_compiler(monkeypatch, capsys):
    def broken(function):
        def call(x):
            raise RuntimeError("no C++ compiler here\nsecond line")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    assert _bench._compiled(torch.device("cpu")) is None
    output = capsys.readouterr().err
    assert output == "without torch.compile, which failed: no C++ compiler here\n"


def test_bench_does_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(_bench._progress([1, 2], 2)) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["draw"], "invalid choice: 'draw'"),
        (["plot"], "the following arguments are required: --out"),
        (["bench", "--threads", "0"], "argument --threads: invalid int > 0 value: '0'"),
        (["bench", "--seconds", "long"], "argument --seconds: invalid float > 0 value: 'long'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_failure_is_one_line_and_a_status(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert main(["plot", "--out", str(file)]) == 1
    output = capsys.readouterr().err
    assert output == f"torch_gumbel plot: --out must be a folder, got the file {file}\n"
    assert main(["bench", "--device", "abacus"]) == 1
    assert capsys.readouterr().err.startswith("torch_gumbel bench: Expected one of cpu")


@pytest.mark.parametrize("device", ["xpu", "mps", "meta", "hpu:0"])
def test_bench_refuses_a_device_without_kernels_in_one_line(device, capsys):
    assert main(["bench", "--device", device]) == 1
    output = "--device must be cpu or cuda, which have kernels, got"
    assert capsys.readouterr().err == f"torch_gumbel bench: {output} {device}\n"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_bench_refuses_a_device_that_is_not_there_in_one_line(capsys):
    assert main(["bench", "--device", "cuda"]) == 1
    output = capsys.readouterr().err
    assert output == "torch_gumbel bench: --device must be a device of this machine, got cuda\n"


def test_it_is_a_program():
    command = [sys.executable, "-m", "torch_gumbel", "info"]
    path = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert torch_gumbel.build_info()["cpu_selected"] in done.stdout
