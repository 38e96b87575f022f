// attention with relative positions against the reference: a bias by distance, and disentangled
// attention with either term and both, over ways in which distances share rows.
#include "attention_case.h"

#include "kernels/reference/reference_backend.h"

namespace vlt::tests {
namespace {

constexpr int kKeys = 1, kQueries = 2, kBoth = 3;

// What a distance's row is.
enum class Rows { kOwn, kLogarithmic, kSkipping, kOne };

struct RelativeCase {
  std::vector<float> bias, key_rows, query_rows;
  std::vector<int32_t> row;
  RelativeTensors tensors;  // points into the vectors, which keep their values when moved

  RelativeCase(RelativeCase&&) = default;
  RelativeCase(int heads, int64_t head_size, int32_t longest) {
    tensors.num_heads = heads;
    tensors.head_size = static_cast<int32_t>(head_size);
    tensors.num_distances = 2 * longest - 1;
  }

  static RelativeCase of_bias(int heads, int64_t head_size, int32_t longest) {
    RelativeCase c(heads, head_size, longest);
    c.bias = random_floats(heads * c.tensors.num_distances, 3, 2);
    c.tensors.bias = c.bias.data();
    return c;
  }

  static RelativeCase of_rows(int heads, int64_t head_size, int32_t longest, int terms, Rows kind) {
    RelativeCase c(heads, head_size, longest);
    for (int32_t distance = 1 - longest; distance < longest; ++distance)
      c.row.push_back(bucket(distance, kind));
    const int32_t lowest = c.row.front();
    for (int32_t& r : c.row) r += 2 - lowest;  // rows 0, 1 and the last one have no distance
    c.tensors.row = c.row.data();
    c.tensors.num_rows = c.row.back() + 2;
    const int64_t count = c.tensors.num_rows * heads * head_size;
    c.key_rows = random_floats(count, 4, 1.5f);
    c.query_rows = random_floats(count, 5, 1.5f);
    if (terms & kKeys) c.tensors.key_rows = c.key_rows.data();
    if (terms & kQueries) c.tensors.query_rows = c.query_rows.data();
    return c;
  }

  // As in DeBERTa: near distances have a row each, farther ones share one with more and more.
  static int32_t bucket(int32_t distance, Rows kind) {
    constexpr int32_t kNear = 9;
    if (kind == Rows::kOne) return 0;
    if (kind == Rows::kSkipping) return 5 * (distance / 2) + distance % 2;
    const int32_t far = std::abs(distance);
    if (kind == Rows::kOwn || far <= kNear) return distance;
    const auto steps = static_cast<int32_t>(6 * std::log(static_cast<double>(far) / kNear));
    return distance < 0 ? -kNear - steps : kNear + steps;
  }

  // A score is the sum of three products, the second and third with a row.
  double largest_score(AttentionCase& c) const {
    double largest = c.largest_square(), largest_bias = 0;
    for (const auto* rows : {&key_rows, &query_rows})
      for (size_t i = 0; i < rows->size(); i += static_cast<size_t>(c.head_size))
        largest = std::max(largest, squared_norm(rows->data() + i, c.head_size));
    for (const float b : bias) largest_bias = std::max(largest_bias, std::fabs(double{b}));
    return 3 * largest * c.scale() + largest_bias;
  }
};

void check_case(const HostBackend& backend, const HostBackend& reference, Report& report,
                const std::vector<int32_t>& lengths, const RelativeCase& relative,
                const std::string& name) {
  const RelativeTensors& tensors = relative.tensors;
  AttentionCase c(lengths, tensors.num_heads, tensors.head_size, 7, backend);
  GuardedMatrix expected(c.tokens, c.inner, c.inner), first(c.tokens, c.inner, c.inner + 3);
  c.run(reference, 1, expected, &tensors);
  c.run(backend, 1, first, &tensors);
  const std::string full_name = "relative " + name + " D=" + std::to_string(tensors.head_size);
  const double bound = c.bound(1.5 * 4, relative.largest_score(c));
  report.compare(full_name, first, expected, [&](int64_t, int64_t) { return bound; });
  for (const int workers : {2, 3}) {
    GuardedMatrix out(c.tokens, c.inner, c.inner + 3);
    c.run(backend, workers, out, &tensors);
    report.compare(full_name + " workers=" + std::to_string(workers), out, first,
                   [&](int64_t, int64_t) { return 0.0; });
  }
}

std::string describe(int terms, Rows kind) {
  return "terms=" + std::to_string(terms) + " rows=" + std::to_string(static_cast<int>(kind));
}

}  // namespace

int test_relative(const HostBackend& backend) {
  const auto reference = make_reference_backend();
  Report report(backend.name());
  const auto check = [&](const std::vector<int32_t>& lengths, const RelativeCase& relative,
                         const std::string& name) {
    check_case(backend, *reference, report, lengths, relative, name);
  };
  std::vector<int32_t> every_length;
  for (int32_t length = 0; length <= 68; ++length) every_length.push_back(length);
  check(every_length, RelativeCase::of_bias(2, 32, 68), "bias L=0…68");
  for (const int terms : {kKeys, kQueries, kBoth})
    for (const Rows kind : {Rows::kOwn, Rows::kLogarithmic, Rows::kSkipping, Rows::kOne})
      check(every_length, RelativeCase::of_rows(2, 32, 68, terms, kind),
            describe(terms, kind) + " L=0…68");
  for (const int64_t head_size : {1, 8, 16, 24, 26, 31, 32, 33, 48, 64, 80, 96, 128, 160}) {
    check({1, 29, 0, 70}, RelativeCase::of_bias(3, head_size, 77), "bias L=1,29,0,70");
    for (const int terms : {kKeys, kQueries, kBoth})
      check({1, 29, 0, 70}, RelativeCase::of_rows(3, head_size, 77, terms, Rows::kLogarithmic),
            describe(terms, Rows::kLogarithmic) + " L=1,29,0,70");
  }
  for (const Rows kind : {Rows::kOwn, Rows::kLogarithmic})
    check({511, 512, 513}, RelativeCase::of_rows(1, 64, 513, kBoth, kind),
          describe(kBoth, kind) + " L=511…513");

  const std::vector<int32_t> lengths = {1, 17, 64, 0, 33, 90};
  for (const RelativeCase& relative :
       {RelativeCase::of_bias(3, 24, 90), RelativeCase::of_rows(3, 24, 90, kBoth, Rows::kOwn),
        RelativeCase::of_rows(3, 24, 90, kBoth, Rows::kLogarithmic)})
    report.check("relative alone equals batch",
                 alone_equals_batch(backend, lengths, &relative.tensors),
                 "a sequence's bits depend on the others");
  return report.finish("relative");
}

}  // namespace vlt::tests
