#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cfenv>

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
  CpuStream(const KernelTable& kernels, int num_workers)
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
  const KernelTable& kernels_;
  const int num_workers_;
  const std::shared_ptr<ThreadTeam> team_;
};

class CpuBackend final : public HostBackend {
 public:
  explicit CpuBackend(const KernelTable& kernels) : kernels_(kernels) {}

  const char* name() const override { return kernels_.name; }

  LinearWeights prepare_linear(const float* weight, const float* bias, int64_t outputs,
                               int64_t inputs, WeightPool& pool) const override {
    const int64_t width = kernels_.panel_width;
    const int64_t panels = (outputs + width - 1) / width;
    LinearWeights prepared;
    const auto count = static_cast<uint64_t>(panels * width * (inputs + 1));
    auto* out = static_cast<float*>(pool.allocate(count * sizeof(float)));
    prepared.data = out;
    for (int64_t column = 0; column < panels * width; column += width)
      for (int64_t k = 0; k < inputs; ++k)
        for (int64_t j = column; j < column + width; ++j)
          *out++ = j < outputs ? weight[j * inputs + k] : 0.0f;
    std::fill(out, out + panels * width, 0.0f);
    if (bias) std::copy(bias, bias + outputs, out);
    prepared.bias = out;
    prepared.outputs = outputs;
    prepared.inputs = inputs;
    return prepared;
  }

  // Keeps rows aligned and spreads them over the cache sets.
  int64_t row_stride(int64_t cols) const override {
    const int64_t whole_lines = (cols + 15) / 16 * 16;
    // Rows a multiple of 2 KiB apart share cache sets; one line more spreads a strip over L1.
    return whole_lines % 512 == 0 ? whole_lines + 16 : whole_lines;
  }

  RelativeWeights prepare_relative(const RelativeTensors&, WeightPool&) const override {
    return {};
  }

  uint64_t scratch_bytes(int64_t max_length, int64_t head_size,
                         int64_t /*num_relative_rows*/) const override {
    const int64_t floats = kernels_.attention_scratch(max_length, head_size);
    return (static_cast<uint64_t>(floats) * sizeof(float) + 63) / 64 * 64;
  }

  std::unique_ptr<Stream> create_stream(int num_workers) const override {
    return std::make_unique<CpuStream>(kernels_, num_workers);
  }

 private:
  const KernelTable& kernels_;
};

}  // namespace

std::unique_ptr<HostBackend> make_cpu_backend(const KernelTable& kernels) {
  return std::make_unique<CpuBackend>(kernels);
}

}  // namespace vlt
