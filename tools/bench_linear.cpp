// Times linear by itself on the CPU: vlt_bench_linear BACKEND[:bfloat16|:int8] THREADS
// Prints one JSON object: operations a second of products of 512 rows beside the peak of a loop of
// multiply-adds, and bytes of weights a second of products of one row, with weights that no cache
// holds, beside the rate of reading. bench_kernels_cpu.py makes a table of it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "allocator/arena.h"
#include "kernels/registry.h"
#include "peak_rates.h"

namespace {

using namespace vlt;

constexpr int64_t kSizes[] = {768, 3072};
constexpr int64_t kRows = 512;
constexpr int64_t kUncached = int64_t{160} << 20;  // 4 times an L3 of 32 MiB, and more

std::vector<float> random_floats(int64_t count) {
  static std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

// Memory as a session's workspace has it: huge pages where the system gives them.
class Pages {
 public:
  explicit Pages(int64_t floats) : arena_(host_memory()) {
    memory_ = arena_.acquire(static_cast<uint64_t>(floats) * sizeof(float));
    if (!memory_) std::abort();
  }
  std::byte* bytes() const { return memory_; }
  float* floats() const { return reinterpret_cast<float*>(memory_); }

 private:
  Arena arena_;
  std::byte* memory_;
};

LinearWeights prepare(const HostBackend& backend, int64_t outputs, int64_t inputs,
                      WeightPool& pool) {
  if (backend.compute_type() != DType::kInt8) {
    static std::vector<float> weight;
    if (static_cast<int64_t>(weight.size()) < outputs * inputs)
      weight = random_floats(outputs * inputs);
    return backend.prepare_linear(weight.data(), nullptr, outputs, inputs, pool);
  }
  const std::vector<int8_t> values(static_cast<size_t>(outputs * inputs), 3);
  const std::vector<float> scales(static_cast<size_t>(outputs), 0.01f);
  Int8Weights weights;
  weights.values = values.data();
  weights.scales = scales.data();
  weights.outputs = outputs;
  weights.inputs = inputs;
  return backend.prepare_int8_linear(weights, nullptr, pool);
}

// Seconds that a product takes, of all weights in turn, the median of some rounds.
double seconds_each(const HostBackend& backend, int threads, int64_t rows,
                    const std::vector<LinearWeights>& weights) {
  const int64_t inputs = weights[0].inputs, outputs = weights[0].outputs;
  const int64_t in_stride = backend.row_stride(inputs), out_stride = backend.row_stride(outputs);
  // In the kind of memory that a session's workspace is.
  const Pages in(rows * in_stride), out(rows * out_stride);
  const std::vector<float> values = random_floats(rows * in_stride);
  std::copy(values.begin(), values.end(), in.floats());
  const Matrix input{in.floats(), rows, inputs, in_stride};
  const Matrix output{out.floats(), rows, outputs, out_stride};
  const auto stream = backend.create_stream(threads);
  const uint64_t bytes = backend.scratch_bytes(1, 16, 0);
  const Pages scratch(static_cast<int64_t>(bytes) * threads / int64_t{sizeof(float)} + 1);
  const double operations = 2.0 * static_cast<double>(rows * outputs * inputs);
  const int turns = std::max(
      1, static_cast<int>(2e9 * threads / operations / static_cast<double>(weights.size())));
  std::vector<double> rounds;
  for (int round = 0; round < 9; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    stream->run(
        Stream::Mode::kTogether, threads, scratch.bytes(), bytes, [] { return false; },
        [&](int, Operations& operations_) {
          for (int turn = 0; turn < turns; ++turn)
            for (const LinearWeights& each : weights)
              operations_.linear(input, each, Activation::kIdentity, output);
        });
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    rounds.push_back(taken.count() / turns / static_cast<double>(weights.size()));
  }
  std::nth_element(rounds.begin(), rounds.begin() + 4, rounds.end());
  return rounds[4];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 || std::atoi(argv[2]) < 1) {
    std::printf("usage: vlt_bench_linear BACKEND[:bfloat16|:int8] THREADS\n");
    return 2;
  }
  const std::string given = argv[1], name = given.substr(0, given.find(':'));
  const std::string type = name == given ? "float32" : given.substr(name.size() + 1);
  const DType weights_type = type == "bfloat16" ? DType::kBFloat16
                             : type == "int8"   ? DType::kInt8
                                                : DType::kFloat32;
  const int threads = std::atoi(argv[2]);
  const BackendChoice choice = choose_cpu_backend(name, weights_type);
  if (!choice.backend) {
    std::printf("this machine cannot run %s\n", argv[1]);
    return 1;
  }
  const HostBackend& backend = *choice.backend;
  std::printf("{\"backend\": \"%s\", \"weights\": \"%s\", \"threads\": %d, \"peak\": %.4g, ",
              backend.name(), type.c_str(), threads,
              bench::peak_rate(backend.name(), type, threads));
  std::printf("\"read\": %.4g, \"products\": [", bench::read_rate(kUncached, threads));
  const char* separator = "";
  const auto row = [&](int64_t rows, int64_t outputs, int64_t inputs, double rate) {
    std::printf("%s{\"rows\": %ld, \"outputs\": %ld, \"inputs\": %ld, \"rate\": %.4g}", separator,
                static_cast<long>(rows), static_cast<long>(outputs), static_cast<long>(inputs),
                rate);
    separator = ", ";
  };
  const int64_t element = type == "float32" ? 4 : type == "bfloat16" ? 2 : 1;
  for (const int64_t outputs : kSizes)
    for (const int64_t inputs : kSizes) {
      const auto pool = backend.create_weight_pool();
      std::vector<LinearWeights> weights{prepare(backend, outputs, inputs, *pool)};
      const double seconds = seconds_each(backend, threads, kRows, weights);
      row(kRows, outputs, inputs, 2.0 * static_cast<double>(kRows * outputs * inputs) / seconds);
      const int64_t bytes = outputs * inputs * element;
      while (static_cast<int64_t>(weights.size()) * bytes < kUncached)
        weights.push_back(prepare(backend, outputs, inputs, *pool));
      row(1, outputs, inputs,
          static_cast<double>(bytes) / seconds_each(backend, threads, 1, weights));
    }
  std::printf("]}\n");
  return 0;
}
