#include "blend.h"

#include "levels.h"

SD_DECLARE_LEVEL(SD_LEVEL)

namespace sd::cpu::SD_LEVEL {
namespace {

constexpr int kSums = 12;  // the floats of a GradientSlot
constexpr int kBlockPixels = kBlock * kBlock;

// The pixels of a tile, block by block. Walking front to back, `rest` is what the splats behind still add to
// <grads, images>: it starts as the whole of it and loses each pair's share, so no colours behind are stored.
struct alignas(64) TileState {
  float t[kBlocks][kBlockPixels];  // transmittance, recomputed exactly as in the forward; 0 outside the image
  float rest[kBlocks][kBlockPixels];
  float v_color[3][kBlocks][kBlockPixels];
  float v_depth[kBlocks][kBlockPixels];
  unsigned alive;  // blocks with a pixel still above kTransmittanceMin
};

// One row of a tile; pixels outside the image are 0.
struct TileRow {
  float t[kTile], rest[kTile], v_color[3][kTile], v_depth[kTile];
};

// Reads `count` pixels from `pixel` on and adds up their shares of the background's gradient.
TileRow load_row(const Images& images, const Images& grads, int64_t pixel, int count, TileRow* background) {
  TileRow row = {};
  for (int x = 0; x < count; ++x) {
    const int64_t p = pixel + x;
    const float t = 1.0f - images.alpha[p];
    const float r = grads.rgb[3 * p], g = grads.rgb[3 * p + 1], b = grads.rgb[3 * p + 2];
    row.t[x] = 1.0f;
    row.v_color[0][x] = r;
    row.v_color[1][x] = g;
    row.v_color[2][x] = b;
    row.v_depth[x] = grads.depth[p];
    row.rest[x] = r * images.rgb[3 * p] + g * images.rgb[3 * p + 1] + b * images.rgb[3 * p + 2] +
                  images.depth[p] * grads.depth[p] - t * grads.alpha[p];
    background->v_color[0][x] += r * t;
    background->v_color[1][x] += g * t;
    background->v_color[2][x] += b * t;
  }
  return row;
}

void load_tile(const RasterConfig& config, const TilePlace& place, const Images& images, const Images& grads,
               TileState* tile, float background[3]) {
  const int columns = config.width - place.x < kTile ? config.width - place.x : kTile;
  TileRow sums = {};
  tile->alive = 0;
  for (int y = 0; y < kTile; ++y) {
    const bool inside = place.y + y < config.height;
    const int64_t pixel = (place.view * config.height + place.y + y) * config.width + place.x;
    const TileRow row = load_row(images, grads, pixel, inside ? columns : 0, &sums);
    for (int column = 0; column < kTileBlocks; ++column) {
      const int block = y / kBlock * kTileBlocks + column, from = column * kBlock, to = y % kBlock * kBlock;
      memcpy(tile->t[block] + to, row.t + from, sizeof(float) * kBlock);
      memcpy(tile->rest[block] + to, row.rest + from, sizeof(float) * kBlock);
      memcpy(tile->v_depth[block] + to, row.v_depth + from, sizeof(float) * kBlock);
      for (int c = 0; c < 3; ++c) memcpy(tile->v_color[c][block] + to, row.v_color[c] + from, sizeof(float) * kBlock);
      if (row.t[from] > 0.0f) tile->alive |= 1u << block;
    }
  }
  for (int c = 0; c < 3; ++c) {
    background[c] = 0.0f;
    for (int x = 0; x < kTile; ++x) background[c] += sums.v_color[c][x];
  }
}

// Takes one splat through one vector of pixels, adding to its sums. Returns whether a pixel is still alive.
inline bool step(const ProjectedSplat& s, vf dx, vf dy, int block, int first, TileState& tile, vf sums[kSums]) {
  const vf peak = falloff(s, dx, dy);
  const vf alpha = min(peak, broadcast(kAlphaCap));
  const vf t = load(tile.t[block] + first);
  const vf next = t - alpha * t;
  const vi counts = next > kTransmittanceMin;
  const vf weight = select(counts, alpha * t, vf{});
  store(tile.t[block] + first, next);
  if (!any_above(weight, 0.0f)) return any_above(next, kTransmittanceMin);

  const vf v_depth = load(tile.v_depth[block] + first);
  vf v_color[3];
  for (int c = 0; c < 3; ++c) v_color[c] = load(tile.v_color[c][block] + first);
  // <gradient, what this splat adds per unit of weight>
  const vf along = s.depth * v_depth + s.color[0] * v_color[0] + s.color[1] * v_color[1] + s.color[2] * v_color[2];
  const vf rest = load(tile.rest[block] + first) - along * weight;
  store(tile.rest[block] + first, rest);
  const vf v_log_alpha = alpha * (along * t - rest / (1.0f - alpha));
  const vf g = select(counts & (peak <= kAlphaCap), v_log_alpha, vf{});  // a capped alpha does not move
  const vf gx = g * dx, gy = g * dy;
  sums[0] += g;
  sums[1] += gx;
  sums[2] += gy;
  sums[3] += gx * dx;
  sums[4] += gx * dy;
  sums[5] += gy * dy;
  for (int c = 0; c < 3; ++c) sums[6 + c] += weight * v_color[c];
  sums[9] += weight * v_depth;
  return true;
}

void store_slot(const vf sums[kSums], GradientSlot* slot) {
  for (int i = 0; i < kSums; i += 4) {
    const vf4 part = horizontal_sums(sums + i);
    memcpy(reinterpret_cast<char*>(slot) + 4 * i, &part, sizeof part);
  }
}

// The slot of one splat in this tile.
inline GradientSlot* slot_of(const ProjectedSplat& s, const TilePlace& place, GradientSlot* slots) {
  const int column = place.x / kTile - first_tile(s.box.x0), row = place.y / kTile - first_tile(s.box.y0);
  return slots + s.slot + row * tile_columns(s.box) + column;
}

void splat_backward(const ProjectedSplat& s, unsigned blocks, const TilePlace& place, const PixelGrid& grid,
                    TileState& tile, GradientSlot* slot) {
  vf sums[kSums] = {};
  for (; blocks != 0; blocks &= blocks - 1) {
    const int block = __builtin_ctz(blocks);
    const float x = s.x - static_cast<float>(place.x + block % kTileBlocks * kBlock);
    const float y = s.y - static_cast<float>(place.y + block / kTileBlocks * kBlock);
    bool alive = false;
    for (int k = 0; k < kParts; ++k) alive |= step(s, x - grid.x[k], y - grid.y[k], block, k * kLanes, tile, sums);
    if (!alive) tile.alive &= ~(1u << block);
  }
  store_slot(sums, slot);
}

}  // namespace

void blend_backward(const RasterConfig& config, const ProjectedSplat* records, const TileLists& lists,
                    const Images& images, const Images& grads, GradientSlot* slots, float* tile_background) {
  const PixelGrid grid = pixel_grid();
#pragma omp parallel for schedule(dynamic) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t t = 0; t < num_tiles(config); ++t) {
    const TilePlace place = tile_place(config, t);
    TileState tile;
    load_tile(config, place, images, grads, &tile, tile_background + 3 * t);
    const int32_t end = lists.offsets[t + 1];
    for (int32_t entry = lists.offsets[t]; entry < end; ++entry) {
      if (entry + kPrefetch < end) __builtin_prefetch(records + lists.ids[entry + kPrefetch]);
      const ProjectedSplat& s = records[lists.ids[entry]];
      const unsigned blocks = lists.masks[entry] & tile.alive;
      GradientSlot* slot = slot_of(s, place, slots);
      if (blocks == 0)
        *slot = {};
      else
        splat_backward(s, blocks, place, grid, tile, slot);
    }
  }
}

}  // namespace sd::cpu::SD_LEVEL
