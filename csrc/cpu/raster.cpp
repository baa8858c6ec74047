// Compiled with fused multiply-adds.
#include "raster.h"

#include "../common/constants.h"

namespace sd::cpu {

Camera make_camera(const float* viewmat, const float* K, int width, int height) {
  Camera c;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) c.rotation[3 * i + j] = viewmat[4 * i + j];
    c.translation[i] = viewmat[4 * i + 3];
  }
  c.fx = K[0];
  c.fy = K[4];
  c.cx = K[2];
  c.cy = K[5];
  const float margin_x = kFovMargin * 0.5f * static_cast<float>(width) / c.fx;
  const float margin_y = kFovMargin * 0.5f * static_cast<float>(height) / c.fy;
  c.u_min = -(c.cx / c.fx + margin_x);
  c.v_min = -(c.cy / c.fy + margin_y);
  c.u_max = (static_cast<float>(width) - c.cx) / c.fx + margin_x;
  c.v_max = (static_cast<float>(height) - c.cy) / c.fy + margin_y;
  // The cofactors' determinant and the inverse in double: a camera's gradient must not be less exact than its image.
  const double m[9] = {c.rotation[0], c.rotation[1], c.rotation[2], c.rotation[3], c.rotation[4],
                       c.rotation[5], c.rotation[6], c.rotation[7], c.rotation[8]};
  double cofactor[9], centre[3] = {};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      const int i1 = (i + 1) % 3, i2 = (i + 2) % 3, j1 = (j + 1) % 3, j2 = (j + 2) % 3;
      cofactor[3 * i + j] = m[3 * i1 + j1] * m[3 * i2 + j2] - m[3 * i1 + j2] * m[3 * i2 + j1];
    }
  const double det = m[0] * cofactor[0] + m[1] * cofactor[1] + m[2] * cofactor[2];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      const double entry = cofactor[3 * j + i] / det;
      c.inverse[3 * i + j] = static_cast<float>(entry);
      centre[i] -= entry * c.translation[j];
    }
  for (int i = 0; i < 3; ++i) c.centre[i] = static_cast<float>(centre[i]);
  return c;
}

void sum_background(const RasterConfig& config, const float* tile_background, float* background) {
  const int64_t tiles = tiles_per_view(config), channels = config.num_channels;
  for (int64_t view = 0; view < config.num_views; ++view)
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0.0;
      for (int64_t i = view * tiles; i < (view + 1) * tiles; ++i) sum += tile_background[channels * i + c];
      background[channels * view + c] = static_cast<float>(sum);
    }
}

}  // namespace sd::cpu
