// Owners of the runtime's handles.
#pragma once

#include <memory>

#include "kernels/cuda/launch.h"

namespace vlt::cuda {

// Deletes what the runtime's handles stand for.
struct Destroy {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
using UniqueStream = std::unique_ptr<CUstream_st, Destroy>;
using UniqueEvent = std::unique_ptr<CUevent_st, Destroy>;
using UniqueGraph = std::unique_ptr<CUgraphExec_st, Destroy>;

// On the thread's current device.
inline UniqueEvent new_event(unsigned flags) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, flags), "cudaEventCreate");
  return UniqueEvent(event);
}

}  // namespace vlt::cuda
