// Where each intermediate of a forward pass lies in one block of memory, so that those whose
// lifetimes do not meet share bytes. A pure function: records in, offsets out.
//
//   address ▲            ┌──────────┐                 peak = the most bytes alive at once
//           │   ┌────────┤ expanded │
//           │   │ context├──────────┤
//           │ ┌─┴──┬─────┤ attended │
//           │ │ qkv│     └──────────┘
//           │ ├────┴────────────────┐
//           │ │       states        │
//           └─┴─────────────────────┴──▶ operation
//
// Without padding every size is proportional to the tokens T or the sequences S of the batch. So
// the plan is made once for T = 1 and S = 1 and scaled: a batch costs two multiplications a buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vlt {

// One buffer: alive from operation first_op to last_op, both included. One of the sizes is zero.
struct UsageRecord {
  int first_op = 0;
  int last_op = 0;
  uint64_t bytes_per_token = 0;
  uint64_t bytes_per_sequence = 0;
};

class LifetimePlan {
 public:
  LifetimePlan() = default;

  // Sizes are rounded up to the alignment, a power of two, per token and per sequence.
  LifetimePlan(const std::vector<UsageRecord>& records, uint64_t alignment);

  // Offset of records[index] from the start of the block.
  uint64_t offset(size_t index, uint64_t num_tokens, uint64_t num_sequences) const;

  // Bytes of the block; grows with either argument.
  uint64_t peak_bytes(uint64_t num_tokens, uint64_t num_sequences) const {
    return peak_per_token_ * num_tokens + peak_per_sequence_ * num_sequences;
  }

  // The most tokens with which the block stays within `bytes`; 0 where not even one fits.
  uint64_t most_tokens(uint64_t bytes, uint64_t num_sequences) const;

 private:
  struct Placement {
    bool per_sequence = false;
    uint64_t unit_offset = 0;  // bytes per token, or per sequence behind all tokens' part
  };
  std::vector<Placement> placements_;
  uint64_t peak_per_token_ = 0;
  uint64_t peak_per_sequence_ = 0;
};

}  // namespace vlt
