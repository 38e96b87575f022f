// What the kernel tests share: deterministic data, buffers with canaries, and the comparison of a
// backend's operation with the double-precision reference.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/registry.h"

namespace vlt::tests {

constexpr double kEps = 1.0 / (1 << 24);  // half a unit in the last place of 1.0f

inline std::vector<float> random_floats(int64_t count, uint32_t seed, float scale = 1,
                                        float mean = 0) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(mean, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = normal(generator);
  return values;
}

// What a backend keeps of numbers that it stores as weights. Tests round first, so that a kernel on
// bfloat16 has to give what exact arithmetic gives: rounding itself is a test of its own.
inline std::vector<float> as_stored(std::vector<float> values, const HostBackend& backend) {
  if (backend.compute_type() != DType::kFloat32)
    for (float& v : values) v = std::bit_cast<float>(std::bit_cast<uint32_t>(v) & 0xffff0000u);
  return values;
}

// A matrix that starts full of NaN, with canaries in every gap between rows and around it.
class GuardedMatrix {
 public:
  GuardedMatrix(int64_t rows, int64_t cols, int64_t stride)
      : rows_(rows),
        cols_(cols),
        stride_(stride),
        values_(static_cast<size_t>(2 * kMargin + rows * stride), kCanary) {
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) view().row(i)[j] = std::numeric_limits<float>::quiet_NaN();
  }
  GuardedMatrix(int64_t rows, int64_t cols, int64_t stride, const std::vector<float>& values)
      : GuardedMatrix(rows, cols, stride) {
    for (int64_t i = 0; i < rows; ++i)
      std::memcpy(view().row(i), values.data() + i * cols,
                  static_cast<size_t>(cols) * sizeof(float));
  }
  Matrix view() { return {values_.data() + kMargin, rows_, cols_, stride_}; }

  bool canaries_alive() {
    for (int64_t k = 0; k < static_cast<int64_t>(values_.size()); ++k) {
      const int64_t inside = k - kMargin;
      const bool is_data = inside >= 0 && inside < rows_ * stride_ && inside % stride_ < cols_;
      if (!is_data && values_[static_cast<size_t>(k)] != kCanary) return false;
    }
    return true;
  }

 private:
  static constexpr int64_t kMargin = 64;
  static constexpr float kCanary = -12345.678f;
  int64_t rows_, cols_, stride_;
  std::vector<float> values_;
};

// Runs body on a stream of the backend with its own scratch, all workers together.
inline void run_together(const HostBackend& backend, int workers, int64_t max_length,
                         int64_t head_size, const std::function<void(Operations&)>& body,
                         int64_t num_relative_rows = 0) {
  const std::unique_ptr<Stream> stream = backend.create_stream(workers);
  const uint64_t bytes = backend.scratch_bytes(max_length, head_size, num_relative_rows);
  const int active = std::min(workers, stream->num_workers());
  const uint64_t floats = bytes / sizeof(float) * static_cast<uint64_t>(active) + 32;
  std::vector<float> scratch(floats, std::numeric_limits<float>::quiet_NaN());
  scratch[floats - 1] = 4321;  // a canary past the end
  stream->run(
      Stream::Mode::kTogether, active, reinterpret_cast<std::byte*>(scratch.data()), bytes,
      [] { return false; }, [&](int, Operations& operations) { body(operations); });
  if (scratch[floats - 1] != 4321) {
    std::printf("scratch overrun by %s\n", backend.name());
    std::abort();
  }
}

// Counts and reports; one line a failing case, with the worst coordinate and both values.
class Report {
 public:
  explicit Report(std::string backend) : backend_(std::move(backend)) {}

  // bound(i, j): the largest error that element may have.
  void compare(const std::string& name, GuardedMatrix& actual, GuardedMatrix& expected,
               const std::function<double(int64_t, int64_t)>& bound) {
    const Matrix a = actual.view(), e = expected.view();
    double worst = 0;
    int64_t worst_i = 0, worst_j = 0;
    for (int64_t i = 0; i < a.rows; ++i)
      for (int64_t j = 0; j < a.cols; ++j) {
        const double error = std::fabs(static_cast<double>(a.row(i)[j]) - e.row(i)[j]);
        const double ratio = std::isnan(error) ? HUGE_VAL : error / bound(i, j);
        if (ratio > worst) worst = ratio, worst_i = i, worst_j = j;
      }
    char text[256] = "";
    if (worst > 1)
      std::snprintf(text, sizeof(text), "at [%ld, %ld]: %.9g instead of %.9g, %.3g times the bound",
                    static_cast<long>(worst_i), static_cast<long>(worst_j), a.row(worst_i)[worst_j],
                    e.row(worst_i)[worst_j], worst);
    check(name, worst <= 1, text);
    check(name + " canaries", actual.canaries_alive(), "wrote outside its output");
    largest_ = std::max(largest_, worst);
  }

  void check(const std::string& name, bool ok, const char* problem) {
    ok ? ++passed_ : ++failed_;
    if (!ok) std::printf("FAIL %s %s %s\n", backend_.c_str(), name.c_str(), problem);
  }

  int finish(const char* operation) const {
    std::printf("%s %s: %d passed, %d failed, largest error %.2f of its bound\n", backend_.c_str(),
                operation, passed_, failed_, largest_);
    return failed_;
  }

 private:
  std::string backend_;
  int passed_ = 0, failed_ = 0;
  double largest_ = 0;
};

int test_linear(const HostBackend& backend);
int test_attention(const HostBackend& backend);
int test_relative(const HostBackend& backend);
int test_rows(const HostBackend& backend);
int test_moves(const HostBackend& backend);
int test_red_zones(const HostBackend& backend);
int test_device_plan(const HostBackend& backend);  // needs no backend, but its name
#if defined(VLT_CUDA)
int test_tile_choice();
#endif

}  // namespace vlt::tests
