#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "../cpu/densify.h"
#include "tensors.h"

namespace sd::bind {

// Memory for the tensors of one densify event. Most of an event's time would be the system's, handing out fresh pages;
// so the memory of the event before is used again once nothing holds its tensors any more.
class EventMemory {
public:
  static std::shared_ptr<EventMemory> take(const Tensor& like, int64_t bytes) {
    Spare& spare = Spare::instance();
    {
      const std::lock_guard<std::mutex> lock(spare.mutex);
      if (spare.tensor && spare.tensor->numel() >= bytes && spare.tensor->numel() <= 4 * bytes) {
        Tensor tensor = std::move(*spare.tensor);
        spare.tensor.reset();
        return std::make_shared<EventMemory>(std::move(tensor));
      }
    }
    int64_t capacity = kSmallest;  // room to grow costs nothing: the system backs only pages that are written
    while (capacity < bytes) capacity *= 2;
    Tensor tensor = allocate<int8_t>(like, {capacity});
    cpu::prefer_huge_pages(bind::data<char>(tensor), capacity);
    return std::make_shared<EventMemory>(std::move(tensor));
  }

  explicit EventMemory(Tensor tensor) : tensor_(std::move(tensor)) {}
  EventMemory(const EventMemory&) = delete;
  EventMemory& operator=(const EventMemory&) = delete;
  ~EventMemory() {
    if (tensor_.numel() > kLargestSpare) return;
    Spare& spare = Spare::instance();
    const std::lock_guard<std::mutex> lock(spare.mutex);
    spare.tensor = std::move(tensor_);
  }

  char* data() const { return bind::data<char>(tensor_); }

private:
  static constexpr int64_t kSmallest = int64_t{1} << 16;
  static constexpr int64_t kLargestSpare = int64_t{1} << 30;

  struct Spare {
    // Never destroyed: tensors may outlive every other static object.
    static Spare& instance() {
      static Spare& spare = *new Spare;
      return spare;
    }
    std::mutex mutex;
    std::optional<Tensor> tensor;
  };

  Tensor tensor_;
};

}  // namespace sd::bind
