#include "blend.h"

#include "levels.h"

SD_DECLARE_LEVEL(SD_LEVEL)

namespace sd::cpu::SD_LEVEL {
namespace {

constexpr int kSums = 12;  // the floats of a GradientSlot

// The pixels of a tile, block by block. Walking front to back, `rest` is what the splats behind still add to
// <grads, images>: it starts as the whole of it and loses each pair's share, so no colours behind are stored.
struct TileState {
  vf t[kBlocks][kParts];  // transmittance, recomputed exactly as in the forward; 0 outside the image
  vf rest[kBlocks][kParts];
  vf v_color[3][kBlocks][kParts];
  vf v_depth[kBlocks][kParts];
  unsigned alive;  // blocks with a pixel still above kTransmittanceMin
};

// Loads the upstream gradients of a tile and adds up its share of the background's.
void load_tile(const RasterConfig& config, const TilePlace& place, const Images& images, const Images& grads,
               TileState* tile, float background[3]) {
  *tile = {};
  background[0] = background[1] = background[2] = 0.0f;
  for (int y = 0; y < kTile && place.y + y < config.height; ++y) {
    for (int x = 0; x < kTile && place.x + x < config.width; ++x) {
      const int64_t pixel = (place.view * config.height + place.y + y) * config.width + place.x + x;
      const int block = y / kBlock * kTileBlocks + x / kBlock, within = y % kBlock * kBlock + x % kBlock;
      const int k = within / kLanes, lane = within % kLanes;
      const float t = 1.0f - images.alpha[pixel];
      float rest = images.depth[pixel] * grads.depth[pixel] - t * grads.alpha[pixel];
      for (int c = 0; c < 3; ++c) {
        const float v = grads.rgb[3 * pixel + c];
        rest += v * images.rgb[3 * pixel + c];
        background[c] += v * t;
        tile->v_color[c][block][k][lane] = v;
      }
      tile->v_depth[block][k][lane] = grads.depth[pixel];
      tile->rest[block][k][lane] = rest;
      tile->t[block][k][lane] = 1.0f;
      tile->alive |= 1u << block;
    }
  }
}

// Takes one splat through one vector of pixels, adding to its sums. Returns whether a pixel is still alive.
inline bool step(const ProjectedSplat& s, vf dx, vf dy, int block, int k, TileState& tile, vf sums[kSums]) {
  const vf peak = falloff(s, dx, dy);
  const vf alpha = min(peak, broadcast(kAlphaCap));
  const vf t = tile.t[block][k];
  const vf next = t - alpha * t;
  const vi counts = next > kTransmittanceMin;
  tile.t[block][k] = next;
  const vi hit = counts & (alpha > 0.0f);
  if (!any(hit)) return any(counts);

  const vf weight = select(counts, alpha * t, vf{});
  vf along = s.depth * tile.v_depth[block][k];  // <gradient, what this splat adds per unit of weight>
  for (int c = 0; c < 3; ++c) along += s.color[c] * tile.v_color[c][block][k];
  const vf rest = tile.rest[block][k] - along * weight;
  tile.rest[block][k] = rest;
  const vf v_log_alpha = alpha * (along * t - rest / (1.0f - alpha));
  const vf g = select(hit & (peak <= kAlphaCap), v_log_alpha, vf{});  // a capped alpha does not move
  const vf gx = g * dx, gy = g * dy;
  sums[0] += g;
  sums[1] += gx;
  sums[2] += gy;
  sums[3] += gx * dx;
  sums[4] += gx * dy;
  sums[5] += gy * dy;
  for (int c = 0; c < 3; ++c) sums[6 + c] += weight * tile.v_color[c][block][k];
  sums[9] += weight * tile.v_depth[block][k];
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
  const int column = place.x / kTile - s.tile_x0(), row = place.y / kTile - s.tile_y0();
  return slots + s.slot + row * (s.tile_x1() - s.tile_x0()) + column;
}

void splat_backward(const ProjectedSplat& s, unsigned blocks, const TilePlace& place, const PixelGrid& grid,
                    TileState& tile, GradientSlot* slot) {
  vf sums[kSums] = {};
  for (; blocks != 0; blocks &= blocks - 1) {
    const int block = __builtin_ctz(blocks);
    const float x = s.x - static_cast<float>(place.x + block % kTileBlocks * kBlock);
    const float y = s.y - static_cast<float>(place.y + block / kTileBlocks * kBlock);
    bool alive = false;
    for (int k = 0; k < kParts; ++k) alive |= step(s, x - grid.x[k], y - grid.y[k], block, k, tile, sums);
    if (!alive) tile.alive &= ~(1u << block);
  }
  store_slot(sums, slot);
}

}  // namespace

void blend_backward(const RasterConfig& config, const ProjectedSplat* records, const TileLists& lists,
                    const Images& images, const Images& grads, GradientSlot* slots, float* tile_background) {
  const PixelGrid grid = pixel_grid();
#pragma omp parallel for schedule(dynamic) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t t = 0; t < config.num_tiles(); ++t) {
    const TilePlace place = tile_place(config, t);
    TileState tile;
    load_tile(config, place, images, grads, &tile, tile_background + 3 * t);
    for (int32_t entry = lists.offsets[t]; entry < lists.offsets[t + 1]; ++entry) {
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
