// What the shipped CUDA kernels and their bindings need to be operators on CPU tensors: launch.h runs the kernels in
// loops, csrc/cuda/check/host.cpp stands in for CUDA's own algorithms, and no device has to be chosen.
#include "../../csrc/bind/operator.h"
#include "../../csrc/cuda/launch.h"

extern "C" __attribute__((visibility("default"))) void sd_reverse(int on) { sd::cuda::reversed = on != 0; }
extern "C" __attribute__((visibility("default"))) int64_t sd_launches() { return sd::cuda::num_launches; }

namespace sd::bind {

struct Queue::Device {};

Queue::Queue(const Tensor& like) : like_(like) {}

Queue::~Queue() = default;

uint64_t* Queue::ticket() const {
  static uint64_t word = 0;
  return &word;
}

}  // namespace sd::bind
