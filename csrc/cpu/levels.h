#pragma once

#include "raster.h"

// Kernels compiled once for each instruction-set level; the best one the machine has is chosen at run time.
namespace sd::cpu {

// What one chunk of one view adds to the results.
struct ResidualSums {
  double inner, squared;  // <x0, g> and |g|^2
  int64_t nonfinite;
};

struct ResidualArgs {
  const void* x0;            // [V,M] float or double, as every void pointer here
  const void* const* terms;  // K of [V,M]
  const void* coef;          // [K,V]
  const void* weight;        // [V]
  int num_terms;
  int64_t num_views, view_size;
  double clamp;          // +inf for none
  double inverse_views;  // 1 / V_total
  void* grad;            // [V,M] d loss / d x0
  void* loss;            // one number
  void* norms;           // [V]
  int64_t* num_nonfinite;
  ResidualSums* chunks;  // [V,num_chunks] workspace
  int num_threads;
};

constexpr int64_t kResidualChunk = 4096;  // elements: sums do not depend on the number of threads
SD_HD int64_t num_chunks(int64_t view_size) { return (view_size + kResidualChunk - 1) / kResidualChunk; }

struct Kernels {
  const char* name;
  void (*project)(const RasterConfig&, const Camera*, const SplatInputs&, ProjectedSplat* records, float* means2d,
                  int32_t* radii);
  void (*fill_tile_row)(const TileRowJob&);
  void (*blend)(const RasterConfig&, const BlendInputs&, const Images&);
  // `images` are the forward's results, `grads` their gradients; sums is [E, entry_sums], tile_background [V*tiles,D].
  void (*blend_backward)(const RasterConfig&, const BlendInputs&, const Images& images, const Images& grads,
                         float* sums, float* tile_background);
  void (*project_backward)(const RasterConfig&, const Camera*, const SplatInputs&, const ProjectedSums&,
                           const SplatGradients&);
  void (*residual_float)(const ResidualArgs&);
  void (*residual_double)(const ResidualArgs&);
};

// The level in use: the best one available, or the one named by the environment variable SPLATDISTILL_SIMD.
const Kernels& kernels();

}  // namespace sd::cpu

// The same functions are defined in one namespace for each level.
#define SD_DECLARE_LEVEL(level)                                                                               \
  namespace sd::cpu::level {                                                                                  \
  void project(const RasterConfig&, const Camera*, const SplatInputs&, ProjectedSplat*, float*, int32_t*);    \
  void fill_tile_row(const TileRowJob&);                                                                      \
  void blend(const RasterConfig&, const BlendInputs&, const Images&);                                         \
  void blend_backward(const RasterConfig&, const BlendInputs&, const Images&, const Images&, float*, float*); \
  void project_backward(const RasterConfig&, const Camera*, const SplatInputs&, const ProjectedSums&,         \
                        const SplatGradients&);                                                               \
  void residual_float(const ResidualArgs&);                                                                   \
  void residual_double(const ResidualArgs&);                                                                  \
  }
