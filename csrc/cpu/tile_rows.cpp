// Compiled with fused multiply-adds.
#include "dispatch.h"
#include "raster.h"
#include "simd.h"

SD_DECLARE_SIMD_LEVEL(SD_SIMD_LEVEL)

namespace sd::cpu::SD_SIMD_LEVEL {
namespace {

// Columns of blocks in a row's list: `first | end << kColumnBits | rows << 2 kColumnBits`, with a bit for each row of
// blocks that the splat covers within the row of tiles.
constexpr int kColumnBits = 13;
constexpr int kColumnMask = (1 << kColumnBits) - 1;

// Splats in depth order: the rows of their records, and the blocks.
struct List {
  int32_t *ids, *blocks;
};

// The bits first .. end - 1 of four, for blocks counted from the tile's first.
SD_HD vi covered(vi first, vi end) {
  const vi one = vi{} + 1, most = vi{} + kTileBlocks;
  return (one << min(max(end, vi{}), most)) - (one << min(max(first, vi{}), most));
}

// Lists the splats that reach the row of tiles. There are few rows and a step takes a vector of splats, so looking at
// every splat is cheaper than a loop over each splat's tiles, whose length nobody can predict.
int list_row(const DepthOrder& order, int row, const List& out) {
  const int begin = row * kTileBlocks, end = begin + kTileBlocks;
  int n = 0;
  for (int i = 0; i < order.count; i += kLanes) {
    const vi rows = load(order.rows + i);
    const vi y0 = rows & 0xffff, y1 = (vi)((vu)rows >> 16);
    const unsigned bits = mask_bits(both(less(y0, vi{} + end), less(vi{} + begin, y1)));
    if (bits == 0) continue;
    const vi columns = load(order.columns + i);
    const vi x0 = columns & 0xffff, x1 = (vi)((vu)columns >> 16);
    const vi blocks = x0 | x1 << kColumnBits | covered(y0 - begin, y1 - begin) << (2 * kColumnBits);
    compress_store(out.ids + n, bits, load(order.ids + i));
    compress_store(out.blocks + n, bits, blocks);
    n += __builtin_popcount(bits);
  }
  for (int i = 0; i < kPadding; ++i) out.blocks[n + i] = 0;
  return n;
}

int list_tile(const List& row, int count, int column, const List& out) {
  const int begin = column * kTileBlocks, end = begin + kTileBlocks;
  int n = 0;
  for (int i = 0; i < count; i += kLanes) {
    const vi blocks = load(row.blocks + i);
    const vi x0 = blocks & kColumnMask, x1 = (blocks >> kColumnBits) & kColumnMask;
    const unsigned bits = mask_bits(both(less(x0, vi{} + end), less(vi{} + begin, x1)));
    compress_store(out.ids + n, bits, load(row.ids + i));
    compress_store(out.blocks + n, bits, blocks);
    n += __builtin_popcount(bits);
  }
  return n;
}

void store_tile(const List& tile, int count, int column, int32_t* ids, uint16_t* masks) {
  if (count == 0) return;  // with no entry at all, ids is null
  memcpy(ids, tile.ids, sizeof(int32_t) * static_cast<size_t>(count));
  for (int i = 0; i < count; i += kLanes) {
    const vi blocks = load(tile.blocks + i);
    const vi x0 = blocks & kColumnMask, x1 = (blocks >> kColumnBits) & kColumnMask;
    const vi rows = blocks >> (2 * kColumnBits);
    // Four row bits to one bit at the start of each row of a 4x4 mask.
    const vi spread = (rows & 1) | (rows & 2) << 3 | (rows & 4) << 6 | (rows & 8) << 9;
    const vi mask = spread * covered(x0 - column * kTileBlocks, x1 - column * kTileBlocks);
    uint16_t narrow[kLanes];
    for (int k = 0; k < kLanes; ++k) narrow[k] = static_cast<uint16_t>(mask[k]);
    memcpy(masks + i, narrow, sizeof(uint16_t) * static_cast<size_t>(count - i < kLanes ? count - i : kLanes));
  }
}

}  // namespace

void fill_tile_row(const TileRowJob& job) {
  const int64_t stride = job.order.count + kPadding;
  const List row = {job.scratch, job.scratch + stride};
  const List tile = {job.scratch + 2 * stride, job.scratch + 3 * stride};
  const int count = list_row(job.order, job.row, row);
  int32_t done = 0;
  for (int column = 0; column < job.columns; ++column) {
    const int n = list_tile(row, count, column, tile);
    store_tile(tile, n, column, job.lists.ids + done, job.lists.masks + done);
    done += n;
    job.lists.offsets[column] = job.first_entry + done;
  }
}

}  // namespace sd::cpu::SD_SIMD_LEVEL
