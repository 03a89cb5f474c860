# SPDX-License-Identifier: Apache-2.0
# Everything a newcomer needs. `make demo`: train a model with the op. `make test`: run every test.
# Each target first builds what is missing. PYTHON picks another interpreter than .venv's.

SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= $(VENV)/bin/python
export PATH := $(dir $(abspath $(PYTHON))):$(PATH)

# Architectures of the GPUs here; without one, Hopper. `make TORCH_CUDA_ARCH_LIST="8.0;9.0+PTX" build` builds for others.
# With +PTX the tests can run the kernels' PTX on the CPU.
GPU := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sort -u | paste -sd';')
export TORCH_CUDA_ARCH_LIST ?= $(or $(GPU),9.0)+PTX
export MAX_JOBS ?= $(shell nproc)

BUILD := build/cmake
export TORCH_GUMBEL_BUILD := $(abspath $(BUILD))
# Another interpreter, CUDA choice, or list of architectures is another build.
CHOICES := $(PYTHON) $(TORCH_GUMBEL_CUDA) $(TORCH_CUDA_ARCH_LIST)
HASH := $(shell echo "$(CHOICES)" | cksum | cut -d' ' -f1)
LIBRARY := build/.library-$(HASH)
STAMP := build/.installed-$(HASH)
LIBRARY_SOURCES := $(shell find csrc cuda -type f) CMakeLists.txt setup.py pyproject.toml python/torch_gumbel/VERSION
SOURCES := $(LIBRARY_SOURCES) $(shell find tests/cpp tests/cuda_model -type f) tests/ptx/CMakeLists.txt tests/ptx/recorder.cpp benchmarks/CMakeLists.txt benchmarks/run_kernel.cpp
# The environment is this file's own unless PYTHON names another interpreter.
OWN := $(filter $(VENV)/bin/python,$(PYTHON))

.PHONY: help env build demo test test-cpp test-python test-oldest wheel wheel-test test-torch clang torch-syntax statistics prove-noise model-deep cuda-coverage vae-study ptx sass gpu gpu-bundle gpu-rehearsal arm64 bench instructions docs format lint clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

env: $(VENV)/.ready  ## a virtual environment with everything the project uses

$(VENV)/.ready: pyproject.toml | $(VENV)/.created
	$(VENV)/bin/python -m pip install --group dev
	touch $(VENV)/.demo $@

$(VENV)/.created:
	@command -v python3 >/dev/null || { echo "make: python3 is missing (Debian/Ubuntu: apt-get install python3)"; exit 1; }
	@command -v c++ >/dev/null || { echo "make: a C++20 compiler is missing (Debian/Ubuntu: apt-get install g++)"; exit 1; }
	@python3 -c 'import os, sysconfig as s; os.stat(s.get_paths()["include"] + "/Python.h")' 2>/dev/null || { echo "make: Python's headers are missing (Debian/Ubuntu: apt-get install python3-dev)"; exit 1; }
	@python3 -c 'import ensurepip' 2>/dev/null || { echo "make: python3-venv is missing (Debian/Ubuntu: apt-get install python3-venv)"; exit 1; }
	test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --help | grep -q -e --group || $(VENV)/bin/python -m pip install --quiet --upgrade pip
	touch $@

# The group `demo` of pyproject.toml, if something of it is missing. An environment that sees a torch (made
# with --system-site-packages, or by hand) keeps it, and nothing that is there is downloaded.
$(VENV)/.demo: pyproject.toml | $(VENV)/.created
	@missing=$$($(VENV)/bin/python examples/requirements.py) && test -z "$$missing" || $(VENV)/bin/python -m pip install --group demo
	touch $@

build: $(STAMP)  ## the library, its Python module, and the C++ tests

# Runs a build: all it says goes to build/build.log, ninja's [n/m] and an error to the terminal too.
define run_build
@mkdir -p build && rm -f build/.library-* build/.installed-*
@set -o pipefail; form='%s\n' end=; if test -t 1; then form='\r\033[K%s' end='\r\033[K'; fi; \
  width=$$(($$(tput cols 2>/dev/null || echo 100) - 1)); \
  $(1) 2>&1 | tee build/build.log | { while IFS= read -r line; do \
    if [[ $$line =~ ^\ *(\[[0-9]+/[0-9]+\].*) ]]; then printf "$$form" "$${BASH_REMATCH[1]:0:width}"; fi; done; printf "$$end"; } || \
  { grep -A6 -E 'CMake Error|error:|FAILED|torch_gumbel: wanted' build/build.log | head -40; \
    echo 'make: the build failed; all of it is in build/build.log'; exit 1; }
