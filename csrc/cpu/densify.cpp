#include "densify.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sd::cpu {
namespace {

constexpr int64_t kChunk = 1024;  // splats one thread takes at a time
constexpr int64_t kGroup = 32;    // chunks of which one thread moves a tensor before the next: memory likes long runs

int64_t count_chunks(int64_t n) { return (n + kChunk - 1) / kChunk; }

// Leaves growth to the `room` largest gradients, the lowest index first among equal ones.
void keep_largest(const ClassifyArgs& a, int64_t room, int8_t* kind) {
  const auto wants = [&](int64_t i) { return kind[i] == kClone || kind[i] == kSplit; };
  uint32_t threshold = UINT32_MAX;
  int64_t ties = 0;
  if (room > 0) {
    std::vector<uint32_t> keys;
    for (int64_t i = 0; i < a.n; ++i)
      if (wants(i)) keys.push_back(rank_key(a.mean_grad[i]));
    std::nth_element(keys.begin(), keys.begin() + (room - 1), keys.end(), std::greater<>());
    threshold = keys[static_cast<size_t>(room - 1)];
    ties = room - std::count_if(keys.begin(), keys.begin() + room, [&](uint32_t key) { return key > threshold; });
  }
  for (int64_t i = 0; i < a.n; ++i) {
    if (!wants(i)) continue;
    const uint32_t key = rank_key(a.mean_grad[i]);
    const bool grows = key > threshold || (key == threshold && ties-- > 0);
    if (!grows) kind[i] = kKeep;
  }
}

// What a chunk of splats becomes, in rows counted from its first one, before and after.
struct Places {
  int32_t sources[2 * kChunk];  // of every row of the result
  int32_t fresh[2 * kChunk];    // rows of the result whose moments start at 0
  int32_t parents[kChunk];      // rows of the result that are the first copy of a splat that grew
  int num_rows, num_fresh, num_parents;
};

void find_places(const int8_t* kind, int64_t size, Places& p) {
  p.num_rows = p.num_fresh = p.num_parents = 0;
  for (int32_t i = 0; i < size; ++i) {
    const int copies = num_copies(kind[i]);
    if (copies == 2) p.parents[p.num_parents++] = p.num_rows;
    for (int copy = 0; copy < copies; ++copy) {
      if (copy == 1 || kind[i] == kSplit) p.fresh[p.num_fresh++] = p.num_rows;
      p.sources[p.num_rows++] = i;
    }
  }
}

// A size that the compiler knows needs no call of memcpy.
template <int kBytes>
void copy_rows(const char* in, const Places& p, char* out) {
  for (int i = 0; i < p.num_rows; ++i) std::memcpy(out + i * kBytes, in + p.sources[i] * kBytes, kBytes);
}

// Rows of 12 bytes, one move each: it takes 4 bytes too many, which the next row then covers. The rows at
// the end are copied exactly, for nothing beyond them may be touched.
void copy_triples(const char* in, const Places& p, int32_t last_source, char* out) {
  int i = 0;
  for (; i < p.num_rows - 1 && p.sources[i] != last_source; ++i) std::memcpy(out + i * 12, in + p.sources[i] * 12, 16);
  for (; i < p.num_rows; ++i) std::memcpy(out + i * 12, in + p.sources[i] * 12, 12);
}

// Steps of 16 bytes, the last one possibly over the one before: for rows of 100 bytes or more this is far faster than a
// call of memcpy.
void copy_wide_rows(const char* in, const Places& p, int64_t bytes, char* out) {
  for (int i = 0; i < p.num_rows; ++i, out += bytes) {
    const char* row = in + p.sources[i] * bytes;
    for (int64_t j = 0; j < bytes - 16; j += 16) std::memcpy(out + j, row + j, 16);
    std::memcpy(out + bytes - 16, row + bytes - 16, 16);
  }
}

template <int kBytes>
void clear_rows(const Places& p, char* out) {
  for (int i = 0; i < p.num_fresh; ++i) std::memset(out + p.fresh[i] * kBytes, 0, kBytes);
}

void copy_table(const Rows& t, const Places& p, int64_t begin, int32_t last_source, int64_t target) {
  if (t.bytes == 0) return;
  const char* in = t.in + begin * t.bytes;
  char* out = t.out + target * t.bytes;
  if (t.bytes == 4) {
    copy_rows<4>(in, p, out);
  } else if (t.bytes == 12) {
    copy_triples(in, p, last_source, out);
  } else if (t.bytes >= 16) {
    copy_wide_rows(in, p, t.bytes, out);
  } else {
    const size_t bytes = static_cast<size_t>(t.bytes);
    for (int i = 0; i < p.num_rows; ++i) std::memcpy(out + i * t.bytes, in + p.sources[i] * t.bytes, bytes);
  }
  if (!t.moments) return;
  if (t.bytes == 4) return clear_rows<4>(p, out);
  if (t.bytes == 12) return clear_rows<12>(p, out);
  for (int i = 0; i < p.num_fresh; ++i) std::memset(out + p.fresh[i] * t.bytes, 0, static_cast<size_t>(t.bytes));
}

// first: row of the result each chunk starts at. places: of the chunks from `begin` on, to be filled.
void scatter_chunks(const ScatterArgs& a, int64_t begin, int64_t end, const int64_t* first, Places* places) {
  const auto size = [&](int64_t chunk) { return static_cast<int32_t>(std::min(kChunk, a.n - chunk * kChunk)); };
  for (int64_t chunk = begin; chunk < end; ++chunk)
    find_places(a.kind + chunk * kChunk, size(chunk), places[chunk - begin]);
  for (int i = 0; i < a.num_tables; ++i)
    for (int64_t chunk = begin; chunk < end; ++chunk)
      copy_table(a.tables[i], places[chunk - begin], chunk * kChunk, size(chunk) - 1, first[chunk]);
  for (int64_t chunk = begin; chunk < end; ++chunk) {
    const Places& p = places[chunk - begin];
    for (int i = 0; i < p.num_parents; ++i) {
      const int64_t parent = chunk * kChunk + p.sources[p.parents[i]];
      write_children(a.tables, a.kind[parent], a.key, parent, first[chunk] + p.parents[i]);
    }
  }
}

}  // namespace

