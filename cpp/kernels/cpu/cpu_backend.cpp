#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <bit>
#include <cfenv>
#include <numeric>
#include <type_traits>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/cpu/cpu_operations.h"
#include "kernels/cpu/thread_team.h"

namespace vlt {
namespace {

// Rounding to nearest and no flushing of small numbers, whatever the calling thread was set to: a
// result must not depend on which thread computed it.
class DefaultFloatingPoint {
 public:
  DefaultFloatingPoint() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
#if defined(__x86_64__)
    _mm_setcsr(0x1f80);  // fesetenv() may leave denormals flushed
#endif
  }
  ~DefaultFloatingPoint() { std::fesetenv(&saved_); }
  DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
  DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

 private:
  std::fenv_t saved_;
};

class CpuStream final : public Stream {
 public:
  CpuStream(const CpuKernels& kernels, int num_workers)
      : kernels_(kernels),
        num_workers_(num_workers),
        team_(num_workers > 1 ? ThreadTeam::shared(num_workers) : nullptr) {}

  int num_workers() const override { return num_workers_; }

  void run(Mode mode, int workers, std::byte* scratch, uint64_t scratch_bytes,
           const std::function<bool()>& stop_requested,
           const std::function<void(int, Operations&)>& body) override {
    WorkerGroup group(workers);
    const bool together = mode == Mode::kTogether && workers > 1;
    const auto work = [&](int worker) {
      const DefaultFloatingPoint environment;
      CpuOperations operations(kernels_, together ? &group : nullptr, together ? worker : 0,
                               scratch + static_cast<uint64_t>(worker) * scratch_bytes,
                               stop_requested);
      body(worker, operations);
    };
    if (workers > 1) {
      team_->run(workers, stop_requested, work);
    } else {
      work(0);
    }
  }

 private:
  const CpuKernels kernels_;
  const int num_workers_;
  const std::shared_ptr<ThreadTeam> team_;
};

class CpuBackend final : public HostBackend {
 public:
  explicit CpuBackend(const CpuKernels& kernels)
      : kernels_(kernels), table_(*kernels.table), linear_(*kernels.linear) {}

  const char* name() const override { return kernels_.name; }
  DType compute_type() const override { return kernels_.weights; }

  LinearWeights prepare_linear(const float* weight, const float* bias, int64_t outputs,
                               int64_t inputs, WeightPool& pool) const override {
    return linear_.bytes == 2 ? pack_linear<uint16_t>(linear_, weight, bias, outputs, inputs, pool)
                              : pack_linear<float>(linear_, weight, bias, outputs, inputs, pool);
  }

  LinearWeights prepare_int8_linear(const Int8Weights& weights, const float* bias,
                                    WeightPool& pool) const override {
    const int64_t outputs = weights.outputs, inputs = weights.inputs;
    LinearWeights prepared =
        pack_linear<int8_t>(*kernels_.linear_int8, weights.values, bias, outputs, inputs, pool);
    std::vector<float> sums;
    for (int64_t j = 0; j < outputs; ++j) {
      const int8_t* row = weights.values + j * inputs;
      sums.push_back(static_cast<float>(std::accumulate(row, row + inputs, 0)));
    }
    prepared.sums = pad_to_panels(sums.data(), outputs, pool);
    prepared.scales = pad_to_panels(weights.scales, outputs, pool);
    if (weights.input_factors)
      prepared.input_factors = prepare_vector(weights.input_factors, inputs, pool);
    return prepared;
  }

  const void* prepare_table(const float* values, int64_t count, WeightPool& pool) const override {
    if (linear_.bytes == sizeof(float)) return prepare_vector(values, count, pool);
    auto* table = allocate<uint16_t>(count, pool);
    std::transform(values, values + count, table, as<uint16_t, float>);
    return table;
  }

  // Keeps rows aligned and spreads them over the cache sets.
  int64_t row_stride(int64_t cols) const override {
    const int64_t whole_lines = (cols + 15) / 16 * 16;
    // Rows a multiple of 2 KiB apart share cache sets; one line more spreads a strip over L1.
    return whole_lines % 512 == 0 ? whole_lines + 16 : whole_lines;
  }

  // The layout that RelativeHead asks for, head after head. Rows that no distance has are left out,
  // so that from one distance to the next the row grows by one at most.
  RelativeWeights prepare_relative(const RelativeTensors& tensors,
                                   WeightPool& pool) const override {
    RelativeWeights prepared;
    const int64_t distances = prepared.num_distances = tensors.num_distances;
    const int64_t read_behind = table_.panel_width;
    if (tensors.bias) {
      const int64_t count = tensors.num_heads * distances;
      auto* bias = allocate<float>(count + read_behind, pool);
      prepared.bias = bias;
      std::fill_n(std::copy_n(tensors.bias, count, bias), read_behind, 0.0f);
    }
    if (!tensors.row) return prepared;

    std::vector<int64_t> kept;
    auto* row = allocate<int32_t>(distances + read_behind, pool);
    prepared.row = row;
    for (int64_t i = 0; i < distances; ++i) {
      if (kept.empty() || kept.back() != tensors.row[i]) kept.push_back(tensors.row[i]);
      row[i] = static_cast<int32_t>(kept.size()) - 1;
    }
    std::fill_n(row + distances, read_behind, row[distances - 1]);
    prepared.num_rows = static_cast<int64_t>(kept.size());
    prepared.key_rows = pack_heads(tensors.key_rows, kept, tensors, pool);
    prepared.query_rows = pack_heads(tensors.query_rows, kept, tensors, pool);
    return prepared;
  }

