// The memory-bound kernels: planning a batch, embeddings, norms, copies, pooling. Rows are float32,
// float16 or bfloat16; sums, means and variances are float32 in a fixed order.
#pragma once

#include <cstdint>

#include "kernels/cuda/batch.h"
#include "kernels/cuda/launch.h"
#include "kernels/enums.h"

namespace vlt::cuda {

struct PlanArguments {
  const BatchHeader* header = nullptr;
  BatchState* state = nullptr;
  AttentionItem* short_items = nullptr;  // room for max_short_items(max_sequences)
  AttentionItem* long_items = nullptr;   // room for max_long_items(max_tokens)
  int32_t max_tokens = 0;                // bounds that a valid batch keeps: more is an error
  int32_t max_sequences = 0;
  int32_t max_chosen = 0;
  int32_t max_length = 0;  // the model's longest sequence
  int32_t query_tile = 0;  // queries of a long item
  InputError* error = nullptr;
};

// Checks sequence_starts, pooling_starts and chosen_tokens and writes the state and both lists.
void plan_batch(const PlanArguments&, const DeviceTraits&, cudaStream_t);

struct Norm {
  const float* weight = nullptr;  // [H]
  const float* bias = nullptr;    // [H]
  float epsilon = 0;
};

struct EmbedArguments {
  const BatchHeader* header = nullptr;
  const BatchState* state = nullptr;
  DType dtype = DType::kFloat16;     // of the tables and out
  const void* word = nullptr;        // [V, H], rows of `cols` elements without gaps
  const void* position = nullptr;    // [P, H], or null
  const void* token_type = nullptr;  // [Y, H], or null
  int32_t vocab_size = 0;            // V
  int32_t num_token_types = 0;       // Y; 0: none, then every type must be 0
  int32_t position_offset = 0;
  Norm norm;
  void* out = nullptr;  // [T, H]
  int64_t out_stride = 0;
  int32_t cols = 0;      // H
  int32_t max_rows = 0;  // bounds the grid, not the work
  InputError* error = nullptr;
};

// out = norm(word[id] + token_type[type] + position[index in the sequence + offset]). An id or type
// out of range is reported and taken as 0.
void embed_layernorm(const EmbedArguments&, const DeviceTraits&, cudaStream_t);

struct LayerNormArguments {
  const int32_t* num_rows = nullptr;  // M in device memory, at most max_rows
  DType dtype = DType::kFloat16;      // of in
  const void* in = nullptr;           // [M, H]
  int64_t in_stride = 0;
  Norm norm;
  // dtype, or float32; float32 output of 16-bit rows holds the rounded values, so that rows are the
  // same to the bit in both.
  DType out_dtype = DType::kFloat16;
  void* out = nullptr;  // [M, H]; may be `in` where the dtypes are equal
  int64_t out_stride = 0;
  // Where not null, `out` is ignored: the rows, of out_dtype, go to *indirect_out, without gaps and
  // at any alignment. Nothing is written where that is null.
  void* const* indirect_out = nullptr;  // device memory
  int32_t cols = 0;
  int32_t max_rows = 0;  // `in` has room for so many, of which any may be read
};

void layernorm(const LayerNormArguments&, const DeviceTraits&, cudaStream_t);

#ifdef VLT_KERNEL_VARIANTS
// The same to the bit, for benchmarks: a lane takes 1, 2 or 4 rows at once, and constants lie in
// shared memory, as 4 rows leave no registers for them. Float16 of 384, 768 or 1024 columns; false,
// and nothing is done, for anything else.
bool layernorm_by_rows(const LayerNormArguments&, const DeviceTraits&, cudaStream_t, int lane_rows);
#endif

struct AddLayerNormArguments {
  const int32_t* num_rows = nullptr;  // M in device memory, at most max_rows
  DType dtype = DType::kFloat16;      // of in and residual
  const void* in = nullptr;           // [M, H]
  int64_t in_stride = 0;
  const void* residual = nullptr;  // [M, H], or null
  int64_t residual_stride = 0;
  Norm norm;
  DType out_dtype = DType::kFloat16;  // as in LayerNormArguments, like the rest
  void* out = nullptr;  // [M, H]; may be `in` or `residual` where the dtypes are equal
  int64_t out_stride = 0;
  void* const* indirect_out = nullptr;
  int32_t cols = 0;
  int32_t max_rows = 0;  // bounds the grid, not the work
};

// out = norm(in + residual)
void add_layernorm(const AddLayerNormArguments&, const DeviceTraits&, cudaStream_t);

struct CopyArguments {
  const BatchHeader* header = nullptr;
  const BatchState* state = nullptr;
  DType dtype = DType::kFloat16;  // of in
  const void* in = nullptr;       // [rows, H]
  int64_t in_stride = 0;
  const void* const* indirect_in = nullptr;  // as in LayerNormArguments: rows of dtype
  DType out_dtype = DType::kFloat16;
  void* out = nullptr;  // [rows, width · H]
  int64_t out_stride = 0;
  void* const* indirect_out = nullptr;  // rows of out_dtype
  int32_t cols = 0;                     // H
  int32_t width = 1;                    // odd; 1 but for unfold()
  int32_t max_rows = 0;                 // of out: bounds the grid, not the work
};

// The rows of chosen tokens; a token's neighbours side by side; and, for states of one token a
// sequence, what pool() leaves of them: as Operations says.
void gather_chosen(const CopyArguments&, const DeviceTraits&, cudaStream_t);
void unfold(const CopyArguments&, const DeviceTraits&, cudaStream_t);
void pool_single(const CopyArguments&, const DeviceTraits&, cudaStream_t);

struct PoolArguments {
  const BatchHeader* header = nullptr;  // for sequence_starts and pooling_starts
  const BatchState* state = nullptr;
  DType dtype = DType::kFloat16;  // of states
  const void* states = nullptr;   // [T, H]
  int64_t states_stride = 0;
  // As in LayerNormArguments: rows of dtype, without gaps and at any alignment.
  const void* const* indirect_states = nullptr;
  PoolingMode modes[6] = {};
  int32_t num_modes = 0;
  DType out_dtype = DType::kFloat32;
  void* out = nullptr;  // [S, H · modes]
  int64_t out_stride = 0;
  void* const* indirect_out = nullptr;  // as in LayerNormArguments: rows of out_dtype
  int32_t cols = 0;                     // H
  int32_t max_sequences = 0;            // bounds the grid, not the work
};

// Each sequence's states reduced by every mode in turn, as vlt::Operations::pool says.
void pool(const PoolArguments&, const DeviceTraits&, cudaStream_t);

struct NormalizeArguments {
  const BatchState* state = nullptr;
  DType dtype = DType::kFloat32;
  const void* in = nullptr;  // [S, E]
  int64_t in_stride = 0;
  DType out_dtype = DType::kFloat32;
  void* out = nullptr;  // may be `in` where the dtypes are equal
  int64_t out_stride = 0;
  void* const* indirect_in = nullptr;   // as in LayerNormArguments: rows of dtype
  void* const* indirect_out = nullptr;  // rows of out_dtype
  bool divide = true;                   // false: rows are only converted
  int32_t cols = 0;
  int32_t max_sequences = 0;
};

// Rows divided by max(L2 norm, 1e-12), or only converted.
void normalize(const NormalizeArguments&, const DeviceTraits&, cudaStream_t);

}  // namespace vlt::cuda
