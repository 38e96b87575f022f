#include "encoder/observed_operations.h"

namespace vlt {
namespace {

double product_flops(const Matrix& in, const LinearWeights& weights) {
  return 2.0 * static_cast<double>(in.rows) * static_cast<double>(weights.inputs) *
         static_cast<double>(weights.outputs);
}

// Two products of L² · D a head.
double attention_flops(const Sequences& sequences, const Matrix& out) {
  double squares = 0;
  for (int32_t s = 0; s < sequences.num_sequences; ++s)
    squares += static_cast<double>(sequences.length(s)) * sequences.length(s);
  return 4 * squares * static_cast<double>(out.cols);
}

}  // namespace

void ObservedOperations::embed_layernorm(const Sequences& sequences, const EmbeddingTables& tables,
                                         const Matrix& out) {
  observe({"embed_layernorm", 0, out}, [&] { inner_.embed_layernorm(sequences, tables, out); });
}

void ObservedOperations::linear(const Matrix& in, const LinearWeights& weights,
                                Activation activation, const Matrix& out) {
  observe({weights.name, product_flops(in, weights), out},
          [&] { inner_.linear(in, weights, activation, out); });
}

void ObservedOperations::linear_residual_layernorm(const Matrix& in, const LinearWeights& weights,
                                                   const Matrix& residual, const NormWeights& norm,
                                                   const Matrix& out) {
  observe({weights.name, product_flops(in, weights), out},
          [&] { inner_.linear_residual_layernorm(in, weights, residual, norm, out); });
}

void ObservedOperations::layernorm(const Matrix& in, const Matrix* residual,
                                   const NormWeights& norm, const Matrix& out) {
  observe({"layernorm", 0, out}, [&] { inner_.layernorm(in, residual, norm, out); });
}

void ObservedOperations::attention(const Sequences& sequences, const Matrix& qkv, int num_heads,
                                   float scale, const RelativeWeights* relative,
                                   const Matrix& out) {
  observe({"attention", attention_flops(sequences, out), out},
          [&] { inner_.attention(sequences, qkv, num_heads, scale, relative, out); });
}

void ObservedOperations::unfold(const Sequences& sequences, const Matrix& in, int width,
                                const Matrix& out) {
  observe({"unfold", 0, out}, [&] { inner_.unfold(sequences, in, width, out); });
}

void ObservedOperations::gather(const Sequences& sequences, const Matrix& in, const Matrix& out) {
  observe({"gather", 0, out}, [&] { inner_.gather(sequences, in, out); });
}

void ObservedOperations::pool(const Sequences& sequences, const Matrix& states,
                              const std::vector<PoolingMode>& modes, const Matrix& out) {
  observe({"pool", 0, out}, [&] { inner_.pool(sequences, states, modes, out); });
}

void ObservedOperations::normalize(const Matrix& rows) {
  observe({"normalize", 0, rows}, [&] { inner_.normalize(rows); });
}

}  // namespace vlt
