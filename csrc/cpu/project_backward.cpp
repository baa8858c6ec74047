#include "levels.h"
#include "project.h"

SD_DECLARE_LEVEL(SD_LEVEL)

namespace sd::cpu::SD_LEVEL {
namespace {

constexpr int kSums = 10;  // the used floats of a GradientSlot

// The gradient sums of kLanes splats in one view, added over their tiles in the order of the slots.
struct ViewSums {
  vf s[kSums];
  vf means2d[2];  // gradient arriving at the means2d output itself
  vi seen;
  bool any_seen;
};

ViewSums gather(const ProjectedSplat* records, const int32_t* radii, const GradientSlot* slots, const float* v_means2d,
                int64_t first, int64_t count) {
  ViewSums sums = {};
  for (int i = 0; i < kLanes && first + i < count; ++i) {
    const int64_t row = first + i;
    if (radii[2 * row] == 0 && radii[2 * row + 1] == 0) continue;
    sums.seen[i] = -1;
    sums.any_seen = true;
    if (v_means2d) {
      sums.means2d[0][i] = v_means2d[2 * row];
      sums.means2d[1][i] = v_means2d[2 * row + 1];
    }
    float total[kSums] = {};
    const GradientSlot* slot = slots + records[row].slot;
    const int num_slots = tile_columns(records[row].box) * tile_rows(records[row].box);
    for (int t = 0; t < num_slots; ++t) {
      float part[kSums];
      memcpy(part, slot + t, sizeof part);
      for (int k = 0; k < kSums; ++k) total[k] += part[k];
    }
    for (int k = 0; k < kSums; ++k) sums.s[k][i] = total[k];
  }
  return sums;
}

// Gradients of kLanes splats, summed over views.
struct WorldGradients {
  vf mean[3];
  vf shape[9];
  vf log_opacity;
};

// One view's share; returns d loss / d means2d in mean2d.
void view_backward(const RasterConfig& config, const Camera& c, const WorldSplat& splat, const ViewSums& sums,
                   WorldGradients* out, vf mean2d[2]) {
  const ViewSplat p = project_lanes(c, splat, config.eps2d);
  const vf inverse_det = 1.0f / p.det_blurred;
  const vf a = inverse_det * (p.cov_yy + config.eps2d);  // the conic
  const vf b = -inverse_det * p.cov_xy;
  const vf d = inverse_det * (p.cov_xx + config.eps2d);
  const vf g = sums.s[0], gx = sums.s[1], gy = sums.s[2], gxx = sums.s[3], gxy = sums.s[4], gyy = sums.s[5];

  mean2d[0] = sums.means2d[0] - (a * gx + b * gy);
  mean2d[1] = sums.means2d[1] - (b * gx + d * gy);

  // d loss = <H, axes^T d axes>. The exponent gives H = C M C with the conic C and the second moments M of g.
  const vf row_xx = a * gxx + b * gxy, row_xy = a * gxy + b * gyy;
  const vf row_yx = b * gxx + d * gxy, row_yy = b * gxy + d * gyy;
  vf h_xx = row_xx * a + row_xy * b;
  vf h_xy = row_xx * b + row_xy * d;
  vf h_yy = row_yx * b + row_yy * d;
  if (config.antialiased) {  // the compensation gives d ln sqrt(det / det_blurred) = (cov^-1 - C) / 2 : d cov
    const vf inverse = 1.0f / p.det;
    h_xx += g * (p.cov_yy * inverse - a);
    h_xy += g * (-p.cov_xy * inverse - b);
    h_yy += g * (p.cov_xx * inverse - d);
  }
  vf v_axis_x[3], v_axis_y[3], v_jac_x[3], v_jac_y[3];
  for (int j = 0; j < 3; ++j) {
    v_axis_x[j] = h_xx * p.axis_x[j] + h_xy * p.axis_y[j];
    v_axis_y[j] = h_xy * p.axis_x[j] + h_yy * p.axis_y[j];
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
  const vf v_z = -p.inverse_z * (dot(p.jac_x, v_jac_x) + dot(p.jac_y, v_jac_y) + v_x * p.x + v_y * p.y) + sums.s[9];

  const vi seen = sums.seen;  // a lane not seen may hold NaN
  for (int i = 0; i < 3; ++i) {
    out->mean[i] += select(seen, r[i] * v_x + r[3 + i] * v_y + r[6 + i] * v_z, vf{});
    for (int j = 0; j < 3; ++j)
      out->shape[3 * i + j] += select(seen, p.jac_x[i] * v_axis_x[j] + p.jac_y[i] * v_axis_y[j], vf{});
  }
  out->log_opacity += select(seen, g, vf{});
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

// Rows first .. first + kLanes - 1 of an [N, width] array.
inline void store_rows(float* base, const vf* columns, int width, int64_t first, int64_t count) {
  for (int i = 0; i < kLanes && first + i < count; ++i)
    for (int c = 0; c < width; ++c) base[(first + i) * width + c] = columns[c][i];
}

}  // namespace

void project_backward(const RasterConfig& config, const Camera* cameras, const SplatInputs& in,
                      const ProjectedSplat* records, const int32_t* radii, const GradientSlot* slots,
                      const float* v_means2d, const SplatGradients& grads) {
  const int64_t n = config.num_splats;
#pragma omp parallel for schedule(static) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t first = 0; first < n; first += kLanes) {
    const WorldSplat splat = load_world(in, first, n);
    WorldGradients total = {};
    vf color[3] = {};
    vi ever_seen = {};
    for (int64_t view = 0; view < config.num_views; ++view) {
      const int64_t base = view * n;
      const ViewSums sums =
          gather(records + base, radii + 2 * base, slots, v_means2d ? v_means2d + 2 * base : nullptr, first, n);
      vf mean2d[2] = {};
      if (sums.any_seen) view_backward(config, cameras[view], splat, sums, &total, mean2d);
      ever_seen |= sums.seen;
      store_rows(grads.means2d + 2 * base, mean2d, 2, first, n);
      if (config.colors_per_view) store_rows(grads.colors + 3 * base, sums.s + 6, 3, first, n);
      for (int c = 0; c < 3; ++c) color[c] += sums.s[6 + c];
    }
    if (!config.colors_per_view) store_rows(grads.colors, color, 3, first, n);

    vf quat[4], scale[3];
    shape_backward(splat, total.shape, quat, scale);
    for (int i = 0; i < 4; ++i) quat[i] = select(ever_seen, quat[i], vf{});
    for (int i = 0; i < 3; ++i) scale[i] = select(ever_seen, scale[i], vf{});
    const vf opacity = select(ever_seen, total.log_opacity / load_rows(in.opacities, 1, 0, first, n), vf{});
    store_rows(grads.means, total.mean, 3, first, n);
    store_rows(grads.quats, quat, 4, first, n);
    store_rows(grads.scales, scale, 3, first, n);
    store_rows(grads.opacities, &opacity, 1, first, n);
  }
}

}  // namespace sd::cpu::SD_LEVEL
