// The kernels that every instruction set provides, as plain functions over raw arrays.
//
// One table an instruction set, each filled in a file compiled with that set's flags
// (kernels_avx512.cpp, …). This header includes nothing of the standard library but integer types:
// an inline std function compiled under wide flags could be the copy that the linker keeps for all.
#pragma once

#include <cstdint>

#include "kernels/enums.h"

namespace vlt {

// out rows [row_begin, row_end) of panels [panel_begin, panel_end) =
// activation(in · weightᵀ + bias + residual)
struct LinearBlock {
  const float* in;  // [M, K]
  int64_t in_stride;
  const float* panels;    // [ceil(N / panel_width), K, panel_width], zeros past N
  const float* bias;      // [N] padded with zeros to a whole panel
  const float* residual;  // [M, N] or null
  int64_t residual_stride;
  float* out;  // [M, N]; not residual
  int64_t out_stride;
  int64_t inputs;   // K
  int64_t outputs;  // N
  int64_t row_begin, row_end;
  int64_t panel_begin, panel_end;
  Activation activation;
};

// out [rows, cols] = (x - mean) / sqrt(variance + epsilon) · weight + bias; out may be x
struct NormBlock {
  const float* in;
  int64_t in_stride;
  float* out;
  int64_t out_stride;
  const float* weight;  // [cols]
  const float* bias;    // [cols]
  float epsilon;
  int64_t rows, cols;
};

// One token's row of word + token type + position, then the norm.
struct EmbeddingRow {
  const float* word;        // [cols]
  const float* token_type;  // [cols] or null
  const float* position;    // [cols] or null
  const float* weight;      // [cols]
  const float* bias;        // [cols]
  float epsilon;
  int64_t cols;
  float* out;  // [cols]
};

// Query rows [row_begin, row_end) of one head of one sequence.
struct AttentionHead {
  const float* query;  // [L, D], rows `stride` apart, as key and value
  const float* key;
  const float* value;
  int64_t stride;
  float* out;  // [L, D]
  int64_t out_stride;
  int64_t length;     // L
  int64_t head_size;  // D
  float scale;
  int64_t row_begin, row_end;
  float* scratch;  // attention_scratch(L, D) floats
};

// One sequence's states [L, cols] reduced to one row.
struct PoolSequence {
  const float* states;
  int64_t stride;
  int64_t begin, length;  // tokens [begin, length) count
  int64_t cols;
  PoolingMode mode;
  float* out;  // [cols]
};

struct KernelTable {
  const char* name;
  int64_t panel_width;  // columns of one panel of a prepacked weight
  int64_t strip_rows;   // most rows that the micro-kernel holds in registers

  void (*linear)(const LinearBlock&);
  void (*layernorm)(const NormBlock&);
  void (*embed_layernorm)(const EmbeddingRow&);
  int64_t (*attention_scratch)(int64_t length, int64_t head_size);
  void (*attention)(const AttentionHead&);
  void (*pool)(const PoolSequence&);
  void (*normalize)(float* row, int64_t cols);
};

extern const KernelTable kPortableKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
#endif

}  // namespace vlt
