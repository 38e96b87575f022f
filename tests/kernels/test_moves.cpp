// What moves rows and computes nothing: unfold, gather, and pooling of one row a sequence. Outputs
// are copies, so they equal the reference's to the bit.
#include "harness.h"

#include "kernels/reference/reference_backend.h"

namespace vlt::tests {
namespace {

const std::vector<int32_t> kStarts = {7, 7, 8, 10, 10, 75, 78, 78};  // lengths 0, 1, 2, 0, 65, 3, 0
constexpr int32_t kTokens = 71, kSequences = 7;
const std::vector<int32_t> kPoolingStarts = {0, 1, 1, 2, 3, 0, 0};

// out [rows, cols] of the operation by the backend on 1, 2 and 3 workers, against the reference.
void check(const HostBackend& backend, Report& report, const std::string& name, int64_t rows,
           int64_t cols, const std::function<void(Operations&, const Matrix& out)>& operation) {
  const auto run = [&](const HostBackend& b, int workers, GuardedMatrix& out) {
    run_together(b, workers, 65, 16, [&](Operations& o) { operation(o, out.view()); });
  };
  GuardedMatrix expected(rows, cols, cols);
  run(*make_reference_backend(), 1, expected);
  for (const int workers : {1, 2, 3}) {
    GuardedMatrix out(rows, cols, cols + 3);
    run(backend, workers, out);
    report.compare(name + " H=" + std::to_string(cols) + " workers=" + std::to_string(workers), out,
                   expected, [](int64_t, int64_t) { return 0.0; });
  }
}

void check_width(const HostBackend& backend, Report& report, int64_t cols) {
  GuardedMatrix states(kTokens, cols, backend.row_stride(cols), random_floats(kTokens * cols, 6));
  Matrix in = states.view();
  Sequences s;
  s.sequence_starts = kStarts.data();
  s.num_sequences = kSequences;
  for (const int width : {1, 3, 5})
    check(backend, report, "unfold width=" + std::to_string(width), kTokens, width * cols,
          [&](Operations& o, const Matrix& out) { o.unfold(s, in, width, out); });

  const std::vector<int32_t> chosen = {7, 8, 9, 10, 40, 74, 77};
  s.chosen_tokens = chosen.data();
  for (const int32_t count : {0, 1, 7}) {
    s.num_chosen = count;
    check(backend, report, "gather C=" + std::to_string(count), count, cols,
          [&](Operations& o, const Matrix& out) { o.gather(s, in, out); });
  }

  in.rows = kSequences;
  in.rows_of = RowsOf::kSequences;
  for (const int32_t* starts : {static_cast<const int32_t*>(nullptr), kPoolingStarts.data()}) {
    s.pooling_starts = starts;
    check(backend, report, std::string("pool of rows starts=") + (starts ? "1" : "0"), kSequences,
          cols, [&](Operations& o, const Matrix& out) { o.pool(s, in, {PoolingMode::kCls}, out); });
  }
}

}  // namespace

int test_moves(const HostBackend& backend) {
  Report report(backend.name());
  for (const int64_t cols : {1, 4, 7, 16, 17, 33, 384}) check_width(backend, report, cols);
  return report.finish("moves");
}

}  // namespace vlt::tests
