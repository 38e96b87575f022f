// The red zones themselves: an operation that writes behind its output is caught, others are not.
#include "encoder/red_zones.h"
#include "harness.h"

namespace vlt::tests {
namespace {

// Writes `extra` elements behind its output.
class Sloppy final : public Operations {
 public:
  explicit Sloppy(int64_t extra) : extra_(extra) {}
  void embed_layernorm(const Sequences&, const EmbeddingTables&, const Matrix& out) override {
    write(out);
  }
  void linear(const Matrix&, const LinearWeights&, Activation, const Matrix& out) override {
    write(out);
  }
  void linear_residual_layernorm(const Matrix&, const LinearWeights&, const Matrix&,
                                 const NormWeights&, const Matrix& out) override {
    write(out);
  }
  void layernorm(const Matrix&, const Matrix*, const NormWeights&, const Matrix& out) override {
    write(out);
  }
  void attention(const Sequences&, const Matrix&, int, float, const RelativeWeights*,
                 const Matrix& out) override {
    write(out);
  }
  void unfold(const Sequences&, const Matrix&, int, const Matrix& out) override { write(out); }
  void gather(const Sequences&, const Matrix&, const Matrix& out) override { write(out); }
  void pool(const Sequences&, const Matrix&, const std::vector<PoolingMode>&,
            const Matrix& out) override {
    write(out);
  }
  void normalize(const Matrix& rows) override { write(rows); }
  bool should_stop() override { return false; }

 private:
  void write(const Matrix& out) const {
    for (int64_t i = 0; i < out.rows * out.stride + extra_; ++i) out.floats()[i] = 1;
  }
  const int64_t extra_;
};

// The operation that is caught when every one writes `extra` elements too many, or null.
const char* culprit_of(int64_t extra, bool in_workspace) {
  std::vector<float> workspace(256), callers(256);
  std::atomic<const char*> culprit{nullptr};
  RedZoneObserver observer(reinterpret_cast<std::byte*>(workspace.data()), 256 * sizeof(float),
                           culprit);
  Sloppy sloppy(extra);
  ObservedOperations operations(sloppy, observer);
  const Matrix out{in_workspace ? workspace.data() : callers.data(), 5, 7, 16};
  LinearWeights weights;
  weights.name = "ffn_up";
  operations.linear(out, weights, Activation::kIdentity, out);
  return culprit.load();
}

}  // namespace

int test_red_zones(const HostBackend& backend) {
  Report report(backend.name());
  const char* caught = culprit_of(1, true);
  report.check("one element too many", caught && std::string(caught) == "ffn_up", "not caught");
  report.check("exactly its output", !culprit_of(0, true), "caught though it did nothing wrong");
  report.check("the caller's array", !culprit_of(1, false), "guarded a foreign array");
  return report.finish("red_zones");
}

}  // namespace vlt::tests
