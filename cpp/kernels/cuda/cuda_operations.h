// The operations of backend.h on a CUDA stream: each picks its kernels and launches them.
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/batch.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/rows.h"
#include "kernels/device.h"

namespace vlt::cuda {

class CudaOperations final : public Operations {
 public:
  // error: in host memory that the device can write.
  CudaOperations(const DeviceTraits& device, DType dtype, cudaStream_t stream, InputError* error)
      : device_(device), dtype_(dtype), stream_(stream), error_(error) {}

  // Launches go into this stream from here on.
  void use(cudaStream_t stream) { stream_ = stream; }

  // Plans the batch that lies at the head of the room.
  void begin(const BatchRoom& room, const BatchLimits& limits);

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
  bool should_stop() override { return false; }  // a pass takes milliseconds; parts are asked

 private:
  GemmArguments product_of(const Matrix& in, const LinearWeights& weights, Activation activation,
                           const Matrix& out) const;
  void gemm(const GemmArguments& arguments);
  bool hopper_attention_serves(int head_size, int num_heads) const;
  const int32_t* count_of(RowsOf rows) const;  // in device memory
  CopyArguments copy_of(const Matrix& in, const Matrix& out) const;

  const DeviceTraits device_;
  const DType dtype_;
  cudaStream_t stream_;
  InputError* const error_;
  // Of the batch in work, in device memory.
  const BatchHeader* header_ = nullptr;
  BatchState* state_ = nullptr;
  AttentionItem* short_items_ = nullptr;
  AttentionItem* long_items_ = nullptr;
  int32_t max_sequences_ = 0;
  bool hopper_attention_ = false;  // its plan is for the Hopper kernel
};

}  // namespace vlt::cuda
