#include "encoder/profile.h"

#include <chrono>
#include <cstring>

namespace vlt {
namespace {

double product_flops(const Matrix& in, const LinearWeights& weights) {
  return 2.0 * static_cast<double>(in.rows) * static_cast<double>(weights.inputs) *
         static_cast<double>(weights.outputs);
}

}  // namespace

ProfileRow& Profile::row(const char* name) {
  for (ProfileRow& r : rows_)
    if (std::strcmp(r.name, name) == 0) return r;
  rows_.push_back({name, 0, 0, 0});
  return rows_.back();
}

void Profile::add(const char* name, double seconds, double flops) {
  ProfileRow& r = row(name);
  ++r.calls;
  r.seconds += seconds;
  r.flops += flops;
}

void Profile::add(const Profile& other) {
  for (const ProfileRow& r : other.rows_) {
    ProfileRow& sum = row(r.name);
    sum.calls += r.calls;
    sum.seconds += r.seconds;
    sum.flops += r.flops;
  }
}

template <typename Call>
void ProfiledOperations::measure(const char* name, double flops, const Call& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  profile_.add(name, elapsed.count(), flops * share_);
}

void ProfiledOperations::embed_layernorm(const Sequences& sequences, const EmbeddingTables& tables,
                                         const Matrix& out) {
  measure("embed_layernorm", 0, [&] { inner_.embed_layernorm(sequences, tables, out); });
}

void ProfiledOperations::linear(const Matrix& in, const LinearWeights& weights,
                                Activation activation, const Matrix& out) {
  measure(weights.name, product_flops(in, weights),
          [&] { inner_.linear(in, weights, activation, out); });
}

void ProfiledOperations::linear_residual_layernorm(const Matrix& in, const LinearWeights& weights,
                                                   const Matrix& residual, const NormWeights& norm,
                                                   const Matrix& out) {
  measure(weights.name, product_flops(in, weights),
          [&] { inner_.linear_residual_layernorm(in, weights, residual, norm, out); });
}

void ProfiledOperations::attention(const Sequences& sequences, const Matrix& qkv, int num_heads,
                                   float scale, const Matrix& out) {
  double squares = 0;
  for (int32_t s = 0; s < sequences.num_sequences; ++s)
    squares += static_cast<double>(sequences.length(s)) * sequences.length(s);
  measure("attention", 4 * squares * static_cast<double>(out.cols),
          [&] { inner_.attention(sequences, qkv, num_heads, scale, out); });
}

void ProfiledOperations::pool(const Sequences& sequences, const Matrix& states,
                              const std::vector<PoolingMode>& modes, const Matrix& out) {
  measure("pool", 0, [&] { inner_.pool(sequences, states, modes, out); });
}

void ProfiledOperations::normalize(const Matrix& rows) {
  measure("normalize", 0, [&] { inner_.normalize(rows); });
}

}  // namespace vlt
