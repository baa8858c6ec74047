#include "blend.h"

#include "levels.h"

SD_DECLARE_LEVEL(SD_LEVEL)

namespace sd::cpu::SD_LEVEL {
namespace {

constexpr int kChunk = 128;     // entries listed at a time: a block that saturates early lists no more
constexpr int kCheckEvery = 8;  // pairs between two looks at whether the block has saturated

// The ids of those of `count` entries whose mask has the bit.
int list_block(const int32_t* ids, const uint16_t* masks, int count, int bit, int32_t* list) {
  int n = 0;
#if defined(__AVX512F__)
  for (int i = 0; i < count; i += 16) {
    const unsigned tail = count - i >= 16 ? 0xffffu : (1u << (count - i)) - 1u;
    const __mmask16 valid = static_cast<__mmask16>(tail);
    const __m512i mask = _mm512_maskz_cvtepu16_epi32(valid, _mm256_maskz_loadu_epi16(valid, masks + i));
    const __mmask16 hit = _mm512_test_epi32_mask(mask, _mm512_set1_epi32(1 << bit));
    const __m512i id = _mm512_maskz_loadu_epi32(valid, ids + i);
    _mm512_storeu_si512(list + n, _mm512_maskz_compress_epi32(hit, id));
    n += __builtin_popcount(hit);
  }
#else
  for (int i = 0; i < count; ++i) {
    list[n] = ids[i];
    n += masks[i] >> bit & 1;
  }
#endif
  return n;
}

struct BlockState {
  vf t[kParts];       // transmittance, falling freely past kTransmittanceMin
  vf t_last[kParts];  // the last above it
  vf color[3][kParts];
  vf depth[kParts];
};

inline bool saturated(const BlockState& s) {
  vf most = s.t[0];
  for (int k = 1; k < kParts; ++k) most = max(most, s.t[k]);
  return !any_above(most, kTransmittanceMin);
}

// Since t never rises, "a pair counts iff t stays above the threshold" stops each pixel where gsplat stops it.
inline void draw(const ProjectedSplat& s, vf dx, vf dy, int k, BlockState& state) {
  const vf alpha = min(falloff(s, dx, dy), broadcast(kAlphaCap));
  const vf t = state.t[k];
  const vf next = t - alpha * t;
  const vi counts = next > kTransmittanceMin;
  const vf weight = select(counts, alpha * t, vf{});
  state.t_last[k] = select(counts, next, state.t_last[k]);
  state.t[k] = next;
  for (int c = 0; c < 3; ++c) state.color[c][k] += weight * s.color[c];
  state.depth[k] += weight * s.depth;
}

BlockState blend_block(const ProjectedSplat* records, const TileLists& lists, int64_t tile, int bit, float x, float y) {
  const PixelGrid grid = pixel_grid();
  BlockState state = {};
  for (int k = 0; k < kParts; ++k) state.t[k] = state.t_last[k] = broadcast(1.0f);
  const int32_t end = lists.offsets[tile + 1];
  for (int32_t begin = lists.offsets[tile]; begin < end; begin += kChunk) {
    int32_t list[kChunk + kLanes];
    const int count = end - begin < kChunk ? end - begin : kChunk;
    const int n = list_block(lists.ids + begin, lists.masks + begin, count, bit, list);
    for (int i = 0; i < n; ++i) {
      if (i + kPrefetch < n) __builtin_prefetch(records + list[i + kPrefetch]);
      const ProjectedSplat& s = records[list[i]];
      const float mean_x = s.x - x, mean_y = s.y - y;
      for (int k = 0; k < kParts; ++k) draw(s, mean_x - grid.x[k], mean_y - grid.y[k], k, state);
      if (i % kCheckEvery == kCheckEvery - 1 && saturated(state)) return state;
    }
  }
  return state;
}

void store_block(const RasterConfig& config, const BlockState& s, const float* background, int64_t view, int x, int y,
                 const Images& out) {
  for (int p = 0; p < kBlock * kBlock; ++p) {
    const int column = x + p % kBlock, row = y + p / kBlock;
    if (column >= config.width || row >= config.height) continue;
    const int64_t pixel = (view * config.height + row) * config.width + column;
    const int k = p / kLanes, lane = p % kLanes;
    const float t = s.t_last[k][lane];
    for (int c = 0; c < 3; ++c) out.rgb[3 * pixel + c] = s.color[c][k][lane] + t * background[3 * view + c];
    out.alpha[pixel] = 1.0f - t;
    out.depth[pixel] = s.depth[k][lane];
  }
}

}  // namespace

void blend(const RasterConfig& config, const ProjectedSplat* records, const TileLists& lists, const float* background,
           const Images& out) {
#pragma omp parallel for schedule(dynamic) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t tile = 0; tile < num_tiles(config); ++tile) {
    const TilePlace place = tile_place(config, tile);
    for (int bit = 0; bit < kBlocks; ++bit) {
      const int x = place.x + bit % kTileBlocks * kBlock, y = place.y + bit / kTileBlocks * kBlock;
      if (x >= config.width || y >= config.height) continue;
      const BlockState state = blend_block(records, lists, tile, bit, static_cast<float>(x), static_cast<float>(y));
      store_block(config, state, background, place.view, x, y, out);
    }
  }
}

}  // namespace sd::cpu::SD_LEVEL
