#pragma once

#include <cstdint>

namespace sd::cpu {

// out [n,num]: the first `num` normals of each stream (key, ids[i]).
void philox_normal(uint64_t key, const int64_t* ids, int64_t n, int64_t num, float* out);

// The generator itself on rows of 32-bit words: counter [n,4], key [n,2], out [n,4].
void philox_words(const int64_t* counter, const int64_t* key, int64_t n, int64_t* out);

}  // namespace sd::cpu
