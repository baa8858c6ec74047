#pragma once

#include <memory>
#include <vector>

#include "dispatch.h"

namespace sd::cpu {

// Sorts the views' splats by depth and lists them tile by tile.
class TileBinner {
public:
  TileBinner(const RasterConfig& config, const ProjectedSplat* records);
  int64_t num_entries() const { return num_entries_; }
  void fill(const TileLists& lists, const Kernels& level) const;

private:
  struct View {
    std::unique_ptr<int32_t[]> arrays;
    std::unique_ptr<int64_t[]> row_entries;  // [tile rows + 1], counted within the view
    DepthOrder order;
  };
  void sort_view(int64_t view, const ProjectedSplat* records);

  RasterConfig config_;
  std::vector<View> views_;
  int64_t num_entries_ = 0;
};

}  // namespace sd::cpu
