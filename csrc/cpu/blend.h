#pragma once

#include "../common/constants.h"
#include "entries.h"
#include "transpose.h"

// What the forward and the backward blending of one level share.
namespace sd::cpu::SD_SIMD_LEVEL {

constexpr int kBlocks = kTileBlocks * kTileBlocks;  // in a tile
constexpr int kParts = kBlock * kBlock / kLanes;    // vectors that hold a block's pixels

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

// Pixels x .. x + kLanes - 1 of an image row that begins at `row`, C of D channels to a vector each; what lies at or
// past `end` reads as 0 and is not written.
template <int C>
SD_HD void load_pixels(const float* row, int num_channels, int x, int end, vf columns[C]) {
  for (int c = 0; c < C; ++c) columns[c] = vf{};
  if (x >= end) return;
  if (num_channels == C) {
    load_columns<C>(row, x, end, columns);
    if (x + kLanes > end)
      for (int c = 0; c < C; ++c) columns[c] = select(less(lane_numbers() + x, vi{} + end), columns[c], vf{});
  } else {
    for (int i = 0; i < kLanes && x + i < end; ++i)
      for (int c = 0; c < C; ++c) columns[c][i] = row[(x + i) * num_channels + c];
  }
}

template <int C>
SD_HD void store_pixels(float* row, int num_channels, int x, int end, const vf columns[C]) {
  if (x >= end) return;
  if (num_channels == C) return store_columns<C>(row, columns, x, end);
  for (int i = 0; i < kLanes && x + i < end; ++i)
    for (int c = 0; c < C; ++c) row[(x + i) * num_channels + c] = columns[c][i];
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

// Where a splat meets one vector of pixels, at d = mean - pixel. `peak` is opacity * exp(-sigma), or 0 where the pair
// is skipped, and may exceed kAlphaCap. (u, v) is d times the root of the conic: of order 1, however thin the splat.
struct Falloff {
  vf peak, alpha, u, v;
  vm drawn;
};

SD_HD Falloff falloff(const ProjectedSplat& s, vf dx, vf dy) {
  Falloff f;
  f.u = s.xx * dx + s.xy * dy;
  f.v = s.yy * dy;
  const vf log2_alpha = s.log2_opacity - f.v * f.v - f.u * f.u;
  f.drawn = at_most(broadcast(kLog2AlphaMin), log2_alpha);
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
  if (config.num_splats == 0) return {};  // then there are no records to point into
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

}  // namespace sd::cpu::SD_SIMD_LEVEL
