// A session on a device: brings a batch there, runs the forward pass in one stream without waiting
// in between, and fetches the results.
#pragma once

#include "encoder/device_memory_source.h"
#include "encoder/device_plan.h"
#include "encoder/session.h"
#include "kernels/device.h"

namespace vlt {

class DeviceSession final : public Session {
 public:
  DeviceSession(std::shared_ptr<const Model> model, const SessionOptions& options);
  ~DeviceSession() override;

  // Returns before the work is done where the caller named a stream and every result stays on the
  // device; what device arrays did wrong is then reported by the next call.
  void run(const PackedBatch& batch, const Outputs& outputs) override;
  void synchronize() override;
  uint64_t workspace_bytes(int64_t num_tokens, int32_t num_sequences,
                           int32_t max_length) const override;
  void reserve(int64_t num_tokens, int32_t num_sequences, int32_t max_length) override;

 private:
  struct Workspace {
    BatchRoom room;
    std::byte* activations = nullptr;
    std::array<void*, kOutputKinds.size()> results{};  // staging, or the caller's arrays
  };

  void abandon(bool waits);
  void run_parts(const PackedBatch& batch, const Outputs& outputs);
  void run_part(const BatchArrays& whole, const Part& part, const Outputs& outputs);
  Workspace acquire(const Room& room, const Outputs& outputs);
  Matrix result_of(OutputKind kind, const Workspace& workspace, const Outputs& outputs) const;
  void forward_part(const Workspace& workspace, const BatchArrays& arrays, const Outputs& outputs,
                    Observer* observer);
  void fetch(const Workspace& workspace, const BatchArrays& arrays, const Outputs& outputs);
  void record_buckets(int64_t num_tokens);

  const bool profiling_;
  const bool poison_;
  const bool recording_;
  const std::unique_ptr<DeviceStream> stream_;
  DeviceMemorySource memory_source_;
  const uint64_t limit_;  // bytes; 0: none
  const DevicePlan plan_;
  Arena arena_;
  const std::byte* recorded_block_ = nullptr;  // where the workspace was when work was recorded
};

}  // namespace vlt
