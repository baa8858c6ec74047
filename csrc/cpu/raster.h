#pragma once

#include <cstdint>

#include "../common/macros.h"

// The rasteriser in four stages: project -> tiles -> blend forward, and blend -> project backward. Every function works
// on raw pointers to contiguous memory owned by the caller. V views, N splats, E entries of all tile lists together.
namespace sd::cpu {

constexpr int kTile = 16;  // pixels across a tile
constexpr int kBlock = 4;  // pixels across a block; a tile holds 4x4 blocks
constexpr int kTileBlocks = kTile / kBlock;

struct RasterConfig {
  int64_t num_splats;
  int64_t num_views;
  int width, height;  // px
  float near_plane, far_plane;
  float eps2d;           // px^2 added to the diagonal of the projected covariance
  bool antialiased;      // scale the opacity by what eps2d takes from the peak
  bool colors_per_view;  // colors are [V,N,3] instead of [N,3]
  int num_threads;
};

SD_HD int tiles_x(const RasterConfig& c) { return (c.width + kTile - 1) / kTile; }
SD_HD int tiles_y(const RasterConfig& c) { return (c.height + kTile - 1) / kTile; }
SD_HD int64_t tiles_per_view(const RasterConfig& c) { return int64_t{tiles_x(c)} * tiles_y(c); }
SD_HD int64_t num_tiles(const RasterConfig& c) { return c.num_views * tiles_per_view(c); }

struct Camera {
  float rotation[9], translation[3];  // world to camera
  float fx, fy, cx, cy;               // px
  float u_min, u_max, v_min, v_max;   // where x/z and y/z are clamped in the Jacobian
};

struct SplatInputs {
  const float* means;           // [N,3]
  const float* quats;           // [N,4] wxyz
  const float* scales;          // [N,3]
  const float* opacities;       // [N]
  const float* colors;          // [N,3] or [V,N,3]
  const float* means2d_offset;  // [V,N,2] or null
};

// A rectangle of blocks, end exclusive.
struct BlockBox {
  uint16_t x0, y0, x1, y1;
};

SD_HD int first_tile(int block) { return block / kTileBlocks; }
SD_HD int end_tile(int block) { return (block + kTileBlocks - 1) / kTileBlocks; }
SD_HD int tile_columns(const BlockBox& b) { return end_tile(b.x1) - first_tile(b.x0); }
SD_HD int tile_rows(const BlockBox& b) { return end_tile(b.y1) - first_tile(b.y0); }

// What one view needs to know of one splat: 64 bytes, one cache line. All zero where the splat is not seen.
struct ProjectedSplat {
  float x, y;                          // px
  float conic_xx, conic_xy, conic_yy;  // alpha = 2^(log2_opacity - conic_xx dx^2 - conic_xy dx dy - conic_yy dy^2)
  float log2_opacity;
  float color[3];
  float depth;
  int32_t slot;  // first of its gradient slots: one for each tile it touches, row by row
  BlockBox box;
  int32_t unused[3];
};
static_assert(sizeof(ProjectedSplat) == 64);

// Per tile, the splats that touch it from front to back.
struct TileLists {
  const int32_t* offsets;  // [V*tiles + 1]
  const int32_t* ids;      // [E] row in the [V,N] records
  const uint16_t* masks;   // [E] one bit for each 4x4 block the splat may touch
};

struct Images {
  float* rgb;    // [V,H,W,3]
  float* alpha;  // [V,H,W,1]
  float* depth;  // [V,H,W,1]
};

// The sums over pixels that one (splat, tile) pair hands to the projection's backward. With g = d loss / d ln(alpha)
// and d = mean - pixel: g, g dx, g dy, g dx^2, g dx dy, g dy^2, then the gradients of color and depth.
struct GradientSlot {
  float g, gx, gy, gxx, gxy, gyy;
  float color[3];
  float depth;
  float unused[2];
};
static_assert(sizeof(GradientSlot) == 48);

struct SplatGradients {
  float* means;      // [N,3]
  float* quats;      // [N,4]
  float* scales;     // [N,3]
  float* opacities;  // [N]
  float* colors;     // as the input
  float* means2d;    // [V,N,2]
};

Camera make_camera(const float* viewmat, const float* K, int width, int height);

// Gives every record its slots and returns how many there are, which is also E.
int64_t assign_slots(const RasterConfig& config, ProjectedSplat* records);
void fill_tiles(const RasterConfig& config, const ProjectedSplat* records, int32_t* offsets, int32_t* ids,
                uint16_t* masks);

// Adds up the tiles' shares of the background gradient in a fixed order: [V*tiles,3] -> [V,3].
void sum_background(const RasterConfig& config, const float* tile_background, float* background);

}  // namespace sd::cpu
