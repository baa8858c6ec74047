#pragma once

#include "../common/residual.h"
#include "launch.h"

namespace sd::cuda {

// Launches the kernel that is made for the number of terms, a block for each chunk of each view.
template <template <class T, int K, int W> class Kernel, class T, int W>
void launch_for_terms(const typename Kernel<T, 1, W>::Args& a, Stream stream) {
  static_assert(kMaxTerms == 8);
  constexpr void (*kByTerms[])(const typename Kernel<T, 1, W>::Args&, int64_t, Stream) = {
      launch<Kernel<T, 1, W>>, launch<Kernel<T, 2, W>>, launch<Kernel<T, 3, W>>, launch<Kernel<T, 4, W>>,
      launch<Kernel<T, 5, W>>, launch<Kernel<T, 6, W>>, launch<Kernel<T, 7, W>>, launch<Kernel<T, 8, W>>};
  kByTerms[a.num_terms - 1](a, a.num_views * num_chunks(a.view_size), stream);
}

}  // namespace sd::cuda
