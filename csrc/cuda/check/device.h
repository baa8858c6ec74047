#pragma once

#include <cstddef>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "../stream.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#else
#include <chrono>
#include <cstring>
#endif

// What the check needs of a device: memory, copies and a clock. Without nvcc the host takes its place, to try it out.
namespace sd::check {

#if defined(__CUDACC__)

inline void must(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

inline std::string device_name() {
  int count = 0;
  cudaDeviceProp properties = {};
  must(cudaGetDeviceCount(&count));
  must(cudaGetDeviceProperties(&properties, 0));
  return properties.name;
}

inline void* device_allocate(size_t bytes) {
  void* memory = nullptr;
  must(cudaMalloc(&memory, bytes));
  return memory;
}

inline void device_free(void* memory) { cudaFree(memory); }
inline void to_device(void* to, const void* from, size_t bytes) {
  must(cudaMemcpy(to, from, bytes, cudaMemcpyDefault));
}
inline void to_host(void* to, const void* from, size_t bytes) { must(cudaMemcpy(to, from, bytes, cudaMemcpyDefault)); }
inline void device_fill(void* memory, int byte, size_t bytes) { must(cudaMemset(memory, byte, bytes)); }
inline void wait() { must(cudaDeviceSynchronize()); }

__global__ void spin(long long cycles) {
  const long long begin = clock64();
  while (clock64() - begin < cycles) {
  }
}

// Keeps the device busy for about a millisecond while calls are queued, so that it never waits for them.
inline void hold() { spin<<<1, 1>>>(2000000); }

inline void device_copy(void* to, const void* from, size_t bytes, cuda::Stream stream) {
  must(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
}

// The device's own time between two moments of its queue.
class Timer {
public:
  Timer() {
    must(cudaEventCreate(&begin_));
    must(cudaEventCreate(&end_));
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  void begin() { must(cudaEventRecord(begin_)); }
  double end_ms() {
    float ms = 0.0f;
    must(cudaEventRecord(end_));
    must(cudaEventSynchronize(end_));
    must(cudaEventElapsedTime(&ms, begin_, end_));
    return static_cast<double>(ms);
  }

private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

#else

inline std::string device_name() { return "cpu"; }
inline void* device_allocate(size_t bytes) { return std::malloc(bytes); }
inline void device_free(void* memory) { std::free(memory); }
inline void to_device(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
inline void to_host(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
inline void device_fill(void* memory, int byte, size_t bytes) { std::memset(memory, byte, bytes); }
inline void wait() {}
inline void hold() {}
inline void device_copy(void* to, const void* from, size_t bytes, cuda::Stream) { std::memcpy(to, from, bytes); }

class Timer {
public:
  void begin() { begin_ = std::chrono::steady_clock::now(); }
  double end_ms() {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin_).count();
  }

private:
  std::chrono::steady_clock::time_point begin_;
};

#endif

// Memory of the device with a guard behind it: whoever writes beyond the end is seen.
class DeviceBytes {
public:
  explicit DeviceBytes(size_t bytes) : bytes_(bytes), data_(static_cast<char*>(device_allocate(bytes + kGuard))) {
    device_fill(data_ + bytes, kMark, kGuard);
  }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  ~DeviceBytes() { device_free(data_); }

  char* data() const { return data_; }

  bool intact() const {
    unsigned char guard[kGuard];
    to_host(guard, data_ + bytes_, kGuard);
    for (const unsigned char byte : guard)
      if (byte != kMark) return false;
    return true;
  }

private:
  static constexpr size_t kGuard = 64;
  static constexpr int kMark = 0xA5;
  size_t bytes_;
  char* data_;
};

}  // namespace sd::check
