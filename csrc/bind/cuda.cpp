#include <torch/csrc/stable/accelerator.h>

#include <map>
#include <mutex>
#include <utility>

#include "operator.h"

// In libtorch_cuda, which a torch for CPUs alone does not have; there it is null and nothing calls it.
extern "C" __attribute__((weak)) AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);

namespace sd::bind {

struct Queue::Device {
  torch::stable::accelerator::DeviceGuard guard;
};

Queue::Queue(const Tensor& like)
    : like_(like), device_(new Device{torch::stable::accelerator::DeviceGuard(like.get_device_index())}) {
  void* current = nullptr;
  // torch 2.11 has no stable macro for this check.
  STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(like.get_device_index(), &current) == AOTI_TORCH_SUCCESS,
                  "CUDA: torch has no current stream");
  stream = static_cast<cuda::Stream>(current);
}

Queue::~Queue() = default;

// One word for each stream, whose launches come one after another. Never destroyed: tensors may not outlive torch.
uint64_t* Queue::ticket() const {
  static std::mutex& mutex = *new std::mutex;
  static auto& words = *new std::map<std::pair<int32_t, cuda::Stream>, Tensor>;
  const std::lock_guard<std::mutex> lock(mutex);
  const std::pair<int32_t, cuda::Stream> key(like_.get_device_index(), stream);
  auto found = words.find(key);
  if (found == words.end()) found = words.emplace(key, torch::stable::new_zeros(like_, {1}, ScalarType::Long)).first;
  return data<uint64_t>(found->second);
}

}  // namespace sd::bind
