#!/usr/bin/env bash
# Proves the CUDA half on a machine with a GPU, offline, in one call of at most 450 seconds:
#
#   benchmarks/gpu.sh OUT [--carry DIR] [--only STAGE] [--device cpu]
#
# Stages, in this order: preflight check sanitizer ops parity step diffusion kernels training. Each has a time limit and
# leaves its record, OUT/gpu_<device>_<stage>.json, whatever becomes of the others; the first three and the builds share
# gpu_<device>_check.json. A record grows as its stage goes. OUT also gets gpu.log, and no more than 8 files in all.
# The extension and gsplat's kernels are built in the background meanwhile; a stage that needs one waits for it.
# --carry: the folder that `make gpu-carry` makes, with what need not be built there and the wheels of an offline machine.
# It needs torch with CUDA, nvcc, ninja, pybind11, pytest, gsplat and what splatdistill depends on, as far as the carried
# wheels do not bring them. PYTHON picks the interpreter; COMMIT names the tree where there is no git.
# --device cpu rehearses what a machine without a GPU can: preflight check parity kernels step diffusion. It proves
# nothing. Exit code: 0 all passed, 1 a stage failed, 2 wrong usage, 77 no CUDA device and nothing done.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
started=$(date +%s)

total=450 # seconds, whatever the stages take
stages=(preflight check sanitizer ops parity step diffusion kernels training)
declare -A limit=([preflight]=10 [check]=35 [sanitizer]=55 [ops]=50 [parity]=30 [step]=100 [diffusion]=80 [kernels]=45
  [training]=45) # seconds
rehearsal=3600 # of everything where there is no GPU: it measures nothing, so no clock decides it
build_limit=150 # seconds from the start; with the stages from parity on it makes up the total
declare -A needed=([check]=check [sanitizer]=check [ops]=package [parity]="package gsplat" [step]="package gsplat"
  [diffusion]="package gsplat" [kernels]=package [training]="package gsplat") # what a stage waits for

usage() {
  echo "usage: benchmarks/gpu.sh OUT [--carry DIR] [--only {$(IFS='|' && echo "${stages[*]}")}] [--device {cuda|cpu}]" >&2
  exit 2
}

out="" only="" device="cuda" inner="" carry=""
while [ $# -gt 0 ]; do
  case $1 in
    --only | --device | --inner | --carry)
      [ $# -ge 2 ] || usage
      case $1 in --only) only=$2 ;; --device) device=$2 ;; --inner) inner=$2 ;; --carry) carry=$2 ;; esac
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
lib=$work/lib site=$work/site check=$work/kernels_check

# Only the files that hold GPU tests: the others may need packages that a GPU machine has no use for.
gpu_tests() { grep -rl --include='test_*.py' 'mark\.gpu' "$@" | sort; }

pytest_gpu() { # pytest_gpu NAME FILE...: GPU tests of what was built here
  local name=$1
  shift
  "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider -o "pythonpath=$lib benchmarks" --junitxml="$work/$name.xml" "$@"
}

# What is built in the background leaves its exit code in a file, and a stage that needs it waits for that.
needs() { # needs NAME...
  local name
  for name in "$@"; do
    until [ -e "$work/$name.code" ]; do sleep 0.2; done
    [ "$(cat "$work/$name.code")" = 0 ] || {
      echo "not run: $name was not built. Its log ends with:"
      tail -n 20 "$work/$name.build.log"
      return 1
    }
  done
}

build_package() { # the Python of the tree beside a compiled extension
  rm -rf "$lib" "$work/temp"
  if [ -n "$carry" ] && [ -e "$carry/_C.abi3.so.gz" ]; then
    SPLATDISTILL_CUDA=0 "$PYTHON" setup.py --quiet build_py --build-lib "$lib" &&
      gunzip -c "$carry/_C.abi3.so.gz" >"$lib/splatdistill/_C.abi3.so"
  else
    nvcc --version | tail -n 2
    "$PYTHON" setup.py --quiet build_py --build-lib "$lib" build_ext --build-lib "$lib" --build-temp "$work/temp"
  fi || return 1
  # -P: the folder of the sources, which holds no extension, must not come first.
  "$PYTHON" -P -c 'from splatdistill import ops; print(ops.__file__, ops.build_info())'
}

