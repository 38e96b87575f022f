// One caller's stream of work on a model: schedules batches, owns the workspace, counts.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "allocator/arena.h"
#include "encoder/activations.h"
#include "encoder/packed_batch.h"
#include "encoder/profile.h"
#include "encoder/schedule.h"
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

  // Throws vlt::Error, and std::bad_alloc where the workspace cannot grow; usable afterwards.
  void run(const PackedBatch& batch, const Outputs& outputs);

  // Ends the run in progress early, from any thread; without one it does nothing.
  void request_stop();

  uint64_t workspace_bytes(int64_t num_tokens, int32_t num_sequences, int32_t max_length) const;
  void reserve(int64_t num_tokens, int32_t num_sequences, int32_t max_length);

  const Model& model() const { return *model_; }
  const SessionStats& stats() const { return stats_; }
  const Profile& profile() const { return profile_; }
  int num_workers() const { return stream_->num_workers(); }

 private:
  struct Layout;
  uint64_t scratch_bytes(int64_t longest) const;  // of one worker
  ChunkLimits chunk_limits(int32_t num_sequences, int32_t longest, int workers) const;
  Schedule schedule(const PackedBatch& batch, int32_t longest) const;
  Layout lay_out(const Schedule& schedule, int32_t longest) const;
  std::byte* acquire(const Layout& layout);
  void run_chunks(const PackedBatch& batch, const Outputs& outputs, const Schedule& schedule,
                  const Layout& layout, std::byte* block);
  void run_chunk(const PackedBatch& batch, const Outputs& outputs, const Chunk& chunk,
                 std::byte* block, Operations& operations) const;

  const std::shared_ptr<const Model> model_;
  const SessionOptions options_;
  // VLT_POISON_WORKSPACE: NaN in all of the workspace before each use, red zones in it
  const bool poison_;
  const ActivationPlan plan_;
  const std::unique_ptr<Stream> stream_;
  CallbackMemory callback_memory_;  // unused without callbacks
  Arena arena_;
  SessionStats stats_;
  Profile profile_;
  std::atomic<bool> running_{false};
  std::atomic<bool> stop_{false};
};

}  // namespace vlt
