// linear and linear_residual_layernorm against the reference, over shapes that reach every tile.
#include "harness.h"

#include "kernels/reference/reference_backend.h"

namespace vlt::tests {
namespace {

struct Shape {
  int64_t rows, outputs, inputs;
};

// Every row count to two strips; widths around panels; k around its blocks, 768 and others.
std::vector<Shape> shapes() {
  std::vector<Shape> list;
  for (int64_t rows = 0; rows <= 29; ++rows) list.push_back({rows, 96, 40});
  for (const int64_t outputs : {1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 65, 130, 312})
    for (const int64_t rows : {1, 3, 13, 30}) list.push_back({rows, outputs, 33});
  for (const int64_t inputs : {1, 2, 767, 768, 769, 1600})
    for (const int64_t rows : {1, 5, 17}) list.push_back({rows, 70, inputs});
  for (const int64_t inputs : {1024, 1025, 3071, 3072, 3073})  // those of int8
    list.push_back({17, 40, inputs});
  list.push_back({600, 48, 24});  // several row blocks
  list.push_back({257, 384, 384});
  return list;
}

std::string describe(const Shape& s, int workers, int activation) {
  return "M=" + std::to_string(s.rows) + " N=" + std::to_string(s.outputs) +
         " K=" + std::to_string(s.inputs) + " workers=" + std::to_string(workers) +
         " activation=" + std::to_string(activation);
}

struct LinearCase {
  Shape shape;
  std::vector<float> weight, bias, norm_weight, norm_bias;
  std::vector<int8_t> numbers;  // weight's, where it is int8
  std::vector<float> scales, factors;
  GuardedMatrix in, residual;
  NormWeights norm;

  LinearCase(const Shape& s, const HostBackend& backend)
      : shape(s),
        weight(as_stored(
            random_floats(s.outputs * s.inputs, 1, 1 / std::sqrt(static_cast<float>(s.inputs))),
            backend)),
        bias(random_floats(s.outputs, 2)),
        norm_weight(random_floats(s.outputs, 5, 0.3f, 1)),
        norm_bias(random_floats(s.outputs, 6)),
        in(s.rows, s.inputs, backend.row_stride(s.inputs),
           as_stored(random_floats(s.rows * s.inputs, 3), backend)),
        residual(s.rows, s.outputs, backend.row_stride(s.outputs),
                 random_floats(s.rows * s.outputs, 4)),
        norm{norm_weight.data(), norm_bias.data(), 1e-12f} {
    if (backend.compute_type() == DType::kInt8) make_int8();
  }

  // Every second case has factors of its inputs.
  void make_int8() {
    std::mt19937 generator(7);
    std::uniform_int_distribution<int> number(-127, 127);
    scales = random_floats(shape.outputs, 8, 0.1f, 1);
    for (float& scale : scales) scale = std::fabs(scale) / 127;
    if (shape.outputs % 2 == 0) factors = random_floats(shape.inputs, 9, 0.2f, 1);
    for (int64_t j = 0; j < shape.outputs; ++j)
      for (int64_t k = 0; k < shape.inputs; ++k) {
        numbers.push_back(static_cast<int8_t>(number(generator)));
        const float factor = factors.empty() ? 1 : factors[static_cast<size_t>(k)];
        weight[numbers.size() - 1] =
            static_cast<float>(numbers.back()) * scales[static_cast<size_t>(j)] * factor;
      }
  }

  LinearWeights prepare(const HostBackend& backend, WeightPool& pool) const {
    if (numbers.empty())
      return backend.prepare_linear(weight.data(), bias.data(), shape.outputs, shape.inputs, pool);
    Int8Weights weights;
    weights.values = numbers.data();
    weights.scales = scales.data();
    weights.input_factors = factors.empty() ? nullptr : factors.data();
    weights.outputs = shape.outputs;
    weights.inputs = shape.inputs;
    return backend.prepare_int8_linear(weights, bias.data(), pool);
  }

