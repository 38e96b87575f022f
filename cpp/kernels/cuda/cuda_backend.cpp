#include "kernels/cuda/cuda_backend.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>

#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/device_scope.h"
#include "kernels/cuda/device_weight_pool.h"
#include "kernels/cuda/find_device.h"
#include "kernels/cuda/relative.h"
#include "kernels/cuda/result_memory.h"

namespace vlt::cuda {
namespace {

// Rows of weights start on 16-byte boundaries, as the copy engine wants; the bias is padded so that
// any tile can read it.
constexpr int64_t kRowAlignment = 8;
constexpr int64_t kBiasAlignment = 256;
// Activations start on lines of 128 bytes.
constexpr int64_t kActivationAlignment = 64;

int64_t size_of(const std::vector<float>& values) { return static_cast<int64_t>(values.size()); }

int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

// Rows [rows, cols] as the device stores them, each padded with zeros to `stride` elements.
std::vector<std::byte> converted(const float* values, int64_t rows, int64_t cols, int64_t stride,
                                 DType dtype) {
  const size_t size = element_bytes(dtype);
  std::vector<std::byte> bytes(static_cast<size_t>(rows * stride) * size);
  for (int64_t i = 0; i < rows; ++i) {
    const float* from = values + i * cols;
    std::byte* to = bytes.data() + static_cast<size_t>(i * stride) * size;
    if (dtype == DType::kFloat32) {
      std::memcpy(to, from, static_cast<size_t>(cols) * size);
    } else if (dtype == DType::kFloat16) {
      std::transform(from, from + cols, reinterpret_cast<__half*>(to),
                     [](float x) { return __float2half_rn(x); });
    } else {
      std::transform(from, from + cols, reinterpret_cast<__nv_bfloat16*>(to),
                     [](float x) { return __float2bfloat16_rn(x); });
    }
  }
  return bytes;
}

class CudaBackend final : public DeviceBackend {
 public:
  CudaBackend(const DeviceTraits& device, DType compute_type)
      : device_(device), compute_type_(compute_type), results_(device.index) {}

  const char* name() const override { return device_.hopper_kernels ? "sm_90a" : "sm_80"; }
  DType compute_type() const override { return compute_type_; }
  int device_index() const override { return device_.index; }

  std::unique_ptr<WeightPool> create_weight_pool() const override {
    return std::make_unique<DeviceWeightPool>(device_.index);
  }

  LinearWeights prepare_linear(const float* weight, const float* bias, int64_t outputs,
                               int64_t inputs, WeightPool& pool) const override {
    LinearWeights prepared;
    prepared.outputs = outputs;
    prepared.inputs = inputs;
    prepared.stride = round_up(inputs, kRowAlignment);
    prepared.data = moved(converted(weight, outputs, inputs, prepared.stride, compute_type_), pool);
    std::vector<float> padded(static_cast<size_t>(round_up(outputs, kBiasAlignment)));
    if (bias) std::copy(bias, bias + outputs, padded.begin());
    prepared.bias = prepare_vector(padded.data(), static_cast<int64_t>(padded.size()), pool);
    return prepared;
  }

  const void* prepare_table(const float* values, int64_t count, WeightPool& pool) const override {
    return moved(converted(values, 1, count, count, compute_type_), pool);
  }

  const float* prepare_vector(const float* values, int64_t count, WeightPool& pool) const override {
    return static_cast<const float*>(
        moved(converted(values, 1, count, count, DType::kFloat32), pool));
  }

  RelativeWeights prepare_relative(const RelativeTensors& tensors,
                                   WeightPool& pool) const override {
    const RelativeTables tables = lay_out(tensors);
    const auto rows = [&](const std::vector<float>& table) {
      return table.empty() ? nullptr : prepare_table(table.data(), size_of(table), pool);
    };
    RelativeWeights prepared;
    prepared.num_distances = tensors.num_distances;
    prepared.num_rows = tables.num_rows;
    if (!tables.bias.empty())
      prepared.bias = prepare_vector(tables.bias.data(), size_of(tables.bias), pool);
    if (!tables.row.empty())
      prepared.row = static_cast<const int32_t*>(moved(std::as_bytes(std::span(tables.row)), pool));
    prepared.key_rows = rows(tables.key_rows);
    prepared.query_rows = rows(tables.query_rows);
    return prepared;
  }

  int64_t row_stride(int64_t cols) const override { return round_up(cols, kActivationAlignment); }

  void* allocate(uint64_t bytes) const override { return results_.allocate(bytes); }
  void release(void* memory) const override { results_.release(memory); }
  void copy(void* to, const void* from, uint64_t bytes) const override {
    const DeviceScope scope(device_.index);
    check(cudaMemcpy(to, from, bytes, cudaMemcpyDefault), "cudaMemcpy");
    // It may return early, and sessions' streams do not wait for the one it went into.
    check(cudaStreamSynchronize(cudaStreamLegacy), "cudaMemcpy");
  }

  std::unique_ptr<DeviceStream> create_stream(int max_threads) const override {
    const DeviceScope scope(device_.index);
    return std::make_unique<CudaStream>(device_, compute_type_, max_threads);
  }

 private:
  const void* moved(std::span<const std::byte> bytes, WeightPool& pool) const {
    void* memory = pool.allocate(bytes.size());
    copy(memory, bytes.data(), bytes.size());
    return memory;
  }

  const DeviceTraits device_;
  const DType compute_type_;
  mutable ResultMemory results_;  // guards itself
};

}  // namespace

std::unique_ptr<DeviceBackend> make_cuda_backend(int device_index, DType compute_type,
                                                 std::string& problem) {
  DeviceTraits device;
  problem = find_device(device_index, device);
  if (!problem.empty()) return nullptr;
  return std::make_unique<CudaBackend>(device, compute_type);
}

std::vector<std::string> built_architectures() {
  std::vector<std::string> names;
  const std::string list = VLT_CUDA_ARCHITECTURES;
  for (size_t begin = 0; begin < list.size();) {
    const size_t end = std::min(list.find(' ', begin), list.size());
    names.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return names;
}

}  // namespace vlt::cuda
