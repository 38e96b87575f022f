// attention against the reference: every length to two strips and panels, head sizes of all kinds.
#include "attention_case.h"

#include "kernels/reference/reference_backend.h"

namespace vlt::tests {
namespace {

void check_case(const HostBackend& backend, const HostBackend& reference, Report& report,
                const std::vector<int32_t>& lengths, int heads, int64_t head_size,
                const std::string& name) {
  AttentionCase c(lengths, heads, head_size, 7, backend);
  GuardedMatrix expected(c.tokens, c.inner, c.inner);
  c.run(reference, 1, expected);
  const double bound = c.bound(1.5 * 4, c.largest_square() * c.scale());
  for (const int workers : {1, 2, 3}) {
    GuardedMatrix out(c.tokens, c.inner, c.inner + 3);
    c.run(backend, workers, out);
    report.compare("attention " + name + " heads=" + std::to_string(heads) +
                       " D=" + std::to_string(head_size) + " workers=" + std::to_string(workers),
                   out, expected, [&](int64_t, int64_t) { return bound; });
  }
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
