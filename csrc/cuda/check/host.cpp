#include <algorithm>
#include <numeric>
#include <vector>

#include "../../common/densify.h"
#include "../primitives.h"

// primitives.cu where a host runs the kernels in loops: the standard library in place of CUDA's own algorithms.
namespace sd::cuda {

size_t sort_workspace(int) { return 1; }

void sort_descending(void*, size_t, const uint32_t* keys, uint32_t* sorted_keys, const int32_t* values,
                     int32_t* sorted_values, int n, Stream) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return keys[a] > keys[b]; });
  for (const int32_t i : order) {
    *sorted_keys++ = keys[i];
    *sorted_values++ = values[i];
  }
}

size_t scan_workspace(int) { return 1; }

void first_rows(void*, size_t, const int8_t* kind, int32_t* firsts, int n, Stream) {
  for (int32_t i = 0, row = 0; i < n; row += num_copies(kind[i++])) firsts[i] = row;
}

}  // namespace sd::cuda
