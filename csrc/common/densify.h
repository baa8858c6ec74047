#pragma once

#include <cmath>
#include <cstdint>

#include "half.h"
#include "philox.h"

// What densify does to one splat. Files that use it are compiled without contraction, so that statistics and masks are
// the same bits on every device.
namespace sd {

enum SplatKind : int8_t { kKeep, kClone, kSplit, kPrune };
constexpr int kSplatKinds = 4;

constexpr float kLogSplitShrink = 0.470003629f;  // ln 1.6: 3DGS makes the halves of a split this much smaller
constexpr float kLogitLimit = 13.8155096f;       // logit(1 - 1e-6): opacities stay this far from 0 and 1

// Rows of the result that a splat takes.
SD_HD int num_copies(int8_t kind) { return kind == kPrune ? 0 : kind == kKeep ? 1 : 2; }

// Length of a gradient with respect to pixels, 0 if it is not finite.
SD_HD float finite_norm(float x, float y) {
  const float norm = sqrtf(x * x + y * y);
  return norm <= 3.40282347e38f ? norm : 0.0f;
}

// Adds the gradient norms of the views that saw a splat to grad_sum, and their number to count.
struct StatisticsArgs {
  const float* probe_grad;  // [V,N,2]
  const int32_t* radii;     // [V,N,2], both positive where the splat is seen
  int64_t num_views, n;
  float* grad_sum;  // [N]
  int64_t* count;   // [N]
};

// Log scales, logits and gradients: the host has taken every logarithm, so that a comparison is all there is to do.
struct DensifyThresholds {
  float grow_gradient, split_scale, prune_scale, prune_opacity;
};

// What the splat would become if there were room for all. NaN never grows and is never pruned. Without branches: what
// splats become is hard to foresee.
SD_HD int8_t classify_splat(float mean_grad, const float* scales, float opacity, const DensifyThresholds& t) {
  float largest = scales[0];
  for (int i = 1; i < 3; ++i) largest = ((scales[i] > largest) | (scales[i] != scales[i])) ? scales[i] : largest;
  const int prune = (opacity < t.prune_opacity) | (largest > t.prune_scale);
  const int wants = (mean_grad >= t.grow_gradient) & (mean_grad > 0.0f) & (prune ^ 1);
  const int clone = wants & (largest <= t.split_scale), split = wants & (largest > t.split_scale);
  return static_cast<int8_t>(kClone * clone + kSplit * split + kPrune * prune);
}

// Grows with the gradient, which is positive for every splat that wants to grow.
SD_HD uint32_t rank_key(float mean_grad) { return bits_of(mean_grad); }

struct ClassifyArgs {
  const float* mean_grad;  // [N]
  const float* scales;     // [N,3] log
  const float* opacities;  // [N] logit
  int64_t n;
  DensifyThresholds thresholds;
  int64_t max_splats;
};

// How many of the splats that want to grow have room. counts: splats of each kind before that was asked.
SD_HD int64_t growth_room(const ClassifyArgs& a, const int64_t* counts) {
  const int64_t room = a.max_splats - (a.n - counts[kPrune]);
  return room > 0 ? room : 0;
}

// The logit of 1 - sqrt(1 - o) for the logit of o: two such splats cover what one did. Written so that no digit is lost
// where o is small: 1 - o = 1 / (1 + e^logit).
SD_HD float shared_opacity(float logit) {
  const float capped = logit < 40.0f ? logit : 40.0f;  // far above where the limit holds; e^40 is finite
  const float shared = logit - logf(1.0f + sqrtf(1.0f + expf(capped)));
  return shared < -kLogitLimit ? -kLogitLimit : shared > kLogitLimit ? kLogitLimit : shared;
}

// `vector` turned by the quaternion wxyz of any length.
SD_HD void rotate(const float quat[4], const float vector[3], float out[3]) {
  const float length = sqrtf(quat[0] * quat[0] + quat[1] * quat[1] + quat[2] * quat[2] + quat[3] * quat[3]);
  const float inverse = 1.0f / (length > 1e-12f ? length : 1e-12f);
  const float w = quat[0] * inverse, x = quat[1] * inverse, y = quat[2] * inverse, z = quat[3] * inverse;
  const float a = 2.0f * (y * vector[2] - z * vector[1]);
  const float b = 2.0f * (z * vector[0] - x * vector[2]);
  const float c = 2.0f * (x * vector[1] - y * vector[0]);
  out[0] = vector[0] + w * a + (y * c - z * b);
  out[1] = vector[1] + w * b + (z * a - x * c);
  out[2] = vector[2] + w * c + (x * b - y * a);
}

// The two halves of a split: positions drawn from the splat's own Gaussian. scales: log. children: [2,3].
SD_HD void split_means(uint64_t key, uint64_t id, const float* mean, const float* quat, const float* scales,
                       float* children) {
  float normals[6];
  philox_normal4(key, id, 0, normals);
  philox_normal2(key, id, 1, normals + 4);
  for (int child = 0; child < 2; ++child) {
    float local[3], offset[3];
    for (int i = 0; i < 3; ++i) local[i] = expf(scales[i]) * normals[3 * child + i];
    rotate(quat, local, offset);
    for (int i = 0; i < 3; ++i) children[3 * child + i] = mean[i] + offset[i];
  }
}

// One tensor on its way from N to M rows of bytes.
struct Rows {
  const char* in;
  char* out;
  int64_t bytes;  // of one row
  bool moments;   // 0 for children and halves, a copy otherwise
};

enum SplatTable { kMeans, kQuats, kScales, kOpacities };  // the first tables of every event

struct ScatterArgs {
  const int8_t* kind;  // [N]
  int64_t n, num_out;
  const Rows* tables;
  int num_tables;
  uint64_t key;  // of the split samples
};

// Gives the two copies of `parent`, at the rows `child` and child + 1, their own values; all else they have by now.
SD_HD void write_children(const Rows* tables, int8_t kind, uint64_t key, int64_t parent, int64_t child) {
  const float* means = reinterpret_cast<const float*>(tables[kMeans].in) + 3 * parent;
  const float* quats = reinterpret_cast<const float*>(tables[kQuats].in) + 4 * parent;
  const float* scales = reinterpret_cast<const float*>(tables[kScales].in) + 3 * parent;
  float* opacities = reinterpret_cast<float*>(tables[kOpacities].out) + child;
  opacities[0] = opacities[1] = shared_opacity(reinterpret_cast<const float*>(tables[kOpacities].in)[parent]);
  if (kind != kSplit) return;
  float* shrunk = reinterpret_cast<float*>(tables[kScales].out) + 3 * child;
  for (int i = 0; i < 6; ++i) shrunk[i] = scales[i % 3] - kLogSplitShrink;
  split_means(key, static_cast<uint64_t>(parent), means, quats, scales,
              reinterpret_cast<float*>(tables[kMeans].out) + 3 * child);
}

}  // namespace sd
