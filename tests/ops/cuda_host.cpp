// The shipped CUDA kernels, bindings and all, as operators on CPU tensors: launch.h runs them in loops, and the
// standard library stands in for CUDA's own algorithms.
#include "../../csrc/bind/cuda.h"
#include "../../csrc/cuda/check/host_primitives.h"
#include "../../csrc/cuda/densify.cu"
#include "../../csrc/cuda/products.cu"
#include "../../csrc/cuda/residual.cu"
#include "../../csrc/cuda/update.cu"

extern "C" __attribute__((visibility("default"))) void sd_reverse(int on) { sd::cuda::reversed = on != 0; }
extern "C" __attribute__((visibility("default"))) int64_t sd_launches() { return sd::cuda::num_launches; }

namespace sd::bind {
namespace {

struct NoQueue {
  explicit NoQueue(const Tensor&) {}
  uint64_t* ticket() const {
    static uint64_t word = 0;
    return &word;
  }
  cuda::Stream stream = nullptr;
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill_cuda_host, m) {
  define_residual(m);
  define_products(m);
  define_densify(m);
  define_update(m);
}

STABLE_TORCH_LIBRARY_IMPL(splatdistill_cuda_host, CPU, m) {
  implement_residual<Cuda<NoQueue>>(m);
  implement_products<Cuda<NoQueue>>(m);
  implement_densify<Cuda<NoQueue>>(m);
  implement_update<Cuda<NoQueue>>(m);
}

}  // namespace sd::bind
