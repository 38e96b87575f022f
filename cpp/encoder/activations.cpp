#include "encoder/activations.h"

#include <algorithm>

namespace vlt {
namespace {

// The operations of a layer, in order; the layers repeat them, and the head follows.
enum Op { kQkv, kAttention, kAttentionOutput, kUp, kDown, kHead };
enum Buffer { kStates, kQkvRows, kContext, kAttended, kExpanded, kPooled0, kPooled1 };

constexpr uint64_t kAlignment = 64;

}  // namespace

ActivationPlan::ActivationPlan(const Architecture& a, const Backend& backend) {
  const auto shape = [&](int64_t cols) { return Shape{cols, backend.row_stride(cols)}; };
  const int64_t inner = int64_t{a.num_heads} * a.head_size;
  states_ = shape(a.hidden_size);
  qkv_ = shape(3 * inner);
  context_ = shape(inner);
  expanded_ = shape(a.intermediate_size);
  int64_t widest = 0;
  bool has_dense = false;
  for (const HeadStep& step : a.embedding_head) {
    widest = std::max({widest, step.input_size, step.output_size});
    has_dense |= step.kind == HeadStep::Kind::kDense;
  }
  pooled_ = has_dense ? shape(widest) : Shape{};

  const auto row_bytes = [](const Shape& s) {
    return static_cast<uint64_t>(s.stride) * sizeof(float);
  };
  std::vector<UsageRecord> records(7);
  // kDown writes the next layer's states while it still reads `attended`, so states never rest.
  records[kStates] = {kQkv, kHead, row_bytes(states_), 0};
  records[kQkvRows] = {kQkv, kAttention, row_bytes(qkv_), 0};
  records[kContext] = {kAttention, kAttentionOutput, row_bytes(context_), 0};
  records[kAttended] = {kAttentionOutput, kDown, row_bytes(states_), 0};
  records[kExpanded] = {kUp, kDown, row_bytes(expanded_), 0};
  records[kPooled0] = {kHead, kHead, 0, row_bytes(pooled_)};
  records[kPooled1] = {kHead, kHead, 0, row_bytes(pooled_)};
  plan_ = LifetimePlan(records, kAlignment);
}

uint64_t ActivationPlan::bytes(int64_t num_tokens, int64_t num_sequences) const {
  return plan_.peak_bytes(static_cast<uint64_t>(num_tokens), static_cast<uint64_t>(num_sequences));
}

int64_t ActivationPlan::most_tokens(uint64_t bytes, int64_t num_sequences) const {
  return static_cast<int64_t>(plan_.most_tokens(bytes, static_cast<uint64_t>(num_sequences)));
}

Activations ActivationPlan::place(std::byte* block, int64_t num_tokens,
                                  int64_t num_sequences) const {
  const auto view = [&](Buffer buffer, const Shape& shape, int64_t rows) {
    const uint64_t offset = plan_.offset(buffer, static_cast<uint64_t>(num_tokens),
                                         static_cast<uint64_t>(num_sequences));
    return Matrix{reinterpret_cast<float*>(block + offset), rows, shape.cols, shape.stride};
  };
  Activations a;
  a.states = view(kStates, states_, num_tokens);
  a.qkv = view(kQkvRows, qkv_, num_tokens);
  a.context = view(kContext, context_, num_tokens);
  a.attended = view(kAttended, states_, num_tokens);
  a.expanded = view(kExpanded, expanded_, num_tokens);
  a.pooled[0] = view(kPooled0, pooled_, num_sequences);
  a.pooled[1] = view(kPooled1, pooled_, num_sequences);
  return a;
}

}  // namespace vlt
