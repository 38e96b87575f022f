// embed_layernorm, layernorm, pool and normalize against the reference, at widths around every vector length.
#include "harness.h"

#include "kernels/reference/reference_backend.h"

namespace vlt::tests {
namespace {

const std::vector<int32_t> kStarts = {7, 8, 8, 25, 90, 92};  // lengths 1, 0, 17, 65, 2
constexpr int32_t kTokens = 85;
const std::vector<int32_t> kPoolingStarts = {1, 0, 3, 0, 2};

Sequences sequences() {
  Sequences s;
  s.sequence_starts = kStarts.data();
  s.num_sequences = static_cast<int32_t>(kStarts.size()) - 1;
  return s;
}

void check_embedding(const HostBackend& backend, const HostBackend& reference, Report& report,
                     int64_t cols) {
  constexpr int32_t kVocabulary = 50, kOffset = 2;
  const auto word = as_stored(random_floats(kVocabulary * cols, 1), backend),
             position = as_stored(random_floats(70 * cols, 2), backend),
             type = as_stored(random_floats(2 * cols, 3), backend),
             weight = random_floats(cols, 4, 0.3f, 1), bias = random_floats(cols, 5);
  std::vector<int32_t> ids, types;
  for (int32_t t = 0; t < kTokens; ++t) ids.push_back(t * 7 % kVocabulary), types.push_back(t % 2);
  Sequences s = sequences();
  s.token_ids = ids.data();
  for (const int optional : {0, 1, 2, 3}) {
    const bool with_types = optional & 1, with_positions = optional & 2;
    s.token_types = with_types ? types.data() : nullptr;
    const auto run = [&](const HostBackend& b, int workers, GuardedMatrix& out) {
      const std::unique_ptr<WeightPool> pool = b.create_weight_pool();
      const auto prepare = [&](const std::vector<float>& values) {
        return b.prepare_table(values.data(), static_cast<int64_t>(values.size()), *pool);
      };
      EmbeddingTables tables;
      tables.word = prepare(word);
      tables.position = with_positions ? prepare(position) : nullptr;
      tables.token_type = with_types ? prepare(type) : nullptr;
      tables.vocab_size = kVocabulary;
      tables.num_token_types = with_types ? 2 : 0;
      tables.position_offset = kOffset;
      tables.norm = {weight.data(), bias.data(), 1e-5f};
      run_together(b, workers, 65, 16,
                   [&](Operations& o) { o.embed_layernorm(s, tables, out.view()); });
    };
    GuardedMatrix expected(kTokens, cols, cols);
    run(reference, 1, expected);
    for (const int workers : {1, 2, 3}) {
      GuardedMatrix out(kTokens, cols, cols + 3);
      run(backend, workers, out);
      // normalised values are of order 1, made by a handful of roundings of sums of three
      report.compare("embed_layernorm H=" + std::to_string(cols) + " optional=" +
                         std::to_string(optional) + " workers=" + std::to_string(workers),
                     out, expected, [&](int64_t i, int64_t j) {
                       return kEps * (24 + 8 * std::fabs(expected.view().row(i)[j]));
                     });
    }
  }
}

void check_layernorm(const HostBackend& backend, const HostBackend& reference, Report& report,
                     int64_t cols) {
  const auto values = random_floats(kTokens * cols, 1, 2, 1),
             other = random_floats(kTokens * cols, 2), weight = random_floats(cols, 4, 0.3f, 1),
             bias = random_floats(cols, 5);
  const NormWeights norm{weight.data(), bias.data(), 1e-5f};
  GuardedMatrix in(kTokens, cols, backend.row_stride(cols), values);
  GuardedMatrix residual(kTokens, cols, cols + 2, other);
  const Matrix added = residual.view();
  for (const Matrix* addend : {static_cast<const Matrix*>(nullptr), &added}) {
    const auto run = [&](const HostBackend& b, int workers, GuardedMatrix& from,
                         GuardedMatrix& to) {
      run_together(b, workers, 65, 16,
                   [&](Operations& o) { o.layernorm(from.view(), addend, norm, to.view()); });
    };
    GuardedMatrix expected(kTokens, cols, cols);
    run(reference, 1, in, expected);
    // as for embeddings
    const auto bound = [&](int64_t i, int64_t j) {
      return kEps * (24 + 8 * std::fabs(expected.view().row(i)[j]));
    };
    const std::string name =
        "layernorm H=" + std::to_string(cols) + " residual=" + std::to_string(addend != nullptr);
    for (const int workers : {1, 2, 3}) {
      GuardedMatrix out(kTokens, cols, cols + 3), in_place(kTokens, cols, cols + 1, values);
      run(backend, workers, in, out);
      report.compare(name + " workers=" + std::to_string(workers), out, expected, bound);
      run(backend, workers, in_place, in_place);
      report.compare(name + " in place", in_place, out, [](int64_t, int64_t) { return 0.0; });
    }
  }
}

void check_pooling(const HostBackend& backend, const HostBackend& reference, Report& report,
                   int64_t cols) {
  const std::vector<PoolingMode> modes = {PoolingMode::kCls,         PoolingMode::kLastToken,
                                          PoolingMode::kMax,         PoolingMode::kMean,
                                          PoolingMode::kMeanSqrtLen, PoolingMode::kWeightedMean};
  Sequences s = sequences();
  GuardedMatrix states(kTokens, cols, backend.row_stride(cols), random_floats(kTokens * cols, 6));
  const int64_t width = cols * static_cast<int64_t>(modes.size());
  for (const bool with_starts : {false, true}) {
    s.pooling_starts = with_starts ? kPoolingStarts.data() : nullptr;
    const auto run = [&](const HostBackend& b, int workers, GuardedMatrix& out) {
      run_together(b, workers, 65, 16,
                   [&](Operations& o) { o.pool(s, states.view(), modes, out.view()); });
    };
    GuardedMatrix expected(s.num_sequences, width, width);
    run(reference, 1, expected);
    for (const int workers : {1, 2, 3}) {
      GuardedMatrix out(s.num_sequences, width, width + 1);
      run(backend, workers, out);
      // up to 65 roundings of partial sums below 20, in quadrature, over √65 at the least
      report.compare("pool H=" + std::to_string(cols) + " starts=" + std::to_string(with_starts) +
                         " workers=" + std::to_string(workers),
                     out, expected, [&](int64_t i, int64_t j) {
                       return kEps * (20 + 4 * std::fabs(expected.view().row(i)[j]));
                     });
    }
  }
}

void check_normalize(const HostBackend& backend, const HostBackend& reference, Report& report,
                     int64_t cols) {
  const auto values = random_floats(5 * cols, 8, 3);
  GuardedMatrix expected(5, cols, cols, values), out(5, cols, cols + 1, values);
  for (int64_t j = 0; j < cols; ++j) expected.view().row(2)[j] = out.view().row(2)[j] = 0;
  run_together(reference, 1, 1, 16, [&](Operations& o) { o.normalize(expected.view()); });
  run_together(backend, 2, 1, 16, [&](Operations& o) { o.normalize(out.view()); });
  report.compare("normalize H=" + std::to_string(cols), out, expected, [&](int64_t i, int64_t j) {
    const double sums = 4 + std::sqrt(static_cast<double>(cols));
    return kEps * sums * std::fabs(expected.view().row(i)[j]) + 1e-30;
  });
}

}  // namespace

int test_rows(const HostBackend& backend) {
  const auto reference = make_reference_backend();
  Report report(backend.name());
  // over 2 or 3 values a norm may amplify rounding without bound
  for (const int64_t cols : {4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 312, 384, 1024}) {
    check_embedding(backend, *reference, report, cols);
    check_layernorm(backend, *reference, report, cols);
    check_pooling(backend, *reference, report, cols);
    check_normalize(backend, *reference, report, cols);
  }
  return report.finish("rows");
}

}  // namespace vlt::tests
