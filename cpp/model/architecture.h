// What kind of encoder a weights file describes: its metadata as checked numbers and switches.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/enums.h"
#include "model/weights_file.h"

namespace vlt {

// What turns the last layer's states into something else. Values index Architecture::heads.
enum class HeadKind { kEmbedding, kSequence, kToken, kVocabulary };
inline constexpr std::array kHeadKinds = {HeadKind::kEmbedding, HeadKind::kSequence,
                                          HeadKind::kToken, HeadKind::kVocabulary};
// The metadata key of a head, and what the names of its tensors begin with.
std::string_view head_key(HeadKind kind);
std::string_view head_prefix(HeadKind kind);
// The layer of a step, as the names of its tensors begin: PREFIX.dense.N, PREFIX.norm.N.
std::string step_prefix(HeadKind kind, std::string_view step, int32_t index);

// One step of a head: rows in, rows out.
struct HeadStep {
  enum class Kind { kPool, kDense, kNormalize, kNorm, kDecoder };
  Kind kind = Kind::kNormalize;
  std::vector<PoolingMode> modes;                 // kPool: concatenated in this order
  int32_t index = 0;                              // kDense, kNorm: the N of PREFIX.dense.N
  Activation activation = Activation::kIdentity;  // kDense
  int64_t input_size = 0;                         // numbers in a row before the step
  int64_t output_size = 0;                        // and after it
};

struct Head {
  std::vector<HeadStep> steps;  // empty: the file has no such head
  int64_t output_size = 0;      // numbers after the last step; 0: no such head

  // Nothing but each sequence's first token is looked at.
  bool needs_first_tokens_only() const {
    return !steps.empty() && steps.front().kind == HeadStep::Kind::kPool &&
           steps.front().modes == std::vector{PoolingMode::kCls};
  }
  bool has_dense() const {
    for (const HeadStep& step : steps)
      if (step.kind == HeadStep::Kind::kDense) return true;
    return false;
  }
};

// Every size is at least 1 unless its comment says otherwise, and at most kMaxSize.
struct Architecture {
  int32_t num_layers = 0;
  std::vector<int32_t> layer_order;  // [num_layers] the stored layer that each layer is
  int32_t num_stored_layers = 0;
  int32_t hidden_size = 0;  // H
  int32_t num_heads = 0;    // A
  int32_t head_size = 0;    // D; A·D need not be H
  int32_t intermediate_size = 0;
  int32_t vocab_size = 0;
  int32_t embedding_size = 0;        // E
  bool projects_embeddings = false;  // from E to H; otherwise E is H
  int32_t num_positions = 0;         // rows of the position table
  bool has_positions = true;         // the table is there
  int32_t num_token_types = 0;       // 0: no token types
  int32_t position_offset = 0;       // row of the first token, below num_positions
  float norm_eps = 0;                // a positive normal number
  Activation activation = Activation::kGelu;

  float score_scale = 0;       // of the products of queries and keys
  bool distance_bias = false;  // added to scores
  // Rows of disentangled attention by distance, [2 · max_length() - 1]; empty: there is none.
  std::vector<int32_t> relative_rows;
  int32_t num_relative_rows = 0;  // R; 0: there are none
  bool relative_keys = false;     // content to position
  bool relative_queries = false;  // position to content
  int32_t convolution = 0;        // tokens that it covers, odd; 0: there is none
  Activation convolution_activation = Activation::kIdentity;

  std::array<Head, kHeadKinds.size()> heads;
  bool makes_sparse = false;  // of the vocabulary head's outputs

  const Head& head(HeadKind kind) const { return heads[static_cast<size_t>(kind)]; }
  // The longest sequence that the position table covers.
  int32_t max_length() const { return num_positions - position_offset; }
  bool has_relative() const { return distance_bias || num_relative_rows > 0; }
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
