#include "kernels/reference/reference_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

namespace vlt {
namespace {

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::kIdentity:
      return x;
    case Activation::kRelu:
      return std::max(x, 0.0);
    case Activation::kGelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kLogRelu:
      return std::log1p(std::max(x, 0.0));
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
  }
  return x;
}

void norm_row(const std::vector<double>& x, const NormWeights& norm, float* out) {
  const double count = static_cast<double>(x.size());
  double mean = 0;
  for (const double value : x) mean += value / count;
  double variance = 0;
  for (const double value : x) variance += (value - mean) * (value - mean) / count;
  const double scale = 1 / std::sqrt(variance + norm.epsilon);
  for (size_t j = 0; j < x.size(); ++j)
    out[j] = static_cast<float>((x[j] - mean) * scale * norm.weight[j] + norm.bias[j]);
}

// A row of inputs as a product takes it: for weights of int8, what is left of it in 8 bits. Which of
// two numbers an input is rounded to is decided in float32, as kernels do.
std::vector<double> linear_inputs(const float* in, const LinearWeights& weights) {
  std::vector<float> x(in, in + weights.inputs);
  if (!weights.scales) return {x.begin(), x.end()};
  for (size_t k = 0; weights.input_factors && k < x.size(); ++k) x[k] *= weights.input_factors[k];
  const auto [least, most] = std::minmax_element(x.begin(), x.end());
  const float width = *most - *least;
  const float steps_per_unit = width > 1e-30f ? 255.0f / width : 0.0f;
  std::vector<double> inputs;
  inputs.reserve(x.size());
  for (const float value : x)
    inputs.push_back(*least + static_cast<double>(width) / 255 *
                                  std::nearbyint((value - *least) * steps_per_unit));
  return inputs;
}

double linear_element(const std::vector<double>& in, const LinearWeights& weights, int64_t output) {
  double sum = 0;
  const auto* weight = static_cast<const float*>(weights.data) + output * weights.inputs;
  for (size_t k = 0; k < in.size(); ++k) sum += in[k] * weight[k];
  return weights.bias[output] + (weights.scales ? weights.scales[output] * sum : sum);
}

double pool_column(const float* column, int64_t stride, int64_t begin, int64_t length,
                   PoolingMode mode) {
  if (begin >= length) return 0;
  if (mode == PoolingMode::kCls) return column[begin * stride];
  if (mode == PoolingMode::kLastToken) return column[(length - 1) * stride];
  double sum = 0, weights = 0, largest = column[begin * stride];
  for (int64_t i = begin; i < length; ++i) {
    const double x = column[i * stride];
    const double weight = mode == PoolingMode::kWeightedMean ? static_cast<double>(i + 1) : 1;
    sum += weight * x;
    weights += weight;
    largest = std::isnan(x) || x > largest ? x : largest;  // a NaN stays: nothing is larger
  }
  if (mode == PoolingMode::kMax) return largest;
  return mode == PoolingMode::kMeanSqrtLen ? sum / std::sqrt(weights) : sum / weights;
}

// A query and a key of one head, whose columns begin at `column` of the A·D.
struct Pair {
  const float* query;  // [D]
  const float* key;    // [D]
  int64_t head_size;   // D
  int64_t cols;        // A·D
  int64_t column;
  double scale;
};

double relative_score(const RelativeWeights& relative, const Pair& pair, int64_t distance) {
  const int64_t index = distance + relative.num_distances / 2;
  double score = 0;
  if (relative.bias)
    score += static_cast<const float*>(
        relative.bias)[pair.column / pair.head_size * relative.num_distances + index];
  if (!relative.row) return score;
  const int64_t first = relative.row[index] * pair.cols + pair.column;
  const auto* keys = static_cast<const float*>(relative.key_rows);
  const auto* queries = static_cast<const float*>(relative.query_rows);
  for (int64_t d = 0; d < pair.head_size; ++d) {
    if (keys) score += pair.scale * pair.query[d] * keys[first + d];
    if (queries) score += pair.scale * queries[first + d] * pair.key[d];
  }
  return score;
}

class ReferenceOperations final : public Operations {
 public:
  explicit ReferenceOperations(const std::function<bool()>& stop_requested)
      : stop_requested_(stop_requested) {}

