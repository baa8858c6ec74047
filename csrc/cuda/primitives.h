#pragma once

#include <cstddef>
#include <cstdint>

#include "stream.h"

// The two algorithms that come from CUDA's own library. `workspace` holds the bytes that the function beside it names.
namespace sd::cuda {

size_t sort_workspace(int n);

// Keys [N] from the largest to the smallest, their values with them; equal keys stay in their order.
void sort_descending(void* workspace, size_t bytes, const uint32_t* keys, uint32_t* sorted_keys, const int32_t* values,
                     int32_t* sorted_values, int n, Stream stream);

size_t scan_workspace(int n);

// firsts [N]: rows of the result before those of each splat.
void first_rows(void* workspace, size_t bytes, const int8_t* kind, int32_t* firsts, int n, Stream stream);

}  // namespace sd::cuda
