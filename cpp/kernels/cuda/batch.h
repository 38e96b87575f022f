// What kernels know of a batch: structs in device memory, so that one captured graph serves every
// mix of lengths. Nothing here is read by the host while work is in flight.
#pragma once

#include <cstdint>

namespace vlt::cuda {

// Uploaded before each run, with the caller's own arrays by address: input and output need no copy.
struct BatchHeader {
  int32_t num_tokens;              // T
  int32_t num_sequences;           // S
  int32_t num_chosen;              // C
  const int32_t* token_ids;        // [T]
  const int32_t* token_types;      // [T], or null for all zero
  const int32_t* sequence_starts;  // [S + 1], from 0; as the caller gave them, not yet checked
  const int32_t* pooling_starts;   // [S], or null for all zero
  const int32_t* chosen_tokens;    // [C], ascending; not yet checked
  void* hidden;                    // [T, H] float32, or null
  void* embedding;                 // [S, E] float32, or null
};

// Sequences up to this length are "short": all their keys fit one block at once.
constexpr int32_t kShortLength = 128;
// Short sequences by length: up to 16, 32, 64, 128 tokens. A sequence's class depends on nothing
// but its own length, so its bits do not depend on its neighbours.
constexpr int kNumShortClasses = 4;

// Short: one sequence and all its queries. Long: up to `query_tile` queries, whole groups of 64 but
// for the sequence's last. A sequence's items have as many groups, give or take one: 256 queries make
// two items of 128, not one of 192 and one of 64.
constexpr int kQueryGroup = 64;
struct AttentionItem {
  int32_t first_row;    // of the sequence
  int32_t length;       // of the sequence
  int32_t query_begin;  // in the sequence
  int32_t query_end;
};

// Written by plan_batch(), read by every other kernel. A batch that breaks a rule of vlt.h is
// reported in InputError and has zero of everything here, so that no kernel touches it.
struct BatchState {
  int32_t num_tokens;
  int32_t num_sequences;
  int32_t num_chosen;
  // Short items of class c are short_items[short_begin[c] … short_begin[c + 1]).
  int32_t short_begin[kNumShortClasses + 1];
  int32_t num_long_items;  // sorted, longest sequence first
};

// Bounds on the lists of a plan: a long sequence has L > 128, so ceil(L / 64) < L / 32.
constexpr int64_t max_short_items(int64_t num_sequences) { return num_sequences; }
constexpr int64_t max_long_items(int64_t num_tokens) { return num_tokens / 32; }

// In host memory that the device can write; only the first error of a run is kept.
struct InputError {
  enum Kind : int32_t {
    kNone = 0,
    kStartsNotAscending,  // index: s of starts[s + 1], value: starts[s + 1]
    kFirstStartNotZero,   // value: starts[0]
    kLastStartNotTokens,  // value: starts[S]
    kTooLong,             // index: sequence, value: its length
    kTokenId,             // index: position in the batch, value: the id
    kTokenType,           // likewise
    kPoolingStart,        // index: sequence, value
    kChosenToken          // index: among the chosen tokens, value: the token
  };
  int32_t kind;
  int32_t index;
  int32_t value;
};

}  // namespace vlt::cuda
