#pragma once

#include <cmath>
#include <cstdint>

#include "macros.h"

// The end of a step: whether all gradients are finite, then Adam (Kingma and Ba, "Adam: a method for stochastic
// optimization", 2015) over the tensors of the splats. Files that use it are compiled without contraction: where a
// product and a sum are rounded once, it says so.
namespace sd {

constexpr int kMaxLearned = 8;  // tensors of one update

struct AdamSettings {
  double beta1, beta2, eps;  // beta1 >= 0.5
};

// 1 - beta1^t and the root of 1 - beta2^t.
struct AdamCorrection {
  double first, second_root;
};

SD_HD AdamCorrection adam_correction(const AdamSettings& s, float num_updates) {
  const double t = static_cast<double>(num_updates);
  return {1.0 - pow(s.beta1, t), sqrt(1.0 - pow(s.beta2, t))};
}

// A tensor of `size` elements and what moves it. rate: the learning rate.
struct Learned {
  float* values;
  const float* grads;
  float* exp_avgs;
  float* exp_avg_sqs;
  int64_t size;
  double rate;
};

struct UpdateArgs {
  Learned tensors[kMaxLearned];
  int num_tensors;
  AdamSettings settings;
  const bool* skip;                  // one; where it says so, nothing changes
  const AdamCorrection* correction;  // one
};

// One pass over gradients, and what follows from it for all tensors.
struct CheckArgs {
  const int64_t* num_nonfinite;  // elements that were not finite before; more than 0 skips the step
  float* num_updates;            // steps taken, this one included afterwards unless it is skipped
  AdamSettings settings;
  bool* skip;
  AdamCorrection* correction;  // for the update that follows
};

// Whether Adam can take it: its square is finite too.
SD_HD bool usable_gradient(float x) { return x * x <= 3.40282347e38f; }

SD_HD void finish_check(const CheckArgs& a, bool all_usable) {
  const bool skip = !all_usable || *a.num_nonfinite > 0;
  if (!skip) *a.num_updates += 1.0f;
  *a.skip = skip;
  *a.correction = adam_correction(a.settings, *a.num_updates);
}

// What is the same for all elements of a tensor.
struct AdamFactors {
  float step, first, decay, second, root, eps;
};

SD_HD AdamFactors adam_factors(const AdamSettings& s, double rate, const AdamCorrection& c) {
  return {static_cast<float>(-(rate / c.first)), static_cast<float>(1.0 - s.beta1), static_cast<float>(s.beta2),
          static_cast<float>(1.0 - s.beta2),     static_cast<float>(c.second_root), static_cast<float>(s.eps)};
}

// torch's kernel for x86-64 takes eight elements at a time and rounds in another way after the last whole eight. Its
// bits are kept, so that a run goes on as one that torch's kernel began.
constexpr int64_t kAdamEight = 8;
SD_HD bool in_whole_eight(int64_t index, int64_t size) { return index < size - size % kAdamEight; }

// One element. `whole`: in_whole_eight.
SD_HD void adam_element(const AdamFactors& f, bool whole, float grad, float& value, float& exp_avg, float& exp_avg_sq) {
  const float scaled = f.second * grad;
  exp_avg = fmaf(f.first, grad - exp_avg, exp_avg);
  exp_avg_sq = whole ? fmaf(scaled, grad, exp_avg_sq * f.decay) : fmaf(exp_avg_sq, f.decay, scaled * grad);
  value += f.step * exp_avg / (sqrtf(exp_avg_sq) / f.root + f.eps);
}

// Steps that were left out: in a row up to now, the longest row, and in all.
enum SkipCount { kSkipsInARow, kLongestRow, kSkips };
constexpr int kSkipCounts = 3;

// fresh: whether what was counted in all is forgotten first.
SD_HD void count_skip(int64_t* counts, bool skipped, bool fresh) {
  counts[kSkipsInARow] = skipped ? counts[kSkipsInARow] + 1 : 0;
  if (counts[kSkipsInARow] > counts[kLongestRow]) counts[kLongestRow] = counts[kSkipsInARow];
  counts[kSkips] = (fresh ? 0 : counts[kSkips]) + (skipped ? 1 : 0);
}

}  // namespace sd
