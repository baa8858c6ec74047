#pragma once

#include <cstdint>

#include "../common/half.h"
#include "../common/residual.h"

// Pieces of a tensor of any type, read and written as the type computed in.
namespace sd::cpu::SD_SIMD_LEVEL {

template <class T>
bool is_native(Dtype dtype) {
  return dtype == (sizeof(T) == 4 ? Dtype::kFloat : Dtype::kDouble);
}

// `size` elements from `offset` on as T: where they are if they have that type, else converted into `buffer`.
template <class T>
const T* load(const Source& source, int64_t offset, int64_t size, T* buffer) {
  if (is_native<T>(source.dtype)) return static_cast<const T*>(source.data) + offset;
  switch (source.dtype) {
    case Dtype::kFloat: {
      const float* in = static_cast<const float*>(source.data) + offset;
      for (int64_t i = 0; i < size; ++i) buffer[i] = static_cast<T>(in[i]);
      break;
    }
    case Dtype::kDouble: {
      const double* in = static_cast<const double*>(source.data) + offset;
      for (int64_t i = 0; i < size; ++i) buffer[i] = static_cast<T>(in[i]);
      break;
    }
    case Dtype::kHalf: {
      const uint16_t* in = static_cast<const uint16_t*>(source.data) + offset;
      for (int64_t i = 0; i < size; ++i) buffer[i] = static_cast<T>(from_half(in[i]));
      break;
    }
    case Dtype::kBFloat16: {
      const uint16_t* in = static_cast<const uint16_t*>(source.data) + offset;
      for (int64_t i = 0; i < size; ++i) buffer[i] = static_cast<T>(from_bfloat16(in[i]));
      break;
    }
  }
  return buffer;
}

// `size` elements written from `offset` on as one of the half types.
template <class T>
void narrow(const T* values, void* data, Dtype dtype, int64_t offset, int64_t size) {
  uint16_t* out = static_cast<uint16_t*>(data) + offset;
  if (dtype == Dtype::kHalf) {
    for (int64_t i = 0; i < size; ++i) out[i] = to_half(static_cast<float>(values[i]));
  } else {
    for (int64_t i = 0; i < size; ++i) out[i] = to_bfloat16(static_cast<float>(values[i]));
  }
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
