#include "encoder/forward.h"

namespace vlt {
namespace {

// The states that go into the first layer.
void embed_tokens(const Model& model, const Sequences& sequences, const Activations& x,
                  Operations& ops) {
  const Architecture& a = model.architecture();
  ops.embed_layernorm(sequences, model.embeddings(), a.projects_embeddings ? x.embedded : x.states);
  if (a.projects_embeddings)
    ops.linear(x.embedded, model.embedding_projection(), Activation::kIdentity, x.states);
  if (a.convolution > 0) {
    ops.unfold(sequences, x.states, a.convolution, x.unfolded);
    ops.linear(x.unfolded, model.convolution().kernel, a.convolution_activation, x.convolved);
  }
}

}  // namespace

bool forward(const Model& model, const Sequences& sequences, const Activations& x,
             const Matrix& out, Operations& ops) {
  const Architecture& a = model.architecture();
  embed_tokens(model, sequences, x, ops);
  for (int32_t i = 0; i < a.num_layers; ++i) {
    if (ops.should_stop()) return false;
    const LayerWeights& layer = model.layer(i);
    const bool last = i + 1 == a.num_layers;
    const bool convolves = i == 0 && a.convolution > 0;

    ops.linear(x.states, layer.qkv, Activation::kIdentity, x.qkv);
    ops.attention(sequences, x.qkv, a.num_heads, a.score_scale,
                  a.has_relative() ? &layer.relative : nullptr, x.context);
    LayerTail tail = x.tail;
    if (last && out.rows_of == RowsOf::kSequences) {
      tail = x.first_tokens;
      ops.pool(sequences, x.context, {PoolingMode::kCls}, tail.context);
      ops.pool(sequences, x.states, {PoolingMode::kCls}, tail.states);
    }
    ops.linear_residual_layernorm(tail.context, layer.attention_output, tail.states,
                                  layer.attention_norm, tail.attended);
    ops.linear(tail.attended, layer.up, a.activation, tail.expanded);
    const Matrix& result = last ? out : x.states;
    ops.linear_residual_layernorm(tail.expanded, layer.down, tail.attended, layer.ffn_norm,
                                  convolves ? tail.states : result);
    if (convolves) ops.layernorm(tail.states, &x.convolved, model.convolution().norm, result);
  }
  return true;
}

}  // namespace vlt
