#pragma once

#include "../common/products.h"
#include "../common/residual.h"
#include "../common/update.h"
#include "raster.h"

// Kernels compiled once for each instruction-set level; the best one the machine has is chosen at run time.
namespace sd::cpu {

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
  void (*residual)(const ResidualArgs&, int num_threads);
  void (*noising)(const NoisingArgs&, int num_threads);
  void (*products)(const ProductArgs&, int num_threads);
  bool (*usable_gradients)(const float*, int64_t size, int num_threads);
  void (*adam)(const UpdateArgs&, int num_threads);
};

struct Level {
  Kernels kernels;
  bool available;  // on this processor
};

struct Levels {
  const Level* list;  // best first, `generic` last
  int count;
};

// Every level compiled.
Levels levels();

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
  void residual(const ResidualArgs&, int);                                                                    \
  void noising(const NoisingArgs&, int);                                                                      \
  void products(const ProductArgs&, int);                                                                     \
  bool usable_gradients(const float*, int64_t, int);                                                          \
  void adam(const UpdateArgs&, int);                                                                          \
  }
