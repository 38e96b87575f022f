// A batch of sequences laid end to end, as the caller passed it, and the checks it must pass.
#pragma once

#include <cstdint>

#include "model/architecture.h"

namespace vlt {

// Borrowed arrays, as in vlt_packed_batch of vlt.h.
struct PackedBatch {
  int64_t num_tokens = 0;
  int32_t num_sequences = 0;
  const int32_t* token_ids = nullptr;
  const int32_t* sequence_starts = nullptr;
  const int32_t* token_types = nullptr;
  const int32_t* pooling_starts = nullptr;
  bool on_device = false;          // the four arrays above
  void* callers_stream = nullptr;  // in whose order arrays on the device are read and written
  int32_t num_chosen = 0;
  const int32_t* chosen_tokens = nullptr;  // on the host
};

// The chosen tokens from `begin` on and before `end`: the first of them, counted among all, and how
// many there are. chosen: ascending.
struct ChosenRange {
  int32_t first = 0;
  int32_t count = 0;
};
ChosenRange chosen_between(const int32_t* chosen, int32_t num_chosen, int64_t begin, int64_t end);

// Throws kInvalidArgument unless the numbers of tokens and sequences are possible and the arrays
// that they need are there. All that can be said of arrays on a device.
void check_sizes(const PackedBatch& batch);

// What starts and pooling starts on the host must keep.
void check_sequences(const PackedBatch& batch, const Architecture& architecture);

// check_sizes(), check_sequences(), and every value of arrays on the host. Throws kInvalidArgument naming the sequence, the position and the value at fault.
void check_batch(const PackedBatch& batch, const Architecture& architecture);

}  // namespace vlt
