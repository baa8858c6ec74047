#pragma once

#include <cstdint>
#include <cstring>

#include "residual.h"

// Half types from and to float, in the bits, without branches: loops over them vectorise at every level.
namespace sd::cpu::SD_LEVEL {

SD_HD uint32_t bits_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

SD_HD float float_of(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

SD_HD float from_bfloat16(uint16_t bits) { return float_of(uint32_t{bits} << 16); }

// Rounds to the nearest, ties to even, as every narrowing below.
SD_HD uint16_t to_bfloat16(float value) {
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}

// The exponent's bias grows from 15 to 127 by a multiplication, which normalises subnormal numbers too.
SD_HD float from_half(uint16_t bits) {
  const uint32_t magnitude = (bits & 0x7fffu) << 13;
  const uint32_t finite = bits_of(float_of(magnitude) * 0x1p112f);
  const uint32_t value = magnitude >= 0x7c00u << 13 ? magnitude | 0x7f800000u : finite;
  return float_of(value | ((bits & 0x8000u) << 16));
}

SD_HD uint16_t to_half(float value) {
  constexpr uint32_t kBias = (127u - 15u) << 23, kSmallestNormal = (127u - 14u) << 23, kInfinity = 0x7c00u;
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - kBias + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // The unit in the last place of 0.5 is the smallest half: adding it rounds to whole numbers of those.
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  const uint32_t finite = magnitude < kSmallestNormal ? subnormal : normal < kInfinity ? normal : kInfinity;
  return static_cast<uint16_t>((value != value ? 0x7e00u : finite) | ((bits >> 16) & 0x8000u));
}

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

}  // namespace sd::cpu::SD_LEVEL
