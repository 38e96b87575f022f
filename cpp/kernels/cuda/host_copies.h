// Brings results to memory of the host that the device cannot write: pieces arrive in pinned buffers
// and are copied on, by several threads where there is much of it. A single thread copies into fresh
// pages at 4 to 5 GB/s, a tenth of what arrives.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "kernels/cuda/handles.h"
#include "kernels/cuda/pinned_buffer.h"

namespace vlt::cuda {

class HostCopies {
 public:
  // max_threads: that may work at once, the caller's among them; others live for one call.
  HostCopies(int device, int max_threads) : device_(device), max_threads_(max_threads) {}

  // Behind what the stream holds; returns when everything is there.
  void copy(void* host, const void* device, uint64_t bytes, cudaStream_t stream);

 private:
  // What one thread needs: one half is filled while the other is emptied.
  struct Lane {
    PinnedBuffer halves;
    UniqueEvent arrived[2];
  };
  struct Job {
    std::byte* to;
    const std::byte* from;
    uint64_t bytes;
    cudaStream_t stream;
    std::atomic<uint64_t> next{0};  // where the first piece begins that nobody has taken
  };

  Lane& lane(size_t index);
  static void work(Lane& lane, Job& job);
  static void work_in_thread(int device, Lane& lane, Job& job,
                             std::exception_ptr& failure) noexcept;

  const int device_;
  const int max_threads_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace vlt::cuda
