#pragma once

#include <limits>

#include "../tiles.h"
#include "check.h"

// A seeded scene of splats on its way through the rasteriser.
namespace sd::check {

struct Shape {
  int64_t num_splats, num_views;
  int width, height, num_channels, sh_degree;  // sh_degree -1: colours
  bool colors_per_view, broken;                // broken: some numbers are not finite
};

struct Scene {
  RasterConfig config;
  std::vector<Camera> cameras;
  std::vector<float> means, quats, scales, opacities, colors, offsets, background;

  SplatInputs inputs() const {
    return {means.data(), quats.data(), scales.data(), opacities.data(), colors.data(), offsets.data()};
  }
};

inline Scene make_scene(Random& random, const Shape& s) {
  Scene scene;
  const int rows = s.sh_degree >= 0 ? (s.sh_degree + 1) * (s.sh_degree + 1) : 0;
  scene.config = {s.num_splats, s.num_views,    s.width,           s.height,    0.01f, 1e10f,
                  0.3f,         s.num_channels, s.colors_per_view, s.sh_degree, rows,  1};
  for (int64_t view = 0; view < s.num_views; ++view) {
    const double angle = 0.3 + 2.0 * static_cast<double>(view);
    const float c = static_cast<float>(std::cos(angle)), d = static_cast<float>(std::sin(angle));
    const float viewmat[16] = {c, 0, d, 0, 0, 1, 0, 0, -d, 0, c, 2.5f, 0, 0, 0, 1};
    const float focal = 1.2f * static_cast<float>(s.width);
    const float K[9] = {focal, 0, 0.5f * static_cast<float>(s.width), 0, focal, 0.5f * static_cast<float>(s.height), 0,
                        0,     1};
    scene.cameras.push_back(make_camera(viewmat, K, s.width, s.height));
  }
  for (int64_t i = 0; i < s.num_splats; ++i) {
    for (int k = 0; k < 3; ++k) scene.means.push_back(static_cast<float>(random.uniform(-0.5, 0.5)));
    for (int k = 0; k < 4; ++k) scene.quats.push_back(static_cast<float>(random.normal()));
    for (int k = 0; k < 3; ++k) scene.scales.push_back(static_cast<float>(0.06 * std::exp(0.4 * random.normal())));
    scene.opacities.push_back(static_cast<float>(i % 5 == 0 ? 0.9999 : random.uniform(0.05, 0.95)));
    if (!s.broken || i % 3 != 1) continue;
    constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();
    const float odd = i % 2 == 0 ? kNaN : kInf;
    const int64_t which = i / 3 % 5;
    if (which == 0) scene.means.back() = odd;
    if (which == 1) scene.quats.back() = odd;
    if (which == 2) scene.scales.back() = odd;
    if (which == 3) scene.opacities.back() = kNaN;
    if (which == 4) scene.means.back() = -2.5f;  // at a camera or behind it
  }
  const int64_t colors = s.num_splats * (rows > 0 ? 3 * rows : s.num_channels) * (s.colors_per_view ? s.num_views : 1);
  for (int64_t i = 0; i < colors; ++i) scene.colors.push_back(static_cast<float>(random.uniform(-0.2, 1.0)));
  scene.offsets = normals(random, s.num_views * s.num_splats * 2);
  for (int64_t i = 0; i < s.num_views * s.num_channels; ++i)
    scene.background.push_back(static_cast<float>(random.uniform()));
  return scene;
}

struct Projected {
  std::vector<ProjectedSplat> records;
  std::vector<float> means2d;
  std::vector<int32_t> radii;
};

struct Lists {
  std::vector<int32_t> offsets, ids;
  std::vector<uint16_t> masks, hits;

  TileLists raw() const {  // the kernels write to none but the hits
    return {const_cast<int32_t*>(offsets.data()), const_cast<int32_t*>(ids.data()), const_cast<uint16_t*>(masks.data()),
            const_cast<uint16_t*>(hits.data())};
  }
};

struct Pictures {
  std::vector<float> color, alpha, depth;

  Images raw() const {
    return {const_cast<float*>(color.data()), const_cast<float*>(alpha.data()), const_cast<float*>(depth.data())};
  }
};

// What the blending must give, in double, with a bound on the error of float arithmetic in any order of operations.
// `unsure`: pixels where a pair lies so near a threshold that rounding decides whether it counts; `unsure_blocks`
// [V*tiles]: the blocks that hold one.
struct Blended {
  std::vector<double> color, alpha, depth, color_bound, alpha_bound, depth_bound;
  std::vector<bool> unsure;
  std::vector<uint16_t> hits, unsure_blocks;
};

Blended blend_in_double(const Scene& scene, const Projected& projected, const Lists& lists);

// The sums over pixels of every entry, likewise. grads: of the images, 0 where a pixel is unsure.
struct BlendedSums {
  std::vector<double> sums, bound;
};

BlendedSums blend_backward_in_double(const Scene& scene, const Projected& projected, const Lists& lists,
                                     const Pictures& images, const Pictures& grads);

}  // namespace sd::check
