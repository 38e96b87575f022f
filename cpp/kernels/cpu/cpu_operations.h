// The operations of backend.h on the CPU: splits each one over the workers of a stream and calls
// the kernels of one instruction set on every share. Shares never change bits, only who computes
// them.
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/thread_team.h"

namespace vlt {

// What the workers of one job share.
struct WorkerGroup {
  explicit WorkerGroup(int num_workers) : size(num_workers), barrier(num_workers) {}
  const int size;
  Barrier barrier;
  std::atomic<bool> stop{false};
};

class CpuOperations final : public Operations {
 public:
  // `group` is null for a worker that works alone. scratch: as Backend::scratch_bytes says.
  CpuOperations(const CpuKernels& kernels, WorkerGroup* group, int rank, std::byte* scratch,
                const std::function<bool()>& stop_requested)
      : kernels_(*kernels.table),
        linear_(*kernels.linear),
        linear_int8_(kernels.linear_int8),
        attention_(*kernels.attention),
        group_(group),
        rank_(rank),
        size_(group ? group->size : 1),
        scratch_(reinterpret_cast<float*>(scratch)),
        stop_requested_(stop_requested) {}

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
  bool should_stop() override;

 private:
  struct Range {
    int64_t begin, end;
  };
  // This worker's share of [0, count), when `parts` workers split it and this is part `part`.
  static Range share(int64_t count, int part, int parts) {
    return {count * part / parts, count * (part + 1) / parts};
  }
  Range share(int64_t count) const { return share(count, rank_, size_); }

  // Where a row of an embedding table begins; null where there is no table.
  const void* table_row(const void* table, int64_t element) const;
  void wait_for_others();
  // How many ways to split the rows of a product; the panels are split over the other workers.
  int row_splits(const LinearKernel& kernel, int64_t rows, int64_t panels) const;
  void linear_rows(const Matrix& in, const LinearWeights& weights, Activation activation,
                   const Matrix* residual, const NormWeights* norm, const Matrix& out);
  void norm_rows(const Matrix& in, const Matrix* residual, const NormWeights& norm,
                 const Matrix& out, Range range);

  const KernelTable& kernels_;
  const LinearKernel& linear_;
  const LinearKernel* const linear_int8_;
  const AttentionKernel& attention_;
  WorkerGroup* const group_;
  const int rank_;
  const int size_;
  float* const scratch_;
  const std::function<bool()>& stop_requested_;
};

}  // namespace vlt
