#include "blend.h"

#include "levels.h"

SD_DECLARE_LEVEL(SD_LEVEL)

namespace sd::cpu::SD_LEVEL {
namespace {

constexpr int kBlockPixels = kBlock * kBlock;

// The pixels of a block. Walking front to back, `rest` is what the splats behind still add to <grads, images>: it starts
// as the whole of it and loses each pair's share, so no colours behind are stored.
template <int C>
struct BlockPixels {
  float t[kBlockPixels];  // transmittance, recomputed exactly as in the forward; 0 outside the image
  float rest[kBlockPixels];
  float v_color[C][kBlockPixels];
  float v_depth[kBlockPixels];
};

template <int C>
struct alignas(64) TileState {
  BlockPixels<C> blocks[kBlocks];
  float x[kTileBlocks][kBlockPixels], y[kTileBlocks][kBlockPixels];  // px, pixel centres
};

// One row of a tile; pixels outside the image are 0.
template <int C>
struct TileRow {
  float color[kTile * C], v_color[kTile * C], alpha[kTile], v_alpha[kTile], depth[kTile], v_depth[kTile];
};

inline void load_plane(const float* plane, int64_t pixel, int count, float out[kTile]) {
  memset(out, 0, sizeof(float) * kTile);
  if (plane) memcpy(out, plane + pixel, sizeof(float) * static_cast<size_t>(count));
}

// Which pass over the channels this is, with all it reads.
struct Pass {
  const RasterConfig& config;
  const BlendInputs& in;
  const Images& images;
  const Images& grads;
  int first_channel;
};

template <int C, bool kDepth>
void load_row(const Pass& pass, int64_t pixel, int count, TileRow<C>* row) {
  const int64_t channels = pass.config.num_channels, at = pixel * channels + pass.first_channel;
  load_pixels<C>(pass.images.color + at, channels, count, row->color);
  load_pixels<C>(pass.grads.color + at, channels, count, row->v_color);
  load_plane(pass.images.alpha, pixel, count, row->alpha);
  load_plane(pass.first_channel == 0 ? pass.grads.alpha : nullptr, pixel, count, row->v_alpha);
  if (kDepth) load_plane(pass.images.depth, pixel, count, row->depth);
  if (kDepth) load_plane(pass.grads.depth, pixel, count, row->v_depth);
}

inline void to_blocks(const float row[kTile], int column, float block[kBlockPixels], int y) {
  memcpy(block + y % kBlock * kBlock, row + column * kBlock, sizeof(float) * kBlock);
}

// Fills the tile and its share of the background's gradient.
template <int C, bool kDepth>
void load_tile(const Pass& pass, const TilePlace& place, TileState<C>* tile, float background[C]) {
  const PixelGrid grid = pixel_grid();
  for (int i = 0; i < kTileBlocks; ++i)
    for (int k = 0; k < kParts; ++k) {
      store(tile->x[i] + k * kLanes, grid.x[k] + static_cast<float>(place.x + i * kBlock));
      store(tile->y[i] + k * kLanes, grid.y[k] + static_cast<float>(place.y + i * kBlock));
    }
  const RasterConfig& config = pass.config;
  const int columns = config.width - place.x < kTile ? config.width - place.x : kTile;
  float sums[C][kTile] = {};
  for (int y = 0; y < kTile; ++y) {
    const int count = place.y + y < config.height ? columns : 0;
    const int64_t pixel = (place.view * config.height + place.y + y) * config.width + place.x;
    TileRow<C> row;
    load_row<C, kDepth>(pass, count > 0 ? pixel : 0, count, &row);
    float t[kTile], rest[kTile], v_color[C][kTile];
    for (int x = 0; x < kTile; ++x) {
      const float last = 1.0f - row.alpha[x];
      t[x] = x < count ? 1.0f : 0.0f;
      rest[x] = -last * row.v_alpha[x];
      if (kDepth) rest[x] += row.depth[x] * row.v_depth[x];
      for (int c = 0; c < C; ++c) {
        v_color[c][x] = row.v_color[C * x + c];
        rest[x] += row.color[C * x + c] * v_color[c][x];
        sums[c][x] += v_color[c][x] * last;
      }
    }
    for (int column = 0; column < kTileBlocks; ++column) {
      BlockPixels<C>& block = tile->blocks[y / kBlock * kTileBlocks + column];
      to_blocks(t, column, block.t, y);
      to_blocks(rest, column, block.rest, y);
      for (int c = 0; c < C; ++c) to_blocks(v_color[c], column, block.v_color[c], y);
      if (kDepth) to_blocks(row.v_depth, column, block.v_depth, y);
    }
  }
  for (int c = 0; c < C; ++c) {
    background[c] = 0.0f;
    for (int x = 0; x < kTile; ++x) background[c] += sums[c][x];
  }
}

// Takes one splat through one vector of pixels, adding to its sums: there is no branch, because which pixels count is
// not to be predicted.
template <int C, bool kDepth>
inline void step(const ProjectedSplat& s, const float* color, vf dx, vf dy, int first, BlockPixels<C>& block,
                 vf sums[kColorSums + C]) {
  const Falloff f = falloff(s, dx, dy);
  const vf t = load(block.t + first);
  const vf next = t - f.alpha * t;
  const vi counts = next > kTransmittanceMin;
  const vf drawn = f.alpha * t;
  const vf weight = select(counts, drawn, vf{});
  store(block.t + first, next);

  vf along = {};  // <gradient, what this splat adds per unit of weight>
  for (int c = 0; c < C; ++c) {
    const vf v_color = load(block.v_color[c] + first);
    along += color[c] * v_color;
    sums[kColorSums + c] += weight * v_color;
  }
  if (kDepth) {
    const vf v_depth = load(block.v_depth + first);
    along += s.depth * v_depth;
    sums[kGeometrySums] += weight * v_depth;
  }
  const vf rest = load(block.rest + first) - along * weight;
  store(block.rest + first, rest);
  const vf v_log_alpha = along * drawn - f.alpha * rest * reciprocal(1.0f - f.alpha);
  const vf g = select(counts & (f.peak <= kAlphaCap), v_log_alpha, vf{});  // a capped alpha does not move
  const vf gx = g * dx, gy = g * dy;
  sums[0] += g;
  sums[1] += gx;
  sums[2] += gy;
  sums[3] += gx * dx;
  sums[4] += gx * dy;
  sums[5] += gy * dy;
}

// Every pass adds to the geometry and owns its channels.
template <int C>
void store_sums(const vf sums[kColorSums + C], int first_channel, float* entry) {
  float total[16];
  horizontal_sums<kColorSums + C>(sums, total);
  if (first_channel == 0) {
    memcpy(entry, total, sizeof(float) * (kColorSums + C));
    return;
  }
  for (int i = 0; i < kGeometrySums; ++i) entry[i] += total[i];
  memcpy(entry + kColorSums + first_channel, total + kColorSums, sizeof(float) * C);
}

template <int C, bool kDepth>
void tile_backward(const Pass& pass, int64_t t, float* sums, float* background) {
  const BlendInputs& in = pass.in;
  const TilePlace place = tile_place(pass.config, t);
  const ColorSource source = color_source(pass.config, in, place.view, pass.first_channel);
  TileState<C> tile;
  load_tile<C, kDepth>(pass, place, &tile, background);
  const int64_t stride = entry_sums(pass.config);
  const int32_t end = in.lists.offsets[t + 1];
  for (int32_t entry = in.lists.offsets[t]; entry < end; ++entry) {
    unsigned blocks = in.lists.hits[entry];
    if (blocks == 0) continue;
    const int32_t ahead = entry + kPrefetch < end ? entry + kPrefetch : entry;
    __builtin_prefetch(in.records + in.lists.ids[ahead]);
    const int32_t row = in.lists.ids[entry];
    const ProjectedSplat& s = in.records[row];
    const float* color = color_of(source, row);
    vf part[kColorSums + C] = {};
    for (; blocks != 0; blocks &= blocks - 1) {
      const int bit = __builtin_ctz(blocks);
      const float* x = tile.x[bit % kTileBlocks];
      const float* y = tile.y[bit / kTileBlocks];
      for (int k = 0; k < kBlockPixels; k += kLanes)
        step<C, kDepth>(s, color, s.x - load(x + k), s.y - load(y + k), k, tile.blocks[bit], part);
    }
    store_sums<C>(part, pass.first_channel, sums + entry * stride);
  }
}

template <int C>
void backward_pass(const Pass& pass, float* sums, float* tile_background) {
  const RasterConfig& config = pass.config;
#pragma omp parallel for schedule(dynamic) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t t = 0; t < num_tiles(config); ++t) {
    float* background = tile_background + t * config.num_channels + pass.first_channel;
    if (pass.first_channel == 0 && pass.grads.depth)
      tile_backward<C, true>(pass, t, sums, background);
    else
      tile_backward<C, false>(pass, t, sums, background);
  }
}

}  // namespace

void blend_backward(const RasterConfig& config, const BlendInputs& in, const Images& images, const Images& grads,
                    float* sums, float* tile_background) {
  for (ChannelPass pass = channel_pass(0, config.num_channels); pass.first < config.num_channels;
       pass = channel_pass(pass.first + pass.count, config.num_channels)) {
    const Pass all = {config, in, images, grads, pass.first};
    if (pass.count == 4)
      backward_pass<4>(all, sums, tile_background);
    else if (pass.count == 3)
      backward_pass<3>(all, sums, tile_background);
    else
      backward_pass<1>(all, sums, tile_background);
  }
}

}  // namespace sd::cpu::SD_LEVEL
