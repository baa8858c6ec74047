#include <algorithm>
#include <cstring>
#include <vector>

#include "raster.h"

namespace sd::cpu {
namespace {

// What sorting and filling need of a splat, so that they do not touch its record.
struct Key {
  uint32_t depth_bits;
  int32_t id;
  BlockBox box;
};

uint32_t float_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Depths are positive, so their bits order as they do; the sort is stable, so ties keep the order of the splats.
// Only the bits in which the keys differ are sorted.
void sort_by_depth(std::vector<Key>& keys, std::vector<Key>& scratch) {
  constexpr int kDigitBits = 11;
  constexpr uint32_t kDigits = 1u << kDigitBits;
  uint32_t low = UINT32_MAX, high = 0;
  for (const Key& k : keys) {
    low = std::min(low, k.depth_bits);
    high = std::max(high, k.depth_bits);
  }
  scratch.resize(keys.size());
  for (int shift = 0; shift < 32 && keys.size() > 1 && (high - low) >> shift != 0; shift += kDigitBits) {
    uint32_t start[kDigits] = {};
    for (const Key& k : keys) ++start[((k.depth_bits - low) >> shift) & (kDigits - 1)];
    uint32_t sum = 0;
    for (uint32_t& s : start) {
      const uint32_t count = s;
      s = sum;
      sum += count;
    }
    for (const Key& k : keys) scratch[start[((k.depth_bits - low) >> shift) & (kDigits - 1)]++] = k;
    keys.swap(scratch);
  }
}

// The four bits of a tile's rows or columns that the blocks [begin, end) of the image cover.
unsigned covered(int begin, int end, int tile) {
  const int first = std::max(begin - tile * kTileBlocks, 0);
  const int last = std::min(end - tile * kTileBlocks, kTileBlocks);
  return ((1u << last) - 1u) & ~((1u << first) - 1u);
}

// Four row bits to one bit at the start of each row of a 4x4 mask.
unsigned spread_rows(unsigned rows) { return (rows & 1u) | (rows & 2u) << 3 | (rows & 4u) << 6 | (rows & 8u) << 9; }

template <class Visit>
void for_each_tile(const BlockBox& box, int columns, Visit visit) {
  for (int ty = first_tile(box.y0); ty < end_tile(box.y1); ++ty)
    for (int tx = first_tile(box.x0); tx < end_tile(box.x1); ++tx) visit(ty * columns + tx, tx, ty);
}

// Counting sort of one view's splats, already in depth order, into its tiles. `next` holds the view's tile offsets.
void fill_view(const std::vector<Key>& order, int columns, std::vector<int32_t>& next, int32_t* ids, uint16_t* masks) {
  for (const Key& k : order) {
    for_each_tile(k.box, columns, [&](int tile, int tx, int ty) {
      const int32_t at = next[tile]++;
      ids[at] = k.id;
      masks[at] = static_cast<uint16_t>(spread_rows(covered(k.box.y0, k.box.y1, ty)) * covered(k.box.x0, k.box.x1, tx));
    });
  }
}

}  // namespace

void fill_tiles(const RasterConfig& config, const ProjectedSplat* records, int32_t* offsets, int32_t* ids,
                uint16_t* masks) {
  const int64_t n = config.num_splats;
  const int columns = tiles_x(config), tiles = columns * tiles_y(config);
  offsets[0] = 0;
#pragma omp parallel for schedule(dynamic) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t view = 0; view < config.num_views; ++view) {
    std::vector<Key> keys, scratch;
    keys.reserve(static_cast<size_t>(n));
    std::vector<int32_t> next(static_cast<size_t>(tiles), 0);
    for (int64_t row = view * n; row < (view + 1) * n; ++row) {
      const ProjectedSplat& r = records[row];
      if (r.box.x1 == 0) continue;
      keys.push_back({float_bits(r.depth), static_cast<int32_t>(row), r.box});
      for_each_tile(r.box, columns, [&](int tile, int, int) { ++next[tile]; });
    }
    sort_by_depth(keys, scratch);
    int32_t sum = n > 0 ? records[view * n].slot : 0;  // the view's first entry: slots and entries are as many
    for (int tile = 0; tile < tiles; ++tile) {
      const int32_t count = next[tile];
      next[tile] = sum;
      sum += count;
      offsets[view * tiles + tile + 1] = sum;
    }
    fill_view(keys, columns, next, ids, masks);
  }
}

}  // namespace sd::cpu
