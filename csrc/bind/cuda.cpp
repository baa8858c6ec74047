#include "cuda.h"

#include <torch/csrc/stable/accelerator.h>

// In libtorch_cuda, which a torch for CPUs alone does not have; there it is null and nothing calls it.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

namespace sd::bind {
namespace {

struct CurrentStream {
  explicit CurrentStream(const Tensor& like) : guard(like.get_device_index()) {
    void* current = nullptr;
    // torch 2.11 has no stable macro for this check.
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(like.get_device_index(), &current) == AOTI_TORCH_SUCCESS,
                    "CUDA: torch has no current stream");
    stream = static_cast<cuda::Stream>(current);
  }
  torch::stable::accelerator::DeviceGuard guard;
  cuda::Stream stream;
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CUDA, m) {
  implement_residual<Cuda<CurrentStream>>(m);
  implement_products<Cuda<CurrentStream>>(m);
  implement_densify<Cuda<CurrentStream>>(m);
}

}  // namespace sd::bind
