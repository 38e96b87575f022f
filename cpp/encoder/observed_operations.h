// Operations that tell an observer before and after each one they pass on.
#pragma once

#include <vector>

#include "kernels/backend.h"

namespace vlt {

struct Operation {
  const char* name;
  double flops;  // of its matrix products
  const Matrix& out;
};

class Observer {
 public:
  virtual ~Observer() = default;
  virtual void before(const Operation& operation) = 0;
  virtual void after(const Operation& operation) = 0;
};

class ObservedOperations final : public Operations {
 public:
  ObservedOperations(Operations& inner, Observer& observer) : inner_(inner), observer_(observer) {}

  void embed_layernorm(const Sequences& sequences, const EmbeddingTables& tables,
                       const Matrix& out) override;
  void linear(const Matrix& in, const LinearWeights& weights, Activation activation,
              const Matrix& out) override;
  void linear_residual_layernorm(const Matrix& in, const LinearWeights& weights,
                                 const Matrix& residual, const NormWeights& norm,
                                 const Matrix& out) override;
  void layernorm(const Matrix& in, const Matrix* residual, const NormWeights& norm,
                 const Matrix& out) override;
  void attention(const Sequences& sequences, const Matrix& qkv, int num_heads, float scale,
                 const RelativeWeights* relative, const Matrix& out) override;
  void unfold(const Sequences& sequences, const Matrix& in, int width, const Matrix& out) override;
  void gather(const Sequences& sequences, const Matrix& in, const Matrix& out) override;
  void pool(const Sequences& sequences, const Matrix& states, const std::vector<PoolingMode>& modes,
            const Matrix& out) override;
  void normalize(const Matrix& rows) override;
  bool should_stop() override { return inner_.should_stop(); }

 private:
  template <typename Call>
  void observe(const Operation& operation, const Call& call) {
    observer_.before(operation);
    call();
    observer_.after(operation);
  }

  Operations& inner_;
  Observer& observer_;
};

}  // namespace vlt