build_check() {
  if [ -n "$carry" ] && [ -e "$carry/kernels_check" ] && [ "$device" = cuda ]; then
    cp "$carry/kernels_check" "$check" && chmod +x "$check"
  elif [ "$device" = cuda ]; then
    "$PYTHON" csrc/cuda/check/build.py "$check"
  else
    "$PYTHON" csrc/cuda/check/build.py "$check" --host
  fi
}

build_gsplat() { # a wheel without compiled code compiles at its first import, and if that is ended, from scratch again
  "$PYTHON" -P -c 'from gsplat.cuda._backend import _C; print("gsplat:", _C); raise SystemExit(_C is None)'
}

in_background() { # in_background NAME FUNCTION
  local seconds=$build_limit
  [ "$device" = cuda ] || seconds=$rehearsal
  (
    timeout --kill-after=5 "$seconds" bash benchmarks/gpu.sh "$out" --device "$device" ${carry:+--carry "$carry"} \
      --inner "$2" >"$work/$1.build.log" 2>&1
    code=$?
    echo "$1: exit code $code after $(($(date +%s) - started)) s" >>"$work/$1.build.log"
    echo "$code" >"$work/$1.code.part" && mv "$work/$1.code.part" "$work/$1.code"
  ) &
}

run_preflight() { # prints what explains everything later
  local tool
  for tool in nvcc nvidia-smi ninja git c++ compute-sanitizer; do
    echo "$tool: $(command -v "$tool" || echo missing)"
  done
  [ "$device" = cpu ] || nvidia-smi || true
  ! command -v nvcc || nvcc --version | tail -n 2
  echo "CUDA_HOME=${CUDA_HOME:-} TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-} cores: $(nproc)"
  ls "${CUDA_HOME:-/nowhere}"/lib64/libcudart.so* 2>&1 || true
  "$PYTHON" benchmarks/gpu_facts.py --out "$out" --device "$device"
}

run_check() {
  local words=()
  [ "$device" = cuda ] || words=(--small)
  "$check" ${words[@]+"${words[@]}"}
}

run_sanitizer() {
  local tool failed=0
  command -v compute-sanitizer || { echo "not run: compute-sanitizer is not installed."; return 77; }
  for tool in memcheck initcheck racecheck; do # the last is the slow one: it gets what the others leave
    echo "== $tool"
    timeout 45 compute-sanitizer --tool "$tool" --error-exitcode 86 "$check" --small --no-timings || failed=1
    echo "== $tool: done, failures so far: $failed"
  done
  return "$failed"
}

run_ops() {
  local files
  mapfile -t files < <(gpu_tests tests/ops)
  pytest_gpu ops "${files[@]}"
}

run_training() {
  local files
  mapfile -t files < <(gpu_tests tests | grep -v '^tests/ops/')
  pytest_gpu training "${files[@]}"
}

if [ -n "$inner" ]; then # the process of one stage, under its time limit
  case $inner in
    build_package) build_package ;;
    build_check) build_check ;;
    build_gsplat) build_gsplat ;;
    preflight) run_preflight ;;
    check) run_check ;;
    sanitizer) run_sanitizer ;;
    ops) run_ops ;;
    training) run_training ;;
    *) "$PYTHON" "benchmarks/gpu_$inner.py" --out "$out" --device "$device" ;;
  esac
  exit
fi

if [ -n "$carry" ]; then
  [ -d "$carry" ] || { echo "--carry: there is no folder $carry; make it with make gpu-carry." >&2; exit 2; }
  carry=$(cd "$carry" && pwd)
  carried=$("$PYTHON" benchmarks/gpu_carry.py --check "$carry") || exit 2
  export COMMIT="${COMMIT:-$carried}"
fi
if [ "$device" = cuda ]; then
  "$PYTHON" -c 'import torch; raise SystemExit(0 if torch.cuda.is_available() else 77)' || {
    echo "no CUDA device: $PYTHON has no torch that sees one, so nothing was run." >&2
    exit 77
  }
else
  stages=(preflight check parity kernels step diffusion)
  [[ -z $only || " ${stages[*]} " == *" $only "* ]] || usage
fi

