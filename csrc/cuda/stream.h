#pragma once

// CUDA's own name for a stream (cudaStream_t), so that files which only pass one on need none of its headers.
struct CUstream_st;

namespace sd::cuda {

using Stream = CUstream_st*;

}  // namespace sd::cuda
