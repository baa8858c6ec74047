#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#if defined(__GNUC__) && !defined(__clang__)  // GCC 12 warns of its own header
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

#if defined(SD_NEON)
#include <arm_neon.h>
#endif

#include "../common/macros.h"

// Vectors of the width the compiler may use, in the portable form GCC and Clang share. Included only by files compiled
// once for each level; those files use no standard library templates, whose copies the linker would merge across
// levels.
namespace sd::cpu::SD_SIMD_LEVEL {

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

SD_HD vi load(const int32_t* p) {
  vi v;
  memcpy(&v, p, sizeof v);
  return v;
}

SD_HD vi lane_numbers() {
  vi v;
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}

// The result of a comparison: one bit for each lane where the machine has such registers, else all bits of the lane.
#if defined(__AVX512F__)
typedef __mmask16 vm;
SD_HD vm less(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ); }
SD_HD vm at_most(vf a, vf b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ); }
SD_HD vm less(vi a, vi b) { return _mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b); }
SD_HD vm both(vm a, vm b) { return _kand_mask16(a, b); }
SD_HD vm either(vm a, vm b) { return _kor_mask16(a, b); }
SD_HD vf select(vm mask, vf yes, vf no) { return (vf)_mm512_mask_blend_ps(mask, (__m512)no, (__m512)yes); }
SD_HD unsigned mask_bits(vm mask) { return mask; }
SD_HD vf min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
SD_HD vf max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
#else
typedef vi vm;
SD_HD vm less(vf a, vf b) { return a < b; }
SD_HD vm at_most(vf a, vf b) { return a <= b; }
SD_HD vm less(vi a, vi b) { return a < b; }
SD_HD vm both(vm a, vm b) { return a & b; }
SD_HD vm either(vm a, vm b) { return a | b; }
SD_HD vf select(vm mask, vf yes, vf no) { return mask ? yes : no; }
#if defined(__AVX2__)
SD_HD unsigned mask_bits(vm mask) { return static_cast<unsigned>(_mm256_movemask_ps((__m256)mask)); }
SD_HD vf min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
SD_HD vf max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
#else
#if defined(SD_NEON)
SD_HD unsigned mask_bits(vm mask) { return vaddvq_u32((uint32x4_t)(mask & vm{1, 2, 4, 8})); }
#else
SD_HD unsigned mask_bits(vm mask) {
  const vm lanes = mask & vm{1, 2, 4, 8};
  return static_cast<unsigned>(lanes[0] | lanes[1] | lanes[2] | lanes[3]);
}
#endif
// Written out, not NEON's minimum: as on x86, the second operand is the answer where one is NaN.
SD_HD vf min(vf a, vf b) { return a < b ? a : b; }
SD_HD vf max(vf a, vf b) { return a > b ? a : b; }
#endif
#endif
SD_HD vi min(vi a, vi b) { return a < b ? a : b; }
SD_HD vi max(vi a, vi b) { return a > b ? a : b; }
#if defined(SD_NEON)
SD_HD bool any(vm mask) { return vmaxvq_u32((uint32x4_t)mask) != 0; }
#else
SD_HD bool any(vm mask) { return mask_bits(mask) != 0; }
#endif
SD_HD bool any_above(vf v, float threshold) { return any(less(broadcast(threshold), v)); }

SD_HD vf sqrt(vf v) {
#if defined(SD_NEON)
  return (vf)vsqrtq_f32((float32x4_t)v);
#else
  vf r;
  for (int i = 0; i < kLanes; ++i) r[i] = __builtin_sqrtf(v[i]);
  return r;
#endif
}

// 1 / v within 2e-7 for normal v.
SD_HD vf reciprocal(vf v) {
#if defined(__AVX512F__)
  const vf r = (vf)_mm512_rcp14_ps((__m512)v);
  return r * (2.0f - v * r);
#else
  return 1.0f / v;
#endif
}

#if defined(SD_NEON)
// For each set of lanes, the bytes of those lanes one after another; 0xff reads as 0.
struct PackOrders {
  uint8_t bytes[16][16];
};

constexpr PackOrders pack_orders() {
  PackOrders out = {};
  for (int bits = 0; bits < 16; ++bits) {
    int n = 0;
    for (int lane = 0; lane < 4; ++lane)
      for (int byte = 0; (bits >> lane & 1) != 0 && byte < 4; ++byte)
        out.bytes[bits][n++] = static_cast<uint8_t>(4 * lane + byte);
    while (n < 16) out.bytes[bits][n++] = 0xff;
  }
  return out;
}

constexpr PackOrders kPackOrders = pack_orders();
#endif

