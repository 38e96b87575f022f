#include "encoder/forward.h"

#include <cmath>

namespace vlt {

bool forward(const Model& model, const Sequences& sequences, const Activations& x,
             const Matrix& out, Operations& ops) {
  const Architecture& a = model.architecture();
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.head_size)));

  ops.embed_layernorm(sequences, model.embeddings(), x.states);
  for (const LayerWeights& layer : model.layers()) {
    if (ops.should_stop()) return false;
    const bool last = &layer == &model.layers().back();

    ops.linear(x.states, layer.qkv, Activation::kIdentity, x.qkv);
    ops.attention(sequences, x.qkv, a.num_heads, scale, nullptr, x.context);
    ops.linear_residual_layernorm(x.context, layer.attention_output, x.states, layer.attention_norm,
                                  x.attended);
    ops.linear(x.attended, layer.up, a.activation, x.expanded);
    ops.linear_residual_layernorm(x.expanded, layer.down, x.attended, layer.ffn_norm,
                                  last ? out : x.states);
  }
  return true;
}

}  // namespace vlt
