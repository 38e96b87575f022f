// The intermediates of one forward pass: how large, how long alive, and where in the workspace.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/lifetime_plan.h"
#include "kernels/backend.h"
#include "model/architecture.h"

namespace vlt {

// Views into the workspace for a chunk of T tokens and S sequences.
struct Activations {
  Matrix states;     // [T, H]   a layer's input and output
  Matrix qkv;        // [T, 3AD]
  Matrix context;    // [T, AD]  what attention gathered
  Matrix attended;   // [T, H]   after the attention's norm
  Matrix expanded;   // [T, F]
  Matrix pooled[2];  // [S, widest head step] for heads with dense steps
};

// Planned once for a session; every chunk is the plan evaluated for its T and S.
class ActivationPlan {
 public:
  // red_zone_bytes: left free behind every activation, see red_zones.h.
  ActivationPlan(const Architecture& architecture, const Backend& backend, uint64_t red_zone_bytes);

  uint64_t bytes(int64_t num_tokens, int64_t num_sequences) const;
  int64_t most_tokens(uint64_t bytes, int64_t num_sequences) const;
  Activations place(std::byte* block, int64_t num_tokens, int64_t num_sequences) const;

 private:
  struct Shape {
    int64_t cols = 0;
    int64_t stride = 0;
  };
  DType dtype_;
  Shape states_, qkv_, context_, expanded_, pooled_;
  LifetimePlan plan_;
};

}  // namespace vlt
