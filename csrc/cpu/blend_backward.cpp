// Compiled with fused multiply-adds.
#include "blend.h"

#include "dispatch.h"

SD_DECLARE_SIMD_LEVEL(SD_SIMD_LEVEL)

namespace sd::cpu::SD_SIMD_LEVEL {
namespace {

constexpr int kBlockPixels = kBlock * kBlock;

// The pixels of a block. Walking front to back, `rest` is what the splats behind still add to <grads, images>: it
// starts as the whole of it and loses each pair's share, so no colours behind are stored.
template <int C>
struct alignas(64) BlockPixels {
  float x[kBlockPixels], y[kBlockPixels];  // px, centres
  float t[kBlockPixels];                   // transmittance, recomputed exactly as in the forward; 0 outside the image
  float rest[kBlockPixels];
  float v_color[C][kBlockPixels];
  float v_depth[kBlockPixels];
};

// Which pass over the channels this is, with all it reads.
struct Pass {
  const RasterConfig& config;
  const BlendInputs& in;
  const Images& images;
  const Images& grads;
  int first_channel;
};

// A vector of pixels as they come from the images.
template <int C>
struct Pixels {
  vf rest, v_depth, v_color[C];
};

template <int C, bool kDepth>
Pixels<C> load_row(const Pass& pass, int64_t pixel, int x, int end, vf background[C]) {
  const int channels = pass.config.num_channels;
  const int64_t at = pixel * channels + pass.first_channel;
  Pixels<C> p;
  vf alpha, color[C];
  load_pixels<C>(pass.images.color + at, channels, x, end, color);
  load_pixels<C>(pass.grads.color + at, channels, x, end, p.v_color);
  load_pixels<1>(pass.images.alpha + pixel, 1, x, end, &alpha);
  p.rest = p.v_depth = vf{};
  if (pass.first_channel == 0 && pass.grads.alpha) {
    vf v_alpha;
    load_pixels<1>(pass.grads.alpha + pixel, 1, x, end, &v_alpha);
    p.rest = (alpha - 1.0f) * v_alpha;
  }
  if (kDepth) {
    vf depth;
    load_pixels<1>(pass.images.depth + pixel, 1, x, end, &depth);
    load_pixels<1>(pass.grads.depth + pixel, 1, x, end, &p.v_depth);
    p.rest += depth * p.v_depth;
  }
  for (int c = 0; c < C; ++c) {
    p.rest += color[c] * p.v_color[c];
    background[c] += p.v_color[c] * (1.0f - alpha);
  }
  return p;
}

// Pixels x .. x + kLanes - 1 of row y to the blocks; `first` is where the first block keeps them.
template <int C>
inline void to_blocks(vf pixels, int x, int y, float* first) {
  constexpr int kStride = sizeof(BlockPixels<C>) / sizeof(float);
  float* row = first + (y / kBlock * kTileBlocks + x / kBlock) * kStride + y % kBlock * kBlock;
  for (int i = 0; i < kLanes / kBlock; ++i)
    memcpy(row + i * kStride, reinterpret_cast<const float*>(&pixels) + i * kBlock, sizeof(float) * kBlock);
}

// Fills the tile and its share of the background's gradient.
template <int C, bool kDepth>
void load_tile(const Pass& pass, const TilePlace& place, BlockPixels<C> blocks[kBlocks], float background[C]) {
  const RasterConfig& config = pass.config;
  const PixelGrid grid = pixel_grid();
  for (int i = 0; i < kBlocks; ++i)
    for (int k = 0; k < kParts; ++k) {
      store(blocks[i].x + k * kLanes, grid.x[k] + static_cast<float>(place.x + i % kTileBlocks * kBlock));
      store(blocks[i].y + k * kLanes, grid.y[k] + static_cast<float>(place.y + i / kTileBlocks * kBlock));
    }
  BlockPixels<C>& first = blocks[0];
  vf sums[C] = {};
  for (int y = 0; y < kTile; ++y) {
    const int inside = place.y + y < config.height ? config.width - place.x : 0;
    const int end = inside < kTile ? inside : kTile;
    const int64_t pixel = (place.view * config.height + place.y + y) * config.width + place.x;
    for (int x = 0; x < kTile; x += kLanes) {
      const Pixels<C> p = load_row<C, kDepth>(pass, end > 0 ? pixel : 0, x, end, sums);
      to_blocks<C>(select(less(lane_numbers() + x, vi{} + end), broadcast(1.0f), vf{}), x, y, first.t);
      to_blocks<C>(p.rest, x, y, first.rest);
      for (int c = 0; c < C; ++c) to_blocks<C>(p.v_color[c], x, y, first.v_color[c]);
      if (kDepth) to_blocks<C>(p.v_depth, x, y, first.v_depth);
    }
  }
  horizontal_sums<C>(sums, background);
}

// What `step` needs of a falloff.
struct Met {
  vf peak, u, v;
};

// Takes one splat through one vector of pixels, where it meets them as `met` says, adding to its sums: there is no
// branch, because which pixels count is not to be predicted. The moments are those of (u, v): of a needle's offsets in
// pixels they would lose all that its short axis adds.
template <int C, bool kDepth>
inline void step(const ProjectedSplat& s, const float* color, const Met& met, int first, BlockPixels<C>& block,
                 vf sums[kColorSums + C]) {
  const vf peak = met.peak, alpha = min(peak, broadcast(kAlphaCap));
  const vf t = load(block.t + first);
  const vf drawn = alpha * t, next = t - drawn;
  const vm counts = less(broadcast(kTransmittanceMin), next);
  const vf weight = select(counts, drawn, vf{});
  store(block.t + first, next);

  vf along;  // <gradient, what this splat adds per unit of weight>
  for (int c = 0; c < C; ++c) {
    const vf v_color = load(block.v_color[c] + first);
    along = c == 0 ? color[c] * v_color : along + color[c] * v_color;
    sums[kColorSums + c] += weight * v_color;
  }
  if (kDepth) {
    const vf v_depth = load(block.v_depth + first);
    along += s.depth * v_depth;
    sums[kGeometrySums] += weight * v_depth;
  }
  const vf rest = load(block.rest + first) - along * weight;
  store(block.rest + first, rest);
  const vf v_log_alpha = along * drawn - alpha * rest * reciprocal(1.0f - alpha);
  const vf g =
      select(both(counts, at_most(peak, broadcast(kAlphaCap))), v_log_alpha, vf{});  // a capped alpha does not move
  const vf gu = g * met.u, gv = g * met.v;
  sums[0] += g;
  sums[1] += gu;
  sums[2] += gv;
  sums[3] += gu * met.u;
  sums[4] += gu * met.v;
  sums[5] += gv * met.v;
}

// Takes one splat through its blocks of a tile. All falloffs come first, since they wait for nothing and all else waits
// for them: the processor looks too few instructions ahead to find that out.
template <int C, bool kDepth>
inline void splat_backward(const ProjectedSplat& s, const float* color, unsigned hits, BlockPixels<C> blocks[kBlocks],
                           vf sums[kColorSums + C]) {
  Met all[kBlocks * kParts];
  Met* met = all;
  for (unsigned left = hits; left != 0; left &= left - 1) {
    const BlockPixels<C>& block = blocks[__builtin_ctz(left)];
    for (int k = 0; k < kBlockPixels; k += kLanes) {
      const Falloff f = falloff(s, s.x - load(block.x + k), s.y - load(block.y + k));
      *met++ = {f.peak, f.u, f.v};
    }
  }
  met = all;
  for (unsigned left = hits; left != 0; left &= left - 1) {
    BlockPixels<C>& block = blocks[__builtin_ctz(left)];
    for (int k = 0; k < kBlockPixels; k += kLanes) step<C, kDepth>(s, color, *met++, k, block, sums);
  }
}

// Every pass adds to the geometry and owns its channels.
template <int C>
void store_sums(const vf sums[kColorSums + C], int first_channel, float* entry) {
  if (first_channel == 0) return horizontal_sums<kColorSums + C>(sums, entry);
  float total[kColorSums + C];
  horizontal_sums<kColorSums + C>(sums, total);
  for (int i = 0; i < kGeometrySums; ++i) entry[i] += total[i];
  memcpy(entry + kColorSums + first_channel, total + kColorSums, sizeof(float) * C);
}

template <int C, bool kDepth>
void tile_backward(const Pass& pass, int64_t t, float* sums, float* background) {
  const BlendInputs& in = pass.in;
  const TilePlace place = tile_place(pass.config, t);
  const ColorSource source = color_source(pass.config, in, place.view, pass.first_channel);
  BlockPixels<C> blocks[kBlocks];
  load_tile<C, kDepth>(pass, place, blocks, background);
  const int64_t stride = entry_sums(pass.config);
  const int32_t end = in.lists.offsets[t + 1];
  for (int32_t begin = in.lists.offsets[t]; begin < end; begin += kChunk) {
    int32_t list[kChunk + kSlack];
    const int n = list_entries(in.lists.hits, begin, end - begin < kChunk ? end - begin : kChunk, 0xffffu, list);
    for (int i = 0; i < n; ++i) {
      __builtin_prefetch(in.records + in.lists.ids[list[i + kPrefetch]]);
      vf part[kColorSums + C] = {};
      const int32_t row = in.lists.ids[list[i]];
      splat_backward<C, kDepth>(in.records[row], color_of(source, row), in.lists.hits[list[i]], blocks, part);
      store_sums<C>(part, pass.first_channel, sums + list[i] * stride);
    }
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

}  // namespace sd::cpu::SD_SIMD_LEVEL