  // A sum of K products in any order errs by about √K roundings of its largest partial sum.
  std::vector<double> sum_bounds() {
    std::vector<double> bounds;
    const double roundings = kEps * (4 + std::sqrt(static_cast<double>(shape.inputs)));
    for (int64_t i = 0; i < shape.rows; ++i)
      for (int64_t j = 0; j < shape.outputs; ++j) {
        double magnitude =
            std::fabs(bias[static_cast<size_t>(j)]) + std::fabs(residual.view().row(i)[j]);
        // What is quantised is summed as its distance from the row's least, which is above -5.
        const double offset = numbers.empty() ? 0 : 5;
        for (int64_t k = 0; k < shape.inputs; ++k)
          magnitude += (std::fabs(static_cast<double>(in.view().row(i)[k])) + offset) *
                       std::fabs(weight[static_cast<size_t>(j * shape.inputs + k)]);
        bounds.push_back(roundings * magnitude);
      }
    return bounds;
  }
};

void run_linear(const HostBackend& backend, LinearCase& c, int workers, Activation activation,
                GuardedMatrix& out) {
  const std::unique_ptr<WeightPool> pool = backend.create_weight_pool();
  const LinearWeights weights = c.prepare(backend, *pool);
  run_together(backend, workers, 1, 16, [&](Operations& operations) {
    operations.linear(c.in.view(), weights, activation, out.view());
  });
}

void run_norm(const HostBackend& backend, LinearCase& c, int workers, GuardedMatrix& out) {
  const std::unique_ptr<WeightPool> pool = backend.create_weight_pool();
  const LinearWeights weights = c.prepare(backend, *pool);
  run_together(backend, workers, 1, 16, [&](Operations& operations) {
    operations.linear_residual_layernorm(c.in.view(), weights, c.residual.view(), c.norm,
                                         out.view());
  });
}

// Each row alone gives the bits it has in the batch.
bool rows_are_independent(const HostBackend& backend, const Shape& s) {
  LinearCase c(s, backend);
  GuardedMatrix all(s.rows, s.outputs, s.outputs);
  run_norm(backend, c, 1, all);
  for (int64_t i = 0; i < s.rows; ++i) {
    LinearCase one({1, s.outputs, s.inputs}, backend);
    std::memcpy(one.in.view().data, c.in.view().row(i),
                sizeof(float) * static_cast<size_t>(s.inputs));
    std::memcpy(one.residual.view().data, c.residual.view().row(i),
                sizeof(float) * static_cast<size_t>(s.outputs));
    GuardedMatrix out(1, s.outputs, s.outputs);
    run_norm(backend, one, 1, out);
    if (std::memcmp(out.view().data, all.view().row(i),
                    sizeof(float) * static_cast<size_t>(s.outputs)) != 0)
      return false;
  }
  return true;
}

void check_linear(const HostBackend& backend, const HostBackend& reference, LinearCase& c,
                  Activation activation, Report& report) {
  const Shape& s = c.shape;
  GuardedMatrix expected(s.rows, s.outputs, s.outputs);
  run_linear(reference, c, 1, activation, expected);
  const std::vector<double> sums = c.sum_bounds();
  for (const int workers : {1, 2, 3}) {
    GuardedMatrix out(s.rows, s.outputs, s.outputs + 5);
    run_linear(backend, c, workers, activation, out);
    // no activation has a slope over 1.13; each rounds a few times on its own
    report.compare("linear " + describe(s, workers, static_cast<int>(activation)), out, expected,
                   [&](int64_t i, int64_t j) {
                     return 1.13 * sums[static_cast<size_t>(i * s.outputs + j)] +
                            8 * kEps * std::fabs(expected.view().row(i)[j]) + 2 * kEps;
                   });
  }
}

// The bound of a row: an error of one input reaches an output directly, and by mean and scale.
std::vector<double> norm_bounds(LinearCase& c, GuardedMatrix& products) {
  const std::vector<double> sums = c.sum_bounds();
  const int64_t cols = c.shape.outputs;
  std::vector<double> bounds;
  for (int64_t i = 0; i < c.shape.rows; ++i) {
    const auto x = [&](int64_t j) {
      return static_cast<double>(products.view().row(i)[j]) + c.residual.view().row(i)[j];
    };
    double worst = 0, mean = 0, variance = 0;
    for (int64_t j = 0; j < cols; ++j) {
      worst = std::max(worst, sums[static_cast<size_t>(i * cols + j)] + 4 * kEps * std::fabs(x(j)));
      mean += x(j) / static_cast<double>(cols);
    }
    for (int64_t j = 0; j < cols; ++j)
      variance += (x(j) - mean) * (x(j) - mean) / static_cast<double>(cols);
    bounds.push_back(3 * worst / std::sqrt(variance));
  }
  return bounds;
}

void check_norm(const HostBackend& backend, const HostBackend& reference, LinearCase& c,
                Report& report) {
  const Shape& s = c.shape;
  if (s.outputs == 1) return;  // a norm over one value divides rounding by zero
  GuardedMatrix expected(s.rows, s.outputs, s.outputs), products(s.rows, s.outputs, s.outputs);
  run_norm(reference, c, 1, expected);
  run_linear(reference, c, 1, Activation::kIdentity, products);
  const std::vector<double> bounds = norm_bounds(c, products);
  for (const int workers : {1, 2, 3}) {
    GuardedMatrix out(s.rows, s.outputs, s.outputs + 5);
    run_norm(backend, c, workers, out);
    report.compare("linear_residual_layernorm " + describe(s, workers, 0), out, expected,
                   [&](int64_t i, int64_t j) {
                     return std::fabs(c.norm_weight[static_cast<size_t>(j)]) *
                                bounds[static_cast<size_t>(i)] +
                            4 * kEps * (std::fabs(expected.view().row(i)[j]) + 1);
                   });
  }
}

// log(1 + max(x, 0)) keeps its relative accuracy from the smallest numbers to the largest.
void check_log_relu(const HostBackend& backend, Report& report) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::vector<float> values = {
      0, -0.0f, -1, -kInfinity, kInfinity, 1e-45f, std::numeric_limits<float>::max()};
  for (int i = -12600; i < 12600; ++i) values.push_back(std::exp2(static_cast<float>(i) / 100));
  const auto rows = static_cast<int64_t>(values.size());
  GuardedMatrix in(rows, 1, 1, values), out(rows, 1, 2);
  const float one = 1;
  const std::unique_ptr<WeightPool> pool = backend.create_weight_pool();
  const LinearWeights weights = backend.prepare_linear(&one, nullptr, 1, 1, *pool);
  const auto run = [&] {
    run_together(backend, 1, 1, 16, [&](Operations& operations) {
      operations.linear(in.view(), weights, Activation::kLogRelu, out.view());
    });
  };
  run();
  double worst = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const double expected = std::log1p(std::max(0.0, double{values[static_cast<size_t>(i)]}));
    const double actual = out.view().row(i)[0];
    if (actual == expected) continue;  // infinity
    const double error = std::fabs(actual - expected) / std::max(expected, 1e-38);
    worst = std::isnan(error) ? HUGE_VAL : std::max(worst, error);
  }
  // 3 roundings with fused multiply-add, which portable vectors lack
  report.check("log_relu worst " + std::to_string(worst / kEps), worst <= 4 * kEps,
               "loses relative accuracy");
  in.view().row(0)[0] = std::numeric_limits<float>::quiet_NaN();
  run();
  report.check("log_relu NaN", std::isnan(out.view().row(0)[0]), "NaN did not stay");
}

