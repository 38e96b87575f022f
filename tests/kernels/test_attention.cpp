// attention against the reference: every length to two strips and panels, head sizes of all kinds.
#include "harness.h"

#include "kernels/reference/reference_backend.h"

namespace vlt::tests {
namespace {

struct AttentionCase {
  std::vector<int32_t> starts;
  int heads;
  int64_t head_size;
  int64_t inner;
  int64_t tokens;
  GuardedMatrix qkv;
  Sequences sequences;

  AttentionCase(const std::vector<int32_t>& lengths, int num_heads, int64_t size, uint32_t seed,
                const HostBackend& backend)
      : starts(1, 100),  // starts need not begin at zero
        heads(num_heads),
        head_size(size),
        inner(num_heads * size),
        tokens(total(lengths)),
        qkv(tokens, 3 * inner, backend.row_stride(3 * inner),
            random_floats(tokens * 3 * inner, seed, 1.5f)) {
    for (const int32_t length : lengths) starts.push_back(starts.back() + length);
    sequences.sequence_starts = starts.data();
    sequences.num_sequences = static_cast<int32_t>(lengths.size());
  }

  static int64_t total(const std::vector<int32_t>& lengths) {
    int64_t sum = 0;
    for (const int32_t length : lengths) sum += length;
    return sum;
  }
  int64_t longest() const {
    int32_t best = 0;
    for (int32_t s = 0; s < sequences.num_sequences; ++s)
      best = std::max(best, sequences.length(s));
    return best;
  }
  float scale() const { return 1 / std::sqrt(static_cast<float>(head_size)); }

  void run(const HostBackend& backend, int workers, GuardedMatrix& out) {
    run_together(backend, workers, longest(), head_size, [&](Operations& operations) {
      operations.attention(sequences, qkv.view(), heads, scale(), nullptr, out.view());
    });
  }

  // Scores err by √D roundings of |q|·|k|; probabilities by that, relatively; the mix by √L more.
  double bound(double largest_value) {
    double largest_score = 0;
    const Matrix m = qkv.view();
    double largest_norm = 0;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t column = 0; column < 2 * inner; column += head_size) {
        double squares = 0;
        for (int64_t d = 0; d < head_size; ++d)
          squares += m.row(t)[column + d] * m.row(t)[column + d];
        largest_norm = std::max(largest_norm, squares);
      }
    largest_score = largest_norm * scale();
    const double roots = 4 + std::sqrt(static_cast<double>(head_size + longest()));
    return kEps * largest_value * roots * (2 + largest_score);
  }
};

void check_case(const HostBackend& backend, const HostBackend& reference, Report& report,
                const std::vector<int32_t>& lengths, int heads, int64_t head_size,
                const std::string& name) {
  AttentionCase c(lengths, heads, head_size, 7, backend);
  GuardedMatrix expected(c.tokens, c.inner, c.inner);
  c.run(reference, 1, expected);
  const double bound = c.bound(1.5 * 4);
  for (const int workers : {1, 2, 3}) {
    GuardedMatrix out(c.tokens, c.inner, c.inner + 3);
    c.run(backend, workers, out);
    report.compare("attention " + name + " heads=" + std::to_string(heads) +
                       " D=" + std::to_string(head_size) + " workers=" + std::to_string(workers),
                   out, expected, [&](int64_t, int64_t) { return bound; });
  }
}

bool alone_equals_batch(const HostBackend& backend, const std::vector<int32_t>& lengths) {
  AttentionCase all(lengths, 3, 24, 9, backend);
  GuardedMatrix together(all.tokens, all.inner, all.inner);
  all.run(backend, 2, together);
  for (int32_t s = 0; s < all.sequences.num_sequences; ++s) {
    AttentionCase one({lengths[static_cast<size_t>(s)]}, 3, 24, 9, backend);
    for (int64_t i = 0; i < one.tokens; ++i)
      std::memcpy(one.qkv.view().row(i), all.qkv.view().row(all.sequences.first_row(s) + i),
                  sizeof(float) * static_cast<size_t>(3 * one.inner));
    GuardedMatrix out(one.tokens, one.inner, one.inner);
    one.run(backend, 1, out);
    if (one.tokens > 0 &&
        std::memcmp(out.view().data, together.view().row(all.sequences.first_row(s)),
                    sizeof(float) * static_cast<size_t>(one.tokens * one.inner)) != 0)
      return false;
  }
  return true;
}

}  // namespace

int test_attention(const HostBackend& backend) {
  const auto reference = make_reference_backend();
  Report report(backend.name());
  std::vector<int32_t> every_length;
  for (int32_t length = 0; length <= 68; ++length) every_length.push_back(length);
  check_case(backend, *reference, report, every_length, 2, 32, "L=0…68");
  for (const int64_t head_size : {1, 8, 16, 24, 26, 31, 32, 33, 48, 64, 80, 96, 128, 160})
    check_case(backend, *reference, report, {1, 29, 0, 70}, 3, head_size, "L=1,29,0,70");
  check_case(backend, *reference, report, {511, 512, 513}, 1, 64, "L=511…513");
  check_case(backend, *reference, report, {1500}, 1, 32, "L=1500");
  report.check("attention alone equals batch", alone_equals_batch(backend, {1, 17, 64, 0, 33, 90}),
               "a sequence's bits depend on the others");
  return report.finish("attention");
}

}  // namespace vlt::tests
