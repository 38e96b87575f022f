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
  const void* panels;     // as LinearKernel says
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
  void* scratch;  // LinearKernel::scratch_bytes of the caller's own
  // Of weights of int8, as Int8Weights says:
  const float* input_factors;  // [K], or null for ones
  const float* scales;         // [N] padded with zeros to a whole panel
  const float* sums;           // [N] of a column's numbers, padded likewise
};

// The most rows of a block: 266 = 19 strips of 14. With K = 768 they are 798 KiB, so inputs, outputs
// and the norm that follows stay in a 1 MiB L2. Tiles are done with so few rows before the next
// weights have come from L3; the processors that have them have 2 MiB.
constexpr int64_t kMostBlockRows = 266;
constexpr int64_t kMostTileBlockRows = 512;

// A way to multiply: its weights are panels [ceil(N / panel_width), K' / group, panel_width, group]
// of `bytes` a number, where K' is K or the next multiple of `inputs`; zeros past N and K.
struct LinearKernel {
  void (*run)(const LinearBlock&);
  int64_t bytes;                       // of a weight: 4 for float32, 2 for bfloat16, 1 for int8
  int64_t group = 1;                   // how many k's of a column lie side by side
  int64_t inputs = 1;                  // how many k's it takes at a time; a multiple of group
  int64_t most_rows = kMostBlockRows;  // of a block
  // What reading a panel costs, in products of a row with one; and what it costs to read a row of
  // inputs and to make of it what is multiplied. Both come from L3, at about 10 bytes a cycle.
  int64_t rows_a_panel = 12;
  int64_t panels_a_row = 1;
  int64_t scratch_bytes = 0;
};

// out [rows, cols] = (x - mean) / sqrt(variance + epsilon) · weight + bias, where x = in + residual;
// out may be in
struct NormBlock {
  const float* in;
  int64_t in_stride;
  const float* residual;  // or null
  int64_t residual_stride;
  float* out;
  int64_t out_stride;
  const float* weight;  // [cols]
  const float* bias;    // [cols]
  float epsilon;
  int64_t rows, cols;
};

// One token's row of word + token type + position, then the norm.
struct EmbeddingRow {
  const void* word;        // [cols], float32 or bfloat16 like the others
  const void* token_type;  // [cols] or null
  const void* position;    // [cols] or null
  bool bfloat16;
  const float* weight;  // [cols]
  const float* bias;    // [cols]
  float epsilon;
  int64_t cols;
  float* out;  // [cols]
};

// What attention adds by distance, key less query: the middle of each array is for distance 0, and
// behind its end may be read for panel_width elements.
struct RelativeHead {
  const float* bias;        // [-(P - 1) … P - 1] of the scaled score, or null
  const int32_t* row;       // [-(P - 1) … P - 1]: each the one before or one more; or null
  const float* key_rows;    // [R, D] in panels like a prepacked weight, or null
  const float* query_rows;  // the same, or null
  int64_t num_rows;         // R
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
  RelativeHead relative;
  float* scratch;  // AttentionKernel::scratch(L, D, R) floats
};

struct AttentionKernel {
  void (*run)(const AttentionHead&);
  int64_t (*scratch)(int64_t length, int64_t head_size, int64_t num_relative_rows);
  int64_t strip_rows;  // of queries, that it takes at a time
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

  LinearKernel linear;           // on weights of float32
  LinearKernel linear_bfloat16;  // on weights of bfloat16, widened
  LinearKernel linear_int8;      // on weights of int8, widened
  void (*layernorm)(const NormBlock&);
  void (*embed_layernorm)(const EmbeddingRow&);
  AttentionKernel attention;
  void (*pool)(const PoolSequence&);
  void (*normalize)(float* row, int64_t cols);
};

// What a backend computes with.
struct CpuKernels {
  const char* name;  // of the instruction set
  const KernelTable* table;
  const LinearKernel* linear;
  const LinearKernel* linear_int8;  // for the weights that are int8; null where none is
  const AttentionKernel* attention;
  DType weights;  // kFloat32, kBFloat16 or kInt8
};

extern const KernelTable kPortableKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
// Beside kAvx512Kernels, on processors that multiply pairs of bfloat16, fours of int8, or tiles.
extern const LinearKernel kAvx512Bfloat16Linear;
extern const LinearKernel kAvx512VnniLinear;
extern const LinearKernel kAmxBfloat16Linear;
extern const LinearKernel kAmxInt8Linear;
extern const AttentionKernel kAvx512Bfloat16Attention;
extern const AttentionKernel kAmxBfloat16Attention;
#elif defined(__aarch64__)
extern const KernelTable kNeonKernels;
#endif

}  // namespace vlt
