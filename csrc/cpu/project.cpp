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

// The smallest whole numbers not below v >= 0.
inline vi ceiling(vf v) {
  const vi whole = __builtin_convertvector(v, vi);
  return whole - (__builtin_convertvector(whole, vf) < v);  // a true comparison is -1
}

// Whole pixels i with low <= i + 0.5 <= high, as [first, end) within [0, size].
inline void pixel_range(vf low, vf high, int size, vi* first, vi* end) {
  const vf limit = broadcast(static_cast<float>(size));
  *first = ceiling(min(max(low - 0.5f, vf{}), limit));
  *end = __builtin_convertvector(min(max(high + 0.5f, vf{}), limit), vi);
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

// The channels of kLanes splats: the records' copy of them, and whether all are finite.
struct Channels {
  vf v[kRecordChannels];
  vi finite;
};

template <int D>
Channels load_channels(const float* colors, int64_t first, int64_t count) {
  Channels c = {};
  load_columns<D>(colors, first, count, c.v);
  vf sum = c.v[0];
  for (int i = 1; i < D; ++i) sum += c.v[i];
  c.finite = sum - sum == 0.0f;
  return c;
}

Channels load_channels(const float* colors, int num_channels, int64_t first, int64_t count) {
  if (num_channels == 3) return load_channels<3>(colors, first, count);
  if (num_channels == 1) return load_channels<1>(colors, first, count);
  if (num_channels == 2) return load_channels<2>(colors, first, count);
  if (num_channels == 4) return load_channels<4>(colors, first, count);
  Channels c = {};
  for (int i = 0; i < kLanes && first + i < count; ++i) {
    float sum = 0.0f;
    for (int k = 0; k < num_channels; ++k) sum += colors[(first + i) * num_channels + k];
    c.finite[i] = sum - sum == 0.0f ? -1 : 0;
  }
  return c;
}

// Where one view's share of the results starts.
struct ViewOutputs {
  ProjectedSplat* records;
  float* means2d;
  int32_t* radii;
};

void scatter(const RasterConfig& config, const ViewSplat& p, const Footprint& f, const Channels& color, int64_t first,
             int64_t count, const ViewOutputs& out) {
  // The integer radii of gsplat, kept representable.
  const vi rx = ceiling(min(f.extent_x, broadcast(1e9f))), ry = ceiling(min(f.extent_y, broadcast(1e9f)));
  const vf reach_x = __builtin_convertvector(rx, vf), reach_y = __builtin_convertvector(ry, vf);
  const vi drawn = f.seen & color.finite & ((rx | ry) > 0) & (p.mean_x + reach_x > 0.0f) &
                   (p.mean_x - reach_x < static_cast<float>(config.width)) & (p.mean_y + reach_y > 0.0f) &
                   (p.mean_y - reach_y < static_cast<float>(config.height));
  const vf mean[2] = {select(drawn, p.mean_x, vf{}), select(drawn, p.mean_y, vf{})};
  const vf radii[2] = {(vf)(rx & drawn), (vf)(ry & drawn)};
  store_columns<2>(out.means2d, mean, first, count);
  store_columns<2>(reinterpret_cast<float*>(out.radii), radii, first, count);

  const vi listed = drawn & (f.x0 < f.x1) & (f.y0 < f.y1);
  const vi box_start = f.x0 / kBlock | f.y0 / kBlock << 16;
  const vi box_end = (f.x1 + (kBlock - 1)) / kBlock | (f.y1 + (kBlock - 1)) / kBlock << 16;
  vf fields[kRow] = {p.mean_x,   p.mean_y,   f.conic_xx, f.conic_xy, f.conic_yy, f.log2_opacity, p.z, color.v[0],
                     color.v[1], color.v[2], color.v[3], vf{},       (vf)box_start, (vf)box_end};
  for (vf& field : fields) field = (vf)((vi)field & listed);
  const size_t rows = static_cast<size_t>(count - first < kLanes ? count - first : kLanes);
  float records[kLanes][kRow];
  static_assert(sizeof records[0] == sizeof(ProjectedSplat));
  columns_to_rows(fields, records);
  memcpy(out.records + first, records, sizeof records[0] * rows);
}

}  // namespace

void project(const RasterConfig& config, const Camera* cameras, const SplatInputs& in, ProjectedSplat* records,
             float* means2d, int32_t* radii) {
  const int64_t n = config.num_splats;
#pragma omp parallel for schedule(static) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t first = 0; first < n; first += kLanes) {
    const WorldSplat splat = load_world(in, first, n);
    vf opacity;
    load_columns<1>(in.opacities, first, n, &opacity);
    for (int64_t view = 0; view < config.num_views; ++view) {
      const int64_t base = view * n;
      ViewSplat p = project_lanes(cameras[view], splat, config.eps2d);
      if (in.means2d_offset) {
        vf offset[2];
        load_columns<2>(in.means2d_offset + 2 * base, first, n, offset);
        p.mean_x += offset[0];
        p.mean_y += offset[1];
      }
      const float* colors = in.colors + (config.colors_per_view ? base * config.num_channels : 0);
      scatter(config, p, footprint(config, p, opacity), load_channels(colors, config.num_channels, first, n), first, n,
              {records + base, means2d + 2 * base, radii + 2 * base});
    }
  }
}

}  // namespace sd::cpu::SD_LEVEL
