// The intermediates of one forward pass: how large, how long alive, and where in the workspace.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "allocator/lifetime_plan.h"
#include "kernels/backend.h"
#include "model/architecture.h"

namespace vlt {

// What a layer works on behind its attention, M rows.
struct LayerTail {
  Matrix context;   // [M, AD] what attention gathered
  Matrix states;    // [M, H]
  Matrix attended;  // [M, H]  after the attention's norm
  Matrix expanded;  // [M, F]
};

// Views into the workspace for a chunk of T tokens, S sequences and C chosen tokens.
struct Activations {
  Matrix states;     // [T, H]   a layer's input and output
  Matrix qkv;        // [T, 3AD]
  Matrix context;    // [T, AD]
  LayerTail tail;    // of all tokens
  Matrix embedded;   // [T, E]   before their projection
  Matrix unfolded;   // [T, K·H] for models with a convolution, as is the next
  Matrix convolved;  // [T, H]
  // For heads that look at one token a sequence: the last layer's tail for these tokens alone, and
  // its result. They lie in buffers of the above that are free by then. Without data where the
  // chunk cannot be run so.
  LayerTail first_tokens;
  Matrix first_states;  // [S, H]
  Matrix pooled[2];     // [S, widest step] for heads of sequences with dense steps
  Matrix chosen;        // [C, H]
  Matrix rows[2];       // [T, widest step] for heads of tokens
  Matrix scores;        // [T, one block of the vocabulary] for sparse embeddings
};

// Planned once for a session; every chunk is the plan evaluated for its T and S.
class ActivationPlan {
 public:
  // red_zone_bytes: left free behind every activation, see red_zones.h.
  ActivationPlan(const Architecture& architecture, const Backend& backend, uint64_t red_zone_bytes);

  uint64_t bytes(int64_t num_tokens, int64_t num_sequences) const;
  int64_t most_tokens(uint64_t bytes, int64_t num_sequences) const;
  // num_chosen: at most num_tokens.
  Activations place(std::byte* block, int64_t num_tokens, int64_t num_sequences,
                    int64_t num_chosen) const;

 private:
  enum Buffer {
    kStates,
    kQkvRows,
    kContext,
    kAttended,
    kExpanded,
    kEmbedded,
    kUnfolded,
    kConvolved,
    kPooled0,
    kPooled1,
    kChosen,
    kRows0,
    kRows1,
    kScores,
    kNumBuffers
  };
  struct Shape {
    int64_t cols = 0;
    int64_t stride = 0;
  };
  static bool is_per_sequence(Buffer buffer) { return buffer == kPooled0 || buffer == kPooled1; }
  void set_shapes(const Architecture& architecture, const Backend& backend);
  void place_first_tokens(Activations& activations, int64_t num_sequences) const;

  DType dtype_;
  std::array<Shape, kNumBuffers> shapes_;  // without columns: the model has no such buffer
  bool first_tokens_;                      // some head looks at nothing else
  LifetimePlan plan_;
};

}  // namespace vlt
