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

// One row of a tile to and from an image whose pixels are `stride` floats apart. What lies outside reads as 0.
template <int C>
inline void load_pixels(const float* from, int64_t stride, int count, float row[kTile * C]) {
  if (stride == C && count == kTile) {
    memcpy(row, from, sizeof(float) * kTile * C);
    return;
  }
  memset(row, 0, sizeof(float) * kTile * C);
  for (int x = 0; x < count; ++x) memcpy(row + C * x, from + stride * x, sizeof(float) * C);
}

template <int C>
inline void store_pixels(const float row[kTile * C], int count, float* to, int64_t stride) {
  if (stride == C && count == kTile)
    memcpy(to, row, sizeof(float) * kTile * C);
  else
    for (int x = 0; x < count; ++x) memcpy(to + stride * x, row + C * x, sizeof(float) * C);
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

// Where a splat meets one vector of pixels, at d = mean - pixel. `peak` is opacity * exp(-sigma), or 0 where the pair is
// skipped, and may exceed kAlphaCap.
struct Falloff {
  vf peak, alpha;
  vi drawn;
};

SD_HD Falloff falloff(const ProjectedSplat& s, vf dx, vf dy) {
  const vf exponent = dx * (s.conic_xx * dx + s.conic_xy * dy) + s.conic_yy * dy * dy;
  const vf log2_alpha = s.log2_opacity - exponent;
  Falloff f;
  f.drawn = (exponent >= 0.0f) & (log2_alpha >= kLog2AlphaMin);
  f.peak = select(f.drawn, exp2(log2_alpha), vf{});
  f.alpha = min(f.peak, broadcast(kAlphaCap));
  return f;
}

// Where the channels of a record are read from: its own copy, or the input where D is too large for that.
struct ColorSource {
  const float* data;
  int64_t stride, first_row;
};

SD_HD ColorSource color_source(const RasterConfig& config, const BlendInputs& in, int64_t view, int first_channel) {
  if (config.num_channels <= kRecordChannels)
    return {in.records->color + first_channel, sizeof(ProjectedSplat) / sizeof(float), 0};
  return {in.colors + first_channel, config.num_channels, config.colors_per_view ? 0 : view * config.num_splats};
}

SD_HD const float* color_of(const ColorSource& source, int32_t row) {
  return source.data + (row - source.first_row) * source.stride;
}

// The channels are blended `count` at a time; every pass but the first only adds what the first left out.
struct ChannelPass {
  int first, count;
};

SD_HD ChannelPass channel_pass(int first, int num_channels) {
  const int left = num_channels - first;
  return {first, left % 4 == 0 ? 4 : left >= 3 ? 3 : 1};
}

}  // namespace sd::cpu::SD_LEVEL
