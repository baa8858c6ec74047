// The shipped CUDA kernels, bindings and all, as operators on CPU tensors: launch.h runs them in loops, and the
// standard library stands in for CUDA's own algorithms.
#include <algorithm>
#include <numeric>
#include <vector>

#include "../../csrc/bind/cuda.h"
#include "../../csrc/cuda/densify.cu"
#include "../../csrc/cuda/primitives.h"
#include "../../csrc/cuda/products.cu"
#include "../../csrc/cuda/residual.cu"

extern "C" __attribute__((visibility("default"))) void sd_reverse(int on) { sd::cuda::reversed = on != 0; }

namespace sd::cuda {

size_t sort_workspace(int) { return 1; }

void sort_descending(void*, size_t, const uint32_t* keys, uint32_t* sorted_keys, const int32_t* values,
                     int32_t* sorted_values, int n, Stream) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return keys[a] > keys[b]; });
  for (const int32_t i : order) {
    *sorted_keys++ = keys[i];
    *sorted_values++ = values[i];
  }
}

size_t scan_workspace(int) { return 1; }

void first_rows(void*, size_t, const int8_t* kind, int32_t* firsts, int n, Stream) {
  for (int32_t i = 0, row = 0; i < n; row += num_copies(kind[i++])) firsts[i] = row;
}

}  // namespace sd::cuda

namespace sd::bind {
namespace {

struct NoQueue {
  explicit NoQueue(const Tensor&) {}
  cuda::Stream stream = nullptr;
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill_cuda_host, m) {
  define_residual(m);
  define_products(m);
  define_densify(m);
}

STABLE_TORCH_LIBRARY_IMPL(splatdistill_cuda_host, CPU, m) {
  implement_residual<Cuda<NoQueue>>(m);
  implement_products<Cuda<NoQueue>>(m);
  implement_densify<Cuda<NoQueue>>(m);
}

}  // namespace sd::bind
