// The allocator through plain C functions, for property tests and for the replay of traces.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Plans num_records buffers once for the typical batch, then evaluates the plan for num_batches
// batches: offsets [num_batches, num_records], peaks and bounds [num_batches]. Times in seconds:
// times[0] for planning, times[1] for all evaluations.
void shim_plan(int32_t num_records, const int32_t* first_op, const int32_t* last_op,
               const uint64_t* constant_bytes, const uint64_t* bytes_per_token,
               const uint64_t* bytes_per_sequence, uint64_t alignment, uint64_t typical_tokens,
               uint64_t typical_sequences, int32_t num_batches, const uint64_t* num_tokens,
               const uint64_t* num_sequences, uint64_t* offsets, uint64_t* peaks, uint64_t* bounds,
               double* times);

// The most tokens that fit `bytes` with that many sequences, by a plan made for 128 tokens in one.
uint64_t shim_most_tokens(int32_t num_records, const int32_t* first_op, const int32_t* last_op,
                          const uint64_t* constant_bytes, const uint64_t* bytes_per_token,
                          const uint64_t* bytes_per_sequence, uint64_t alignment, uint64_t bytes,
                          uint64_t num_sequences);

typedef struct shim_arena shim_arena;
typedef struct shim_stats {
  uint64_t held_bytes, peak_held_bytes, system_allocations, releases;
  uint64_t source_bytes;  // committed or allocated bytes the source has out now, by its own count
  uint64_t source_calls;  // calls to the source that could have failed
} shim_stats;

enum { SHIM_HOST = 0, SHIM_CALLBACKS = 1 };

// fail_at: the call to the source, counted from 1, from which on it refuses; 0: never.
// fail_count: how many calls in a row it refuses.
shim_arena* shim_arena_create(int32_t source, uint64_t limit, uint64_t fail_at,
                              uint64_t fail_count);
void* shim_arena_acquire(shim_arena* arena, uint64_t bytes); /* NULL: refused */
int32_t shim_arena_reserve(shim_arena* arena, uint64_t bytes);
void shim_arena_stats(const shim_arena* arena, shim_stats* stats);
uint64_t shim_arena_granularity(const shim_arena* arena);
/* Returns the bytes the source still has out afterwards: 0 unless something leaked. */
uint64_t shim_arena_free(shim_arena* arena);

#ifdef __cplusplus
}
#endif
