// Where a batch lies in the workspace: the header with copies of the caller's host arrays, which one
// transfer brings there, then what the device works out from them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/batch.h"

namespace vlt::cuda {

struct BatchBlock {
  uint64_t input_bytes = 0;  // header and arrays
  uint64_t state = 0;        // offsets
  uint64_t short_items = 0;
  uint64_t long_items = 0;
  uint64_t total_bytes = 0;

  static constexpr uint64_t kAlignment = 256;
  static constexpr uint64_t aligned(uint64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  static constexpr uint64_t array_bytes(int64_t count) {
    return aligned(static_cast<uint64_t>(count) * sizeof(int32_t));
  }

  BatchBlock(int64_t max_tokens, int64_t max_sequences, int64_t max_chosen) {
    input_bytes = aligned(sizeof(BatchHeader)) + 2 * array_bytes(max_tokens) +
                  array_bytes(max_sequences + 1) + array_bytes(max_sequences) +
                  array_bytes(max_chosen);
    state = input_bytes;
    short_items = state + aligned(sizeof(BatchState));
    long_items = short_items + items_bytes(max_short_items(max_sequences));
    total_bytes = long_items + items_bytes(max_long_items(max_tokens));
  }

 private:
  static uint64_t items_bytes(int64_t count) {
    return aligned(static_cast<uint64_t>(count) * sizeof(AttentionItem));
  }
};

}  // namespace vlt::cuda
