// Compiled with fused multiply-adds.
#include "blend.h"

#include "dispatch.h"

SD_DECLARE_SIMD_LEVEL(SD_SIMD_LEVEL)

namespace sd::cpu::SD_SIMD_LEVEL {
namespace {

constexpr int kPairs = kLanes == 8 ? 2 : 4;  // drawn at a time: as many as the registers hold

// The pixels of a block.
template <int C>
struct BlockState {
  vf t[kParts];       // transmittance, falling freely past kTransmittanceMin
  vf t_last[kParts];  // the last above it
  vf color[C][kParts];
  vf depth[kParts];
};

template <int C>
inline bool saturated(const BlockState<C>& s) {
  vf most = s.t[0];
  for (int k = 1; k < kParts; ++k) most = max(most, s.t[k]);
  return !any_above(most, kTransmittanceMin);
}

// Takes kCount splats through one vector of pixels. Their falloffs come first, because only the transmittance makes one
// wait for another. Since t never rises, "a pair counts iff t stays above the threshold" stops each pixel where gsplat
// stops it. Bit i of the result tells whether a pixel that had not stopped met splat i.
template <int C, bool kFirst, int kCount>
inline unsigned draw(const BlendInputs& in, const ColorSource& source, const int32_t* rows, vf x, vf y, int k,
                     BlockState<C>& state) {
  Falloff f[kCount];
  for (int i = 0; i < kCount; ++i) {
    const ProjectedSplat& s = in.records[rows[i]];
    f[i] = falloff(s, s.x - x, s.y - y);
  }
  unsigned hits = 0;
  for (int i = 0; i < kCount; ++i) {
    const vf t = state.t[k], drawn = f[i].alpha * t;
    const vf next = t - drawn;
    const vm counts = less(broadcast(kTransmittanceMin), next);
    const vf weight = select(counts, drawn, vf{});
    if (kFirst) hits |= static_cast<unsigned>(any(both(f[i].drawn, less(broadcast(kTransmittanceMin), t)))) << i;
    state.t_last[k] = select(counts, next, state.t_last[k]);
    state.t[k] = next;
    const float* color = color_of(source, rows[i]);
    for (int c = 0; c < C; ++c) state.color[c][k] += weight * color[c];
    if (kFirst) state.depth[k] += weight * in.records[rows[i]].depth;
  }
  return hits;
}

// Takes kCount entries of a list through a block, and notes the hits.
template <int C, bool kFirst, int kCount>
inline void draw(const BlendInputs& in, const ColorSource& source, const int32_t* list, int bit, const vf* x,
                 const vf* y, BlockState<C>& state) {
  int32_t rows[kCount];
  for (int i = 0; i < kCount; ++i) {
    __builtin_prefetch(in.records + in.lists.ids[list[i + kPrefetch]]);
    rows[i] = in.lists.ids[list[i]];
  }
  unsigned hits = 0;
  for (int k = 0; k < kParts; ++k) hits |= draw<C, kFirst, kCount>(in, source, rows, x[k], y[k], k, state);
  if (kFirst)
    for (int i = 0; i < kCount; ++i) in.lists.hits[list[i]] |= static_cast<uint16_t>((hits >> i & 1u) << bit);
}

// The first pass notes the hits; the others walk along them.
template <int C, bool kFirst>
void blend_block(const BlendInputs& in, const ColorSource& source, int64_t tile, int bit, const vf* x, const vf* y,
                 BlockState<C>* out) {
  BlockState<C> state = {};
  for (int k = 0; k < kParts; ++k) state.t[k] = state.t_last[k] = broadcast(1.0f);
  const uint16_t* masks = kFirst ? in.lists.masks : in.lists.hits;
  const int32_t end = in.lists.offsets[tile + 1];
  bool done = false;
  for (int32_t begin = in.lists.offsets[tile]; begin < end && !done; begin += kChunk) {
    int32_t list[kChunk + kSlack];
    const int count = end - begin < kChunk ? end - begin : kChunk;
    const int n = list_entries(masks, begin, count, 1u << bit, list);
    int i = 0;
    for (; i + kPairs <= n && !done; i += kPairs) {
      draw<C, kFirst, kPairs>(in, source, list + i, bit, x, y, state);
      done = saturated(state);
    }
    for (; i < n && !done; ++i) draw<C, kFirst, 1>(in, source, list + i, bit, x, y, state);
  }
  *out = state;
}

// A tile on its way to the images.
template <int C>
struct alignas(64) TileImage {
  float t[kTile][kTile], depth[kTile][kTile], color[C][kTile][kTile];
};

// The lanes of a block, four pixels a row.
inline void store_block(const vf* v, int bit, float (*plane)[kTile]) {
  const int x = bit % kTileBlocks * kBlock, y = bit / kTileBlocks * kBlock;
  for (int row = 0; row < kBlock; ++row)
    memcpy(&plane[y + row][x], reinterpret_cast<const float*>(v) + row * kBlock, sizeof(float) * kBlock);
}

template <int C, bool kFirst>
void store_tile(const RasterConfig& config, const TileImage<C>& tile, const TilePlace& place, const float* background,
                int first_channel, const Images& out) {
  const int columns = config.width - place.x < kTile ? config.width - place.x : kTile;
  const int rows = config.height - place.y < kTile ? config.height - place.y : kTile;
  for (int y = 0; y < rows; ++y) {
    const int64_t pixel = (place.view * config.height + place.y + y) * config.width + place.x;
    float* color = out.color + pixel * config.num_channels + first_channel;
    for (int x = 0; x < kTile; x += kLanes) {
      const vf t = load(tile.t[y] + x), alpha = 1.0f - t, depth = load(tile.depth[y] + x);
      vf blended[C];
      for (int c = 0; c < C; ++c) blended[c] = load(tile.color[c][y] + x) + t * background[c];
      store_pixels<C>(color, config.num_channels, x, columns, blended);
      if (!kFirst) continue;
      store_pixels<1>(out.alpha + pixel, 1, x, columns, &alpha);
      store_pixels<1>(out.depth + pixel, 1, x, columns, &depth);
    }
  }
}

template <int C, bool kFirst>
void blend_tile(const RasterConfig& config, const BlendInputs& in, int64_t t, int first_channel, const Images& out) {
  const TilePlace place = tile_place(config, t);
  const PixelGrid grid = pixel_grid();
  const ColorSource source = color_source(config, in, place.view, first_channel);
  const int32_t begin = in.lists.offsets[t], end = in.lists.offsets[t + 1];
  if (kFirst && begin < end) memset(in.lists.hits + begin, 0, sizeof(uint16_t) * static_cast<size_t>(end - begin));
  TileImage<C> tile;
  for (int bit = 0; bit < kBlocks; ++bit) {
    const int left = place.x + bit % kTileBlocks * kBlock, top = place.y + bit / kTileBlocks * kBlock;
    if (left >= config.width || top >= config.height) continue;
    vf x[kParts], y[kParts];
    for (int k = 0; k < kParts; ++k) {
      x[k] = grid.x[k] + static_cast<float>(left);
      y[k] = grid.y[k] + static_cast<float>(top);
    }
    BlockState<C> state;
    blend_block<C, kFirst>(in, source, t, bit, x, y, &state);
    store_block(state.t_last, bit, tile.t);
    if (kFirst) store_block(state.depth, bit, tile.depth);
    for (int c = 0; c < C; ++c) store_block(state.color[c], bit, tile.color[c]);
  }
  store_tile<C, kFirst>(config, tile, place, in.background + place.view * config.num_channels + first_channel,
                        first_channel, out);
}

template <int C>
void blend_pass(const RasterConfig& config, const BlendInputs& in, int first_channel, const Images& out) {
#pragma omp parallel for schedule(dynamic) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t t = 0; t < num_tiles(config); ++t) {
    if (first_channel == 0)
      blend_tile<C, true>(config, in, t, first_channel, out);
    else
      blend_tile<C, false>(config, in, t, first_channel, out);
  }
}

}  // namespace

void blend(const RasterConfig& config, const BlendInputs& in, const Images& out) {
  for (ChannelPass pass = channel_pass(0, config.num_channels); pass.first < config.num_channels;
       pass = channel_pass(pass.first + pass.count, config.num_channels)) {
    if (pass.count == 4)
      blend_pass<4>(config, in, pass.first, out);
    else if (pass.count == 3)
      blend_pass<3>(config, in, pass.first, out);
    else
      blend_pass<1>(config, in, pass.first, out);
  }
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
