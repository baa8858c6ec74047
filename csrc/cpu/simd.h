#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "../common/macros.h"

// Vectors of the width the compiler may use, in the portable form GCC and Clang share. Included only by files compiled
// once for each level; those files use no standard library templates, whose copies the linker would merge across
// levels.
namespace sd::cpu::SD_LEVEL {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float vf __attribute__((vector_size(4 * kLanes)));
typedef int32_t vi __attribute__((vector_size(4 * kLanes)));
typedef uint32_t vu __attribute__((vector_size(4 * kLanes)));  // bits, whose arithmetic may wrap
typedef float vf4 __attribute__((vector_size(16)));

SD_HD vf broadcast(float x) { return x - vf{}; }

SD_HD vf load(const float* p) {
  vf v;
  memcpy(&v, p, sizeof v);
  return v;
}

SD_HD void store(float* p, vf v) { memcpy(p, &v, sizeof v); }

SD_HD vf select(vi mask, vf yes, vf no) { return mask ? yes : no; }
SD_HD vf min(vf a, vf b) { return a < b ? a : b; }
SD_HD vf max(vf a, vf b) { return a > b ? a : b; }

SD_HD vf sqrt(vf v) {
  vf r;
  for (int i = 0; i < kLanes; ++i) r[i] = __builtin_sqrtf(v[i]);
  return r;
}

// Whether a lane exceeds the threshold.
SD_HD bool any_above(vf v, float threshold) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)v, _mm512_set1_ps(threshold), _CMP_GT_OQ) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_set1_ps(threshold), _CMP_GT_OQ)) != 0;
#else
  const vi mask = v > threshold;
  uint64_t half[2];
  memcpy(half, &mask, sizeof half);
  return (half[0] | half[1]) != 0;
#endif
}

// 2^x for x in [-126, 126], relative error below 2e-7: 2^round(x) by the exponent bits times a polynomial on the rest.
SD_HD vf exp2(vf x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(x) in the low bits
  const vf shifted = x + kRound;
  const vf f = x - (shifted - kRound);
  vf p = f * 1.32765e-3f + 9.67554e-3f;
  p = p * f + 5.550713e-2f;
  p = p * f + 2.402212e-1f;
  p = p * f + 6.9314697e-1f;
  p = p * f + 1.00000007f;
  return (vf)((vu)p + ((vu)shifted << 23));
}

// log2(x) for normal x > 0, by 2/ln2 * atanh((m - 1) / (m + 1)) with the mantissa m in [sqrt(1/2), sqrt(2)).
SD_HD vf log2(vf x) {
  const vi exponent = (vi)((vu)x - 0x3f3504f3u) >> 23;
  const vf m = (vf)((vu)x - ((vu)exponent << 23));
  const vf s = (m - 1.0f) / (m + 1.0f);
  const vf s2 = s * s;
  vf p = s2 * 0.320598898f + 0.412198583f;
  p = p * s2 + 0.577078016f;
  p = p * s2 + 0.961796694f;
  p = p * s2 + 2.885390082f;
  return s * p + __builtin_convertvector(exponent, vf);
}

// The lanes added up modulo 4.
SD_HD vf4 quarter(vf v) {
  vf4 part[kLanes / 4];
  memcpy(part, &v, sizeof v);
  vf4 sum = part[0];
  for (int i = 1; i < kLanes / 4; ++i) sum += part[i];
  return sum;
}

// The sum over lanes of each of four vectors.
SD_HD vf4 horizontal_sums(const vf* v) {
  const vf4 a = quarter(v[0]), b = quarter(v[1]), c = quarter(v[2]), d = quarter(v[3]);
  const vf4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const vf4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

}  // namespace sd::cpu::SD_LEVEL