void densify_accumulate(const StatisticsArgs& a, int num_threads) {
#pragma omp parallel for schedule(static) num_threads(num_threads) if (num_threads > 1)
  for (int64_t chunk = 0; chunk < count_chunks(a.n); ++chunk) {
    const int64_t begin = chunk * kChunk, size = std::min(kChunk, a.n - begin);
    float sums[kChunk] = {};
    int32_t views[kChunk] = {};
    for (int64_t view = 0; view < a.num_views; ++view) {
      const float* grad = a.probe_grad + 2 * (view * a.n + begin);
      const int32_t* radius = a.radii + 2 * (view * a.n + begin);
      for (int64_t i = 0; i < size; ++i) {
        const int32_t seen = (radius[2 * i] > 0) & (radius[2 * i + 1] > 0);
        const float norm = finite_norm(grad[2 * i], grad[2 * i + 1]);
        sums[i] += seen ? norm : 0.0f;
        views[i] += seen;
      }
    }
    for (int64_t i = 0; i < size; ++i) {
      a.grad_sum[begin + i] += sums[i];
      a.count[begin + i] += views[i];
    }
  }
}

void densify_classify(const ClassifyArgs& a, int8_t* kind, int64_t* counts, int num_threads) {
  const auto count = [&] {
    int64_t keep = 0, clone = 0, split = 0;
    for (int64_t i = 0; i < a.n; ++i) {
      keep += kind[i] == kKeep;
      clone += kind[i] == kClone;
      split += kind[i] == kSplit;
    }
    counts[kKeep] = keep;
    counts[kClone] = clone;
    counts[kSplit] = split;
    counts[kPrune] = a.n - keep - clone - split;
  };
#pragma omp parallel for schedule(static) num_threads(num_threads) if (num_threads > 1)
  for (int64_t i = 0; i < a.n; ++i)
    kind[i] = classify_splat(a.mean_grad[i], a.scales + 3 * i, a.opacities[i], a.thresholds);
  count();
  const int64_t room = growth_room(a, counts);
  if (counts[kClone] + counts[kSplit] > room) {
    keep_largest(a, room, kind);
    count();
  }
}

bool densify_scatter(const ScatterArgs& a, int num_threads) {
  const int64_t chunks = count_chunks(a.n);
  std::vector<int64_t> first(static_cast<size_t>(chunks) + 1);  // row of the result each chunk starts at
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    int64_t rows = 0;
    for (int64_t i = chunk * kChunk; i < std::min(a.n, (chunk + 1) * kChunk); ++i) rows += num_copies(a.kind[i]);
    first[static_cast<size_t>(chunk) + 1] = first[static_cast<size_t>(chunk)] + rows;
  }
  if (first.back() != a.num_out) return false;
#pragma omp parallel num_threads(num_threads) if (num_threads > 1)
  {
    std::vector<Places> places(static_cast<size_t>(std::min(kGroup, chunks)));
#pragma omp for schedule(static)
    for (int64_t group = 0; group < (chunks + kGroup - 1) / kGroup; ++group)
      scatter_chunks(a, group * kGroup, std::min(chunks, (group + 1) * kGroup), first.data(), places.data());
  }
  return true;
}

void prefer_huge_pages([[maybe_unused]] void* memory, [[maybe_unused]] int64_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kPage = 4096;
  constexpr int64_t kWorthIt = int64_t{4} << 20;  // two huge pages
  if (bytes < kWorthIt) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(memory) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(memory) + static_cast<uintptr_t>(bytes)) / kPage * kPage;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // advice: a refusal changes nothing
#endif
}

}  // namespace sd::cpu
