#pragma once

#include <cstdint>

#include "../common/macros.h"

// The rasteriser in four stages: project -> tiles -> blend forward, and blend -> project backward. Every function works
// on raw pointers to contiguous memory owned by the caller. V views, N splats, D channels of colour, E entries of all
// tile lists together.
namespace sd::cpu {

constexpr int kTile = 16;  // pixels across a tile
constexpr int kBlock = 4;  // pixels across a block; a tile holds 4x4 blocks
constexpr int kTileBlocks = kTile / kBlock;
constexpr int kRecordChannels = 4;  // of colour kept in a splat's record

struct RasterConfig {
  int64_t num_splats;
  int64_t num_views;
  int width, height;  // px
  float near_plane, far_plane;
  float eps2d;           // px^2 added to the diagonal of the projected covariance
  int num_channels;      // D
  bool colors_per_view;  // colors are [V,N,D] instead of [N,D]
  int sh_degree;         // 0..3: colors are harmonics [N,sh_rows,3] and D is 3; -1: colors are colours
  int sh_rows;
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
  float inverse[9], centre[3];        // of the rotation; of the camera in the world
};

struct SplatInputs {
  const float* means;           // [N,3]
  const float* quats;           // [N,4] wxyz
  const float* scales;          // [N,3]
  const float* opacities;       // [N]
  const float* colors;          // [N,D], [V,N,D] or [N,sh_rows,3]
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
  float x, y;        // px
  float xx, xy, yy;  // root of the conic: alpha = 2^(log2_opacity - (xx dx + xy dy)^2 - (yy dy)^2)
  float log2_opacity;
  float depth;
  float color[kRecordChannels];  // where D <= kRecordChannels
  BlockBox box;
  int32_t unused[3];
};
static_assert(sizeof(ProjectedSplat) == 64);

// The splats that one view draws, from front to back, in arrays padded by kPadding zeros. Blocks are `first | end <<
// 16`.
struct DepthOrder {
  int32_t count;
  const int32_t *ids, *columns, *rows;
};
constexpr int kPadding = 16;  // no less than the lanes of a vector

// Per tile, the splats that touch it from front to back.
struct TileLists {
  int32_t* offsets;  // [V*tiles + 1]
  int32_t* ids;      // [E] row in the [V,N] records
  uint16_t* masks;   // [E] one bit for each 4x4 block the splat may touch; known to the forward only
  uint16_t* hits;    // [E] the blocks where a pixel that had not stopped met the splat: written by blend
};

// One row of one view's tiles. `lists` starts at its first entry, the offsets at the end of its first tile.
struct TileRowJob {
  DepthOrder order;
  int row, columns;     // of tiles
  int32_t first_entry;  // of the row
  TileLists lists;
  int32_t* scratch;  // 4 (order.count + kPadding)
};

struct Images {
  float* color;  // [V,H,W,D]
  float* alpha;  // [V,H,W,1], may be null among gradients
  float* depth;  // [V,H,W,1], may be null among gradients
};

struct BlendInputs {
  const ProjectedSplat* records;  // [V,N]
  const float* colors;            // as SplatInputs
  const float* background;        // [V,D], forward only
  TileLists lists;
};

// The sums over pixels that one entry hands to the projection's backward, as floats. With g = d loss / d ln(alpha) and
// (u, v) = (xx dx + xy dy, yy dy) of d = mean - pixel: g, g u, g v, g u^2, g u v, g v^2, then the gradients of depth
// and of the D channels.
constexpr int kGeometrySums = 6;
constexpr int kColorSums = kGeometrySums + 1;  // where the channels start
SD_HD int entry_sums(const RasterConfig& c) { return (kColorSums + c.num_channels + 3) / 4 * 4; }

// What the projection's backward reads of the forward and of the blending's backward.
struct ProjectedSums {
  const int32_t* radii;  // [V,N,2]
  TileLists lists;
  float* sums;             // [E, entry_sums] and kPadding more; entries without hits are not written
  int32_t* rows;           // [V,N] workspace: the first entry of each splat, where its sums are added up, or -1
  const float* v_means2d;  // [V,N,2] gradient of the means2d output, or null
};

struct SplatGradients {
  float* means;      // [N,3]
  float* quats;      // [N,4]
  float* scales;     // [N,3]
  float* opacities;  // [N]
  float* colors;     // as the input
  float* means2d;    // [V,N,2]
  float* viewmats;   // [V,4,4], or null if nobody asks
  float* partial;    // [camera_partials] workspace where viewmats is not null
};

// One row of sums for each view and vector of splats.
constexpr int kCameraSums = 16;
SD_HD int64_t camera_partials(const RasterConfig& c) { return (c.num_splats + 3) / 4 * c.num_views * kCameraSums; }

Camera make_camera(const float* viewmat, const float* K, int width, int height);

// Adds up the tiles' shares of the background gradient in a fixed order: [V*tiles,D] -> [V,D].
void sum_background(const RasterConfig& config, const float* tile_background, float* background);

}  // namespace sd::cpu
