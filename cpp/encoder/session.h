// One caller's stream of work on a model: plans batches, owns the workspace, counts.
#pragma once

#include <cstdint>
#include <memory>

#include "allocator/arena.h"
#include "encoder/packed_batch.h"
#include "encoder/profile.h"
#include "encoder/stop_signal.h"
#include "encoder/workspace_plan.h"
#include "kernels/backend.h"
#include "model/model.h"

namespace vlt {

struct SessionOptions {
  int num_workers = 1;
  uint64_t workspace_limit = 0;  // bytes; 0: none
  bool profile = false;
  AllocationCallbacks callbacks;  // where the workspace comes from; no functions: the system
};

struct SessionStats {
  ArenaStats memory;
  uint64_t planned_peak_bytes = 0;
  uint64_t runs = 0;
  uint64_t parts = 0;
  double planning_seconds = 0;
};

// Where results go; null for what is not wanted.
struct Outputs {
  float* hidden = nullptr;     // [T, H]
  float* embedding = nullptr;  // [S, D]
};

// One thread at a time, except request_stop().
class Session {
 public:
  Session(std::shared_ptr<const Model> model, const SessionOptions& options);

  // Throws vlt::Error; usable afterwards.
  void run(const PackedBatch& batch, const Outputs& outputs);

  // Ends the run in progress early, from any thread; without one it does nothing.
  void request_stop() { stop_.request(); }

  uint64_t workspace_bytes(int64_t num_tokens, int32_t num_sequences, int32_t max_length) const {
    return plan_.bytes(num_tokens, num_sequences, max_length);
  }
  void reserve(int64_t num_tokens, int32_t num_sequences, int32_t max_length);

  const Model& model() const { return *model_; }
  const SessionStats& stats() const { return stats_; }
  const Profile& profile() const { return profile_; }
  int num_workers() const { return stream_->num_workers(); }

 private:
  std::byte* acquire(uint64_t bytes);
  void run_chunks(const PackedBatch& batch, const Outputs& outputs, const Schedule& schedule,
                  const WorkspaceLayout& layout, std::byte* block);
  void run_chunk(const PackedBatch& batch, const Outputs& outputs, const Chunk& chunk,
                 std::byte* lane, Operations& operations) const;

  const std::shared_ptr<const Model> model_;
  const bool profiling_;
  // VLT_POISON_WORKSPACE: NaN in all of the workspace before each use, red zones in it
  const bool poison_;
  const std::unique_ptr<Stream> stream_;
  CallbackMemory callback_memory_;  // unused without callbacks
  MemorySource& memory_source_;
  const uint64_t limit_;  // bytes; 0: none
  const WorkspacePlan plan_;
  Arena arena_;
  SessionStats stats_;
  Profile profile_;
  StopSignal stop_;
};

}  // namespace vlt
