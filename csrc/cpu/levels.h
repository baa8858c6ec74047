#pragma once

#include "raster.h"
#include "residual.h"

// Kernels compiled once for each instruction-set level; the best one the machine has is chosen at run time.
namespace sd::cpu {

struct Kernels {
  const char* name;
  void (*project)(const RasterConfig&, const Camera*, const SplatInputs&, ProjectedSplat* records, float* means2d,
                  int32_t* radii);
  void (*blend)(const RasterConfig&, const ProjectedSplat* records, const TileLists&, const float* background,
                const Images&);
  // `images` are the forward's results, `grads` their gradients; tile_background is [V*tiles,3].
  void (*blend_backward)(const RasterConfig&, const ProjectedSplat* records, const TileLists&, const Images& images,
                         const Images& grads, GradientSlot* slots, float* tile_background);
  // v_means2d is the gradient of the means2d output, or null.
  void (*project_backward)(const RasterConfig&, const Camera*, const SplatInputs&, const ProjectedSplat* records,
                           const int32_t* radii, const GradientSlot* slots, const float* v_means2d,
                           const SplatGradients&);
  void (*residual)(const ResidualArgs&);
  void (*noising)(const NoisingArgs&);
};

// The level in use: the best one available, or the one named by the environment variable SPLATDISTILL_SIMD.
const Kernels& kernels();

}  // namespace sd::cpu

// The same six functions are defined in one namespace for each level.
#define SD_DECLARE_LEVEL(level)                                                                                        \
  namespace sd::cpu::level {                                                                                           \
  void project(const RasterConfig&, const Camera*, const SplatInputs&, ProjectedSplat*, float*, int32_t*);             \
  void blend(const RasterConfig&, const ProjectedSplat*, const TileLists&, const float*, const Images&);               \
  void blend_backward(const RasterConfig&, const ProjectedSplat*, const TileLists&, const Images&, const Images&,      \
                      GradientSlot*, float*);                                                                          \
  void project_backward(const RasterConfig&, const Camera*, const SplatInputs&, const ProjectedSplat*, const int32_t*, \
                        const GradientSlot*, const float*, const SplatGradients&);                                     \
  void residual(const ResidualArgs&);                                                                                  \
  void noising(const NoisingArgs&);                                                                                    \
  }
