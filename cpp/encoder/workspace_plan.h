// Pure arithmetic on batches: into which chunks a batch is cut so that a limit is kept, and where
// each worker's part of the workspace lies.
#pragma once

#include <cstddef>
#include <cstdint>

#include "encoder/activations.h"
#include "encoder/schedule.h"
#include "model/model.h"

namespace vlt {

// The workspace of one run:
//
//   │ scratch of worker 0 │ … │ activations of lane 0 │ … │
//
// A lane is a worker that works alone, or all of them together.
struct WorkspaceLayout {
  uint64_t scratch_bytes = 0;  // of one worker
  uint64_t lane_bytes = 0;
  uint64_t lanes_offset = 0;
  uint64_t total_bytes = 0;

  std::byte* lane(std::byte* block, int index) const {
    return block + lanes_offset + static_cast<uint64_t>(index) * lane_bytes;
  }
};

class WorkspacePlan {
 public:
  // limit: bytes, of which whole steps of `granularity` are used; 0 for none.
  WorkspacePlan(const Model& model, int num_workers, uint64_t limit, uint64_t granularity,
                uint64_t red_zone_bytes);

  // The part of the limit that can be held: whole steps of the granularity.
  uint64_t usable_limit() const { return limit_ / granularity_ * granularity_; }

  // Throws kOutOfMemory where the longest sequence does not fit the limit.
  Schedule schedule(const int32_t* sequence_starts, int32_t num_sequences, int32_t longest) const;
  WorkspaceLayout layout(const Schedule& schedule, int32_t longest) const;
  const ActivationPlan& activations() const { return activations_; }

  // Never less than what layout() asks for batches within these sizes without a limit, and never
  // falls when one of them grows.
  uint64_t bytes(int64_t num_tokens, int32_t num_sequences, int32_t max_length) const;

 private:
  uint64_t scratch_bytes(int64_t longest) const;  // of one worker
  uint64_t whole(uint64_t bytes) const;           // rounded up to the granularity
  ChunkLimits chunk_limits(int32_t num_sequences, int32_t longest, int workers) const;

  const Architecture& architecture_;
  const HostBackend& backend_;
  const int num_workers_;
  const uint64_t limit_;
  const uint64_t granularity_;
  const ActivationPlan activations_;
};

}  // namespace vlt