  void embed_layernorm(const Sequences& sequences, const EmbeddingTables& tables,
                       const Matrix& out) override {
    const int64_t cols = out.cols;
    const auto* words = static_cast<const float*>(tables.word);
    const auto* positions = static_cast<const float*>(tables.position);
    const auto* types = static_cast<const float*>(tables.token_type);
    std::vector<double> sum(static_cast<size_t>(cols));
    for (int32_t s = 0; s < sequences.num_sequences; ++s)
      for (int32_t i = 0; i < sequences.length(s); ++i) {
        const int64_t t = sequences.first_row(s) + i;
        const int64_t type = sequences.token_types ? sequences.token_types[t] : 0;
        for (int64_t j = 0; j < cols; ++j) {
          double& x = sum[static_cast<size_t>(j)];
          x = words[sequences.token_ids[t] * cols + j];
          if (positions) x += positions[(i + tables.position_offset) * cols + j];
          if (types) x += types[type * cols + j];
        }
        norm_row(sum, tables.norm, out.row(t));
      }
  }

  void linear(const Matrix& in, const LinearWeights& weights, Activation activation,
              const Matrix& out) override {
    for (int64_t i = 0; i < in.rows; ++i) {
      const std::vector<double> inputs = linear_inputs(in.row(i), weights);
      for (int64_t j = 0; j < weights.outputs; ++j)
        out.row(i)[j] =
            static_cast<float>(activate(activation, linear_element(inputs, weights, j)));
    }
  }

  void linear_residual_layernorm(const Matrix& in, const LinearWeights& weights,
                                 const Matrix& residual, const NormWeights& norm,
                                 const Matrix& out) override {
    std::vector<double> sum(static_cast<size_t>(out.cols));
    for (int64_t i = 0; i < in.rows; ++i) {
      const std::vector<double> inputs = linear_inputs(in.row(i), weights);
      for (int64_t j = 0; j < out.cols; ++j)
        sum[static_cast<size_t>(j)] = linear_element(inputs, weights, j) + residual.row(i)[j];
      norm_row(sum, norm, out.row(i));
    }
  }

  void layernorm(const Matrix& in, const Matrix* residual, const NormWeights& norm,
                 const Matrix& out) override {
    std::vector<double> sum(static_cast<size_t>(out.cols));
    for (int64_t i = 0; i < in.rows; ++i) {
      for (int64_t j = 0; j < out.cols; ++j) {
        double& x = sum[static_cast<size_t>(j)] = in.row(i)[j];
        if (residual) x += residual->row(i)[j];
      }
      norm_row(sum, norm, out.row(i));
    }
  }

  void attention(const Sequences& sequences, const Matrix& qkv, int num_heads, float scale,
                 const RelativeWeights* relative, const Matrix& out) override {
    const int64_t head_size = out.cols / num_heads;
    for (int32_t s = 0; s < sequences.num_sequences; ++s) {
      const int64_t first = sequences.first_row(s), length = sequences.length(s);
      std::vector<double> p(static_cast<size_t>(length));
      for (int64_t column = 0; column < out.cols; column += head_size)
        for (int64_t i = first; i < first + length; ++i) {
          const float* query = qkv.row(i) + column;
          double largest = -HUGE_VAL, sum = 0;
          for (int64_t j = 0; j < length; ++j) {
            const float* key = qkv.row(first + j) + out.cols + column;
            double score = 0;
            for (int64_t d = 0; d < head_size; ++d) score += static_cast<double>(query[d]) * key[d];
            score *= scale;
            if (relative)
              score += relative_score(*relative, {query, key, head_size, out.cols, column, scale},
                                      first + j - i);
            p[static_cast<size_t>(j)] = score;
            largest = std::max(largest, score);
          }
          for (double& x : p) sum += x = std::exp(x - largest);
          for (int64_t d = 0; d < head_size; ++d) {
            double mix = 0;
            for (int64_t j = 0; j < length; ++j)
              mix +=
                  p[static_cast<size_t>(j)] / sum * qkv.row(first + j)[2 * out.cols + column + d];
            out.row(i)[column + d] = static_cast<float>(mix);
          }
        }
    }
  }

  void unfold(const Sequences& sequences, const Matrix& in, int width, const Matrix& out) override {
    for (int32_t s = 0; s < sequences.num_sequences; ++s) {
      const int64_t first = sequences.first_row(s), end = sequences.first_row(s + 1);
      for (int64_t i = first; i < end; ++i)
        for (int k = 0; k < width; ++k) {
          const int64_t neighbour = i + k - width / 2;
          float* to = out.row(i) + k * in.cols;
          if (neighbour >= first && neighbour < end)
            std::copy_n(in.row(neighbour), in.cols, to);
          else
            std::fill_n(to, in.cols, 0.0f);
        }
    }
  }

  void gather(const Sequences& sequences, const Matrix& in, const Matrix& out) override {
    for (int32_t c = 0; c < sequences.num_chosen; ++c)
      std::copy_n(in.row(sequences.chosen_tokens[c] - sequences.sequence_starts[0]), in.cols,
                  out.row(c));
  }

