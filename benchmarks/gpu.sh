#!/usr/bin/env bash
# Proves the CUDA half on a machine with a GPU, offline, in one call of less than ten minutes on 16 cores:
#
#   benchmarks/gpu.sh OUT [--only STAGE] [--device cpu]
#
# Stages: build tests parity sanitizer kernels step diffusion. Each has a time limit and leaves OUT/gpu_<device>_<stage>.json
# whatever becomes of the others. --device cpu tries out all but the first two and sanitizer where there is no GPU; it proves nothing.
# It needs torch with CUDA, nvcc, ninja, pybind11, pytest, gsplat and what splatdistill depends on; wheels in .whl/ are
# installed beside them first. PYTHON picks the interpreter; COMMIT names the tree where there is no git.
# Exit code: 0 all passed, 1 a stage failed, 2 wrong usage, 77 no CUDA device and nothing done.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

stages=(build tests parity sanitizer kernels step diffusion)
declare -A limit=([build]=150 [tests]=110 [parity]=45 [sanitizer]=100 [kernels]=85 [step]=60 [diffusion]=45)  # seconds

usage() {
  echo "usage: benchmarks/gpu.sh OUT [--only {$(IFS='|' && echo "${stages[*]}")}] [--device {cuda|cpu}]" >&2
  exit 2
}

out="" only="" device="cuda" inner=""
while [ $# -gt 0 ]; do
  case $1 in
    --only | --device | --inner)
      [ $# -ge 2 ] || usage
      case $1 in --only) only=$2 ;; --device) device=$2 ;; --inner) inner=$2 ;; esac
      shift 2
      ;;
    -*) usage ;;
    *)
      [ -z "$out" ] || usage
      out=$1
      shift
      ;;
  esac
done
[ -n "$out" ] || usage
[[ $device == cuda || $device == cpu ]] || usage
[[ -z $only || -n ${limit[$only]:-} ]] || usage

if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  [ ! -x .venv/bin/python ] || PYTHON=$PWD/.venv/bin/python
fi
work=$PWD/build/gpu
lib=$work/lib site=$work/site

# Only the files that hold GPU tests: the others may need packages that a GPU machine has no use for.
gpu_tests() { grep -rl --include='test_*.py' 'mark\.gpu' "$@" | sort; }

pytest_gpu() { # pytest_gpu NAME [WORD...] -- FILE...: GPU tests of what was built here, with WORD... before the command
  local name=$1 before=()
  shift
  while [ "$1" != -- ]; do before+=("$1") && shift; done
  shift
  "${before[@]}" "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider -o "pythonpath=$lib benchmarks" \
    --junitxml="$work/$name.xml" "$@"
}

run_build() {
  rm -rf "$lib" "$work/temp"
  nvcc --version | tail -n 2
  "$PYTHON" setup.py --quiet build_py --build-lib "$lib" build_ext --build-lib "$lib" --build-temp "$work/temp" \
    >"$work/compiler.log" 2>&1 || { tail -n 40 "$work/compiler.log"; return 1; }
  "$PYTHON" -c 'from splatdistill import ops; print(ops.__file__, ops.build_info())' || return 1
  # A wheel without compiled code compiles now, once, and not within another stage.
  "$PYTHON" -c 'from gsplat.cuda._backend import _C; print("gsplat:", _C); raise SystemExit(_C is None)'
}

run_tests() {
  local files
  mapfile -t files < <(gpu_tests tests)
  pytest_gpu tests -- "${files[@]}"
}

run_sanitizer() {
  local files tool
  mapfile -t files < <(gpu_tests tests/ops)
  command -v compute-sanitizer || { echo "not run: compute-sanitizer is not installed."; return 77; }
  [ ${#files[@]} -gt 0 ] || { echo "not run: tests/ops holds no GPU tests."; return 77; }
  compute-sanitizer --error-exitcode 86 "$PYTHON" -c 'import torch; torch.ones(8, device="cuda").sum().item()' ||
    { echo "not run: compute-sanitizer does not work on this device."; return 77; }
  for tool in memcheck racecheck; do
    echo "== $tool"
    # torch's own pool would hide accesses beyond a tensor.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
      pytest_gpu "$tool" compute-sanitizer --tool "$tool" --error-exitcode 86 -- "${files[@]}" || return 1
  done
}

if [ -n "$inner" ]; then # the process of one stage, under its time limit
  if [[ $device == cuda && $inner != build ]] && ! compgen -G "$lib/splatdistill/_C*.so" >/dev/null; then
    echo "The extension was not built, and no other will do." >&2
    exit 1
  fi
  case $inner in
    build) run_build ;;
    tests) run_tests ;;
    sanitizer) run_sanitizer ;;
    *) "$PYTHON" "benchmarks/gpu_$inner.py" --out "$out" --device "$device" ;;
  esac
  exit
fi

mkdir -p "$out" "$work"
out=$(cd "$out" && pwd)
if [ "$device" = cuda ]; then
  "$PYTHON" -c 'import torch; raise SystemExit(0 if torch.cuda.is_available() else 77)' || {
    echo "no CUDA device: $PYTHON has no torch that sees one, so nothing was run." >&2
    exit 77
  }
  if compgen -G '.whl/*.whl' >/dev/null; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" .whl/*.whl ||
      exit 1
  fi
  # The folder above the nvcc on the PATH need not be the toolkit: that may be a wrapper. nvcc itself knows.
  top=$(nvcc --dryrun -x cu -c /dev/null -o /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p')
  [ -z "$top" ] || CUDA_HOME=$(readlink -f "$top")
  TORCH_CUDA_ARCH_LIST=$("$PYTHON" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
  export CUDA_HOME TORCH_CUDA_ARCH_LIST MAX_JOBS="${MAX_JOBS:-$(nproc)}" SPLATDISTILL_CUDA=1
  export PYTHONPATH="$lib:$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
else
  stages=(parity kernels step diffusion)
  [[ -z $only || " ${stages[*]} " == *" $only "* ]] || usage
fi
if [ -n "$only" ]; then
  stages=("$only")
  [[ $device == cpu || $only == build || -e $lib/splatdistill ]] || stages=(build "$only")
fi

failed=0
for stage in "${stages[@]}"; do
  echo "== $stage, at most ${limit[$stage]} s"
  begun=$(date +%s)
  rm -f "$work/$stage".{log,xml} "$work"/{memcheck,racecheck}.xml
  timeout --kill-after=10 "${limit[$stage]}" bash benchmarks/gpu.sh "$out" --device "$device" --inner "$stage" 2>&1 |
    tee "$work/$stage.log"
  code=${PIPESTATUS[0]}
  "$PYTHON" benchmarks/gpu_stage.py "$stage" --out "$out" --device "$device" --code "$code" \
    --begun "$begun" --log "$work/$stage.log" --junit "$work" || failed=1
  echo "== $stage: exit code $code, $(($(date +%s) - begun)) s"
  [[ $code -eq 0 || $code -eq 77 ]] || failed=1
done
exit "$failed"
