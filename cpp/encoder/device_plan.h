// Pure arithmetic on batches for a device: buckets of sizes, the parts of a batch that is too large
// for one pass, and where everything lies in the workspace.
#pragma once

#include <cstdint>
#include <vector>

#include "encoder/activations.h"
#include "kernels/device.h"
#include "model/model.h"

namespace vlt {

// Sequences [first, end) of the batch that go through the whole model together.
struct Part {
  int32_t first = 0;
  int32_t end = 0;
  int64_t num_tokens = 0;
};

// What a part's workspace has room for. Sizes are rounded up to a bucket, so that few recordings
// serve all batches; kernels work on the true sizes.
struct Room {
  int64_t tokens = 0;
  int64_t sequences = 0;
  bool recordable = false;  // small enough that launching costs more than a recording's memory
};

// Which results need room in the workspace because the caller's arrays are on the host.
struct StagedResults {
  bool hidden = false;
  bool embedding = false;
};

// Offsets in the workspace: │ batch │ activations │ hidden │ embedding │
struct DeviceLayout {
  uint64_t activations = 0;
  uint64_t hidden = 0;
  uint64_t embedding = 0;
  uint64_t total_bytes = 0;
};

class DevicePlan {
 public:
  // limit: bytes of workspace, 0 for none.
  DevicePlan(const Model& model, const DeviceStream& stream, uint64_t limit);

  // Throws kOutOfMemory where one sequence does not fit the limit.
  std::vector<Part> parts(const int32_t* sequence_starts, int32_t num_sequences,
                          StagedResults staged) const;
  // Whether a batch of these sizes is one part.
  bool is_one_part(int64_t num_tokens, int32_t num_sequences, StagedResults staged) const;

  static Room room(int64_t num_tokens, int64_t num_sequences);
  DeviceLayout layout(const Room& room, StagedResults staged) const;
  const ActivationPlan& activations() const { return activations_; }

  // Never falls when an argument grows.
  uint64_t bytes(int64_t num_tokens, int32_t num_sequences) const;

  // Tokens of a part at most: the rates of the kernels no longer grow, the workspace would.
  static constexpr int64_t kMaxTokens = int64_t{1} << 17;
  static constexpr int64_t kMaxSequences = int64_t{1} << 17;
  // Tokens up to which a forward pass is recorded.
  static constexpr int64_t kMaxRecordedTokens = int64_t{1} << 14;

 private:
  bool fits(int64_t num_tokens, int64_t num_sequences, StagedResults staged) const;

  const Architecture& architecture_;
  const DeviceStream& stream_;
  const uint64_t limit_;
  const ActivationPlan activations_;
};

}  // namespace vlt
