#pragma once

#include <cstddef>
#include <memory>

#include "../cuda/stream.h"
#include "tensors.h"

// What the operators of one file need to be registered for every backend. Such a file defines, without a name for
// others: `Cpu` and `Cuda`, which run a kernel and find the memory that this takes; `define(library)`, the schemas; and
// `implement<Backend>(library)`. It ends with SD_REGISTER_OPERATORS.
namespace sd::bind {

// Where CUDA kernels are launched for a tensor: its device, which is the current one as long as this lives, the stream
// of torch there, and a word for the stream, 0 between launches, by which a launch finds its last block.
class Queue {
public:
  explicit Queue(const Tensor& like);
  ~Queue();
  uint64_t* ticket() const;

  cuda::Stream stream = nullptr;

private:
  struct Device;
  const Tensor& like_;
  std::unique_ptr<Device> device_;
};

inline void check_launch(const char* error) { STD_TORCH_CHECK(!error, "CUDA: ", error); }

inline Tensor bytes_like(const Tensor& like, size_t bytes) {
  return allocate<int8_t>(like, {static_cast<int64_t>(bytes)});
}

}  // namespace sd::bind

#if defined(SD_CUDA_ON_HOST)  // a test's: the CUDA kernels, run by a host, as operators of their own on CPU tensors
#define SD_REGISTER_OPERATORS                                             \
  STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill_cuda_host, m) { define(m); } \
  STABLE_TORCH_LIBRARY_IMPL(splatdistill_cuda_host, CPU, m) { implement<Cuda>(m); }
#elif defined(SD_WITH_CUDA)
#define SD_REGISTER_OPERATORS                                            \
  STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) { define(m); }          \
  STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) { implement<Cpu>(m); } \
  STABLE_TORCH_LIBRARY_IMPL(splatdistill, CUDA, m) { implement<Cuda>(m); }
#else
#define SD_REGISTER_OPERATORS                                   \
  STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) { define(m); } \
  STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) { implement<Cpu>(m); }
#endif
