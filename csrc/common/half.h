#pragma once

#include <cstdint>
#include <cstring>

#include "macros.h"

// Half types from and to float, in the bits, without branches: loops over them vectorise at every level. A GPU has
// instructions that do the same.
namespace sd {

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
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800  // those before have no such instruction
  uint16_t out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out) : "f"(value));
  return out;
#else
  const uint32_t bits = bits_of(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
#endif
}

SD_HD float from_half(uint16_t bits) {
#if defined(__CUDA_ARCH__)
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(bits));
  return out;
#else
  // The exponent's bias grows from 15 to 127 by a multiplication, which normalises subnormal numbers too.
  const uint32_t magnitude = (bits & 0x7fffu) << 13;
  const uint32_t finite = bits_of(float_of(magnitude) * 0x1p112f);
  const uint32_t value = magnitude >= 0x7c00u << 13 ? magnitude | 0x7f800000u : finite;
  return float_of(value | ((bits & 0x8000u) << 16));
#endif
}

SD_HD uint16_t to_half(float value) {
#if defined(__CUDA_ARCH__)
  uint16_t out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(value));
  return out;
#else
  constexpr uint32_t kBias = (127u - 15u) << 23, kSmallestNormal = (127u - 14u) << 23, kInfinity = 0x7c00u;
  const uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - kBias + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // The unit in the last place of 0.5 is the smallest half: adding it rounds to whole numbers of those.
  const uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  const uint32_t finite = magnitude < kSmallestNormal ? subnormal : normal < kInfinity ? normal : kInfinity;
  return static_cast<uint16_t>((value != value ? 0x7e00u : finite) | ((bits >> 16) & 0x8000u));
#endif
}

}  // namespace sd
