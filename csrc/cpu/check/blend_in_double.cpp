#include "../../common/constants.h"
#include "scene.h"

namespace sd::check {
namespace {

// Where a splat meets a pixel. With u = xx dx + xy dy and v = yy dy the kernels compute log2(alpha) = l - v^2 - u^2 in
// at most seven roundings of terms no larger than `size`, and 2^x within 2e-7 < 4 units: `error` is relative.
struct Pair {
  double u, v, u_error, v_error, peak, alpha, error;
  bool drawn, unsure;
};

Pair meet(const ProjectedSplat& s, double px, double py) {
  Pair p = {};
  const double dx = static_cast<double>(s.x) - px, dy = static_cast<double>(s.y) - py;
  const double xx = static_cast<double>(s.xx) * dx, xy = static_cast<double>(s.xy) * dy, u = xx + xy;
  const double v = static_cast<double>(s.yy) * dy, top = static_cast<double>(s.log2_opacity);
  const double log2_alpha = top - v * v - u * u, reach = std::fabs(xx) + std::fabs(xy);
  const double size = std::fabs(top) + v * v + 2.0 * std::fabs(u) * reach + u * u;
  const double exponent_error = 7.0 * kUnit * size;
  p.u = u, p.v = v;
  p.u_error = 3.0 * kUnit * reach, p.v_error = 2.0 * kUnit * std::fabs(v);  // a difference, a product, and u's sum
  p.error = exponent_error * static_cast<double>(kLn2) + 4.0 * kUnit;
  p.drawn = log2_alpha >= static_cast<double>(kLog2AlphaMin);
  p.unsure = std::fabs(log2_alpha - static_cast<double>(kLog2AlphaMin)) <= exponent_error;
  p.peak = p.drawn ? std::exp2(log2_alpha) : 0.0;
  p.unsure |= std::fabs(p.peak - static_cast<double>(kAlphaCap)) <= p.error * p.peak;
  p.alpha = std::fmin(p.peak, static_cast<double>(kAlphaCap));
  return p;
}

// The transmittance on its way through a pixel. A step is T (1 - alpha): its error shrinks with T and gains that of
// alpha T, and two roundings.
struct Ray {
  double t = 1.0, error = 0.0, weight = 0.0, weight_error = 0.0, drawn = 0.0;
  bool stopped = false, unsure = false;

