#pragma once

#include "../common/half.h"
#include "../common/residual.h"

// W neighbouring elements of a tensor of any type, read and written in one access.
namespace sd::cuda {

template <class E, int W>
struct alignas(sizeof(E) * W) Vector {
  E v[W];
};

template <class E, int W>
SD_HD Vector<E, W> vector_at(const void* data, int64_t index) {
  return *reinterpret_cast<const Vector<E, W>*>(static_cast<const E*>(data) + index);
}

template <class E, int W>
SD_HD void put_vector(void* data, int64_t index, const Vector<E, W>& vector) {
  auto* to = reinterpret_cast<Vector<E, W>*>(static_cast<E*>(data) + index);
#if defined(__CUDA_ARCH__)
  // Where a plain assignment is inlined, the compiler stores one element after another.
  constexpr int kWords = sizeof vector / sizeof(uint32_t);
  if constexpr (W > 1) {
    static_assert(kWords % 4 == 0 || kWords == 2);
    uint32_t word[kWords];
    memcpy(word, &vector, sizeof vector);
    const size_t address = __cvta_generic_to_global(to);
    if constexpr (kWords == 2) {
      asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(word[0]), "r"(word[1]) : "memory");
    } else {
      for (int i = 0; i < kWords; i += 4)
        asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address + i * sizeof(uint32_t)), "r"(word[i]),
                     "r"(word[i + 1]), "r"(word[i + 2]), "r"(word[i + 3])
                     : "memory");
    }
    return;
  }
#endif
  *to = vector;
}

template <class T, class E, int W>
SD_HD Vector<T, W> converted(const Vector<E, W>& from) {
  Vector<T, W> out;
  for (int j = 0; j < W; ++j) out.v[j] = static_cast<T>(from.v[j]);
  return out;
}

template <class T, int W>
SD_HD Vector<T, W> widened(const Vector<uint16_t, W>& from, Dtype dtype) {
  Vector<T, W> out;
  for (int j = 0; j < W; ++j)
    out.v[j] = static_cast<T>(dtype == Dtype::kHalf ? from_half(from.v[j]) : from_bfloat16(from.v[j]));
  return out;
}

SD_HD bool is_half(Dtype dtype) { return dtype == Dtype::kHalf || dtype == Dtype::kBFloat16; }

// Elements on their way. Halves stay as they lie in memory, so that every term is asked for before any is waited for.
template <class T, int W>
union Fetched {
  Vector<float, W> wide;
  Vector<uint16_t, W> halves;
};
template <int W>
union Fetched<double, W> {
  Vector<double, W> wide;
};

template <class T, int W>
SD_HD Fetched<T, W> fetch(const Source& source, int64_t index) {
  Fetched<T, W> out;
  if (is_half(source.dtype)) {
    const Vector<uint16_t, W> halves = vector_at<uint16_t, W>(source.data, index);
    if constexpr (sizeof(T) == sizeof(float)) {
      out.halves = halves;
    } else {
      out.wide = widened<T, W>(halves, source.dtype);
    }
  } else if (source.dtype == Dtype::kFloat) {
    out.wide = converted<T>(vector_at<float, W>(source.data, index));
  } else {
    out.wide = converted<T>(vector_at<double, W>(source.data, index));
  }
  return out;
}

template <class T, int W>
SD_HD Vector<T, W> arrived(const Fetched<T, W>& fetched, Dtype dtype) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (is_half(dtype)) return widened<T, W>(fetched.halves, dtype);
  }
  return fetched.wide;
}

// Writes W values of the type computed in as `dtype`.
template <class T, int W>
SD_HD void store(void* data, Dtype dtype, int64_t index, const Vector<T, W>& values) {
  if (!is_half(dtype)) return put_vector(data, index, values);
  Vector<uint16_t, W> halves;
  for (int j = 0; j < W; ++j) {
    const float value = static_cast<float>(values.v[j]);
    halves.v[j] = dtype == Dtype::kHalf ? to_half(value) : to_bfloat16(value);
  }
  put_vector(data, index, halves);
}

// Whether vectors of 4 lie where such accesses may go, in every view.
inline bool aligned_for_vectors(const void* data, Dtype dtype, int64_t view_size) {
  const size_t bytes = dtype == Dtype::kDouble ? 8 : dtype == Dtype::kFloat ? 4 : 2;
  return view_size % 4 == 0 && reinterpret_cast<uintptr_t>(data) % (4 * bytes) == 0;
}

}  // namespace sd::cuda
