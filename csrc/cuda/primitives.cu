#include "primitives.h"

#include <thrust/iterator/transform_iterator.h>

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "../common/densify.h"

namespace sd::cuda {
namespace {

struct Copies {
  __host__ __device__ int32_t operator()(int8_t kind) const { return num_copies(kind); }
};

}  // namespace

size_t sort_workspace(int n) {
  size_t bytes = 0;
  cub::DeviceRadixSort::SortPairsDescending<uint32_t, int32_t>(nullptr, bytes, nullptr, nullptr, nullptr, nullptr, n);
  return bytes;
}

void sort_descending(void* workspace, size_t bytes, const uint32_t* keys, uint32_t* sorted_keys, const int32_t* values,
                     int32_t* sorted_values, int n, Stream stream) {
  cub::DeviceRadixSort::SortPairsDescending(workspace, bytes, keys, sorted_keys, values, sorted_values, n, 0, 32,
                                            stream);
}

size_t scan_workspace(int n) {
  size_t bytes = 0;
  const auto copies = thrust::make_transform_iterator(static_cast<const int8_t*>(nullptr), Copies{});
  cub::DeviceScan::ExclusiveSum(nullptr, bytes, copies, static_cast<int32_t*>(nullptr), n);
  return bytes;
}

void first_rows(void* workspace, size_t bytes, const int8_t* kind, int32_t* firsts, int n, Stream stream) {
  cub::DeviceScan::ExclusiveSum(workspace, bytes, thrust::make_transform_iterator(kind, Copies{}), firsts, n, stream);
}

}  // namespace sd::cuda
