#include "project.h"
#include "levels.h"

SD_DECLARE_LEVEL(SD_LEVEL)

namespace sd::cpu::SD_LEVEL {
namespace {

// Everything one view stores of kLanes splats, before it is scattered to the records.
struct Footprint {
  vi seen;
  vf extent_x, extent_y;  // px from the mean to where opacity falls to kAlphaMin
  vf conic_xx, conic_xy, conic_yy, log2_opacity;
  vi x0, y0, x1, y1;  // pixels whose centres lie within the extent
};

// Whole pixels i with low <= i + 0.5 <= high, as [first, end) within [0, size].
inline void pixel_range(vf low, vf high, int size, vi* first, vi* end) {
  const vf limit = broadcast(static_cast<float>(size));
  const vf a = min(max(low - 0.5f, vf{}), limit);
  const vf b = min(max(high + 0.5f, vf{}), limit);
  const vi whole = __builtin_convertvector(a, vi);
  *first = whole - (__builtin_convertvector(whole, vf) < a);  // a true comparison is -1
  *end = __builtin_convertvector(b, vi);
}

Footprint footprint(const RasterConfig& config, const ViewSplat& p, vf opacity) {
  Footprint f;
  if (config.antialiased) opacity *= sqrt(max(p.det / p.det_blurred, vf{}));
  f.log2_opacity = log2(opacity);
  // alpha falls to kAlphaMin at sqrt(2 ln(opacity / kAlphaMin)) standard deviations.
  const vf sigmas = min(sqrt(max(2.0f * kLn2 * (f.log2_opacity - kLog2AlphaMin), vf{})), broadcast(kMaxExtent));
  f.extent_x = sigmas * sqrt(p.cov_xx + config.eps2d);
  f.extent_y = sigmas * sqrt(p.cov_yy + config.eps2d);
  const vf inverse_det = 1.0f / p.det_blurred;
  f.conic_xx = 0.5f * kLog2E * inverse_det * (p.cov_yy + config.eps2d);
  f.conic_xy = -kLog2E * inverse_det * p.cov_xy;
  f.conic_yy = 0.5f * kLog2E * inverse_det * (p.cov_xx + config.eps2d);

  // A NaN or an overflow anywhere makes one of these comparisons false. The radii of gsplat are whole pixels.
  constexpr float kHuge = 1e18f;
  f.seen = (p.z >= config.near_plane) & (p.z <= config.far_plane) & (p.det_blurred > 0.0f) & (inverse_det > 0.0f) &
           (inverse_det < kHuge * kHuge) & (opacity >= kAlphaMin) & (f.extent_x < kHuge) & (f.extent_y < kHuge) &
           (p.mean_x > -kHuge) & (p.mean_x < kHuge) & (p.mean_y > -kHuge) & (p.mean_y < kHuge);

  // A margin above the rounding of the extent: a pair outside it is below kAlphaMin whatever the rounding.
  const vf reach_x = f.extent_x * 1.0001f + 0.01f, reach_y = f.extent_y * 1.0001f + 0.01f;
  pixel_range(p.mean_x - reach_x, p.mean_x + reach_x, config.width, &f.x0, &f.x1);
  pixel_range(p.mean_y - reach_y, p.mean_y + reach_y, config.height, &f.y0, &f.y1);
  return f;
}

// The integer radius of gsplat, kept representable.
inline int32_t whole_radius(float extent) {
  return static_cast<int32_t>(__builtin_ceilf(extent < 1e9f ? extent : 1e9f));
}

void scatter(const RasterConfig& config, const ViewSplat& p, const Footprint& f, const float* colors, int64_t first,
             int64_t count, ProjectedSplat* records, float* means2d, int32_t* radii) {
  for (int i = 0; i < kLanes && first + i < count; ++i) {
    const int64_t row = first + i;
    const float x = p.mean_x[i], y = p.mean_y[i];
    const int32_t rx = f.seen[i] ? whole_radius(f.extent_x[i]) : 0, ry = f.seen[i] ? whole_radius(f.extent_y[i]) : 0;
    const float* color = colors + 3 * row;
    const float any_color = color[0] + color[1] + color[2];  // not finite if one of them is not
    const bool drawn = rx + ry > 0 && any_color - any_color == 0.0f && x + rx > 0 && x - rx < config.width &&
                       y + ry > 0 && y - ry < config.height;
    means2d[2 * row] = drawn ? x : 0.0f;
    means2d[2 * row + 1] = drawn ? y : 0.0f;
    radii[2 * row] = drawn ? rx : 0;
    radii[2 * row + 1] = drawn ? ry : 0;
    ProjectedSplat r = {};
    if (drawn && f.x0[i] < f.x1[i] && f.y0[i] < f.y1[i]) {
      r.x = x;
      r.y = y;
      r.conic_xx = f.conic_xx[i];
      r.conic_xy = f.conic_xy[i];
      r.conic_yy = f.conic_yy[i];
      r.log2_opacity = f.log2_opacity[i];
      for (int c = 0; c < 3; ++c) r.color[c] = color[c];
      r.depth = p.z[i];
      r.box = {static_cast<uint16_t>(f.x0[i] / kBlock), static_cast<uint16_t>(f.y0[i] / kBlock),
               static_cast<uint16_t>((f.x1[i] + kBlock - 1) / kBlock),
               static_cast<uint16_t>((f.y1[i] + kBlock - 1) / kBlock)};
    }
    records[row] = r;
  }
}

}  // namespace

void project(const RasterConfig& config, const Camera* cameras, const SplatInputs& in, ProjectedSplat* records,
             float* means2d, int32_t* radii) {
  const int64_t n = config.num_splats;
#pragma omp parallel for schedule(static) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t first = 0; first < n; first += kLanes) {
    const WorldSplat splat = load_world(in, first, n);
    const vf opacity = load_rows(in.opacities, 1, 0, first, n);
    for (int64_t view = 0; view < config.num_views; ++view) {
      const int64_t base = view * n;
      ViewSplat p = project_lanes(cameras[view], splat, config.eps2d);
      if (in.means2d_offset) {
        p.mean_x += load_rows(in.means2d_offset + 2 * base, 2, 0, first, n);
        p.mean_y += load_rows(in.means2d_offset + 2 * base, 2, 1, first, n);
      }
      const Footprint f = footprint(config, p, opacity);
      scatter(config, p, f, in.colors + (config.colors_per_view ? 3 * base : 0), first, n, records + base,
              means2d + 2 * base, radii + 2 * base);
    }
  }
}

}  // namespace sd::cpu::SD_LEVEL
