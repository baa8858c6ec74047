#pragma once

#include <pthread.h>

#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

// A kernel on threads of the host, for ThreadSanitizer: two blocks at once with eight threads each, which meet between
// two phases and nowhere else. So what only a barrier that is not there would order is a race here too.
namespace sd::cuda {

constexpr int kHostBlocks = 2, kHostThreads = 8;

// Which thread of the host is the kernel's thread j: another one for every j that differs in one bit, so that those
// which exchange something by halves are never the same.
inline int host_thread(int j) { return (j ^ (j >> 3) ^ (j >> 6) ^ (j >> 9)) % kHostThreads; }

template <class Kernel>
void run_on_threads(const typename Kernel::Args& args, int64_t blocks) {
  struct Block {
    typename Kernel::Shared shared;
    pthread_barrier_t barrier;
  };
  std::unique_ptr<Block> at_once[kHostBlocks];
  std::vector<std::thread> threads;
  for (int b = 0; b < kHostBlocks && b < blocks; ++b) {
    at_once[b] = std::make_unique<Block>();
    Block& block = *at_once[b];
    pthread_barrier_init(&block.barrier, nullptr, kHostThreads);
    for (int t = 0; t < kHostThreads; ++t)
      threads.emplace_back([&args, &block, blocks, b, t] {
        for (int64_t i = b; i < blocks; i += kHostBlocks)
          for (int phase = 0; phase < Kernel::kPhases; ++phase) {
            for (int j = 0; j < Kernel::kThreads; ++j)
              if (host_thread(j) == t) Kernel::run(phase, args, block.shared, {i, j});
            pthread_barrier_wait(&block.barrier);
          }
      });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::unique_ptr<Block>& block : at_once)
    if (block) pthread_barrier_destroy(&block->barrier);
}

}  // namespace sd::cuda
