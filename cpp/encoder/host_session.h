// A session on the host: the workers of a thread team, each chunk of a batch shared or alone.
#pragma once

#include "encoder/session.h"
#include "encoder/workspace_plan.h"
#include "kernels/backend.h"

namespace vlt {

class HostSession final : public Session {
 public:
  HostSession(std::shared_ptr<const Model> model, const SessionOptions& options);

  void run(const PackedBatch& batch, const Outputs& outputs) override;
  uint64_t workspace_bytes(int64_t num_tokens, int32_t num_sequences,
                           int32_t max_length) const override {
    return plan_.bytes(num_tokens, num_sequences, max_length);
  }
  void reserve(int64_t num_tokens, int32_t num_sequences, int32_t max_length) override;
  int num_workers() const override { return stream_->num_workers(); }

 private:
  std::byte* acquire(uint64_t bytes);
  void run_chunks(const PackedBatch& batch, const Outputs& outputs, const Schedule& schedule,
                  const WorkspaceLayout& layout, std::byte* block);
  void run_chunk(const PackedBatch& batch, const Outputs& outputs, const Chunk& chunk,
                 std::byte* lane, Operations& operations) const;

  const bool profiling_;
  const bool poison_;  // as poison_requested(), and red zones
  const std::unique_ptr<Stream> stream_;
  CallbackMemory callback_memory_;  // unused without callbacks
  MemorySource& memory_source_;
  const uint64_t limit_;  // bytes; 0: none
  const WorkspacePlan plan_;
  Arena arena_;
};

}  // namespace vlt
