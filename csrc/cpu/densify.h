#pragma once

#include <cstdint>

#include "../common/densify.h"

// Densify in three passes over N splats: statistics at every step; classify and scatter at an event. Every function
// works on raw pointers to contiguous memory owned by the caller, and no result depends on the number of threads.
namespace sd::cpu {

void densify_accumulate(const StatisticsArgs& args, int num_threads);

// kind: [N]. counts: splats of each kind, [kSplatKinds].
void densify_classify(const ClassifyArgs& args, int8_t* kind, int64_t* counts, int num_threads);

// False, with nothing written, if `kind` does not lead to num_out rows.
bool densify_scatter(const ScatterArgs& args, int num_threads);

// Asks for huge pages where the system has them and the memory is large enough to gain.
void prefer_huge_pages(void* memory, int64_t bytes);

}  // namespace sd::cpu
