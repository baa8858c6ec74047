// Compiled with fused multiply-adds.
#include "tiles.h"

#include <algorithm>
#include <cstring>

namespace sd::cpu {
namespace {

uint32_t float_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Depths are positive, so their bits order as they do; the sort is stable, so ties keep the order of the splats.
// A key holds the depth's bits above the splat's row; only the bits in which the depths differ are sorted.
void sort_by_depth(std::vector<uint64_t>& keys, uint32_t low, uint32_t high) {
  constexpr int kDigitBits = 11;
  constexpr uint32_t kDigits = 1u << kDigitBits;
  std::vector<uint64_t> scratch(keys.size());
  for (int shift = 0; shift < 32 && keys.size() > 1 && (high - low) >> shift != 0; shift += kDigitBits) {
    const auto digit = [=](uint64_t key) {
      return ((static_cast<uint32_t>(key >> 32) - low) >> shift) & (kDigits - 1);
    };
    uint32_t start[kDigits] = {};
    for (const uint64_t key : keys) ++start[digit(key)];
    uint32_t sum = 0;
    for (uint32_t& s : start) {
      const uint32_t count = s;
      s = sum;
      sum += count;
    }
    for (const uint64_t key : keys) scratch[start[digit(key)]++] = key;
    keys.swap(scratch);
  }
}

}  // namespace

void TileBinner::sort_view(int64_t view, const ProjectedSplat* records) {
  const int64_t n = config_.num_splats;
  const int rows = tiles_y(config_);
  View& out = views_[static_cast<size_t>(view)];
  out.row_entries.reset(new int64_t[static_cast<size_t>(rows) + 1]());
  std::vector<uint64_t> keys(static_cast<size_t>(n));
  size_t count = 0;
  uint32_t low = UINT32_MAX, high = 0;
  for (int64_t i = 0; i < n; ++i) {
    const ProjectedSplat& r = records[view * n + i];
    if (r.box.x1 == 0) continue;
    const uint32_t depth = float_bits(r.depth);
    low = std::min(low, depth);
    high = std::max(high, depth);
    keys[count++] = uint64_t{depth} << 32 | static_cast<uint64_t>(view * n + i);
    const int columns = tile_columns(r.box);
    out.row_entries[first_tile(r.box.y0) + 1] += columns;  // a difference here, summed up below
    if (end_tile(r.box.y1) < rows) out.row_entries[end_tile(r.box.y1) + 1] -= columns;
  }
  keys.resize(count);
  sort_by_depth(keys, low, high);
  for (int pass = 0; pass < 2; ++pass)  // differences to counts, counts to offsets
    for (int row = 0; row < rows; ++row) out.row_entries[row + 1] += out.row_entries[row];

  const size_t stride = count + kPadding;
  out.arrays.reset(new int32_t[3 * stride]);
  int32_t *ids = out.arrays.get(), *columns = ids + stride, *spans = columns + stride;
  for (size_t i = 0; i < stride; ++i) {
    if (i + kPadding < count) __builtin_prefetch(records + static_cast<uint32_t>(keys[i + kPadding]));
    ids[i] = i < count ? static_cast<int32_t>(keys[i] & UINT32_MAX) : 0;
    const BlockBox box = i < count ? records[ids[i]].box : BlockBox{};
    columns[i] = box.x0 | box.x1 << 16;
    spans[i] = box.y0 | box.y1 << 16;
  }
  out.order = {static_cast<int32_t>(count), ids, columns, spans};
}

TileBinner::TileBinner(const RasterConfig& config, const ProjectedSplat* records)
    : config_(config), views_(static_cast<size_t>(config.num_views)) {
#pragma omp parallel for schedule(dynamic) num_threads(config.num_threads) if (config.num_threads > 1)
  for (int64_t view = 0; view < config.num_views; ++view) sort_view(view, records);
  for (const View& view : views_) num_entries_ += view.row_entries[tiles_y(config)];
}

void TileBinner::fill(const TileLists& lists, const Kernels& level) const {
  const int rows = tiles_y(config_), columns = tiles_x(config_);
  std::vector<int64_t> first(views_.size() + 1, 0);
  int32_t most = 0;
  for (size_t v = 0; v < views_.size(); ++v) {
    first[v + 1] = first[v] + views_[v].row_entries[rows];
    most = std::max(most, views_[v].order.count);
  }
  lists.offsets[0] = 0;
#pragma omp parallel num_threads(config_.num_threads) if (config_.num_threads > 1)
  {
    const std::unique_ptr<int32_t[]> scratch(new int32_t[4 * (static_cast<size_t>(most) + kPadding)]);
#pragma omp for schedule(dynamic)
    for (int64_t i = 0; i < config_.num_views * rows; ++i) {
      const size_t v = static_cast<size_t>(i / rows);
      const int row = static_cast<int>(i % rows);
      const int64_t entry = first[v] + views_[v].row_entries[row];
      const TileLists part = {lists.offsets + i * columns + 1, lists.ids + entry, lists.masks + entry, nullptr};
      level.fill_tile_row({views_[v].order, row, columns, static_cast<int32_t>(entry), part, scratch.get()});
    }
  }
}

}  // namespace sd::cpu
