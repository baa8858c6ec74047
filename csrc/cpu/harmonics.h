#pragma once

#include "raster.h"
#include "transpose.h"

// Real spherical harmonics up to degree 3 in the order and with the signs of 3DGS, for kLanes splats seen by one
// camera.
namespace sd::cpu::SD_SIMD_LEVEL {

constexpr int kMaxBases = 16;
constexpr float kSh0 = 0.28209479177387814f, kSh1 = 0.4886025119029199f;
constexpr float kSh2a = 1.0925484305920792f, kSh2b = 0.31539156525252005f, kSh2c = 0.5462742152960396f;
constexpr float kSh3a = 0.5900435899266435f, kSh3b = 2.890611442640554f, kSh3c = 0.4570457994644658f,
                kSh3d = 0.3731763325901154f, kSh3e = 1.445305721320277f;

SD_HD int num_bases(const RasterConfig& config) { return (config.sh_degree + 1) * (config.sh_degree + 1); }

// The coefficients of each basis function in use, channel by channel: v[3 basis + channel].
struct Coefficients {
  vf v[3 * kMaxBases];
};

SD_HD void load_coefficients(const RasterConfig& config, const float* colors, int64_t first, Coefficients* out) {
  const int64_t count = config.num_splats, stride = 3 * int64_t{config.sh_rows}, size = count * stride;
  for (int begin = 0; begin < 3 * num_bases(config); begin += kRow) {
    float padded[kLanes][kRow];
    const float* rows[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      const int64_t at = (first + i < count ? first + i : count - 1) * stride + begin;
      rows[i] = colors + at;
      if (at + kRow <= size) continue;  // else the row would be read past the end of the array
      memcpy(padded[i], colors + at, sizeof(float) * static_cast<size_t>(size - at));
      rows[i] = padded[i];
    }
    rows_to_columns(rows, out->v + begin);
  }
}

// Bases not in use get 0.
SD_HD void store_coefficients(const RasterConfig& config, const Coefficients& c, float* colors, int64_t first) {
  const int64_t count = config.num_splats, stride = 3 * int64_t{config.sh_rows};
  const int used = 3 * num_bases(config);
  for (int begin = 0; begin < used; begin += kRow) {
    float rows[kLanes][kRow];
    columns_to_rows(c.v + begin, rows);
    const int width = used - begin < kRow ? used - begin : kRow;
    for (int i = 0; i < kLanes && first + i < count; ++i)
      memcpy(colors + (first + i) * stride + begin, rows[i], sizeof(float) * static_cast<size_t>(width));
  }
  for (int i = 0; i < kLanes && first + i < count; ++i)
    memset(colors + (first + i) * stride + used, 0, sizeof(float) * static_cast<size_t>(stride - used));
}

// From the camera's centre to the splats.
struct Direction {
  vf x, y, z, inverse_length;
};

SD_HD Direction direction_to(const Camera& camera, const vf mean[3]) {
  Direction d = {mean[0] - camera.centre[0], mean[1] - camera.centre[1], mean[2] - camera.centre[2], vf{}};
  d.inverse_length = 1.0f / sqrt(d.x * d.x + d.y * d.y + d.z * d.z);
  d.x *= d.inverse_length;
  d.y *= d.inverse_length;
  d.z *= d.inverse_length;
  return d;
}

SD_HD void sh_basis(const Direction& d, int degree, vf b[kMaxBases]) {
  const vf x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z;
  b[0] = broadcast(kSh0);
  if (degree < 1) return;
  b[1] = -kSh1 * y;
  b[2] = kSh1 * z;
  b[3] = -kSh1 * x;
  if (degree < 2) return;
  b[4] = kSh2a * x * y;
  b[5] = -kSh2a * y * z;
  b[6] = kSh2b * (2.0f * zz - xx - yy);
  b[7] = -kSh2a * x * z;
  b[8] = kSh2c * (xx - yy);
  if (degree < 3) return;
  b[9] = -kSh3a * y * (3.0f * xx - yy);
  b[10] = kSh3b * x * y * z;
  b[11] = -kSh3c * y * (4.0f * zz - xx - yy);
  b[12] = kSh3d * z * (2.0f * zz - 3.0f * xx - 3.0f * yy);
  b[13] = -kSh3c * x * (4.0f * zz - xx - yy);
  b[14] = kSh3e * z * (xx - yy);
  b[15] = -kSh3a * x * (xx - 3.0f * yy);
}

// The gradient of the direction from the gradients v of the basis functions.
SD_HD void sh_basis_backward(const Direction& d, int degree, const vf v[kMaxBases], vf out[3]) {
  const vf x = d.x, y = d.y, z = d.z, xx = x * x, yy = y * y, zz = z * z;
  out[0] = out[1] = out[2] = vf{};
  if (degree < 1) return;
  out[0] = -kSh1 * v[3];
  out[1] = -kSh1 * v[1];
  out[2] = kSh1 * v[2];
  if (degree < 2) return;
  out[0] += kSh2a * (y * v[4] - z * v[7]) + 2.0f * x * (kSh2c * v[8] - kSh2b * v[6]);
  out[1] += kSh2a * (x * v[4] - z * v[5]) - 2.0f * y * (kSh2c * v[8] + kSh2b * v[6]);
  out[2] += 4.0f * kSh2b * z * v[6] - kSh2a * (y * v[5] + x * v[7]);
  if (degree < 3) return;
  out[0] += 2.0f * x * (kSh3c * y * v[11] - 3.0f * kSh3a * y * v[9] + z * (kSh3e * v[14] - 3.0f * kSh3d * v[12])) +
            kSh3b * y * z * v[10] - kSh3c * (4.0f * zz - 3.0f * xx - yy) * v[13] - 3.0f * kSh3a * (xx - yy) * v[15];
  out[1] += 2.0f * y * (kSh3c * x * v[13] + 3.0f * kSh3a * x * v[15] - z * (kSh3e * v[14] + 3.0f * kSh3d * v[12])) +
            kSh3b * x * z * v[10] - kSh3c * (4.0f * zz - xx - 3.0f * yy) * v[11] - 3.0f * kSh3a * (xx - yy) * v[9];
  out[2] += kSh3b * x * y * v[10] - 8.0f * kSh3c * z * (y * v[11] + x * v[13]) +
            3.0f * kSh3d * (2.0f * zz - xx - yy) * v[12] + kSh3e * (xx - yy) * v[14];
}

// A channel before it is cut at 0.
SD_HD vf sh_channel(const Coefficients& c, const vf* basis, int bases, int channel) {
  vf sum = broadcast(0.5f);
  for (int k = 0; k < bases; ++k) sum += basis[k] * c.v[3 * k + channel];
  return sum;
}

// The colour of the splats in one view: max(0.5 + sum of bases times coefficients, 0).
SD_HD void sh_color(const RasterConfig& config, const Camera& camera, const vf mean[3], const Coefficients& c,
                    vf color[3]) {
  vf basis[kMaxBases];
  sh_basis(direction_to(camera, mean), config.sh_degree, basis);
  for (int i = 0; i < 3; ++i) {
    const vf v = sh_channel(c, basis, num_bases(config), i);
    color[i] = select(less(v, vf{}), vf{}, v);  // NaN stays NaN
  }
}

// Takes the gradient of the colour to the coefficients, which it adds to, and to the means. Lanes not seen may hold
// NaN.
SD_HD void sh_backward(const RasterConfig& config, const Camera& camera, const vf mean[3], vm seen,
                       const Coefficients& c, const vf v_color[3], Coefficients* v_coefficients, vf v_mean[3]) {
  const int bases = num_bases(config);
  const Direction d = direction_to(camera, mean);
  vf basis[kMaxBases], v_basis[kMaxBases];
  sh_basis(d, config.sh_degree, basis);
  for (int k = 0; k < bases; ++k) v_basis[k] = vf{};
  for (int channel = 0; channel < 3; ++channel) {
    const vf v = select(less(vf{}, sh_channel(c, basis, bases, channel)), v_color[channel], vf{});
    for (int k = 0; k < bases; ++k) {
      v_coefficients->v[3 * k + channel] += select(seen, basis[k] * v, vf{});
      v_basis[k] += c.v[3 * k + channel] * v;
    }
  }
  vf v_direction[3];
  sh_basis_backward(d, config.sh_degree, v_basis, v_direction);
  const vf along = d.x * v_direction[0] + d.y * v_direction[1] + d.z * v_direction[2];
  v_mean[0] = select(seen, (v_direction[0] - along * d.x) * d.inverse_length, vf{});
  v_mean[1] = select(seen, (v_direction[1] - along * d.y) * d.inverse_length, vf{});
  v_mean[2] = select(seen, (v_direction[2] - along * d.z) * d.inverse_length, vf{});
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
