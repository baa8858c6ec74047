#pragma once

#include <cmath>
#include <cstdint>

#include "macros.h"

// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011):
// four 32-bit words from a 128-bit counter and a 64-bit key, with no state.
namespace sd {

struct PhiloxWords {
  uint32_t v[4];
};

SD_HD PhiloxWords philox4x32(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * counter.v[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * counter.v[2];
    counter = {{static_cast<uint32_t>(p1 >> 32) ^ counter.v[1] ^ key0, static_cast<uint32_t>(p1),
                static_cast<uint32_t>(p0 >> 32) ^ counter.v[3] ^ key1, static_cast<uint32_t>(p0)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// The middle of one of 2^23 equal cells of (0, 1): exact in float and never 0 or 1.
SD_HD double philox_uniform(uint32_t word) { return (static_cast<double>(word >> 9) + 0.5) * 0x1p-23; }

// Two standard normals of two words, by Box-Muller. In double, so that every device rounds to the same float up to its
// last bit.
SD_HD void philox_box_muller(uint32_t first, uint32_t second, float out[2]) {
  const double radius = sqrt(-2.0 * log(philox_uniform(first)));
#if defined(__CUDA_ARCH__)
  const double turns = 2.0 * philox_uniform(second);  // in halves: this way CUDA needs no local memory
  const double cosine = cospi(turns), sine = sinpi(turns);
#else
  const double angle = 6.283185307179586 * philox_uniform(second), cosine = cos(angle), sine = sin(angle);
#endif
  out[0] = static_cast<float>(radius * cosine);
  out[1] = static_cast<float>(radius * sine);
}

// Draw number `block` of the stream (key, id).
SD_HD PhiloxWords philox_draw(uint64_t key, uint64_t id, uint32_t block) {
  const PhiloxWords counter = {{static_cast<uint32_t>(id), static_cast<uint32_t>(id >> 32), block, 0u}};
  return philox4x32(counter, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
}

// The draw's four standard normals.
SD_HD void philox_normal4(uint64_t key, uint64_t id, uint32_t block, float out[4]) {
  const PhiloxWords w = philox_draw(key, id, block);
  philox_box_muller(w.v[0], w.v[1], out);
  philox_box_muller(w.v[2], w.v[3], out + 2);
}

// The first two of them.
SD_HD void philox_normal2(uint64_t key, uint64_t id, uint32_t block, float out[2]) {
  const PhiloxWords w = philox_draw(key, id, block);
  philox_box_muller(w.v[0], w.v[1], out);
}

}  // namespace sd
