#pragma once

#include "raster.h"
#include "simd.h"

namespace sd::cpu::SD_SIMD_LEVEL {

constexpr int kChunk = 128;   // entries listed at a time
constexpr int kPrefetch = 4;  // entries ahead
constexpr int kSlack = 16;    // a list may be written and looked ahead past its end

// Those of the entries begin .. begin + count - 1 whose mask has one of the bits. Loops over such a list have no branch
// that depends on the masks.
SD_HD int list_entries(const uint16_t* masks, int32_t begin, int count, unsigned bits, int32_t* list) {
  int n = 0;
#if defined(__AVX512BW__)
  vi entry = lane_numbers() + begin;
  for (int i = 0; i < count; i += 16) {
    const unsigned tail = count - i >= 16 ? 0xffffu : (1u << (count - i)) - 1u;
    const __m256i mask = _mm256_maskz_loadu_epi16(static_cast<__mmask16>(tail), masks + begin + i);
    const unsigned hit = _mm256_test_epi16_mask(mask, _mm256_set1_epi16(static_cast<int16_t>(bits)));
    compress_store(list + n, hit, entry);
    n += __builtin_popcount(hit);
    entry += 16;
  }
#elif defined(SD_NEON)
  const uint16x8_t wanted = vdupq_n_u16(static_cast<uint16_t>(bits)), powers = {1, 2, 4, 8, 16, 32, 64, 128};
  int i = 0;
  vi entry = lane_numbers() + begin;
  for (; i + 8 <= count; i += 8, entry += 8) {
    const unsigned hit = vaddvq_u16(vandq_u16(vtstq_u16(vld1q_u16(masks + begin + i), wanted), powers));
    compress_store(list + n, hit & 15u, entry);
    n += __builtin_popcount(hit & 15u);
    compress_store(list + n, hit >> 4, entry + 4);
    n += __builtin_popcount(hit >> 4);
  }
  for (; i < count; ++i) {
    list[n] = begin + i;
    n += (masks[begin + i] & bits) != 0;
  }
#else
  for (int i = 0; i < count; ++i) {
    list[n] = begin + i;
    n += (masks[begin + i] & bits) != 0;
  }
#endif
  for (int i = 0; i < kPrefetch; ++i) list[n + i] = begin;
  return n;
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