// Stores the lanes that have a bit one after another. May write kLanes numbers.
SD_HD void compress_store(int32_t* out, unsigned bits, vi v) {
#if defined(__AVX512F__)
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), (__m512i)v));
#elif defined(__AVX2__)
  const uint64_t bytes = _pdep_u64(bits, 0x0101010101010101u) * 0xff;
  const __m128i order = _mm_cvtsi64_si128(static_cast<int64_t>(_pext_u64(0x0706050403020100u, bytes)));
  const __m256i packed = _mm256_permutevar8x32_epi32((__m256i)v, _mm256_cvtepu8_epi32(order));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), packed);
#elif defined(SD_NEON)
  const uint8x16_t packed = vqtbl1q_u8((uint8x16_t)v, vld1q_u8(kPackOrders.bytes[bits]));
  vst1q_s32(out, (int32x4_t)packed);
#else
  for (int i = 0; i < kLanes; ++i) {
    *out = v[i];
    out += bits >> i & 1u;
  }
#endif
}

// 2^x for x in [-126, 126], relative error below 2e-7: 2^round(x) times a polynomial on the rest.
SD_HD vf exp2(vf x) {
#if defined(__AVX512F__)
  const vf whole = (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const vf f = x - whole;
#else
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves round(x) in the low bits
  const vf shifted = x + kRound;
  const vf f = x - (shifted - kRound);
#endif
  const vf f2 = f * f;  // in pairs: the exponent waits half as long as in a row
  const vf low = f * 6.9314697e-1f + 1.00000007f, mid = f * 5.550713e-2f + 2.402212e-1f;
  const vf high = f * 1.32765e-3f + 9.67554e-3f;
  const vf p = (high * f2 + mid) * f2 + low;
#if defined(__AVX512F__)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
  return (vf)((vu)p + ((vu)shifted << 23));
#endif
}

// a * b + c, rounded once where the level has an instruction for it: whether the compiler would fuse the two depends on
// the code around them, and so would the last bit of the result.
SD_HD vf fused(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(SD_NEON)
  return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
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
  return fused(s, p, __builtin_convertvector(exponent, vf));
}

#if defined(__AVX512F__)
// Halves the lanes each of two vectors needs for its sum, so that both fit in one.
template <int kStep>
SD_HD __m512 fold(__m512 a, __m512 b) {
  if (kStep == 0) return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  if (kStep == 1) return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}

// The sum over lanes of each of N <= 16 vectors, as N floats.
template <int N>
SD_HD void horizontal_sums(const vf* v, float* out) {
  __m512 a[16];
  for (int i = 0; i < 16; ++i) a[i] = i < N ? (__m512)v[i] : _mm512_setzero_ps();
  for (int i = 0; i < (N + 1) / 2; ++i) a[i] = fold<0>(a[2 * i], a[2 * i + 1]);
  for (int i = (N + 1) / 2; i < 8; ++i) a[i] = _mm512_setzero_ps();
  for (int i = 0; i < (N + 3) / 4; ++i) a[i] = fold<1>(a[2 * i], a[2 * i + 1]);
  for (int i = (N + 3) / 4; i < 4; ++i) a[i] = _mm512_setzero_ps();
  const __m512 sums = fold<2>(fold<2>(a[0], a[1]), fold<2>(a[2], a[3]));
  // Sum 4 k + l has come to lie in lane 4 l + k.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_mask_storeu_ps(out, static_cast<__mmask16>((1u << N) - 1u), _mm512_permutexvar_ps(order, sums));
}
#else
// The lanes added up modulo 4.
SD_HD vf4 quarter(vf v) {
  vf4 part[kLanes / 4];
  memcpy(part, &v, sizeof v);
  vf4 sum = part[0];
  for (int i = 1; i < kLanes / 4; ++i) sum += part[i];
  return sum;
}

// The sum over lanes of each of N <= 16 vectors, as N floats.
template <int N>
SD_HD void horizontal_sums(const vf* v, float* out) {
  for (int i = 0; i < N; i += 4) {
    vf4 part[4] = {};
    for (int k = 0; k < 4 && i + k < N; ++k) part[k] = quarter(v[i + k]);
#if defined(SD_NEON)
    const float32x4_t ab = vpaddq_f32((float32x4_t)part[0], (float32x4_t)part[1]);
    const vf4 sums = (vf4)vpaddq_f32(ab, vpaddq_f32((float32x4_t)part[2], (float32x4_t)part[3]));
#else
    const vf4 ab =
        __builtin_shufflevector(part[0], part[1], 0, 4, 1, 5) + __builtin_shufflevector(part[0], part[1], 2, 6, 3, 7);
    const vf4 cd =
        __builtin_shufflevector(part[2], part[3], 0, 4, 1, 5) + __builtin_shufflevector(part[2], part[3], 2, 6, 3, 7);
    const vf4 sums = __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
#endif
    memcpy(out + i, &sums, sizeof(float) * (N - i < 4 ? N - i : 4));
  }
}
#endif

}  // namespace sd::cpu::SD_SIMD_LEVEL
