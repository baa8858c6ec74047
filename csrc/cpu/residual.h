#pragma once

#include <cstdint>

#include "../common/macros.h"

// The distillation gradient and the noising of its input. Both compute in double if x0 is double, else in float; other
// tensors may have any of these types and are converted a piece at a time. V views, K terms, M elements of a view.
namespace sd::cpu {

enum class Dtype : int8_t { kFloat, kDouble, kHalf, kBFloat16 };

struct Source {
  const void* data;
  Dtype dtype;
};

// What one chunk of one view adds to the results.
struct ResidualSums {
  double inner, squared;  // <x0, g> and |g|^2
  int64_t nonfinite;
};

struct ResidualArgs {
  Source x0;            // [V,M]
  const Source* terms;  // K of [V,M]
  const void* coef;     // [K,V] of the type computed in, as every void pointer below but grad
  const void* weight;   // [V]
  int num_terms;
  int64_t num_views, view_size;
  double clamp;          // +inf for none
  double inverse_views;  // 1 / V_total
  void* grad;            // [V,M] d loss / d x0, of x0's type
  void* loss;            // one number
  void* norms;           // [V]
  int64_t* num_nonfinite;
  ResidualSums* chunks;  // [V,num_chunks] workspace
  int num_threads;
};

struct NoisingArgs {
  Source x0, eps;     // [V,M]
  const void* alpha;  // [V] of the type computed in
  const void* sigma;  // [V]
  int64_t num_views, view_size;
  void* noised;  // [V,M] of x0's type
  int num_threads;
};

constexpr int64_t kResidualChunk = 4096;  // elements: sums do not depend on the number of threads
SD_HD int64_t num_chunks(int64_t view_size) { return (view_size + kResidualChunk - 1) / kResidualChunk; }

}  // namespace sd::cpu
