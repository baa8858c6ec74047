// Compiled with fused multiply-adds.
#include "project.h"

#include "dispatch.h"
#include "harmonics.h"

SD_DECLARE_SIMD_LEVEL(SD_SIMD_LEVEL)

namespace sd::cpu::SD_SIMD_LEVEL {
namespace {

// Everything one view stores of kLanes splats, before it is scattered to the records.
struct Footprint {
  vm seen;
  vf extent_x, extent_y;  // px from the mean to where opacity falls to kAlphaMin
  ConicRoot root;
  vf log2_opacity;
  vi x0, y0, x1, y1;  // pixels whose centres lie within the extent
};

inline vf whole(int x) { return broadcast(static_cast<float>(x)); }

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

inline vm within(vf low, vf v, vf high) { return both(at_most(low, v), at_most(v, high)); }

Footprint footprint(const RasterConfig& config, const ViewSplat& p, vf opacity) {
  Footprint f;
  f.log2_opacity = log2(opacity);
  // alpha falls to kAlphaMin at sqrt(2 ln(opacity / kAlphaMin)) standard deviations.
  const vf sigmas = min(sqrt(max(2.0f * kLn2 * (f.log2_opacity - kLog2AlphaMin), vf{})), broadcast(kMaxExtent));
  f.extent_x = sigmas * sqrt(p.cov_xx + config.eps2d);
  f.extent_y = sigmas * sqrt(p.cov_yy + config.eps2d);
  const vf inverse_det = 1.0f / p.det_blurred;
  f.root = conic_root(p, config.eps2d);

  // A NaN or an overflow anywhere makes one of these comparisons false. The radii of gsplat are whole pixels.
  constexpr float kHuge = 1e18f;
  f.seen = within(broadcast(config.near_plane), p.z, broadcast(config.far_plane));
  f.seen = both(f.seen, both(less(vf{}, p.det_blurred), less(vf{}, inverse_det)));
  f.seen = both(f.seen, both(less(inverse_det, broadcast(kHuge * kHuge)), at_most(broadcast(kAlphaMin), opacity)));
  f.seen = both(f.seen, both(less(f.extent_x, broadcast(kHuge)), less(f.extent_y, broadcast(kHuge))));
  f.seen = both(f.seen, within(broadcast(-kHuge), p.mean_x, broadcast(kHuge)));
  f.seen = both(f.seen, within(broadcast(-kHuge), p.mean_y, broadcast(kHuge)));

  // A margin above the rounding of the extent: a pair outside it is below kAlphaMin whatever the rounding.
  const vf reach_x = f.extent_x * 1.0001f + 0.01f, reach_y = f.extent_y * 1.0001f + 0.01f;
  pixel_range(p.mean_x - reach_x, p.mean_x + reach_x, config.width, &f.x0, &f.x1);
  pixel_range(p.mean_y - reach_y, p.mean_y + reach_y, config.height, &f.y0, &f.y1);
  return f;
}

// The channels of kLanes splats as far as the records hold them.
struct Channels {
  vf v[kRecordChannels];
  vf sum;  // not finite if a channel is not
};

template <int D>
Channels load_channels(const float* colors, int64_t first, int64_t count) {
  Channels c = {};
  load_columns<D>(colors, first, count, c.v);
  for (int i = 0; i < D; ++i) c.sum += c.v[i];
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
    c.sum[i] = sum;
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
  vm drawn = both(f.seen, both(at_most(color.sum - color.sum, vf{}), less(vf{}, reach_x + reach_y)));
  drawn = both(drawn, both(less(-reach_x, p.mean_x), less(p.mean_x - reach_x, whole(config.width))));
  drawn = both(drawn, both(less(-reach_y, p.mean_y), less(p.mean_y - reach_y, whole(config.height))));
  const vf mean[2] = {select(drawn, p.mean_x, vf{}), select(drawn, p.mean_y, vf{})};
  const vf radii[2] = {select(drawn, (vf)rx, vf{}), select(drawn, (vf)ry, vf{})};
  store_columns<2>(out.means2d, mean, first, count);
  store_columns<2>(reinterpret_cast<float*>(out.radii), radii, first, count);

  const vm listed = both(drawn, both(less(f.x0, f.x1), less(f.y0, f.y1)));
  const vi box_start = f.x0 / kBlock | f.y0 / kBlock << 16;
  const vi box_end = (f.x1 + (kBlock - 1)) / kBlock | (f.y1 + (kBlock - 1)) / kBlock << 16;
  vf fields[kRow] = {p.mean_x,   p.mean_y,   f.root.xx,  f.root.xy,  f.root.yy,     f.log2_opacity, p.z,
                     color.v[0], color.v[1], color.v[2], color.v[3], (vf)box_start, (vf)box_end};
  for (vf& field : fields) field = select(listed, field, vf{});
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
    Coefficients coefficients;
    if (config.sh_degree >= 0) load_coefficients(config, in.colors, first, &coefficients);
    for (int64_t view = 0; view < config.num_views; ++view) {
      const int64_t base = view * n;
      ViewSplat p = project_lanes(cameras[view], splat, config.eps2d);
      if (in.means2d_offset) {
        vf offset[2];
        load_columns<2>(in.means2d_offset + 2 * base, first, n, offset);
        p.mean_x += offset[0];
        p.mean_y += offset[1];
      }
      Channels color = {};
      if (config.sh_degree >= 0) {
        sh_color(config, cameras[view], splat.mean, coefficients, color.v);
        color.sum = color.v[0] + color.v[1] + color.v[2];
      } else {
        color = load_channels(in.colors + (config.colors_per_view ? base * config.num_channels : 0),
                              config.num_channels, first, n);
      }
      scatter(config, p, footprint(config, p, opacity), color, first, n,
              {records + base, means2d + 2 * base, radii + 2 * base});
    }
  }
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