// Weights of bfloat16 are the nearest to what was given, of two as near the even one. Inputs are
// rounded so too, or not at all.
void check_rounding(const HostBackend& backend, Report& report) {
  // Above 1 a bfloat16 has steps of 2^-7: halfway, halfway to an odd one, nearer to one, below half.
  const std::vector<float> values = {1, 1 + 0x1p-8f, 1 + 0x3p-8f, 1 + 0x3p-9f, -1 - 0x1p-8f,
                                     0, 1 + 0x1p-9f};
  const std::vector<float> rounded = {1, 1, 1 + 0x1p-6f, 1 + 0x1p-7f, -1, 0, 1};
  const std::unique_ptr<WeightPool> pool = backend.create_weight_pool();
  const auto count = static_cast<int64_t>(values.size());
  const auto run = [&](const LinearWeights& weights, GuardedMatrix& in, GuardedMatrix& out) {
    run_together(backend, 1, 1, 16, [&](Operations& operations) {
      operations.linear(in.view(), weights, Activation::kIdentity, out.view());
    });
  };
  GuardedMatrix one(1, 1, 1, {1.0f}), weights_out(1, count, count);
  run(backend.prepare_linear(values.data(), nullptr, count, 1, *pool), one, weights_out);
  const float unit = 1;
  GuardedMatrix in(count, 1, 1, values), inputs_out(count, 1, 2);
  run(backend.prepare_linear(&unit, nullptr, 1, 1, *pool), in, inputs_out);
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    const float weight = weights_out.view().row(0)[i], input = inputs_out.view().row(i)[0];
    const std::string what = "rounding " + std::to_string(values[at]);
    report.check(what + " as weight", weight == rounded[at], "was rounded to another number");
    report.check(what + " as input", input == rounded[at] || input == values[at],
                 "was rounded to another number");
  }
}

