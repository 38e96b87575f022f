// The GPU kernels through plain C functions, one for each, so that tests and benchmarks call every
// kernel by itself. The structs are those of cpp/kernels/cuda, which native.py mirrors; it compares
// its offsets with shim_layout(). Nothing is allocated here, but for prepared weights, and nothing
// else waits for the device.
//
// Functions that may fail return 0, or 1 and a message in shim_last_error() of the same thread.
#include <cstddef>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/find_device.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_norm.h"
#include "kernels/cuda/rows.h"

namespace {

using namespace vlt::cuda;
using vlt::RelativeTensors;
using vlt::RelativeWeights;

thread_local std::string last_error;

template <typename Call>
int guarded(const Call& call) {
  try {
    call();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "an exception of unknown type";
  }
  return 1;
}

cudaStream_t stream_of(void* stream) { return static_cast<cudaStream_t>(stream); }

void run_gemm(int kind, const GemmArguments& arguments, const DeviceTraits& device,
              cudaStream_t stream, int tile) {
  switch (kind) {
    case 0:
      return gemm_hopper(arguments, device, stream, tile);
    case 1:
      return gemm_mma(arguments, device, stream);
    case 2:
      return gemm_fp32(arguments, device, stream);
    default:
      throw std::invalid_argument("gemm kind " + std::to_string(kind) + " is not 0, 1 or 2");
  }
}

void run_attention(int kind, const AttentionArguments& arguments, const DeviceTraits& device,
                   cudaStream_t stream) {
  switch (kind) {
    case 0:
      return attention_short_mma(arguments, device, stream);
    case 1:
      return attention_long_mma(arguments, device, stream);
    case 2:
      return attention_long_hopper(arguments, device, stream);
    case 3:
      return attention_fp32(arguments, device, stream);
    case 4:
      return attention_relative(arguments, device, stream);
    default:
      throw std::invalid_argument("attention kind " + std::to_string(kind) + " is not 0 … 4");
  }
}

void run_copy(int kind, const CopyArguments& arguments, const DeviceTraits& device,
              cudaStream_t stream) {
  switch (kind) {
    case 0:
      return gather_chosen(arguments, device, stream);
    case 1:
      return unfold(arguments, device, stream);
    case 2:
      return pool_single(arguments, device, stream);
    default:
      throw std::invalid_argument("copy kind " + std::to_string(kind) + " is not 0, 1 or 2");
  }
}

#define FIELD(type, field)                                                           \
  (std::string(#type "." #field " ") + std::to_string(offsetof(type, field)) + " " + \
   std::to_string(sizeof(type::field)) + "\n")

std::string batch_layout() {
  return FIELD(BatchHeader, num_tokens) + FIELD(BatchHeader, num_sequences) +
         FIELD(BatchHeader, num_chosen) + FIELD(BatchHeader, chosen_tokens) +
         FIELD(BatchHeader, token_ids) + FIELD(BatchHeader, token_types) +
         FIELD(BatchHeader, sequence_starts) + FIELD(BatchHeader, pooling_starts) +
         FIELD(BatchHeader, hidden) + FIELD(BatchHeader, embedding) +
         FIELD(AttentionItem, first_row) + FIELD(AttentionItem, length) +
         FIELD(AttentionItem, query_begin) + FIELD(AttentionItem, query_end) +
         FIELD(BatchState, num_tokens) + FIELD(BatchState, num_sequences) +
         FIELD(BatchState, num_chosen) + FIELD(BatchState, short_begin) +
         FIELD(BatchState, num_long_items) + FIELD(InputError, kind) + FIELD(InputError, index) +
         FIELD(InputError, value) + FIELD(DeviceTraits, index) +
         FIELD(DeviceTraits, num_multiprocessors) + FIELD(DeviceTraits, capability) +
         FIELD(DeviceTraits, max_shared_bytes) + FIELD(DeviceTraits, overlap) +
         FIELD(DeviceTraits, hopper_kernels) + FIELD(HopperTile, rows) + FIELD(HopperTile, cols) +
         FIELD(HopperTile, cluster);
}

std::string product_layout() {
  return FIELD(GemmArguments, dtype) + FIELD(GemmArguments, in) + FIELD(GemmArguments, in_stride) +
         FIELD(GemmArguments, weight) + FIELD(GemmArguments, weight_stride) +
         FIELD(GemmArguments, bias) + FIELD(GemmArguments, residual) + FIELD(GemmArguments, out) +
         FIELD(GemmArguments, out_stride) + FIELD(GemmArguments, out_dtype) +
         FIELD(GemmArguments, activation) + FIELD(GemmArguments, max_rows) +
         FIELD(GemmArguments, num_rows) + FIELD(GemmArguments, outputs) +
         FIELD(GemmArguments, inputs) + FIELD(AttentionArguments, dtype) +
         FIELD(AttentionArguments, state) + FIELD(AttentionArguments, short_items) +
         FIELD(AttentionArguments, long_items) + FIELD(AttentionArguments, qkv) +
         FIELD(AttentionArguments, qkv_stride) + FIELD(AttentionArguments, out) +
         FIELD(AttentionArguments, out_stride) + FIELD(AttentionArguments, num_heads) +
         FIELD(AttentionArguments, head_size) + FIELD(AttentionArguments, scale) +
         FIELD(AttentionArguments, relative) + FIELD(AttentionArguments, max_rows) +
         FIELD(AttentionArguments, max_sequences) + FIELD(AttentionArguments, behind_short) +
         FIELD(AttentionArguments, plan_is_settled);
}

std::string relative_layout() {
  return FIELD(RelativeTensors, num_heads) + FIELD(RelativeTensors, head_size) +
         FIELD(RelativeTensors, num_distances) + FIELD(RelativeTensors, bias) +
         FIELD(RelativeTensors, num_rows) + FIELD(RelativeTensors, row) +
         FIELD(RelativeTensors, key_rows) + FIELD(RelativeTensors, query_rows) +
         FIELD(RelativeWeights, num_distances) + FIELD(RelativeWeights, num_rows) +
         FIELD(RelativeWeights, bias) + FIELD(RelativeWeights, row) +
         FIELD(RelativeWeights, key_rows) + FIELD(RelativeWeights, query_rows);
}

std::string plan_and_embed_layout() {
  return FIELD(PlanArguments, header) + FIELD(PlanArguments, state) +
         FIELD(PlanArguments, short_items) + FIELD(PlanArguments, long_items) +
         FIELD(PlanArguments, max_tokens) + FIELD(PlanArguments, max_sequences) +
         FIELD(PlanArguments, max_chosen) + FIELD(PlanArguments, max_length) +
         FIELD(PlanArguments, query_tile) + FIELD(PlanArguments, error) + FIELD(Norm, weight) +
         FIELD(Norm, bias) + FIELD(Norm, epsilon) + FIELD(EmbedArguments, header) +
         FIELD(EmbedArguments, state) + FIELD(EmbedArguments, dtype) + FIELD(EmbedArguments, word) +
         FIELD(EmbedArguments, position) + FIELD(EmbedArguments, token_type) +
         FIELD(EmbedArguments, vocab_size) + FIELD(EmbedArguments, num_token_types) +
         FIELD(EmbedArguments, position_offset) + FIELD(EmbedArguments, norm) +
         FIELD(EmbedArguments, out) + FIELD(EmbedArguments, out_stride) +
         FIELD(EmbedArguments, cols) + FIELD(EmbedArguments, max_rows) +
         FIELD(EmbedArguments, error);
}

std::string rows_layout() {
  return FIELD(LayerNormArguments, num_rows) + FIELD(LayerNormArguments, dtype) +
         FIELD(LayerNormArguments, in) + FIELD(LayerNormArguments, in_stride) +
         FIELD(LayerNormArguments, norm) + FIELD(LayerNormArguments, out_dtype) +
         FIELD(LayerNormArguments, out) + FIELD(LayerNormArguments, out_stride) +
         FIELD(LayerNormArguments, indirect_out) + FIELD(LayerNormArguments, cols) +
         FIELD(LayerNormArguments, max_rows) + FIELD(PoolArguments, header) +
         FIELD(PoolArguments, state) + FIELD(PoolArguments, dtype) + FIELD(PoolArguments, states) +
         FIELD(PoolArguments, states_stride) + FIELD(PoolArguments, indirect_states) +
         FIELD(PoolArguments, modes) + FIELD(PoolArguments, num_modes) +
         FIELD(PoolArguments, out_dtype) + FIELD(PoolArguments, out) +
         FIELD(PoolArguments, out_stride) + FIELD(PoolArguments, indirect_out) +
         FIELD(PoolArguments, cols) + FIELD(PoolArguments, max_sequences) +
         FIELD(NormalizeArguments, state) + FIELD(NormalizeArguments, dtype) +
         FIELD(NormalizeArguments, in) + FIELD(NormalizeArguments, in_stride) +
         FIELD(NormalizeArguments, out_dtype) + FIELD(NormalizeArguments, out) +
         FIELD(NormalizeArguments, out_stride) + FIELD(NormalizeArguments, indirect_in) +
         FIELD(NormalizeArguments, indirect_out) + FIELD(NormalizeArguments, divide) +
         FIELD(NormalizeArguments, cols) + FIELD(NormalizeArguments, max_sequences);
}

std::string copies_layout() {
  return FIELD(AddLayerNormArguments, num_rows) + FIELD(AddLayerNormArguments, dtype) +
         FIELD(AddLayerNormArguments, in) + FIELD(AddLayerNormArguments, in_stride) +
         FIELD(AddLayerNormArguments, residual) + FIELD(AddLayerNormArguments, residual_stride) +
         FIELD(AddLayerNormArguments, norm) + FIELD(AddLayerNormArguments, out_dtype) +
         FIELD(AddLayerNormArguments, out) + FIELD(AddLayerNormArguments, out_stride) +
         FIELD(AddLayerNormArguments, indirect_out) + FIELD(AddLayerNormArguments, cols) +
         FIELD(AddLayerNormArguments, max_rows) + FIELD(CopyArguments, header) +
         FIELD(CopyArguments, state) + FIELD(CopyArguments, dtype) + FIELD(CopyArguments, in) +
         FIELD(CopyArguments, in_stride) + FIELD(CopyArguments, indirect_in) +
         FIELD(CopyArguments, out_dtype) + FIELD(CopyArguments, out) +
         FIELD(CopyArguments, out_stride) + FIELD(CopyArguments, indirect_out) +
         FIELD(CopyArguments, cols) + FIELD(CopyArguments, width) + FIELD(CopyArguments, max_rows);
}

#undef FIELD

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

const char* shim_last_error() { return last_error.c_str(); }

// Lines "struct.field offset bytes" of every struct that crosses this interface.
const char* shim_layout() {
  static const std::string layout = batch_layout() + product_layout() + relative_layout() +
                                    plan_and_embed_layout() + rows_layout() + copies_layout();
  return layout.c_str();
}

int shim_device(int index, DeviceTraits* device) {
  return guarded([&] {
    const std::string problem = find_device(index, *device);
    if (!problem.empty()) throw std::runtime_error(problem);
  });
}

int shim_plan(const PlanArguments* arguments, const DeviceTraits* device, void* stream) {
  return guarded([&] { plan_batch(*arguments, *device, stream_of(stream)); });
}

int shim_embed_layernorm(const EmbedArguments* arguments, const DeviceTraits* device,
                         void* stream) {
  return guarded([&] { embed_layernorm(*arguments, *device, stream_of(stream)); });
}

int shim_layernorm(const LayerNormArguments* arguments, const DeviceTraits* device, void* stream) {
  return guarded([&] { layernorm(*arguments, *device, stream_of(stream)); });
}

int shim_add_layernorm(const AddLayerNormArguments* arguments, const DeviceTraits* device,
                       void* stream) {
  return guarded([&] { add_layernorm(*arguments, *device, stream_of(stream)); });
}

// kind: 0 gather_chosen, 1 unfold, 2 pool_single.
int shim_copy_rows(int kind, const CopyArguments* arguments, const DeviceTraits* device,
                   void* stream) {
  return guarded([&] { run_copy(kind, *arguments, *device, stream_of(stream)); });
}

int shim_pool(const PoolArguments* arguments, const DeviceTraits* device, void* stream) {
  return guarded([&] { pool(*arguments, *device, stream_of(stream)); });
}

int shim_normalize(const NormalizeArguments* arguments, const DeviceTraits* device, void* stream) {
  return guarded([&] { normalize(*arguments, *device, stream_of(stream)); });
}

#ifdef VLT_KERNEL_VARIANTS
int shim_layernorm_by_rows(const LayerNormArguments* arguments, const DeviceTraits* device,
                           void* stream, int lane_rows) {
  return guarded([&] {
    if (!layernorm_by_rows(*arguments, *device, stream_of(stream), lane_rows))
      throw std::invalid_argument("there is no such variant of layernorm for these arguments");
  });
}
#endif

// kind: 0 hopper, 1 mma, 2 fp32; tile counts for hopper only.
int shim_gemm(int kind, const GemmArguments* arguments, const DeviceTraits* device, void* stream,
              int tile) {
  return guarded([&] { run_gemm(kind, *arguments, *device, stream_of(stream), tile); });
}

int shim_gemm_norm(const GemmArguments* product, const LayerNormArguments* norm,
                   const DeviceTraits* device, void* stream) {
  return guarded([&] {
    if (!gemm_norm_hopper_serves(*product, *norm))
      throw std::invalid_argument("there is no kernel for this product with its norm");
    gemm_norm_hopper(*product, *norm, *device, stream_of(stream));
  });
}

// kind: 0 short_mma, 1 long_mma, 2 long_hopper, 3 fp32, 4 relative.
int shim_attention(int kind, const AttentionArguments* arguments, const DeviceTraits* device,
                   void* stream) {
  return guarded([&] { run_attention(kind, *arguments, *device, stream_of(stream)); });
}

// As a model prepares them; *memory is theirs, for shim_free_weights().
int shim_prepare_relative(const RelativeTensors* tensors, int dtype, const DeviceTraits* device,
                          RelativeWeights* weights, void** memory) {
  return guarded([&] {
    std::string problem;
    const auto backend = make_cuda_backend(device->index, static_cast<vlt::DType>(dtype), problem);
    if (!backend) throw std::runtime_error(problem);
    std::unique_ptr<vlt::WeightPool> pool = backend->create_weight_pool();
    *weights = backend->prepare_relative(*tensors, *pool);
    *memory = pool.release();
  });
}

void shim_free_weights(void* memory) { delete static_cast<vlt::WeightPool*>(memory); }

int shim_hopper_attention_fits(int head_size, int64_t qkv_stride, int num_heads) {
  return hopper_attention_fits(head_size, qkv_stride, num_heads);
}

int shim_hopper_query_tile(int head_size) { return hopper_query_tile(head_size); }

int shim_num_hopper_tiles() { return num_hopper_tiles(); }

void shim_hopper_tile(int index, HopperTile* tile) { *tile = hopper_tile(index); }

int shim_choose_hopper_tile(int64_t rows, int64_t outputs, int64_t inputs, int activates,
                            int num_multiprocessors) {
  return choose_hopper_tile(rows, outputs, inputs, activates != 0, num_multiprocessors);
}

}  // extern "C"
#pragma GCC visibility pop
