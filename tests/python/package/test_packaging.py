# SPDX-License-Identifier: Apache-2.0
"""The CMake package inside the Python package, used by a C++ project."""

import pathlib
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig

import pytest
import torch

import torch_gumbel

ROOT = pathlib.Path(__file__).resolve().parents[3]
CONSUMER = ROOT / "tests" / "cpp" / "consumer"


def test_every_part_of_the_package_is_packaged():
    tomllib = pytest.importorskip("tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    source = ROOT / "python"
    parts = [path.parent.relative_to(source) for path in source.rglob("__init__.py")]
    names = sorted(".".join(part.parts) for part in parts)
    assert settings["tool"]["setuptools"]["packages"] == names
    extras = settings["project"]["optional-dependencies"]
    assert set(extras) == {"plots", "progress"}
    known = group(settings, "dev")
    assert all(set(needs) <= known for needs in extras.values())


def group(settings, name):
    """The requirements of a dependency group of pyproject.toml, with those that it includes."""
    needs = settings["dependency-groups"][name]
    parts = (group(settings, n["include-group"]) if isinstance(n, dict) else {n} for n in needs)
    return set().union(*parts)


def test_the_demo_installs_its_group_and_names_missing_packages(tmp_path):
    tomllib = pytest.importorskip("tomllib")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    script = ROOT / "examples" / "requirements.py"
    names = runpy.run_path(str(script))
    assert {*names["PACKAGES"], *names["TOOLS"]} == group(settings, "demo")

    def lacking(*options, **more):
        command = [sys.executable, *options, script]
        run = subprocess.run(command, capture_output=True, text=True, check=True, **more)
        return shlex.split(run.stdout)

    assert lacking() == []
    alone = lacking("-I", "-S", env={"PATH": str(tmp_path)})  # no site-packages, no PATH
    assert set(alone) - {"cmake>=3.26", "ninja"} == set(names["PACKAGES"])
    assert list(names["missing"](["numpy>=2.0", "tqdm"], {"numpy": "1.26.4"}.get)) == [
        "numpy>=2.0",
        "tqdm",
    ]
    assert not list(names["missing"](["torch>=2.11"], {"torch": "2.15.0+cu132"}.get))


@pytest.mark.parametrize("there", [[], ["cmake"], ["ninja"]], ids=str)
def test_a_build_without_its_tools_names_them(tmp_path, there):
    (tmp_path / "python" / "torch_gumbel").mkdir(parents=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "python/torch_gumbel/VERSION"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in there:
        (tmp_path / "bin" / tool).touch(0o755)
    code = """
import runpy, sys
sys.executable, sys.argv = "/nowhere/python", ["setup.py", "build_ext"]
runpy.run_path("setup.py", run_name="__main__")
"""
    environment = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    missing = " and no ".join(tool for tool in ("cmake", "ninja") if tool not in there)
    output = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert output.startswith("torch_gumbel: wanted cmake 3.26 or later and ninja")
    assert f"got no {missing}: pip install" in output


@pytest.fixture
def setup_script(monkeypatch):
    """The names of setup.py, which finds packages in no folder yet."""
    monkeypatch.setattr(sys, "argv", ["setup.py", "--quiet", "--name"])
    monkeypatch.chdir(ROOT)
    names = runpy.run_path("setup.py")
    monkeypatch.setattr(sys, "path", [])
    return names


def folder_with_torch(folder, version="2.13.0+cpu"):
    (folder / "torch" / "include" / "ATen").mkdir(parents=True)
    (folder / "torch" / "include" / "ATen" / "ATen.h").touch()
    (folder / "torch" / "version.py").write_text(f"__version__ = '{version}'\ncuda = None\n")
    return folder


def test_a_build_finds_the_torch_of_the_environment_it_installs_into(
    tmp_path, monkeypatch, setup_script
):
    site, other = tmp_path / "site", tmp_path / "other"
    site.mkdir()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(site))
    with pytest.raises(
        SystemExit, match=r"wanted PyTorch 2\.11 or later in .*site, got none\. Insta"
    ):
        setup_script["torch_folder"]()
    folder_with_torch(other)
    (site / "more.pth").write_text(f"import nothing\n\n{other}\n")
    assert setup_script["torch_folder"]() == other / "torch"
    folder_with_torch(site)
    assert setup_script["torch_folder"]() == site / "torch"


def test_builds_for_different_torches_and_choices_have_folders_of_their_own(
    tmp_path, monkeypatch, setup_script
):
    monkeypatch.delenv("TORCH_GUMBEL_BUILD", raising=False)
    folders = set()
    for version in ("2.13.0+cpu", "2.13.0+cu130"):
        torch_folder = folder_with_torch(tmp_path / version, version) / "torch"
        for cuda in ("0", "1"):
            monkeypatch.setenv("TORCH_GUMBEL_CUDA", cuda)
            folders.add(setup_script["build_folder"](torch_folder))
    assert len(folders) == 4 and all(path.parent == ROOT / "build" for path in folders)
    monkeypatch.setenv("TORCH_GUMBEL_BUILD", "/elsewhere")
    assert setup_script["build_folder"](torch_folder) == pathlib.Path("/elsewhere")


def configure(build, *options):
    command = ["cmake", "-S", CONSUMER, "-B", build, "-GNinja", *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_program_is_built_against_the_python_package_and_runs_without_python(tmp_path):
    prefix = f"-DCMAKE_PREFIX_PATH={torch_gumbel.cmake_prefix_path}"
    done = configure(tmp_path, prefix)
    assert done.returncode == 0, done.stderr
    subprocess.run(["cmake", "--build", tmp_path], check=True, capture_output=True)
    program = tmp_path / "consumer"
    shown = subprocess.run([program], capture_output=True, text=True)
    assert (shown.returncode, shown.stdout) == (0, "rows with a choice: 3\n"), shown.stderr
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    assert "libtorch_gumbel.so => " in linked
    assert "libpython" not in linked and "torch_python" not in linked


def copy_of_cmake_package(tmp_path):
    """The CMake package without libraries."""
    here = tmp_path / "share" / "cmake" / "torch_gumbel"
    shutil.copytree(pathlib.Path(torch_gumbel.cmake_prefix_path) / "torch_gumbel", here)
    return f"-DCMAKE_PREFIX_PATH={tmp_path}"


def test_a_library_built_for_another_libtorch_is_refused_with_an_explanation(tmp_path):
    (tmp_path / "lib" / "torch-2.99").mkdir(parents=True)
    prefix = f"{copy_of_cmake_package(tmp_path)};{pathlib.Path(torch.__file__).parent}"
    done = configure(tmp_path / "build", prefix)
    assert done.returncode != 0
    words = " ".join(done.stderr.split())
    assert "torch_gumbel was built for LibTorch 2.99, but LibTorch" in words
    assert torch.__version__.split("+")[0] in words and "rebuild torch_gumbel" in words


@pytest.mark.parametrize("version", ["0.2", "1.0"])
def test_another_version_of_torch_gumbel_is_refused(tmp_path, version):
    for file in CONSUMER.iterdir():
        shutil.copy(file, tmp_path)
    lists = tmp_path / "CMakeLists.txt"
    text = lists.read_text()
    assert "torch_gumbel 0.1 REQUIRED" in text
    lists.write_text(text.replace("torch_gumbel 0.1 ", f"torch_gumbel {version} "))
    prefix = f"-DCMAKE_PREFIX_PATH={torch_gumbel.cmake_prefix_path}"
    done = subprocess.run(
        ["cmake", "-S", tmp_path, "-B", tmp_path / "build", "-GNinja", prefix],
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and f'requested version "{version}"' in " ".join(
        done.stderr.split()
    )
