#pragma once

#include <cstdint>

#include "../common/macros.h"
#include "stream.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include <algorithm>
#include <memory>
#if defined(SD_HOST_THREADS)
#include "host_threads.h"
#endif
#endif

// A kernel is a struct: its Args, its Shared memory, kThreads of a block, kPhases, and `run`, what one thread does in
// one phase. There is a barrier between two phases and nowhere else; nothing is kept in registers over it. So the same
// source also runs on a host, phase after phase and thread after thread, which tests use: everything but races shows.
// Those show with SD_HOST_THREADS, where threads of the host take the place of the kernel's.
namespace sd::cuda {

// Before a loop that the compiler would unroll into spilled registers.
#if defined(__CUDACC__)
#define SD_ROLLED _Pragma("unroll 1")
#else
#define SD_ROLLED
#endif

struct Place {
  int64_t block;
  int thread;
};

#if defined(__CUDACC__)

template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) run(const __grid_constant__ typename Kernel::Args args) {
  __shared__ typename Kernel::Shared shared;
  const Place place = {blockIdx.x, static_cast<int>(threadIdx.x)};
#pragma unroll
  for (int phase = 0; phase < Kernel::kPhases; ++phase) {
    if (phase > 0) __syncthreads();
    Kernel::run(phase, args, shared, place);
  }
}

// Null, or what is wrong.
inline const char* launch_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template <class Kernel>
void launch(const typename Kernel::Args& args, int64_t blocks, Stream stream) {
  if (blocks > 0) run<Kernel><<<static_cast<unsigned int>(blocks), Kernel::kThreads, 0, stream>>>(args);
}

inline void clear(void* memory, size_t bytes, Stream stream) { cudaMemsetAsync(memory, 0, bytes, stream); }

// Null, or why the device of that index cannot run the kernel: too old a driver, or no code for it. Launches nothing.
template <class Kernel>
const char* unusable(int device) {
  int before = 0;
  cudaFuncAttributes attributes = {};
  cudaError_t error = cudaGetDevice(&before);
  if (error == cudaSuccess) error = cudaSetDevice(device);
  if (error == cudaSuccess) {
    error = cudaFuncGetAttributes(&attributes, run<Kernel>);
    cudaSetDevice(before);
  }
  cudaGetLastError();  // else the next launch would report it
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

#else

inline bool reversed = false;     // the other order of blocks and threads: results must not depend on it
inline int64_t num_launches = 0;  // since the program began

inline const char* launch_error() { return nullptr; }

template <class Kernel>
const char* unusable(int) {
  return nullptr;
}

#if defined(SD_HOST_THREADS)
template <class Kernel>
void launch(const typename Kernel::Args& args, int64_t blocks, Stream) {
  if (blocks > 0) ++num_launches;
  run_on_threads<Kernel>(args, blocks);
}
#else
template <class Kernel>
void launch(const typename Kernel::Args& args, int64_t blocks, Stream) {
  if (blocks > 0) ++num_launches;
  const auto shared = std::make_unique<typename Kernel::Shared>();
  for (int64_t i = 0; i < blocks; ++i)
    for (int phase = 0; phase < Kernel::kPhases; ++phase)
      for (int j = 0; j < Kernel::kThreads; ++j)
        Kernel::run(phase, args, *shared, {reversed ? blocks - 1 - i : i, reversed ? Kernel::kThreads - 1 - j : j});
}
#endif

inline void clear(void* memory, size_t bytes, Stream) { std::fill_n(static_cast<char*>(memory), bytes, char{0}); }

#endif

// For integers alone: the order of the additions is not the same twice.
SD_HD void add_atomically(int* sum, int value) {
#if defined(__CUDA_ARCH__)
  atomicAdd(sum, value);
#else
  __atomic_fetch_add(sum, value, __ATOMIC_RELAXED);
#endif
}

SD_HD void add_atomically(int64_t* sum, int64_t value) {
#if defined(__CUDA_ARCH__)
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(value));
#else
  __atomic_fetch_add(sum, value, __ATOMIC_RELAXED);
#endif
}

// Adds to a word that all blocks share, and returns what it was. What the caller and its block wrote before a barrier
// is there for whoever takes after them: so the last block of a launch can finish what all have begun.
SD_HD uint64_t take_ticket(uint64_t* ticket, uint64_t value) {
#if defined(__CUDA_ARCH__)
  __threadfence();
  const uint64_t before =
      atomicAdd(reinterpret_cast<unsigned long long*>(ticket), static_cast<unsigned long long>(value));
  __threadfence();
  return before;
#else
  return __atomic_fetch_add(ticket, value, __ATOMIC_ACQ_REL);
#endif
}

// Blocks of `threads` that cover n elements.
inline int64_t blocks_for(int64_t n, int threads) { return (n + threads - 1) / threads; }

}  // namespace sd::cuda
