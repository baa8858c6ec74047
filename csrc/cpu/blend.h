#pragma once

#include "../common/constants.h"
#include "raster.h"
#include "simd.h"

// What the forward and the backward blending of one level share.
namespace sd::cpu::SD_LEVEL {

constexpr int kBlocks = kTileBlocks * kTileBlocks;  // in a tile
constexpr int kParts = kBlock * kBlock / kLanes;    // vectors that hold a block's pixels

constexpr int kPrefetch = 4;  // records ahead

// The pixels of a block in lane order, relative to its corner: centres lie at +0.5.
struct PixelGrid {
  vf x[kParts], y[kParts];
};

SD_HD PixelGrid pixel_grid() {
  PixelGrid grid;
  for (int p = 0; p < kBlock * kBlock; ++p) {
    grid.x[p / kLanes][p % kLanes] = static_cast<float>(p % kBlock) + 0.5f;
    grid.y[p / kLanes][p % kLanes] = static_cast<float>(p / kBlock) + 0.5f;
  }
  return grid;
}

// Where a tile lies in the images. Tiles are numbered view by view, row by row.
struct TilePlace {
  int64_t view;
  int x, y;  // px, first column and row
};

SD_HD TilePlace tile_place(const RasterConfig& config, int64_t tile) {
  const int64_t within = tile % tiles_per_view(config);
  return {tile / tiles_per_view(config), static_cast<int>(within % tiles_x(config)) * kTile,
          static_cast<int>(within / tiles_x(config)) * kTile};
}

// opacity * exp(-sigma) of a splat at d = mean - pixel, or 0 where the pair is skipped. May exceed kAlphaCap.
SD_HD vf falloff(const ProjectedSplat& s, vf dx, vf dy) {
  const vf exponent = dx * (s.conic_xx * dx + s.conic_xy * dy) + s.conic_yy * dy * dy;
  const vf log2_alpha = s.log2_opacity - exponent;
  const vi drawn = (exponent >= 0.0f) & (log2_alpha >= kLog2AlphaMin);
  return select(drawn, exp2(log2_alpha), vf{});
}

}  // namespace sd::cpu::SD_LEVEL