mkdir -p "$out" "$work"
out=$(cd "$out" && pwd)
rm -f "$work"/*.{code,log,xml} # records of an earlier call stay until their stage comes again
: >"$out/gpu.log"
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 GPU_STARTED=$started
if [ "$device" = cuda ]; then
  wheels=("${carry:-.whl}"/*.whl)
  # Not again for the same wheels: gsplat would be compiled anew for sources of another date.
  if [ -e "${wheels[0]}" ] && ! cmp -s <(cat "${wheels[@]}" | sha256sum) "$site/wheels.sha256"; then
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" \
      "${wheels[@]}" && cat "${wheels[@]}" | sha256sum >"$site/wheels.sha256" ||
      echo "The wheels were not installed: stages that need them will fail." >&2
  fi
  # The folder above the nvcc on the PATH need not be the toolkit: that may be a wrapper. nvcc itself knows.
  top=$(nvcc --dryrun -x cu -c /dev/null -o /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p')
  [ -z "$top" ] || CUDA_HOME=$(readlink -f "$top")
  TORCH_CUDA_ARCH_LIST=$("$PYTHON" -c 'import torch; print("%d.%d" % torch.cuda.get_device_capability())')
  export CUDA_HOME TORCH_CUDA_ARCH_LIST SPLATDISTILL_CUDA=1 SPLATDISTILL_CUDA_ARCHS="${TORCH_CUDA_ARCH_LIST/./}"
  cores=$(nproc)
  # A few cores are left to the stages; ninja may lie beside the interpreter alone.
  export MAX_JOBS="${MAX_JOBS:-$((cores > 8 ? cores - 4 : cores))}"
  PATH=$PATH:$("$PYTHON" -c 'import os, sys; print(os.path.dirname(sys.executable))')
  export PATH PYTHONPATH="$lib:$site${PYTHONPATH:+:$PYTHONPATH}"
  in_background package build_package
  in_background gsplat build_gsplat
elif [ -n "$carry" ]; then
  export PYTHONPATH="$lib${PYTHONPATH:+:$PYTHONPATH}"
  in_background package build_package
  echo 0 >"$work/gsplat.code"
else # what is installed
  echo 0 >"$work/package.code"
  echo 0 >"$work/gsplat.code"
fi
in_background check build_check

[ -z "$only" ] || stages=(preflight "${only#preflight}")
[ -n "${stages[1]}" ] || stages=(preflight)
failed=0
for stage in "${stages[@]}"; do
  # shellcheck disable=SC2086  # a list of names
  needs ${needed[$stage]:-} >"$work/$stage.log" && built=1 || built=0
  begun=$(date +%s)
  seconds=$((started + total - 5 - begun))
  [ "$seconds" -le "${limit[$stage]}" ] || seconds=${limit[$stage]}
  [ "$device" = cuda ] || seconds=$rehearsal
  echo "== $stage, at most $seconds s"
  if [ "$built" = 0 ]; then
    cat "$work/$stage.log"
    code=1
  elif [ "$seconds" -lt 5 ]; then
    echo "not run: the $total s are over." | tee "$work/$stage.log"
    code=77 failed=1
  else
    timeout --kill-after=5 "$seconds" bash benchmarks/gpu.sh "$out" --device "$device" ${carry:+--carry "$carry"} \
      --inner "$stage" 2>&1 | tee "$work/$stage.log"
    code=${PIPESTATUS[0]}
  fi
  "$PYTHON" benchmarks/gpu_stage.py "$stage" --out "$out" --device "$device" --code "$code" \
    --begun "$begun" --work "$work" || failed=1
  echo "== $stage: exit code $code, $(($(date +%s) - begun)) s"
  { echo "== $stage: exit code $code" && cat "$work/$stage.log"; } >>"$out/gpu.log"
  [[ $code -eq 0 || $code -eq 77 ]] || failed=1
done
for name in package check gsplat; do
  [ ! -e "$work/$name.build.log" ] || { echo "== build of $name" && tail -n 200 "$work/$name.build.log"; } >>"$out/gpu.log"
done
jobs -p | xargs -r kill 2>/dev/null # a build that no stage waited for
rm -f "$out"/.*.part # of a process that was ended as it wrote
exit "$failed"
