#pragma once

#include "simd.h"

// Between arrays of structures in memory and one vector for each component.
namespace sd::cpu::SD_SIMD_LEVEL {

constexpr int kRow = 16;  // floats in a row of the transposes below

#if defined(__AVX512F__)
SD_HD vf permute(vf a, vi order, vf b) { return (vf)_mm512_permutex2var_ps((__m512)a, (__m512i)order, (__m512)b); }

// 16 x 16, in place.
SD_HD void transpose(__m512 r[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int k = 0; k < 2; ++k) {
      const __m512d a = (__m512d)t[i + k], b = (__m512d)t[i + k + 2];
      r[i + 2 * k] = (__m512)_mm512_unpacklo_pd(a, b);
      r[i + 2 * k + 1] = (__m512)_mm512_unpackhi_pd(a, b);
    }
  for (int i = 0; i < 16; i += 8)
    for (int k = 0; k < 4; ++k) {
      t[i + k] = _mm512_shuffle_f32x4(r[i + k], r[i + k + 4], 0x88);
      t[i + k + 4] = _mm512_shuffle_f32x4(r[i + k], r[i + k + 4], 0xdd);
    }
  for (int k = 0; k < 8; ++k) {
    r[k] = _mm512_shuffle_f32x4(t[k], t[k + 8], 0x88);
    r[k + 8] = _mm512_shuffle_f32x4(t[k], t[k + 8], 0xdd);
  }
}
#elif defined(SD_NEON)
// 4 x 4, in place.
SD_HD void transpose(float32x4_t r[4]) {
  const float32x4_t a = vtrn1q_f32(r[0], r[1]), b = vtrn2q_f32(r[0], r[1]);
  const float32x4_t c = vtrn1q_f32(r[2], r[3]), d = vtrn2q_f32(r[2], r[3]);
  r[0] = (float32x4_t)vtrn1q_f64((float64x2_t)a, (float64x2_t)c);
  r[1] = (float32x4_t)vtrn1q_f64((float64x2_t)b, (float64x2_t)d);
  r[2] = (float32x4_t)vtrn2q_f64((float64x2_t)a, (float64x2_t)c);
  r[3] = (float32x4_t)vtrn2q_f64((float64x2_t)b, (float64x2_t)d);
}
#endif

// The row that rows[i] points at to lane i of the columns.
SD_HD void rows_to_columns(const float* const rows[kLanes], vf columns[kRow]) {
#if defined(__AVX512F__)
  __m512 r[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(rows[i]);
  transpose(r);
  for (int i = 0; i < 16; ++i) columns[i] = (vf)r[i];
#elif defined(SD_NEON)
  for (int c = 0; c < kRow; c += 4) {
    float32x4_t r[4];
    for (int i = 0; i < 4; ++i) r[i] = vld1q_f32(rows[i] + c);
    transpose(r);
    for (int i = 0; i < 4; ++i) columns[c + i] = (vf)r[i];
  }
#else
  for (int c = 0; c < kRow; ++c)
    for (int i = 0; i < kLanes; ++i) columns[c][i] = rows[i][c];
#endif
}

SD_HD void columns_to_rows(const vf columns[kRow], float (*rows)[kRow]) {
#if defined(__AVX512F__)
  __m512 r[16];
  for (int i = 0; i < 16; ++i) r[i] = (__m512)columns[i];
  transpose(r);
  for (int i = 0; i < 16; ++i) _mm512_storeu_ps(rows[i], r[i]);
#elif defined(SD_NEON)
  for (int c = 0; c < kRow; c += 4) {
    float32x4_t r[4];
    for (int i = 0; i < 4; ++i) r[i] = (float32x4_t)columns[c + i];
    transpose(r);
    for (int i = 0; i < 4; ++i) vst1q_f32(rows[i] + c, r[i]);
  }
#else
  for (int i = 0; i < kLanes; ++i)
    for (int c = 0; c < kRow; ++c) rows[i][c] = columns[c][i];
#endif
}

// Rows first .. first + kLanes - 1 of an array [count, W], W <= 4; rows past the end repeat the last one.
template <int W>
SD_HD void load_columns(const float* base, int64_t first, int64_t count, vf columns[W]) {
  const float* from = base + first * W;
  float padded[kLanes * W];
  if (first + kLanes > count) {
    for (int i = 0; i < kLanes; ++i)
      memcpy(padded + W * i, base + (first + i < count ? first + i : count - 1) * W, sizeof(float) * W);
    from = padded;
  }
#if defined(__AVX512F__)
  vf v[4];
  for (int i = 0; i < W; ++i) v[i] = load(from + i * kLanes);
  for (int c = 0; c < W; ++c) {
    const vi at = lane_numbers() * W + c;  // the place of each lane's number in v
    columns[c] = W == 1 ? v[0] : permute(v[0], at & 31, v[1]);
    if (W == 3) columns[c] = permute(columns[c], at < 32 ? lane_numbers() : at - 16, v[2]);
    if (W == 4) columns[c] = select(less(at, vi{} + 32), columns[c], permute(v[2], at & 31, v[3]));
  }
#elif defined(SD_NEON)
  if constexpr (W == 1) {
    columns[0] = load(from);
  } else if constexpr (W == 2) {
    const float32x4x2_t v = vld2q_f32(from);
    for (int c = 0; c < W; ++c) columns[c] = (vf)v.val[c];
  } else if constexpr (W == 3) {
    const float32x4x3_t v = vld3q_f32(from);
    for (int c = 0; c < W; ++c) columns[c] = (vf)v.val[c];
  } else {
    const float32x4x4_t v = vld4q_f32(from);
    for (int c = 0; c < W; ++c) columns[c] = (vf)v.val[c];
  }
#else
  for (int c = 0; c < W; ++c)
    for (int i = 0; i < kLanes; ++i) columns[c][i] = from[W * i + c];
#endif
}

// The reverse; rows past the end are not written.
template <int W>
SD_HD void store_columns(float* base, const vf columns[W], int64_t first, int64_t count) {
  float rows[kLanes * W];
#if defined(__AVX512F__)
  for (int k = 0; k < W; ++k) {
    const vi number = lane_numbers() + k * kLanes;
    const vi row = number / W, column = number % W;
    vf v = W == 1 ? columns[0] : permute(columns[0], column % 2 == 0 ? row : row + 16, columns[1]);
    if (W == 3) v = permute(v, column < 2 ? lane_numbers() : row + 16, columns[2]);
    if (W == 4)
      v = select(less(column, vi{} + 2), v, permute(columns[2], column % 2 == 0 ? row : row + 16, columns[3]));
    store(rows + k * kLanes, v);
  }
#elif defined(SD_NEON)
  if constexpr (W == 1) {
    store(rows, columns[0]);
  } else if constexpr (W == 2) {
    vst2q_f32(rows, {{(float32x4_t)columns[0], (float32x4_t)columns[1]}});
  } else if constexpr (W == 3) {
    vst3q_f32(rows, {{(float32x4_t)columns[0], (float32x4_t)columns[1], (float32x4_t)columns[2]}});
  } else {
    vst4q_f32(rows,
              {{(float32x4_t)columns[0], (float32x4_t)columns[1], (float32x4_t)columns[2], (float32x4_t)columns[3]}});
  }
#else
  for (int i = 0; i < kLanes; ++i)
    for (int c = 0; c < W; ++c) rows[W * i + c] = columns[c][i];
#endif
  if (first + kLanes <= count)
    memcpy(base + first * W, rows, sizeof rows);
  else
    memcpy(base + first * W, rows, sizeof(float) * W * static_cast<size_t>(count - first));
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
