// Attention on the GPU at any length: out = softmax(q · kᵀ · scale) · v for each sequence and head,
// where RelativeWeights may change the scores as backend.h says.
// qkv [T, 3·A·D] holds all queries, then all keys, then all values, head-major; out is [T, A·D].
//
// Short sequences (up to kShortLength) and long ones are two launches over the lists of one plan;
// either list may be empty. Lengths are read on the device.
#pragma once

#include <cstdint>

#include "kernels/cuda/batch.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/relative.h"

namespace vlt::cuda {

struct AttentionArguments {
  DType dtype = DType::kFloat16;  // of qkv and out
  const BatchState* state = nullptr;
  const AttentionItem* short_items = nullptr;
  const AttentionItem* long_items = nullptr;
  const void* qkv = nullptr;
  int64_t qkv_stride = 0;  // elements; rows are 16-byte aligned
  void* out = nullptr;
  int64_t out_stride = 0;
  int32_t num_heads = 0;  // A
  int32_t head_size = 0;  // D, 1 … 256
  float scale = 1;
  RelativeWeights relative;   // as relative.h says: a bias, or rows, or null pointers for neither
  int32_t max_rows = 0;       // rows that qkv and out have room for: bounds a grid, not the work
  int32_t max_sequences = 0;  // likewise
  // For attention_long_hopper: launched right behind attention_short_mma, beside which it may run.
  // That kernel lets it start only once all before it is done, and the two share nothing that
  // either writes; it waits for that kernel's end before it ends itself.
  bool behind_short = false;
  // For attention_short_mma: the plan is not by the kernel before but by an earlier one, which was
  // done before that kernel let this one start. The plan is then read without waiting.
  bool plan_is_settled = false;
};

// Queries a long item covers, which plan_batch() must be told.
constexpr int32_t kMmaQueryTile = 64;
constexpr int32_t hopper_query_tile(int32_t head_size) { return head_size <= 64 ? 192 : 128; }

// Whether every row of every head starts at 16 bytes.
inline bool heads_are_aligned(const AttentionArguments& arguments) {
  return arguments.head_size % 8 == 0 && arguments.qkv_stride % 8 == 0 &&
         arguments.out_stride % 8 == 0;
}

// float16 and bfloat16, any device from sm_80 on. Nothing relative but a bias, and that only where
// heads are aligned.
void attention_short_mma(const AttentionArguments&, const DeviceTraits&, cudaStream_t);
void attention_long_mma(const AttentionArguments&, const DeviceTraits&, cudaStream_t);

// float16 and bfloat16 with anything relative, short and long items (of kMmaQueryTile), by what of
// all the others fits.
void attention_relative(const AttentionArguments&, const DeviceTraits&, cudaStream_t);

// float16 and bfloat16 with rows of relative positions and no bias, short and long items (of
// kMmaQueryTile). Only where heads are aligned and disentangled_attention_fits().
bool disentangled_attention_fits(int32_t head_size, const DeviceTraits&);
void attention_disentangled(const AttentionArguments&, const DeviceTraits&, cudaStream_t);

// sm_90a, float16 and bfloat16, nothing relative: TMA and wgmma. Only where hopper_attention_fits().
bool hopper_attention_fits(int32_t head_size, int64_t qkv_stride, int32_t num_heads);
void attention_long_hopper(const AttentionArguments&, const DeviceTraits&, cudaStream_t);

// Any device, short and long items (of kMmaQueryTile): float32, and with anything relative 16 bits.
void attention_fp32(const AttentionArguments&, const DeviceTraits&, cudaStream_t);

}  // namespace vlt::cuda