@grep -h -- '-- torch_gumbel' build/build.log || true
endef

$(STAMP): $(SOURCES) $(if $(OWN),$(VENV)/.ready)
	$(call run_build,TORCH_GUMBEL_TARGETS=all TORCH_GUMBEL_CMAKE_ARGS="-DTORCH_GUMBEL_TESTS=ON" \
	  $(PYTHON) -m pip install --no-build-isolation --no-deps -v -e .)
	@touch $(LIBRARY) $@

# The library alone, in the source tree: nothing is installed into PYTHON. `make build` goes on from there.
$(LIBRARY): $(LIBRARY_SOURCES) $(if $(OWN),$(VENV)/.demo)
	@missing=$$($(PYTHON) examples/requirements.py) || exit 1; test -z "$$missing" || \
	  { echo "make: $(PYTHON) lacks $$missing: $(PYTHON) -m pip install $$missing"; exit 1; }
	$(call run_build,$(PYTHON) setup.py build_ext --inplace)
	@touch $@

demo: $(LIBRARY)  ## train a categorical VAE on handwritten digits; writes out/vae.png
	mkdir -p out
	PYTHONPATH=python $(PYTHON) examples/categorical_vae.py --out out/vae.png

test: test-cpp test-python  ## every test: CTest (GoogleTest), then pytest
	@echo; echo "C++:    $$(grep 'tests passed' build/ctest.log)"; echo "Python: $$(tail -n 1 build/pytest.log)"

test-cpp: build
	@set -o pipefail; ctest --test-dir $(BUILD) --output-on-failure --parallel $(MAX_JOBS) | tee build/ctest.log
	@grep -h '^model.* kernels' $(BUILD)/Testing/Temporary/LastTest.log

test-python: build
	@set -o pipefail; $(PYTHON) -m pytest --color=no | tee build/pytest.log

# A copy of the tree with its own environment and build: the library is compiled for one torch at a time.
OLDEST := build/oldest
test-oldest:  ## every test on the oldest supported torch (.ci/torch_versions.txt), built in build/oldest
	mkdir -p $(OLDEST)
	find $(OLDEST) -mindepth 1 -maxdepth 1 ! -name .venv ! -name build -exec rm -rf {} +
	git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C $(OLDEST)
	head -n 1 .ci/torch_versions.txt > $(OLDEST)/constraint.txt
	PIP_CONSTRAINT=$(abspath $(OLDEST))/constraint.txt $(MAKE) -C $(OLDEST) VENV=.venv PYTHON=.venv/bin/python test

$(VENV)/.wheel: pyproject.toml | $(VENV)/.ready
	$(VENV)/bin/python -m pip install --group wheel
	touch $@

wheel: $(VENV)/.wheel  ## one wheel for every supported torch and Python, in dist/ (.ci/build_wheel.py)
	$(PYTHON) .ci/build_wheel.py

wheel-test: $(VENV)/.wheel  ## the tests on that wheel with every supported torch (.ci/test_wheel.py)
	$(PYTHON) .ci/test_wheel.py

test-torch: $(VENV)/.wheel  ## the same with one of them: make test-torch TORCH=2.12
	$(PYTHON) .ci/test_wheel.py --torch $(TORCH)

clang: $(LIBRARY)  ## the CPU kernels by clang, their bits against the library's (CLANG=clang++-19)
	tests/clang.sh

torch-syntax: env  ## every source against the headers of two older torches (tests/torch_syntax.sh)
	PYTHON=$(PYTHON) tests/torch_syntax.sh

statistics: build  ## the long statistical tests, minutes each
	$(PYTHON) -m pytest -m "statistics or slow"

prove-noise: build  ## all 2^32 random words through the float32 noise, on every instruction set
	$(BUILD)/tests/cpp/prove_noise

MODEL := $(BUILD)/tests/cuda_model
model-deep: build  ## the CUDA kernels on the execution model, over many more shapes
	TORCH_GUMBEL_MODEL_DEEP=1 $(MODEL)/model_tests --gtest_brief=1 --gtest_filter=-Report.*
	TORCH_GUMBEL_MODEL_DEEP=1 $(MODEL)/model_tests_sanitized --gtest_brief=1 --gtest_filter=-Report.*

cuda-coverage: build  ## lines of the CUDA kernels that run on the execution model
	cmake --build $(BUILD) --target model_tests_coverage
	find $(MODEL) -name '*.gcda' -delete
	$(MODEL)/model_tests_coverage --gtest_brief=1 --gtest_filter=-Report.*
	$(PYTHON) tests/cuda_model/coverage.py $(MODEL) 98

