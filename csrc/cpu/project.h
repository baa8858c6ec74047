#pragma once

#include "../common/constants.h"
#include "raster.h"
#include "transpose.h"

// The projection of kLanes splats at once, shared by the forward and the backward pass of one level.
namespace sd::cpu::SD_SIMD_LEVEL {

// A splat in the world, before any camera. `shape` is rotation times diag(scale), so covariance = shape shape^T.
struct WorldSplat {
  vf mean[3];
  vf quat[4];       // normalised
  vf inverse_norm;  // of the quaternion given
  vf rotation[9];
  vf scale[3];
  vf shape[9];
};

SD_HD WorldSplat load_world(const SplatInputs& in, int64_t first, int64_t count) {
  WorldSplat s;
  load_columns<3>(in.means, first, count, s.mean);
  load_columns<3>(in.scales, first, count, s.scale);
  load_columns<4>(in.quats, first, count, s.quat);
  vf norm2 = s.quat[0] * s.quat[0];
  for (int i = 1; i < 4; ++i) norm2 += s.quat[i] * s.quat[i];
  s.inverse_norm = 1.0f / sqrt(norm2);
  for (int i = 0; i < 4; ++i) s.quat[i] *= s.inverse_norm;
  const vf w = s.quat[0], x = s.quat[1], y = s.quat[2], z = s.quat[3];
  s.rotation[0] = 1.0f - 2.0f * (y * y + z * z);
  s.rotation[1] = 2.0f * (x * y - w * z);
  s.rotation[2] = 2.0f * (x * z + w * y);
  s.rotation[3] = 2.0f * (x * y + w * z);
  s.rotation[4] = 1.0f - 2.0f * (x * x + z * z);
  s.rotation[5] = 2.0f * (y * z - w * x);
  s.rotation[6] = 2.0f * (x * z - w * y);
  s.rotation[7] = 2.0f * (y * z + w * x);
  s.rotation[8] = 1.0f - 2.0f * (x * x + y * y);
  for (int i = 0; i < 9; ++i) s.shape[i] = s.rotation[i] * s.scale[i % 3];
  return s;
}

// The 2D Gaussian seen by one camera. Its covariance is (axis_x, axis_y)(axis_x, axis_y)^T with axis = jac shape, so
// the determinant is the square of a cross product and loses nothing for thin splats.
struct ViewSplat {
  vf x, y, z;  // camera space
  vf inverse_z;
  vf u, v;                // x/z and y/z, clamped
  vm u_free, v_free;      // where they were not
  vf jac_x[3], jac_y[3];  // rows of the projection's Jacobian times the camera rotation
  vf axis_x[3], axis_y[3];
  vf cov_xx, cov_xy, cov_yy;  // px^2, before eps2d
  vf det, det_blurred;
  vf mean_x, mean_y;  // px
};

SD_HD vf dot(const vf a[3], const vf b[3]) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

SD_HD ViewSplat project_lanes(const Camera& c, const WorldSplat& s, float eps2d) {
  ViewSplat p;
  const float* r = c.rotation;
  p.x = r[0] * s.mean[0] + r[1] * s.mean[1] + r[2] * s.mean[2] + c.translation[0];
  p.y = r[3] * s.mean[0] + r[4] * s.mean[1] + r[5] * s.mean[2] + c.translation[1];
  p.z = r[6] * s.mean[0] + r[7] * s.mean[1] + r[8] * s.mean[2] + c.translation[2];
  p.inverse_z = 1.0f / p.z;
  const vf u = p.x * p.inverse_z, v = p.y * p.inverse_z;
  p.u = min(max(u, broadcast(c.u_min)), broadcast(c.u_max));
  p.v = min(max(v, broadcast(c.v_min)), broadcast(c.v_max));
  p.u_free = both(at_most(p.u, u), at_most(u, p.u));
  p.v_free = both(at_most(p.v, v), at_most(v, p.v));
  p.mean_x = c.fx * u + c.cx;
  p.mean_y = c.fy * v + c.cy;
  for (int i = 0; i < 3; ++i) {
    p.jac_x[i] = c.fx * p.inverse_z * (r[i] - p.u * r[6 + i]);
    p.jac_y[i] = c.fy * p.inverse_z * (r[3 + i] - p.v * r[6 + i]);
  }
  for (int j = 0; j < 3; ++j) {
    p.axis_x[j] = p.jac_x[0] * s.shape[j] + p.jac_x[1] * s.shape[3 + j] + p.jac_x[2] * s.shape[6 + j];
    p.axis_y[j] = p.jac_y[0] * s.shape[j] + p.jac_y[1] * s.shape[3 + j] + p.jac_y[2] * s.shape[6 + j];
  }
  p.cov_xx = dot(p.axis_x, p.axis_x);
  p.cov_xy = dot(p.axis_x, p.axis_y);
  p.cov_yy = dot(p.axis_y, p.axis_y);
  const vf* a = p.axis_x;
  const vf* b = p.axis_y;
  const vf cross[3] = {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
  p.det = dot(cross, cross);
  p.det_blurred = p.det + eps2d * (p.cov_xx + p.cov_yy) + eps2d * eps2d;
  return p;
}

// An upper triangular root of the conic C in base 2: with d = (dx, dy), u = xx dx + xy dy and v = yy dy, the falloff is
// 2^-(u^2 + v^2). It is never above 1, whatever the rounding, and C = kConicOfRoot root^T root.
struct ConicRoot {
  vf xx, xy, yy;
};

constexpr float kConicOfRoot = 2.0f * kLn2;

SD_HD ConicRoot conic_root(const ViewSplat& p, float eps2d) {
  const vf inverse_yy = 1.0f / (p.cov_yy + eps2d);
  ConicRoot root;
  root.xx = sqrt(0.5f * kLog2E * (1.0f / p.det_blurred) * (p.cov_yy + eps2d));
  root.xy = -root.xx * p.cov_xy * inverse_yy;
  root.yy = sqrt(0.5f * kLog2E * inverse_yy);
  return root;
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