  void pool(const Sequences& sequences, const Matrix& states, const std::vector<PoolingMode>& modes,
            const Matrix& out) override {
    for (int32_t s = 0; s < sequences.num_sequences; ++s) {
      if (states.rows_of == RowsOf::kSequences) {
        const bool nothing = sequences.pooling_start(s) >= sequences.length(s);
        for (int64_t j = 0; j < states.cols; ++j) out.row(s)[j] = nothing ? 0 : states.row(s)[j];
        continue;
      }
      const float* rows = states.row(sequences.first_row(s));
      const int64_t begin = sequences.pooling_start(s);
      for (size_t m = 0; m < modes.size(); ++m)
        for (int64_t j = 0; j < states.cols; ++j)
          out.row(s)[static_cast<int64_t>(m) * states.cols + j] = static_cast<float>(
              pool_column(rows + j, states.stride, begin, sequences.length(s), modes[m]));
    }
  }

  void normalize(const Matrix& rows) override {
    for (int64_t i = 0; i < rows.rows; ++i) {
      double squares = 0;
      for (int64_t j = 0; j < rows.cols; ++j)
        squares += static_cast<double>(rows.row(i)[j]) * rows.row(i)[j];
      const double norm = std::max(std::sqrt(squares), 1e-12);
      for (int64_t j = 0; j < rows.cols; ++j)
        rows.row(i)[j] = static_cast<float>(rows.row(i)[j] / norm);
    }
  }

  bool should_stop() override { return stop_requested_ && stop_requested_(); }

 private:
  const std::function<bool()>& stop_requested_;
};

class ReferenceStream final : public Stream {
 public:
  int num_workers() const override { return 1; }
  void run(Mode, int, std::byte*, uint64_t, const std::function<bool()>& stop_requested,
           const std::function<void(int, Operations&)>& body) override {
    ReferenceOperations operations(stop_requested);
    body(0, operations);
  }
};

class ReferenceBackend final : public HostBackend {
 public:
  const char* name() const override { return "reference"; }
  DType compute_type() const override { return DType::kFloat32; }

  LinearWeights prepare_linear(const float* weight, const float* bias, int64_t outputs,
                               int64_t inputs, WeightPool& pool) const override {
    const int64_t count = outputs * inputs;
    auto* weight_copy =
        static_cast<float*>(pool.allocate(static_cast<uint64_t>(count + outputs) * sizeof(float)));
    float* bias_copy = std::copy(weight, weight + count, weight_copy);
    std::fill(bias_copy, bias_copy + outputs, 0.0f);
    if (bias) std::copy(bias, bias + outputs, bias_copy);
    LinearWeights prepared;
    prepared.data = weight_copy;
    prepared.bias = bias_copy;
    prepared.outputs = outputs;
    prepared.inputs = inputs;
    return prepared;
  }

  LinearWeights prepare_int8_linear(const Int8Weights& weights, const float* bias,
                                    WeightPool& pool) const override {
    const std::vector<float> values(weights.values,
                                    weights.values + weights.outputs * weights.inputs);
    LinearWeights prepared =
        prepare_linear(values.data(), bias, weights.outputs, weights.inputs, pool);
    prepared.scales = prepare_vector(weights.scales, weights.outputs, pool);
    if (weights.input_factors)
      prepared.input_factors = prepare_vector(weights.input_factors, weights.inputs, pool);
    return prepared;
  }

  RelativeWeights prepare_relative(const RelativeTensors& tensors,
                                   WeightPool& pool) const override {
    const int64_t row_values = tensors.num_rows * tensors.num_heads * tensors.head_size;
    const auto copied = [&](const auto* values, int64_t count) -> decltype(values) {
      if (!values) return nullptr;
      const auto bytes = static_cast<uint64_t>(count) * sizeof(*values);
      return static_cast<decltype(values)>(std::memcpy(pool.allocate(bytes), values, bytes));
    };
    RelativeWeights prepared;
    prepared.num_distances = tensors.num_distances;
    prepared.num_rows = tensors.num_rows;
    prepared.bias = copied(tensors.bias, tensors.num_heads * tensors.num_distances);
    prepared.row = copied(tensors.row, tensors.num_distances);
    prepared.key_rows = copied(tensors.key_rows, row_values);
    prepared.query_rows = copied(tensors.query_rows, row_values);
    return prepared;
  }

  int64_t row_stride(int64_t cols) const override { return cols; }
  uint64_t scratch_bytes(int64_t, int64_t, int64_t) const override { return 0; }
  std::unique_ptr<Stream> create_stream(int) const override {
    return std::make_unique<ReferenceStream>();
  }
};

}  // namespace

std::unique_ptr<HostBackend> make_reference_backend() {
  return std::make_unique<ReferenceBackend>();
}

}  // namespace vlt
