#pragma once

#include "../common/gram.h"
#include "../common/residual.h"
#include "../common/update.h"
#include "raster.h"

// Kernels compiled once for each instruction-set level; the best one the machine has is chosen at run time.
namespace sd::cpu {

// Result, name and parameters of each; the table, the declarations and the choice follow from this list. Of
// blend_backward, `images` are the forward's results, `grads` their gradients; sums is [E, entry_sums], tile_background
// [V*tiles,D].
#define SD_KERNELS(KERNEL)                                                                                      \
  KERNEL(void, project,                                                                                         \
         (const RasterConfig&, const Camera*, const SplatInputs&, ProjectedSplat* records, float* means2d,      \
          int32_t* radii))                                                                                      \
  KERNEL(void, fill_tile_row, (const TileRowJob&))                                                              \
  KERNEL(void, blend, (const RasterConfig&, const BlendInputs&, const Images&))                                 \
  KERNEL(void, blend_backward,                                                                                  \
         (const RasterConfig&, const BlendInputs&, const Images& images, const Images& grads, float* sums,      \
          float* tile_background))                                                                              \
  KERNEL(void, project_backward,                                                                                \
         (const RasterConfig&, const Camera*, const SplatInputs&, const ProjectedSums&, const SplatGradients&)) \
  KERNEL(void, residual, (const ResidualArgs&, int num_threads))                                                \
  KERNEL(void, noising, (const NoisingArgs&, int num_threads))                                                  \
  KERNEL(void, gram, (const GramArgs&, int num_threads))                                                        \
  KERNEL(bool, usable_gradients, (const float*, int64_t size, int num_threads))                                 \
  KERNEL(void, adam, (const UpdateArgs&, int num_threads))

#define SD_KERNEL_POINTER(result, name, parameters) result(*name) parameters;
#define SD_KERNEL_DECLARATION(result, name, parameters) result name parameters;

struct Kernels {
  const char* name;
  SD_KERNELS(SD_KERNEL_POINTER)
};

struct SimdLevel {
  Kernels kernels;
  bool available;  // on this processor
};

struct SimdLevels {
  const SimdLevel* list;  // best first, `generic` last
  int count;
};

// Every level compiled.
SimdLevels simd_levels();

// The level in use: the best one available, or the one named by the environment variable SPLATDISTILL_SIMD.
const Kernels& kernels();

}  // namespace sd::cpu

// The same functions are defined in one namespace for each level.
#define SD_DECLARE_SIMD_LEVEL(level) \
  namespace sd::cpu::level {         \
  SD_KERNELS(SD_KERNEL_DECLARATION)  \
  }
