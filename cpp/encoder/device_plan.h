// Pure arithmetic on batches for a device: buckets of sizes, the parts of a batch that is too large
// for one pass, and where everything lies in the workspace.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "encoder/activations.h"
#include "encoder/outputs.h"
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
  int64_t chosen = 0;
  bool recordable = false;  // small enough that launching costs more than a recording's memory

  int64_t rows(RowsOf of) const { return RowCounts{tokens, sequences, chosen}.of(of); }
};

// Which results need room in the workspace: those whose arrays are on the host, and those of which
// the last operation cannot look for the caller's array on the device. By OutputKind.
using StagedResults = std::array<bool, kOutputKinds.size()>;

// Offsets in the workspace: │ batch │ activations │ results, by OutputKind │
struct DeviceLayout {
  uint64_t activations = 0;
  std::array<uint64_t, kOutputKinds.size()> results{};
  uint64_t total_bytes = 0;
};

class DevicePlan {
 public:
  // limit: bytes of workspace, 0 for none.
  DevicePlan(const Model& model, const DeviceStream& stream, uint64_t limit);

  // Throws kOutOfMemory where one sequence does not fit the limit.
  std::vector<Part> parts(const int32_t* sequence_starts, int32_t num_sequences, int32_t num_chosen,
                          const StagedResults& staged) const;
  // Whether a batch of these sizes is one part.
  bool is_one_part(int64_t num_tokens, int32_t num_sequences, int32_t num_chosen,
                   const StagedResults& staged) const;

  static Room room(int64_t num_tokens, int64_t num_sequences, int64_t num_chosen);
  DeviceLayout layout(const Room& room, const StagedResults& staged) const;
  const ActivationPlan& activations() const { return activations_; }

  // Never falls when an argument grows.
  uint64_t bytes(int64_t num_tokens, int32_t num_sequences) const;

  // Tokens of a part at most: the rates of the kernels no longer grow, the workspace would.
  static constexpr int64_t kMaxTokens = int64_t{1} << 17;
  static constexpr int64_t kMaxSequences = int64_t{1} << 17;
  // Bytes of staged results of a part at most, unless a single sequence has more: a row of a
  // vocabulary is long.
  static constexpr uint64_t kMostStagedBytes = uint64_t{1} << 29;
  // Tokens up to which a forward pass is recorded.
  static constexpr int64_t kMaxRecordedTokens = int64_t{1} << 14;

 private:
  bool fits(const Room& room, const StagedResults& staged) const;
  uint64_t staged_bytes(OutputKind kind, const Room& room) const;

  const Architecture& architecture_;
  const DeviceStream& stream_;
  const uint64_t limit_;
  const ActivationPlan activations_;
};

}  // namespace vlt
