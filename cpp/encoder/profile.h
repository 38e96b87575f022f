// Time per operation: Operations that measure what they pass on, and the table it adds up in.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"

namespace vlt {

struct ProfileRow {
  const char* name = "";
  uint64_t calls = 0;
  double seconds = 0;  // of all workers together
  double flops = 0;
};

// Rows in the order the operations first ran.
class Profile {
 public:
  void add(const char* name, double seconds, double flops);
  void add(const Profile& other);
  const std::vector<ProfileRow>& rows() const { return rows_; }

 private:
  ProfileRow& row(const char* name);
  std::vector<ProfileRow> rows_;
};

// One per worker. `worker_share` is this worker's part of each operation: 1 when it works alone.
class ProfiledOperations final : public Operations {
 public:
  ProfiledOperations(Operations& inner, double worker_share, Profile& profile)
      : inner_(inner), share_(worker_share), profile_(profile) {}

  void embed_layernorm(const Sequences& sequences, const EmbeddingTables& tables,
                       const Matrix& out) override;
  void linear(const Matrix& in, const LinearWeights& weights, Activation activation,
              const Matrix& out) override;
  void linear_residual_layernorm(const Matrix& in, const LinearWeights& weights,
                                 const Matrix& residual, const NormWeights& norm,
                                 const Matrix& out) override;
  void attention(const Sequences& sequences, const Matrix& qkv, int num_heads, float scale,
                 const Matrix& out) override;
  void pool(const Sequences& sequences, const Matrix& states, const std::vector<PoolingMode>& modes,
            const Matrix& out) override;
  void normalize(const Matrix& rows) override;
  bool should_stop() override { return inner_.should_stop(); }

 private:
  template <typename Call>
  void measure(const char* name, double flops, const Call& call);

  Operations& inner_;
  const double share_;
  Profile& profile_;
};

}  // namespace vlt
