#include "kernels/cuda/cuda_operations.h"

#include <nvtx3/nvToolsExt.h>
#include <algorithm>

#include "kernels/cuda/batch_block.h"
#include "kernels/cuda/device_scope.h"
#include "kernels/cuda/gemm_norm.h"

namespace vlt::cuda {
namespace {

// Around the launches of an operation: its device is the thread's current one, and NVIDIA's
// profilers show it by name (which costs a few nanoseconds without one).
class Range {
 public:
  Range(const char* name, const DeviceTraits& device) : scope_(device.index) {
    nvtxRangePushA(name);
  }
  ~Range() { nvtxRangePop(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  const DeviceScope scope_;
};

Norm norm_of(const NormWeights& norm) { return {norm.weight, norm.bias, norm.epsilon}; }

// What a Matrix says when the device finds the address itself.
void* const* indirection(const Matrix& matrix) {
  return matrix.indirect ? static_cast<void* const*>(matrix.data) : nullptr;
}

int32_t count32(int64_t count) { return static_cast<int32_t>(count); }

}  // namespace

bool CudaOperations::hopper_attention_serves(int head_size, int num_heads) const {
  return device_.hopper_kernels && dtype_ != DType::kFloat32 &&
         hopper_attention_fits(head_size, int64_t{3} * head_size * num_heads, num_heads);
}

void CudaOperations::begin(const BatchRoom& room, const BatchLimits& limits) {
  const Range range("plan", device_);
  const BatchBlock block(room.max_tokens, room.max_sequences, room.max_chosen);
  header_ = reinterpret_cast<const BatchHeader*>(room.block);
  state_ = reinterpret_cast<BatchState*>(room.block + block.state);
  short_items_ = reinterpret_cast<AttentionItem*>(room.block + block.short_items);
  long_items_ = reinterpret_cast<AttentionItem*>(room.block + block.long_items);
  max_sequences_ = count32(room.max_sequences);

  PlanArguments a;
  a.header = header_;
  a.state = state_;
  a.short_items = short_items_;
  a.long_items = long_items_;
  a.max_tokens = count32(room.max_tokens);
  a.max_sequences = max_sequences_;
  a.max_chosen = count32(room.max_chosen);
  a.max_length = limits.max_length;
  hopper_attention_ =
      !limits.relative && hopper_attention_serves(limits.head_size, limits.num_heads);
  a.query_tile = hopper_attention_ ? hopper_query_tile(limits.head_size) : kMmaQueryTile;
  a.error = error_;
  plan_batch(a, device_, stream_);
}

const int32_t* CudaOperations::count_of(RowsOf rows) const {
  switch (rows) {
    case RowsOf::kTokens:
      return &state_->num_tokens;
    case RowsOf::kSequences:
      return &state_->num_sequences;
    case RowsOf::kChosen:
      return &state_->num_chosen;
  }
  return nullptr;
}

void CudaOperations::embed_layernorm(const Sequences&, const EmbeddingTables& tables,
                                     const Matrix& out) {
  const Range range("embed_layernorm", device_);
  EmbedArguments a;
  a.header = header_;
  a.state = state_;
  a.dtype = dtype_;
  a.word = tables.word;
  a.position = tables.position;
  a.token_type = tables.token_type;
  a.vocab_size = tables.vocab_size;
  a.num_token_types = tables.num_token_types;
  a.position_offset = count32(tables.position_offset);
  a.norm = norm_of(tables.norm);
  a.out = out.data;
  a.out_stride = out.stride;
  a.cols = count32(out.cols);
  a.max_rows = count32(out.rows);
  a.error = error_;
  vlt::cuda::embed_layernorm(a, device_, stream_);
}

GemmArguments CudaOperations::product_of(const Matrix& in, const LinearWeights& weights,
                                         Activation activation, const Matrix& out) const {
  GemmArguments a;
  a.dtype = dtype_;
  a.in = in.data;
  a.in_stride = in.stride;
  a.weight = weights.data;
  a.weight_stride = weights.stride;
  a.bias = weights.bias;
  a.out = out.data;
  a.out_stride = out.stride;
  a.out_dtype = out.dtype;
  a.activation = activation;
  a.max_rows = count32(in.rows);
  a.num_rows = count_of(in.rows_of);
  a.outputs = count32(weights.outputs);
  a.inputs = count32(weights.inputs);
  return a;
}

void CudaOperations::gemm(const GemmArguments& a) {
  if (dtype_ == DType::kFloat32) {
    gemm_fp32(a, device_, stream_);
  } else if (device_.hopper_kernels && a.out_dtype == a.dtype) {
    gemm_hopper(a, device_, stream_);
  } else {
    gemm_mma(a, device_, stream_);
  }
}

void CudaOperations::linear(const Matrix& in, const LinearWeights& weights, Activation activation,
                            const Matrix& out) {
  const Range range(weights.name, device_);
  gemm(product_of(in, weights, activation, out));
}

void CudaOperations::linear_residual_layernorm(const Matrix& in, const LinearWeights& weights,
                                               const Matrix& residual, const NormWeights& norm,
                                               const Matrix& out) {
  // The sum takes the residual's place, element by element, and the norm reads it from there.
  GemmArguments sum = product_of(in, weights, Activation::kIdentity, residual);
  sum.residual = residual.data;
  LayerNormArguments a;
  a.num_rows = count_of(in.rows_of);
  a.dtype = dtype_;
  a.in = residual.data;
  a.in_stride = residual.stride;
  a.norm = norm_of(norm);
  a.out_dtype = out.dtype;
  a.out = out.data;
  a.out_stride = out.stride;
  a.indirect_out = indirection(out);
  a.cols = count32(out.cols);
  a.max_rows = count32(in.rows);

  {
    const Range range(weights.name, device_);
    if (device_.hopper_kernels && dtype_ != DType::kFloat32 &&
        norming_along_pays(sum.max_rows, sum.outputs, device_.num_multiprocessors) &&
        gemm_norm_hopper_serves(sum, a)) {
      gemm_norm_hopper(sum, a, device_, stream_);
      return;
    }
    gemm(sum);
  }
  const Range range("layernorm", device_);
  vlt::cuda::layernorm(a, device_, stream_);
}

void CudaOperations::layernorm(const Matrix& in, const Matrix* residual, const NormWeights& norm,
                               const Matrix& out) {
  const Range range("layernorm", device_);
  AddLayerNormArguments a;
  a.num_rows = count_of(in.rows_of);
  a.dtype = in.dtype;
  a.in = in.data;
  a.in_stride = in.stride;
  if (residual) {
    a.residual = residual->data;
    a.residual_stride = residual->stride;
  }
  a.norm = norm_of(norm);
  a.out_dtype = out.dtype;
  a.out = out.data;
  a.out_stride = out.stride;
  a.indirect_out = indirection(out);
  a.cols = count32(out.cols);
  a.max_rows = count32(in.rows);
  add_layernorm(a, device_, stream_);
}

void CudaOperations::attention(const Sequences&, const Matrix& qkv, int num_heads, float scale,
                               const RelativeWeights* relative, const Matrix& out) {
  const Range range("attention", device_);
  AttentionArguments a;
  a.dtype = dtype_;
  a.state = state_;
  a.short_items = short_items_;
  a.long_items = long_items_;
  a.qkv = qkv.data;
  a.qkv_stride = qkv.stride;
  a.out = out.data;
  a.out_stride = out.stride;
  a.num_heads = num_heads;
  a.head_size = count32(out.cols / num_heads);
  a.scale = scale;
  if (relative) a.relative = *relative;
  a.max_rows = count32(qkv.rows);
  a.max_sequences = max_sequences_;
  a.plan_is_settled = true;  // a linear layer's kernel has waited for those before it
  if (dtype_ == DType::kFloat32) {
    attention_fp32(a, device_, stream_);
    return;
  }
  if (relative) {
    attention_relative(a, device_, stream_);
    return;
  }
  attention_short_mma(a, device_, stream_);
  if (a.max_rows <= kShortLength) return;  // none of the sequences can be long
  if (hopper_attention_) {
    a.behind_short = true;
    attention_long_hopper(a, device_, stream_);
  } else {
    attention_long_mma(a, device_, stream_);
  }
}

CopyArguments CudaOperations::copy_of(const Matrix& in, const Matrix& out) const {
  CopyArguments a;
  a.header = header_;
  a.state = state_;
  a.dtype = in.dtype;
  a.in = in.data;
  a.in_stride = in.stride;
  a.indirect_in = indirection(in);
  a.out_dtype = out.dtype;
  a.out = out.data;
  a.out_stride = out.stride;
  a.indirect_out = indirection(out);
  a.cols = count32(in.cols);
  a.max_rows = count32(out.rows);
  return a;
}

void CudaOperations::unfold(const Sequences&, const Matrix& in, int width, const Matrix& out) {
  const Range range("unfold", device_);
  CopyArguments a = copy_of(in, out);
  a.width = width;
  vlt::cuda::unfold(a, device_, stream_);
}

void CudaOperations::gather(const Sequences&, const Matrix& in, const Matrix& out) {
  const Range range("gather", device_);
  gather_chosen(copy_of(in, out), device_, stream_);
}

void CudaOperations::pool(const Sequences&, const Matrix& states,
                          const std::vector<PoolingMode>& modes, const Matrix& out) {
  const Range range("pool", device_);
  if (states.rows_of == RowsOf::kSequences)
    return pool_single(copy_of(states, out), device_, stream_);
  PoolArguments a;
  a.header = header_;
  a.state = state_;
  a.dtype = states.dtype;
  a.states = states.data;
  a.states_stride = states.stride;
  a.indirect_states = indirection(states);
  a.num_modes = count32(static_cast<int64_t>(modes.size()));
  std::copy(modes.begin(), modes.end(), a.modes);
  a.out_dtype = out.dtype;
  a.out = out.data;
  a.out_stride = out.stride;
  a.indirect_out = indirection(out);
  a.cols = count32(states.cols);
  a.max_sequences = count32(out.rows);
  vlt::cuda::pool(a, device_, stream_);
}

void CudaOperations::normalize(const Matrix& rows) {
  const Range range("normalize", device_);
  NormalizeArguments a;
  a.state = state_;
  a.dtype = a.out_dtype = rows.dtype;
  a.in = a.out = rows.data;
  a.in_stride = a.out_stride = rows.stride;
  a.indirect_in = a.indirect_out = indirection(rows);
  a.cols = count32(rows.cols);
  a.max_sequences = count32(rows.rows);
  vlt::cuda::normalize(a, device_, stream_);
}

}  // namespace vlt::cuda
