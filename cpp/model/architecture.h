// What kind of encoder a weights file describes: its metadata as checked numbers and switches.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/enums.h"
#include "model/weights_file.h"

namespace vlt {

// One step from the last layer's states to the embedding.
struct HeadStep {
  enum class Kind { kPool, kDense, kNormalize };
  Kind kind = Kind::kNormalize;
  std::vector<PoolingMode> modes;                 // kPool: concatenated in this order
  int32_t dense_index = 0;                        // kDense: the N of head.dense.N
  Activation activation = Activation::kIdentity;  // kDense
  int64_t input_size = 0;                         // numbers in a vector before the step
  int64_t output_size = 0;                        // and after it
};

// Every size is at least 1 unless its comment says otherwise, and at most kMaxSize.
struct Architecture {
  int32_t num_layers = 0;
  int32_t hidden_size = 0;  // H
  int32_t num_heads = 0;    // A
  int32_t head_size = 0;    // D; A·D need not be H
  int32_t intermediate_size = 0;
  int32_t vocab_size = 0;
  int32_t num_positions = 0;    // rows of the position table
  int32_t num_token_types = 0;  // 0: no token types
  int32_t position_offset = 0;  // row of the first token, below num_positions
  float norm_eps = 0;           // a positive normal number
  Activation activation = Activation::kGelu;

  std::vector<HeadStep> embedding_head;  // empty: the file has none
  int64_t embedding_size = 0;            // numbers after the last step; 0: no head

  // The longest sequence the position table covers.
  int32_t max_length() const { return num_positions - position_offset; }
};

// 2^24: float32 still counts that far exactly, and a product of two sizes is far inside int64.
inline constexpr int32_t kMaxSize = 1 << 24;
// check_tensors looks up about 12 names a layer, so the number of layers has a bound of its own.
inline constexpr int32_t kMaxLayers = 4096;

// Reads and checks the metadata, and the shapes of the head's dense tensors, which alone say how
// long an embedding is. Throws kFileError naming the key, its value and what would be right.
Architecture parse_architecture(const WeightsFile& file);

// Throws kFileError unless the file holds exactly the tensors of the architecture, in its shapes.
void check_tensors(const Architecture& architecture, const WeightsFile& file);

}  // namespace vlt
