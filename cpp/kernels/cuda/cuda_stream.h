// One CUDA stream with what a session needs around it: workspace memory, pinned staging, recorded
// graphs, events.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_operations.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/host_copies.h"
#include "kernels/cuda/pinned_buffer.h"
#include "kernels/cuda/virtual_memory.h"
#include "kernels/device.h"

namespace vlt::cuda {

class CudaStream final : public DeviceStream {
 public:
  // The device must be the thread's current one; later calls see to that themselves.
  CudaStream(const DeviceTraits& device, DType dtype, int max_threads);

  uint64_t granularity() const override { return memory_.granularity(); }
  std::byte* reserve(uint64_t bytes) override;
  bool commit(std::byte* base, uint64_t from, uint64_t to) override;
  bool decommit(std::byte* base, uint64_t from, uint64_t to) override;
  void unreserve(std::byte* base, uint64_t bytes) noexcept override;

  uint64_t batch_bytes(int64_t max_tokens, int64_t max_sequences,
                       int64_t max_chosen) const override;
  void upload(const BatchRoom& room, const BatchArrays& arrays,
              const DeviceResults& results) override;
  Operations& begin(const BatchRoom& room, const BatchLimits& limits) override;
  void* hidden_slot(const BatchRoom& room) const override;
  void* embedding_slot(const BatchRoom& room) const override;

  void replay(uint64_t key, const std::function<void()>& body) override;
  void record(uint64_t key, const std::function<void()>& body) override;
  void forget_recordings() override;
  size_t num_recordings() const override { return graphs_.size(); }

  bool enter(void* callers_stream) override;
  void finish() override;

  void download(void* host, const void* device, uint64_t bytes) override;
  void copy(void* to, const void* from, uint64_t bytes) override;
  void fill(void* device, int byte, uint64_t bytes) override;
  void synchronize() override;
  bool has_problem() const override;
  InputProblem take_problem() override;

  void mark() override;
  std::vector<double> take_times() override;

 private:
  void upload_arrays(const BatchRoom& room, const BatchArrays& arrays, BatchHeader header);
  UniqueGraph captured(const std::function<void()>& body);

  const DeviceTraits device_;
  const UniqueStream own_stream_;
  cudaStream_t stream_;         // where work goes: the own one, or a caller's during its run
  const UniqueEvent uploaded_;  // the staged input has been read
  const UniqueEvent finished_;  // the latest run, in whichever stream it went
  VirtualMemory memory_;
  PinnedBuffer input_;
  HostCopies copies_;
  PinnedBuffer error_memory_;
  InputError* const error_;  // in pinned memory: kernels write it
  CudaOperations operations_;
  std::map<uint64_t, UniqueGraph> graphs_;
  std::vector<UniqueEvent> marks_;  // kept for the next profile
  size_t num_marks_ = 0;
};

}  // namespace vlt::cuda
