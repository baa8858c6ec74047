#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <optional>

// Checks and allocation for the ops. The Python side has already told users what is wrong in plain words; these checks
// only keep a wrong call of the raw op from reading memory that is not there.
namespace sd::bind {

using torch::headeronly::DeviceType;
using torch::headeronly::ScalarType;
using torch::stable::Device;
using torch::stable::Tensor;

template <class T>
inline constexpr ScalarType dtype_of = ScalarType::Undefined;
template <>
inline constexpr ScalarType dtype_of<float> = ScalarType::Float;
template <>
inline constexpr ScalarType dtype_of<double> = ScalarType::Double;
template <>
inline constexpr ScalarType dtype_of<int64_t> = ScalarType::Long;
template <>
inline constexpr ScalarType dtype_of<int32_t> = ScalarType::Int;
template <>
inline constexpr ScalarType dtype_of<int8_t> = ScalarType::Char;
template <>
inline constexpr ScalarType dtype_of<bool> = ScalarType::Bool;
template <>
inline constexpr ScalarType dtype_of<uint16_t> = ScalarType::Short;  // bit patterns; torch's uint16 can do little

inline void check_layout(const Tensor& t, const char* name, std::initializer_list<int64_t> sizes,
                         const Device& device = Device(DeviceType::CPU)) {
  bool same = t.dim() == static_cast<int64_t>(sizes.size());
  int64_t dim = 0;
  for (const int64_t size : sizes) same = same && t.size(dim++) == size;
  STD_TORCH_CHECK(same, name, " has an unexpected shape");
  STD_TORCH_CHECK(t.device() == device && t.is_contiguous(), name, " must be contiguous and on the operator's device");
}

// The data of a contiguous tensor of exactly these sizes.
template <class T>
T* checked(const Tensor& t, const char* name, std::initializer_list<int64_t> sizes,
           const Device& device = Device(DeviceType::CPU)) {
  check_layout(t, name, sizes, device);
  STD_TORCH_CHECK(t.scalar_type() == dtype_of<T>, name, " has an unexpected dtype");
  return static_cast<T*>(t.mutable_data_ptr());
}

// The data of a contiguous tensor with the sizes of another.
template <class T>
T* checked_as(const Tensor& t, const char* name, const Tensor& like, const Device& device) {
  bool same = t.dim() == like.dim() && t.scalar_type() == dtype_of<T>;
  for (int64_t dim = 0; same && dim < t.dim(); ++dim) same = t.size(dim) == like.size(dim);
  STD_TORCH_CHECK(same, name, " has an unexpected shape or dtype");
  STD_TORCH_CHECK(t.device() == device && t.is_contiguous(), name, " must be contiguous and on the operator's device");
  return static_cast<T*>(t.mutable_data_ptr());
}

template <class T>
T* data(const Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

template <class T>
Tensor allocate(const Tensor& like, std::initializer_list<int64_t> sizes) {
  return torch::stable::new_empty(like, torch::headeronly::IntHeaderOnlyArrayRef(sizes.begin(), sizes.size()),
                                  dtype_of<T>);
}

inline int num_threads() { return static_cast<int>(torch::stable::get_num_threads()); }

}  // namespace sd::bind
