// Where each intermediate of a forward pass lies in one block of memory, so that those whose
// lifetimes do not meet share bytes. Pure functions: records in, offsets out.
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
// Without padding a size is a + b·T + c·S of the batch's tokens and sequences, so only the order in
// which buffers are stacked has to be found, once: for every two buffers alive at the same time, it
// says which lies below. For a batch each buffer then rests on the highest of those below it:
//
//   offset(i) = max over j below i of offset(j) + size(j)
//
// Two buffers alive together cannot overlap, whatever their sizes: one of them rests on the other.
// No offset ever falls when T or S grows. And a batch costs a few additions a buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vlt {

struct BatchSize {
  uint64_t num_tokens = 0;
  uint64_t num_sequences = 0;
};

// One buffer: alive from operation first_op to last_op, both included.
struct UsageRecord {
  int first_op = 0;
  int last_op = 0;
  uint64_t constant_bytes = 0;      // a
  uint64_t bytes_per_token = 0;     // b
  uint64_t bytes_per_sequence = 0;  // c

  uint64_t bytes(const BatchSize& batch) const {
    return constant_bytes + bytes_per_token * batch.num_tokens +
           bytes_per_sequence * batch.num_sequences;
  }
};

// The most bytes alive at any one operation, each size rounded up to the alignment: no plan for
// this batch can have a lower peak.
uint64_t live_bytes_bound(const std::vector<UsageRecord>& records, uint64_t alignment,
                          const BatchSize& batch);

class LifetimePlan {
 public:
  LifetimePlan() = default;

  // Finds an order for batches of about the typical size; sizes of one common factor (all per
  // token, say) have the same best order whatever the batch. alignment is a power of two.
  LifetimePlan(std::vector<UsageRecord> records, uint64_t alignment, const BatchSize& typical);

  // Writes the offset of each record from the start of the block, a multiple of the alignment, and
  // returns the bytes of the block. Allocates nothing.
  uint64_t place(const BatchSize& batch, uint64_t* offsets) const;

  // Bytes of the block; never falls when the batch grows in either size.
  uint64_t peak_bytes(const BatchSize& batch) const;

  // The most tokens with which the block stays within `bytes`; 0 where not even one fits.
  uint64_t most_tokens(uint64_t bytes, uint64_t num_sequences) const;

 private:
  uint64_t size(size_t index, const BatchSize& batch) const;

  std::vector<UsageRecord> records_;
  uint64_t alignment_ = 1;
  std::vector<size_t> order_;               // bottom up
  std::vector<std::vector<size_t>> below_;  // for order_[k]: records alive with it, lower down
};

}  // namespace vlt
