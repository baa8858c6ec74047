// Compiled with fused multiply-adds.
#include "dispatch.h"
#include "entries.h"
#include "harmonics.h"
#include "project.h"

SD_DECLARE_SIMD_LEVEL(SD_SIMD_LEVEL)

namespace sd::cpu::SD_SIMD_LEVEL {
namespace {

constexpr int kRowChannels = kRow - kColorSums;  // that fit in a row of sums

// Adds up the entries of each splat in the order of the tiles, in place: the first entry's row takes the others.
void merge_entries(const RasterConfig& config, const ProjectedSums& in) {
  const int64_t n = config.num_splats, stride = entry_sums(config), tiles = tiles_per_view(config);
#pragma omp parallel for schedule(dynamic) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t view = 0; view < config.num_views; ++view) {
    if (n > 0) memset(in.rows + view * n, 0xff, sizeof(int32_t) * static_cast<size_t>(n));
    const int32_t end = in.lists.offsets[(view + 1) * tiles];
    for (int32_t begin = in.lists.offsets[view * tiles]; begin < end; begin += kChunk) {
      int32_t list[kChunk + kSlack];
      const int count = list_entries(in.lists.hits, begin, end - begin < kChunk ? end - begin : kChunk, 0xffffu, list);
      for (int i = 0; i < count; ++i) {
        int32_t& row = in.rows[in.lists.ids[list[i]]];
        if (row < 0) {
          row = list[i];
          continue;
        }
        const float* part = in.sums + list[i] * stride;
        float* total = in.sums + row * stride;
        for (int64_t k = 0; k < stride; k += 4) {
          vf4 a, b;
          memcpy(&a, total + k, sizeof a);
          memcpy(&b, part + k, sizeof b);
          a += b;
          memcpy(total + k, &a, sizeof a);
        }
      }
    }
  }
}

// The sums of kLanes splats in one view.
struct ViewSums {
  vf s[kRow];
  vf means2d[2];  // gradient arriving at the means2d output itself
  vm seen;
  bool empty;  // nothing arrives at any of them
};

ViewSums gather(const RasterConfig& config, const ProjectedSums& in, int64_t view, int64_t first) {
  static const float nothing[kRow] = {};
  const int64_t n = config.num_splats, base = view * n, stride = entry_sums(config);
  ViewSums sums = {};
  const float* rows[kLanes];
  int32_t most = -1;
  for (int i = 0; i < kLanes; ++i) {
    const int32_t row = first + i < n ? in.rows[base + first + i] : -1;
    most = row > most ? row : most;
    rows[i] = row < 0 ? nothing : in.sums + row * stride;
  }
  sums.empty = most < 0 && !in.v_means2d;
  if (sums.empty) return sums;
  rows_to_columns(rows, sums.s);
  vf radii[2];
  load_columns<2>(reinterpret_cast<const float*>(in.radii) + 2 * base, first, n, radii);
  const vi inside = vi{} + static_cast<int32_t>(n - first < kLanes ? n - first : kLanes);
  sums.seen = both(less(vi{}, (vi)radii[0] | (vi)radii[1]), less(lane_numbers(), inside));
  if (in.v_means2d) load_columns<2>(in.v_means2d + 2 * base, first, n, sums.means2d);
  for (vf& v : sums.means2d) v = select(sums.seen, v, vf{});
  return sums;
}

// Gradients of kLanes splats, summed over views.
struct WorldGradients {
  vf mean[3];
  vf shape[9];
  vf log_opacity;
};

// The gradients of a camera's rotation, translation and centre, still to be added up over lanes.
struct CameraGradients {
  vf v[kCameraSums];
};

// One view's share; returns d loss / d means2d in mean2d.
void view_backward(const RasterConfig& config, const Camera& c, const WorldSplat& splat, const ViewSums& sums,
                   WorldGradients* out, CameraGradients* camera, vf mean2d[2]) {
  const ViewSplat p = project_lanes(c, splat, config.eps2d);
  const ConicRoot root = conic_root(p, config.eps2d);
  const vf g = sums.s[0], gu = sums.s[1], gv = sums.s[2], guu = sums.s[3], guv = sums.s[4], gvv = sums.s[5];

  mean2d[0] = sums.means2d[0] - kConicOfRoot * root.xx * gu;
  mean2d[1] = sums.means2d[1] - kConicOfRoot * fused(root.xy, gu, root.yy * gv);

  // d loss = <H, axes^T d axes>. The exponent gives H = C M C with the conic C and the second moments of g in pixels,
  // so k^2 root^T (moments of (u, v)) root, k = kConicOfRoot. Multiplied from the right: (u, v) of an axis is at most
  // of order 1, while the elements of H times a needle's long axis cancel.
  vf v_axis_x[3], v_axis_y[3], v_jac_x[3], v_jac_y[3];
  for (int j = 0; j < 3; ++j) {
    const vf u = root.xx * p.axis_x[j] + root.xy * p.axis_y[j], v = root.yy * p.axis_y[j];
    const vf v_u = guu * u + guv * v, v_v = guv * u + gvv * v;
    v_axis_x[j] = kConicOfRoot * kConicOfRoot * root.xx * v_u;
    v_axis_y[j] = kConicOfRoot * kConicOfRoot * (root.xy * v_u + root.yy * v_v);
  }
  for (int i = 0; i < 3; ++i) {
    v_jac_x[i] = dot(splat.shape + 3 * i, v_axis_x);
    v_jac_y[i] = dot(splat.shape + 3 * i, v_axis_y);
  }
  const float* r = c.rotation;
  const vf forward[3] = {broadcast(r[6]), broadcast(r[7]), broadcast(r[8])};
  const vf v_u = select(p.u_free, -c.fx * p.inverse_z * dot(forward, v_jac_x), vf{}) + c.fx * mean2d[0];
  const vf v_v = select(p.v_free, -c.fy * p.inverse_z * dot(forward, v_jac_y), vf{}) + c.fy * mean2d[1];
  const vf v_x = v_u * p.inverse_z, v_y = v_v * p.inverse_z;
  // The Jacobian rows are proportional to 1/z at fixed u and v.
  const vf v_z =
      sums.s[kGeometrySums] - p.inverse_z * (dot(p.jac_x, v_jac_x) + dot(p.jac_y, v_jac_y) + v_x * p.x + v_y * p.y);

  const vm seen = sums.seen;  // a lane not seen may hold NaN
  for (int i = 0; i < 3; ++i) {
    out->mean[i] += select(seen, r[i] * v_x + r[3 + i] * v_y + r[6 + i] * v_z, vf{});
    for (int j = 0; j < 3; ++j)
      out->shape[3 * i + j] += select(seen, p.jac_x[i] * v_axis_x[j] + p.jac_y[i] * v_axis_y[j], vf{});
  }
  out->log_opacity += select(seen, g, vf{});
  const vf scale_x = c.fx * p.inverse_z, scale_y = c.fy * p.inverse_z;
  for (int i = 0; i < 3; ++i) {
    const vf row_x = scale_x * v_jac_x[i], row_y = scale_y * v_jac_y[i];
    camera->v[i] = select(seen, v_x * splat.mean[i] + row_x, vf{});
    camera->v[3 + i] = select(seen, v_y * splat.mean[i] + row_y, vf{});
    camera->v[6 + i] = select(seen, v_z * splat.mean[i] - p.u * row_x - p.v * row_y, vf{});
  }
  const vf v_point[3] = {v_x, v_y, v_z};
  for (int i = 0; i < 3; ++i) camera->v[9 + i] = select(seen, v_point[i], vf{});
  for (int i = 0; i < 2; ++i) mean2d[i] = select(seen, mean2d[i], vf{});
}

// From shape = rotation(quat / |quat|) diag(scale) to quat and scale.
void shape_backward(const WorldSplat& splat, const vf v_shape[9], vf v_quat[4], vf v_scale[3]) {
  vf v[9];
  for (int i = 0; i < 9; ++i) v[i] = v_shape[i] * splat.scale[i % 3];
  for (int j = 0; j < 3; ++j)
    v_scale[j] = splat.rotation[j] * v_shape[j] + splat.rotation[3 + j] * v_shape[3 + j] +
                 splat.rotation[6 + j] * v_shape[6 + j];
  const vf w = splat.quat[0], x = splat.quat[1], y = splat.quat[2], z = splat.quat[3];
  v_quat[0] = 2.0f * (x * (v[7] - v[5]) + y * (v[2] - v[6]) + z * (v[3] - v[1]));
  v_quat[1] = 2.0f * (w * (v[7] - v[5]) + y * (v[1] + v[3]) + z * (v[2] + v[6]) - 2.0f * x * (v[4] + v[8]));
  v_quat[2] = 2.0f * (w * (v[2] - v[6]) + x * (v[1] + v[3]) + z * (v[5] + v[7]) - 2.0f * y * (v[0] + v[8]));
  v_quat[3] = 2.0f * (w * (v[3] - v[1]) + x * (v[2] + v[6]) + y * (v[5] + v[7]) - 2.0f * z * (v[0] + v[4]));
  vf along = v_quat[0] * splat.quat[0];
  for (int i = 1; i < 4; ++i) along += v_quat[i] * splat.quat[i];
  for (int i = 0; i < 4; ++i) v_quat[i] = (v_quat[i] - along * splat.quat[i]) * splat.inverse_norm;
}

// Stores the gradients of D <= kRowChannels channels.
void store_channels(float* base, const vf* columns, int num_channels, int64_t first, int64_t count) {
  if (num_channels == 3) return store_columns<3>(base, columns, first, count);
  if (num_channels == 1) return store_columns<1>(base, columns, first, count);
  for (int i = 0; i < kLanes && first + i < count; ++i)
    for (int c = 0; c < num_channels; ++c) base[(first + i) * num_channels + c] = columns[c][i];
}

// The gradients of more channels than that, for kLanes splats.
void sum_channels(const RasterConfig& config, const ProjectedSums& in, int64_t first, float* colors) {
  const int64_t n = config.num_splats, channels = config.num_channels, stride = entry_sums(config);
  const int64_t end = first + kLanes < n ? first + kLanes : n;
  for (int64_t view = 0; view < config.num_views; ++view)
    for (int64_t i = first; i < end; ++i) {
      float* out = colors + (config.colors_per_view ? view * n + i : i) * channels;
      if (view == 0 || config.colors_per_view) memset(out, 0, sizeof(float) * static_cast<size_t>(channels));
      const int32_t row = in.rows[view * n + i];
      for (int64_t c = 0; row >= 0 && c < channels; ++c) out[c] += in.sums[row * stride + kColorSums + c];
    }
}

// Adds up the cameras' gradients in a fixed order. With R C = -t, a gradient of the centre C reaches R and t.
void sum_cameras(const RasterConfig& config, const Camera* cameras, const SplatGradients& grads) {
  for (int64_t view = 0; view < config.num_views; ++view) {
    double sums[kCameraSums] = {};
    for (int64_t i = 0; i * kLanes < config.num_splats; ++i)
      for (int k = 0; k < kCameraSums; ++k) sums[k] += grads.partial[(i * config.num_views + view) * kCameraSums + k];
    const Camera& c = cameras[view];
    float* out = grads.viewmats + 16 * view;
    for (int i = 0; i < 3; ++i) {
      double v_moved = 0.0;
      for (int j = 0; j < 3; ++j) v_moved -= c.inverse[3 * j + i] * sums[12 + j];
      for (int j = 0; j < 3; ++j) out[4 * i + j] = static_cast<float>(sums[3 * i + j] + v_moved * c.centre[j]);
      out[4 * i + 3] = static_cast<float>(sums[9 + i] + v_moved);
      out[12 + i] = 0.0f;
    }
    out[15] = 0.0f;
  }
}

// The gradients of kLanes splats over all views.
void splats_backward(const RasterConfig& config, const Camera* cameras, const SplatInputs& splats,
                     const ProjectedSums& in, int64_t first, const SplatGradients& grads) {
  const int64_t n = config.num_splats;
  const int channels = config.num_channels;
  const bool harmonics = config.sh_degree >= 0, narrow = channels <= kRowChannels && !harmonics;
  const WorldSplat splat = load_world(splats, first, n);
  Coefficients coefficients, v_coefficients;
  if (harmonics) load_coefficients(config, splats.colors, first, &coefficients);
  if (harmonics) memset(&v_coefficients, 0, sizeof v_coefficients);
  WorldGradients total = {};
  vf color[kRowChannels] = {};
  vm ever_seen = {};
  for (int64_t view = 0; view < config.num_views; ++view) {
    const int64_t base = view * n;
    const ViewSums sums = gather(config, in, view, first);
    vf mean2d[2] = {};
    CameraGradients camera = {};
    if (!sums.empty) view_backward(config, cameras[view], splat, sums, &total, &camera, mean2d);
    ever_seen = either(ever_seen, sums.seen);
    store_columns<2>(grads.means2d + 2 * base, mean2d, first, n);
    if (harmonics && !sums.empty) {
      vf v_mean[3];
      sh_backward(config, cameras[view], splat.mean, sums.seen, coefficients, sums.s + kColorSums, &v_coefficients,
                  v_mean);
      for (int i = 0; i < 3; ++i) total.mean[i] += v_mean[i];
      for (int i = 0; i < 3; ++i) camera.v[12 + i] = -v_mean[i];
    }
    if (grads.viewmats)
      horizontal_sums<kCameraSums>(camera.v, grads.partial + (first / kLanes * config.num_views + view) * kCameraSums);
    for (int c = 0; c < kRowChannels; ++c) color[c] += sums.s[kColorSums + c];
    if (config.colors_per_view && narrow)
      store_channels(grads.colors + channels * base, sums.s + kColorSums, channels, first, n);
  }
  if (harmonics)
    store_coefficients(config, v_coefficients, grads.colors, first);
  else if (!narrow)
    sum_channels(config, in, first, grads.colors);
  else if (!config.colors_per_view)
    store_channels(grads.colors, color, channels, first, n);

  vf quat[4], scale[3], opacity;
  shape_backward(splat, total.shape, quat, scale);
  load_columns<1>(splats.opacities, first, n, &opacity);
  for (vf& v : quat) v = select(ever_seen, v, vf{});
  for (vf& v : scale) v = select(ever_seen, v, vf{});
  opacity = select(ever_seen, total.log_opacity / opacity, vf{});
  store_columns<3>(grads.means, total.mean, first, n);
  store_columns<4>(grads.quats, quat, first, n);
  store_columns<3>(grads.scales, scale, first, n);
  store_columns<1>(grads.opacities, &opacity, first, n);
}

}  // namespace

void project_backward(const RasterConfig& config, const Camera* cameras, const SplatInputs& splats,
                      const ProjectedSums& in, const SplatGradients& grads) {
  merge_entries(config, in);
#pragma omp parallel for schedule(static) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t first = 0; first < config.num_splats; first += kLanes)
    splats_backward(config, cameras, splats, in, first, grads);
  if (grads.viewmats) sum_cameras(config, cameras, grads);
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