  bool step(const Pair& p) {  // whether the pair counts
    drawn = p.alpha * t;
    weight_error = p.error * drawn + p.alpha * error + 2.0 * kUnit * drawn;
    const double next = t - drawn;
    const double next_error = (1.0 - p.alpha) * error + (p.error + 2.0 * kUnit) * drawn + kUnit * next;
    const bool counts = !stopped && next > static_cast<double>(kTransmittanceMin);
    if (!stopped) unsure |= p.unsure || std::fabs(next - static_cast<double>(kTransmittanceMin)) <= next_error;
    weight = counts ? drawn : 0.0;
    if (!counts && p.drawn) stopped = true;
    if (counts) t = next, error = next_error;
    return counts;
  }
};

// Calls visit(pixel within the tile, px, py) for every pixel of the tile's blocks that reach the image.
template <class Visit>
void for_pixels(const RasterConfig& config, int64_t tile, Visit visit) {
  const int64_t within = tile % tiles_per_view(config), view = tile / tiles_per_view(config);
  const int left = static_cast<int>(within % tiles_x(config)) * kTile,
            top = static_cast<int>(within / tiles_x(config)) * kTile;
  for (int y = 0; y < kTile; ++y)
    for (int x = 0; x < kTile; ++x) {
      if (left + x / kBlock * kBlock >= config.width || top + y / kBlock * kBlock >= config.height) continue;
      const bool inside = left + x < config.width && top + y < config.height;
      const int64_t pixel = inside ? (view * config.height + top + y) * config.width + left + x : -1;
      visit(view, pixel, y / kBlock * kTileBlocks + x / kBlock, left + x + 0.5, top + y + 0.5);
    }
}

double channel(const Scene& scene, const ProjectedSplat& record, int32_t row, int c) {
  const RasterConfig& config = scene.config;
  if (config.num_channels <= kRecordChannels) return static_cast<double>(record.color[c]);
  const int64_t from = config.colors_per_view ? row : row % config.num_splats;
  return static_cast<double>(scene.colors[static_cast<size_t>(from * config.num_channels + c)]);
}

}  // namespace

Blended blend_in_double(const Scene& scene, const Projected& projected, const Lists& lists) {
  const RasterConfig& config = scene.config;
  const size_t pixels = static_cast<size_t>(config.num_views * config.height * config.width);
  const size_t channels = static_cast<size_t>(config.num_channels);
  Blended out;
  out.color.resize(pixels * channels);
  out.color_bound.resize(pixels * channels);
  out.alpha.resize(pixels);
  out.depth.resize(pixels);
  out.alpha_bound.resize(pixels);
  out.depth_bound.resize(pixels);
  out.unsure.resize(pixels);
  out.hits.resize(lists.ids.size());
  out.unsure_blocks.resize(static_cast<size_t>(num_tiles(config)));
  for (int64_t tile = 0; tile < num_tiles(config); ++tile) {
    const int32_t begin = lists.offsets[static_cast<size_t>(tile)], end = lists.offsets[static_cast<size_t>(tile) + 1];
    for_pixels(config, tile, [&](int64_t view, int64_t pixel, int block, double px, double py) {
      Ray ray;
      std::vector<double> sum(channels + 1), size(channels + 1), error(channels + 1);  // the channels, then depth
      for (int32_t e = begin; e < end; ++e) {
        const int32_t row = lists.ids[static_cast<size_t>(e)];
        const ProjectedSplat& s = projected.records[static_cast<size_t>(row)];
        const Pair p = meet(s, px, py);
        if (p.drawn && !ray.stopped) out.hits[static_cast<size_t>(e)] |= static_cast<uint16_t>(1 << block);
        ray.step(p);
        for (size_t c = 0; c <= channels; ++c) {
          const double value =
              c < channels ? channel(scene, s, row, static_cast<int>(c)) : static_cast<double>(s.depth);
          sum[c] += ray.weight * value;
          size[c] += ray.weight * std::fabs(value);
          error[c] += ray.weight_error * std::fabs(value);
        }
      }
      if (ray.unsure) out.unsure_blocks[static_cast<size_t>(tile)] |= static_cast<uint16_t>(1 << block);
      if (pixel < 0) return;
      const size_t at = static_cast<size_t>(pixel);
      const double adds = kUnit * (end - begin + 3);  // every sum rounds once a pair
      out.unsure[at] = ray.unsure;
      out.alpha[at] = 1.0 - ray.t;
      out.alpha_bound[at] = ray.error + kUnit;
      out.depth[at] = sum[channels];
      out.depth_bound[at] = error[channels] + adds * size[channels];
      for (size_t c = 0; c < channels; ++c) {
        const double back = static_cast<double>(scene.background[static_cast<size_t>(view) * channels + c]);
        out.color[at * channels + c] = sum[c] + ray.t * back;
        out.color_bound[at * channels + c] = error[c] + adds * (size[c] + ray.t * back) + ray.error * back;
      }
    });
  }
  return out;
}

BlendedSums blend_backward_in_double(const Scene& scene, const Projected& projected, const Lists& lists,
                                     const Pictures& images, const Pictures& grads) {
  const RasterConfig& config = scene.config;
  const int channels = config.num_channels;
  const size_t stride = static_cast<size_t>(entry_sums(config));
  BlendedSums out = {std::vector<double>(lists.ids.size() * stride), std::vector<double>(lists.ids.size() * stride)};
  for (int64_t tile = 0; tile < num_tiles(config); ++tile) {
    const int32_t begin = lists.offsets[static_cast<size_t>(tile)], end = lists.offsets[static_cast<size_t>(tile) + 1];
    for_pixels(config, tile, [&](int64_t, int64_t pixel, int, double px, double py) {
      if (pixel < 0) return;
      const size_t at = static_cast<size_t>(pixel);
      const double v_depth = static_cast<double>(grads.depth[at]), v_alpha = static_cast<double>(grads.alpha[at]);
      double rest =
          static_cast<double>(images.depth[at]) * v_depth + (static_cast<double>(images.alpha[at]) - 1.0) * v_alpha;
      double rest_size = std::fabs(static_cast<double>(images.depth[at]) * v_depth) + std::fabs(v_alpha);
      const auto v_color = [&](int c) {
        return static_cast<double>(grads.color[at * static_cast<size_t>(channels) + static_cast<size_t>(c)]);
      };
      for (int c = 0; c < channels; ++c) {
        const double part =
            v_color(c) * static_cast<double>(images.color[at * static_cast<size_t>(channels) + static_cast<size_t>(c)]);
        rest += part;
        rest_size += std::fabs(part);
      }
      const double along_units = (channels + 3) * kUnit;
      double rest_error = along_units * rest_size;
      Ray ray;
      for (int32_t e = begin; e < end; ++e) {
        const int32_t row = lists.ids[static_cast<size_t>(e)];
        const ProjectedSplat& s = projected.records[static_cast<size_t>(row)];
        const Pair p = meet(s, px, py);
        const bool counts = ray.step(p) && p.drawn;
        double along = static_cast<double>(s.depth) * v_depth, along_size = std::fabs(along);
        for (int c = 0; c < channels; ++c) {
          const double part = channel(scene, s, row, c) * v_color(c);
          along += part;
          along_size += std::fabs(part);
        }
        if (!counts) continue;
        rest -= along * ray.weight;
        rest_error += along_size * (ray.weight_error + along_units * ray.weight) + kUnit * std::fabs(rest);
        // 1 - alpha is off by the error of alpha and one rounding, which its inverse magnifies; six more roundings.
        const double inverse = 1.0 / (1.0 - p.alpha), behind = p.alpha * std::fabs(rest) * inverse;
        const double g = p.peak > static_cast<double>(kAlphaCap) ? 0.0 : along * ray.drawn - p.alpha * rest * inverse;
        double g_error = along_size * (ray.weight_error + along_units * ray.drawn) + p.alpha * rest_error * inverse;
        g_error += behind * (p.error + (p.error * p.alpha + kUnit) * inverse + 6.0 * kUnit) + kUnit * std::fabs(g);
        if (p.peak > static_cast<double>(kAlphaCap)) g_error = 0.0;
        const double u = std::fabs(p.u), v = std::fabs(p.v), du = p.u_error, dv = p.v_error;
        const double moments[kGeometrySums] = {1.0, p.u, p.v, p.u * p.u, p.u * p.v, p.v * p.v};
        const double moved[kGeometrySums] = {
            0.0, du, dv, (2.0 * u + du) * du, u * dv + (v + dv) * du, (2.0 * v + dv) * dv};
        // Adding up 256 pixels of a tile rounds at most 256 times in any order, and a moment four times.
        constexpr double kAdds = 260.0 * kUnit;
        double* sums = out.sums.data() + static_cast<size_t>(e) * stride;
        double* bound = out.bound.data() + static_cast<size_t>(e) * stride;
        for (int k = 0; k < kGeometrySums; ++k) {
          sums[k] += g * moments[k];
          bound[k] += (g_error + kAdds * std::fabs(g)) * (std::fabs(moments[k]) + moved[k]) + std::fabs(g) * moved[k];
        }
        for (int c = -1; c < channels; ++c) {  // -1: depth
          const double arriving = c < 0 ? v_depth : v_color(c);
          sums[kColorSums + c] += ray.weight * arriving;
          bound[kColorSums + c] += (ray.weight_error + kAdds * ray.weight) * std::fabs(arriving);
        }
      }
    });
  }
  return out;
}

}  // namespace sd::check
