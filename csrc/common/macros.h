#pragma once

// Functions written once for host and device. They are static on the host so that a copy compiled for one instruction
// set can never be merged by the linker with a copy compiled for another.
#if defined(__CUDACC__)
#define SD_HD static __host__ __device__ __forceinline__
#else
#define SD_HD [[maybe_unused]] static inline
#endif
