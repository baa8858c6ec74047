// The shipped CUDA kernels, bindings and all, as operators on CPU tensors: launch.h runs them in loops, and the
// standard library stands in for CUDA's own algorithms.
#include "../../csrc/bind/cuda.h"
#include "../../csrc/cuda/check/host_primitives.h"
#include "../../csrc/cuda/densify.cu"
#include "../../csrc/cuda/products.cu"
#include "../../csrc/cuda/residual.cu"

extern "C" __attribute__((visibility("default"))) void sd_reverse(int on) { sd::cuda::reversed = on != 0; }

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