vae-study: build  ## the example on 10 seeds, fused against torch.nn.functional
	$(PYTHON) examples/seed_study.py

ptx: build  ## run the CUDA kernels' PTX on an interpreter on the CPU: every case (see tests/ptx)
	$(PYTHON) tests/ptx/run_ptx.py

sass: build  ## the GPU machine code in numbers: docs/internals/machine_code.md, checked against its budget
	$(PYTHON) benchmarks/sass_report.py python/torch_gumbel/lib/libtorch_gumbel_cuda_kernels.so --write docs/internals/machine_code.md
	$(PYTHON) benchmarks/launch_report.py python/torch_gumbel/lib/libtorch_gumbel_cuda_kernels.so --write docs/internals/launches.md

gpu: build  ## all that needs a GPU: tests, memory checkers, quick benchmark (see tests/gpu/run.py); build/gpu/
	PYTHON=$(PYTHON) tests/gpu/run.sh --tests $(BUILD)/tests/cpp/gpu_tests --out build/gpu

gpu-bundle: $(if $(OWN),$(VENV)/.ready)  ## the same, built here, for a machine with a GPU and no network: build/gpu-bundle.tar.gz
	$(PYTHON) .ci/build_gpu_bundle.py

gpu-rehearsal: gpu-bundle  ## that bundle without a GPU, in an empty folder, without a network
	$(PYTHON) .ci/gpu_rehearsal.py

bench: build  ## timings beside PyTorch, JAX, and Paddle (pip install --group bench), written to benchmarks/
	$(PYTHON) benchmarks/compare.py

arm64:  ## the CPU kernels compiled for arm64, their tests and bits under qemu-user (see tests/arm64/run.sh)
	tests/arm64/run.sh

instructions: build  ## instructions per element of the CPU kernels (valgrind), against benchmarks/instructions.json
	$(PYTHON) benchmarks/instructions.py --check

docs: build  ## these pages and the reference from docstrings, as HTML in build/docs; a warning is an error
	$(PYTHON) -m sphinx -W --keep-going -q -b html docs build/docs

# In a copy of the tracked files, with an environment of its own (the group `release` of pyproject.toml). No build of the library.
RELEASE := build/release
RELEASE_TOOL := $(abspath build/release-venv/bin)
.PHONY: release-check
release-check:  ## metadata, licences, workflows, and a source distribution, in build/release/dist
	test -x $(RELEASE_TOOL)/python || python3 -m venv build/release-venv
	$(RELEASE_TOOL)/python -m pip install --quiet --upgrade pip && $(RELEASE_TOOL)/python -m pip install --quiet --group release
	rm -rf $(RELEASE) && mkdir -p $(RELEASE)/tree
	git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C $(RELEASE)/tree
	cd $(RELEASE)/tree && $(RELEASE_TOOL)/reuse lint --lines
	cd $(RELEASE)/tree && $(RELEASE_TOOL)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	cd $(RELEASE)/tree && $(RELEASE_TOOL)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*.yml
	cd $(RELEASE)/tree && $(RELEASE_TOOL)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	cd $(RELEASE)/tree && $(RELEASE_TOOL)/zizmor --offline --pedantic --quiet .github
	$(RELEASE_TOOL)/pyroma -n 8 $(RELEASE)/tree
	$(RELEASE_TOOL)/python -m build --sdist --outdir $(RELEASE)/dist $(RELEASE)/tree > $(RELEASE)/sdist.log
	$(RELEASE_TOOL)/twine check --strict $(RELEASE)/dist/*
	@! tar -tzf $(RELEASE)/dist/*.tar.gz | grep -E '\.so$$|/lib/|/pictures/' || { echo "release-check: wanted sources in the sdist, got build products"; exit 1; }

format: env  ## clang-format and ruff, in place
	git ls-files -co --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format -i
	ruff format . && ruff check --fix --quiet .

lint: env  ## formatting, style, types, and the project's rules, without changing anything
	git ls-files -co --exclude-standard '*.h' '*.cpp' '*.cu' '*.cuh' | xargs clang-format --dry-run --Werror
	ruff format --check . && ruff check . && mypy
	@! grep -rnE '#include *[<"](torch|ATen|c10|cuda)' csrc/math || { echo "csrc/math must stay free of Torch and CUDA"; exit 1; }
	@! grep -rnE '#include *[<"](torch|ATen|c10)' cuda --include='*.cuh' || { echo "cuda/*.cuh must stay free of Torch"; exit 1; }

clean:  ## build products (not the environment)
	rm -rf build out python/torch_gumbel/lib python/torch_gumbel/include python/torch_gumbel/share python/torch_gumbel/*.so python/*.egg-info