  uint64_t scratch_bytes(int64_t max_length, int64_t head_size,
                         int64_t num_relative_rows) const override {
    const int64_t floats = kernels_.attention->scratch(max_length, head_size, num_relative_rows);
    const int64_t bytes =
        std::max({floats * static_cast<int64_t>(sizeof(float)), linear_.scratch_bytes,
                  kernels_.linear_int8 ? kernels_.linear_int8->scratch_bytes : 0});
    return (static_cast<uint64_t>(bytes) + 63) / 64 * 64;
  }

  std::unique_ptr<Stream> create_stream(int num_workers) const override {
    return std::make_unique<CpuStream>(kernels_, num_workers);
  }

 private:
  template <typename T>
  static T* allocate(int64_t count, WeightPool& pool) {
    return static_cast<T*>(pool.allocate(static_cast<uint64_t>(count) * sizeof(T)));
  }

  int64_t padded_to_panels(int64_t outputs) const {
    const int64_t width = table_.panel_width;
    return (outputs + width - 1) / width * width;
  }

  // [N], or nothing for zeros, filled up with zeros.
  const float* pad_to_panels(const float* values, int64_t count, WeightPool& pool) const {
    const int64_t padded = padded_to_panels(count);
    auto* result = allocate<float>(padded, pool);
    std::fill_n(result, padded, 0.0f);
    if (values) std::copy_n(values, count, result);
    return result;
  }

  // [N, K] and [N] or null, for the kernel, each weight as T.
  template <typename T, typename Source>
  LinearWeights pack_linear(const LinearKernel& kernel, const Source* weight, const float* bias,
                            int64_t outputs, int64_t inputs, WeightPool& pool) const {
    const int64_t padded = (inputs + kernel.inputs - 1) / kernel.inputs * kernel.inputs;
    auto* panels = allocate<T>(padded_to_panels(outputs) * padded, pool);
    pack_panels([&](int64_t j) { return weight + j * inputs; }, outputs, inputs, padded,
                kernel.group, panels);
    LinearWeights prepared;
    prepared.data = panels;
    prepared.bias = pad_to_panels(bias, outputs, pool);
    prepared.outputs = outputs;
    prepared.inputs = inputs;
    return prepared;
  }

  // A weight as it is stored: as it is, or rounded to bfloat16, to the nearest, ties to even. It is
  // finite before and after: the model has seen to it.
  template <typename T, typename Source>
  static T as(Source x) {
    if constexpr (std::is_same_v<T, Source>) {
      return x;
    } else {
      const auto bits = std::bit_cast<uint32_t>(x);
      return static_cast<T>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
  }

  // out [ceil(N / width), padded / group, width, group] of rows row_of(0 … N - 1), each of K; zeros
  // past N and K. Returns its end.
  template <typename RowOf, typename T>
  T* pack_panels(const RowOf& row_of, int64_t outputs, int64_t inputs, int64_t padded,
                 int64_t group, T* out) const {
    const int64_t width = table_.panel_width;
    for (int64_t column = 0; column < outputs; column += width)
      for (int64_t k = 0; k < padded; k += group)
        for (int64_t j = column; j < column + width; ++j)
          for (int64_t i = k; i < k + group; ++i)
            *out++ = j < outputs && i < inputs ? as<T>(row_of(j)[i]) : T{0};
    return out;
  }

  // The kept ones of rows [R, A·D] as panels of every head, or null where there are none.
  const float* pack_heads(const float* rows, const std::vector<int64_t>& kept,
                          const RelativeTensors& tensors, WeightPool& pool) const {
    if (!rows) return nullptr;
    const int64_t head_size = tensors.head_size, inner = tensors.num_heads * head_size;
    const auto num_rows = static_cast<int64_t>(kept.size());
    auto* panels = allocate<float>(padded_to_panels(num_rows) * inner, pool);
    float* out = panels;
    for (int64_t column = 0; column < inner; column += head_size)
      out = pack_panels(
          [&](int64_t r) { return rows + kept[static_cast<size_t>(r)] * inner + column; }, num_rows,
          head_size, head_size, 1, out);
    return panels;
  }

  const CpuKernels kernels_;
  const KernelTable& table_;
  const LinearKernel& linear_;
};

}  // namespace

std::unique_ptr<HostBackend> make_cpu_backend(const CpuKernels& kernels) {
  return std::make_unique<CpuBackend>(kernels);
}

}  // namespace vlt