// A number that 0 … 255 cannot hold must not vanish among those that they can.
void check_not_finite(const HostBackend& backend, Report& report) {
  const float bad[] = {std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity(),
                       -std::numeric_limits<float>::infinity()};
  const Shape shape{3, 40, 70};
  for (const float value : bad)
    for (const int64_t k : {0, 15, 64, 69}) {
      LinearCase c(shape, backend);
      c.in.view().row(1)[k] = value;
      GuardedMatrix out(shape.rows, shape.outputs, shape.outputs);
      run_linear(backend, c, 1, Activation::kIdentity, out);
      bool gone = false, spread = false;
      for (int64_t j = 0; j < shape.outputs; ++j) {
        gone |= std::isfinite(out.view().row(1)[j]);
        spread |= !std::isfinite(out.view().row(0)[j]) || !std::isfinite(out.view().row(2)[j]);
      }
      const std::string name = "input " + std::to_string(value) + " at " + std::to_string(k);
      report.check(name, !gone, "left a finite result in its row");
      report.check(name, !spread, "reached another row");
    }
}

}  // namespace

int test_linear(const HostBackend& backend) {
  const auto reference = make_reference_backend();
  Report report(backend.name());
  for (const Shape& s : shapes()) {
    LinearCase c(s, backend);
    // the activations differ in the epilogue only: all of them on a few shapes will do
    const int activations = s.inputs == 33 ? static_cast<int>(Activation::kLogRelu) : 0;
    for (int activation = 0; activation <= activations; ++activation)
      check_linear(backend, *reference, c, static_cast<Activation>(activation), report);
    check_norm(backend, *reference, c, report);
  }
  if (backend.compute_type() == DType::kInt8) check_not_finite(backend, report);
  if (backend.compute_type() != DType::kFloat32)
    check_rounding(backend, report);
  else  // its inputs have all bits of a float32
    check_log_relu(backend, report);
  for (const Shape& s : {Shape{31, 96, 40}, Shape{17, 70, 1600}, Shape{9, 33, 769}})
    report.check("rows are independent " + describe(s, 1, 0), rows_are_independent(backend, s),
                 "a row's bits depend on the others");
  return report.finish("linear");
}

}  // namespace vlt::tests
