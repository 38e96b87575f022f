#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"
#include "model/file_error.h"

namespace vlt {
namespace {

const TensorEntry& require(const WeightsFile& file, const std::string& name) {
  const TensorEntry* entry = file.find(name);
  if (!entry)
    throw Error(Status::kInternal, "tensor " + name + " passed the checks but is missing");
  return *entry;
}

std::vector<float> read(const WeightsFile& file, const std::string& name) {
  const TensorEntry& entry = require(file, name);
  std::vector<float> values(entry.num_elements());
  file.read_float32(entry, values.data());
  return values;
}

std::vector<float> read_if_there(const WeightsFile& file, const std::string& name) {
  return file.find(name) ? read(file, name) : std::vector<float>{};
}

template <typename T>
const T* data_of(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}

// A linear layer that is stored as int8. What its numbers stand for has to be finite, like weights
// that are stored as floats.
QuantizedLinear read_quantized(const WeightsFile& file, const std::string& prefix) {
  QuantizedLinear quantized;
  quantized.values = file.read_int8(require(file, prefix + ".weight"));
  quantized.scales = read(file, prefix + ".scales");
  quantized.input_factors = read_if_there(file, prefix + ".input_factors");
  const std::vector<float> weight = quantized.to_float32();
  const auto bad =
      std::find_if_not(weight.begin(), weight.end(), [](float x) { return std::isfinite(x); });
  if (bad != weight.end())
    refuse_file(file.name(), "element " + std::to_string(bad - weight.begin()) + " of tensor " +
                                 quoted(prefix + ".weight") +
                                 ", times its scale and factor, is infinite");
  return quantized;
}

// A weight that 16 bits cannot hold would become infinite and every result NaN.
void check_range(const std::vector<float>& values, const std::string& name, DType type) {
  if (type == DType::kFloat32) return;
  const bool half = type == DType::kFloat16;
  const float largest = half ? 65504.0f : 3.3895e38f;
  for (const float value : values)
    if (std::fabs(value) > largest)
      throw Error(Status::kUnsupported, "tensor " + name + " holds " + std::to_string(value) +
                                            ", which " + (half ? "float16" : "bfloat16") +
                                            " cannot; load the model with the compute type " +
                                            (half ? "bfloat16 or float32" : "float32"));
}

}  // namespace

Model::Model(const WeightsFile& file, std::unique_ptr<Backend> backend)
    : architecture_(parse_architecture(file)),
      backend_(std::move(backend)),
      pool_(backend_->create_weight_pool()),
      metadata_(file.metadata()) {
  check_tensors(architecture_, file);
  const Architecture& a = architecture_;
  load_embeddings(file);
  std::vector<float> distance_bias;
  if (a.distance_bias) distance_bias = read(file, "attention.distance_bias");
  for (int32_t i = 0; i < a.num_stored_layers; ++i)
    layers_.push_back(load_layer(file, "layers." + std::to_string(i) + ".", distance_bias));
  if (a.convolution > 0) {
    convolution_.kernel = load_linear(file, "convolution", "convolution");
    convolution_.norm = load_norm(file, "convolution.norm");
  }
  for (const HeadKind kind : kHeadKinds) heads_[static_cast<size_t>(kind)] = load_head(file, kind);
  if (const TensorEntry* tokenizer = file.find("tokenizer.json"))
    tokenizer_ = file.read_bytes(*tokenizer);
}

void Model::load_embeddings(const WeightsFile& file) {
  const Architecture& a = architecture_;
  embeddings_.word = load_table(file, "embeddings.word");
  if (a.has_positions) embeddings_.position = load_table(file, "embeddings.position");
  if (a.num_token_types > 0) embeddings_.token_type = load_table(file, "embeddings.token_type");
  embeddings_.vocab_size = a.vocab_size;
  embeddings_.num_token_types = a.num_token_types;
  embeddings_.position_offset = a.position_offset;
  embeddings_.norm = load_norm(file, "embeddings.norm");
  if (a.projects_embeddings)
    embedding_projection_ = load_linear(file, "embeddings.projection", "embedding_projection");
}

LayerWeights Model::load_layer(const WeightsFile& file, const std::string& prefix,
                               const std::vector<float>& distance_bias) {
  LayerWeights w;
  // Queries and keys bear 8 bits well; values are what a token's state becomes.
  const int64_t first_value = int64_t{2} * architecture_.num_heads * architecture_.head_size;
  w.qkv = load_layer_linear(file, prefix + "attention.qkv", "qkv",
                            {input_norm(static_cast<int32_t>(layers_.size())), first_value});
  w.relative = load_relative(file, prefix, distance_bias);
  w.attention_output = load_layer_linear(file, prefix + "attention.output", "attention_output", {});
  w.attention_norm = load_norm(file, prefix + "attention.norm");
  w.up = load_layer_linear(file, prefix + "ffn.up", "ffn_up", {prefix + "attention.norm", 0});
  w.down = load_layer_linear(file, prefix + "ffn.down", "ffn_down", {});
  w.ffn_norm = load_norm(file, prefix + "ffn.norm");
  return w;
}

// A bias that all layers share is prepared once.
RelativeWeights Model::load_relative(const WeightsFile& file, const std::string& prefix,
                                     const std::vector<float>& distance_bias) {
  const Architecture& a = architecture_;
  if (!a.has_relative()) return {};
  if (a.num_relative_rows == 0 && !layers_.empty()) return layers_.front().relative;
  std::vector<float> keys, queries;
  if (a.relative_keys) keys = read(file, prefix + "attention.relative_keys");
  if (a.relative_queries) queries = read(file, prefix + "attention.relative_queries");
  check_range(keys, prefix + "attention.relative_keys", backend_->compute_type());
  check_range(queries, prefix + "attention.relative_queries", backend_->compute_type());
  RelativeTensors tensors;
  tensors.num_heads = a.num_heads;
  tensors.head_size = a.head_size;
  tensors.num_distances = int64_t{2} * a.max_length() - 1;
  tensors.bias = data_of(distance_bias);
  tensors.num_rows = a.num_relative_rows;
  tensors.row = data_of(a.relative_rows);
  tensors.key_rows = data_of(keys);
  tensors.query_rows = data_of(queries);
  return backend_->prepare_relative(tensors, *pool_);
}

HeadWeights Model::load_head(const WeightsFile& file, HeadKind kind) {
  HeadWeights head;
  for (const HeadStep& step : architecture_.head(kind).steps) {
    if (step.kind == HeadStep::Kind::kDense)
      head.dense.push_back(load_linear(file, step_prefix(kind, "dense", step.index), "dense"));
    if (step.kind == HeadStep::Kind::kNorm)
      head.norms.push_back(load_norm(file, step_prefix(kind, "norm", step.index)));
    if (step.kind == HeadStep::Kind::kDecoder) head.decoder = load_decoder(file);
  }
  return head;
}

std::vector<LinearWeights> Model::load_decoder(const WeightsFile& file) {
  const std::string own = "vocabulary_head.decoder.weight";
  const std::string name = file.find(own) ? own : "embeddings.word";
  const std::vector<float> weight = read(file, name);
  check_range(weight, name, backend_->compute_type());
  const std::vector<float> bias = read_if_there(file, "vocabulary_head.decoder.bias");
  const int64_t inputs = architecture_.head(HeadKind::kVocabulary).steps.back().input_size;
  std::vector<LinearWeights> blocks;
  for (int64_t first = 0; first < architecture_.vocab_size; first += kDecoderBlock) {
    const int64_t outputs = std::min(kDecoderBlock, architecture_.vocab_size - first);
    blocks.push_back(backend_->prepare_linear(weight.data() + first * inputs,
                                              bias.empty() ? nullptr : bias.data() + first, outputs,
                                              inputs, *pool_));
    blocks.back().name = "decoder";
  }
  return blocks;
}

const void* Model::load_table(const WeightsFile& file, const std::string& name) {
  const std::vector<float> values = read(file, name);
  check_range(values, name, backend_->compute_type());
  return backend_->prepare_table(values.data(), static_cast<int64_t>(values.size()), *pool_);
}

const float* Model::load_vector(const WeightsFile& file, const std::string& name) {
  const std::vector<float> values = read(file, name);
  return backend_->prepare_vector(values.data(), static_cast<int64_t>(values.size()), *pool_);
}

NormWeights Model::load_norm(const WeightsFile& file, const std::string& prefix) {
  NormWeights norm;
  norm.weight = load_vector(file, prefix + ".weight");
  norm.bias = load_vector(file, prefix + ".bias");
  norm.epsilon = architecture_.norm_eps;
  return norm;
}

LinearWeights Model::load_linear(const WeightsFile& file, const std::string& prefix,
                                 const char* name) {
  const TensorEntry& entry = require(file, prefix + ".weight");
  const std::vector<float> weight = entry.dtype == StoredType::kI8
                                        ? read_quantized(file, prefix).to_float32()
                                        : read(file, prefix + ".weight");
  check_range(weight, prefix + ".weight", backend_->compute_type());
  const std::vector<float> bias = read_if_there(file, prefix + ".bias");
  LinearWeights prepared = backend_->prepare_linear(weight.data(), data_of(bias), entry.shape[0],
                                                    entry.shape[1], *pool_);
  prepared.name = name;
  return prepared;
}

QuantizedLinear Model::quantize(const WeightsFile& file, const std::string& name, int64_t outputs,
                                int64_t inputs, const InputNorm& input) {
  const std::vector<float> weight = read(file, name);
  if (input.norm.empty()) return quantize_linear(weight, outputs, inputs, {});
  std::vector<float> sizes = read(file, input.norm + ".weight");
  const std::vector<float> means = read(file, input.norm + ".bias");
  for (size_t k = 0; k < sizes.size(); ++k) sizes[k] = std::hypot(sizes[k], means[k]);
  std::vector<float> factors = smoothing_factors(weight.data() + input.first_output * inputs,
                                                 outputs - input.first_output, inputs, sizes);
  return quantize_linear(weight, outputs, inputs, std::move(factors));
}

// In 8 bits where the backend computes so.
LinearWeights Model::load_layer_linear(const WeightsFile& file, const std::string& prefix,
                                       const char* name, const InputNorm& input) {
  const std::vector<int64_t>& shape = require(file, prefix + ".weight").shape;
  const int64_t outputs = shape[0], inputs = shape[1];
  if (backend_->compute_type() != DType::kInt8 || inputs > kMostInt8Inputs)
    return load_linear(file, prefix, name);
  const QuantizedLinear quantized =
      require(file, prefix + ".weight").dtype == StoredType::kI8
          ? read_quantized(file, prefix)
          : quantize(file, prefix + ".weight", outputs, inputs, input);
  const std::vector<float> bias = read_if_there(file, prefix + ".bias");
  LinearWeights prepared =
      backend_->as_host()->prepare_int8_linear(quantized.view(), data_of(bias), *pool_);
  prepared.name = name;
  return prepared;
}

// The norm whose results the stored layer reads where it runs last; empty if there is none.
std::string Model::input_norm(int32_t stored_layer) const {
  const std::vector<int32_t>& order = architecture_.layer_order;
  const auto found = std::find(order.rbegin(), order.rend(), stored_layer);
  const auto place = std::distance(found, order.rend()) - 1;
  if (place == 0) return architecture_.projects_embeddings ? "" : "embeddings.norm";
  if (place == 1 && architecture_.convolution > 0) return "convolution.norm";
  return "layers." + std::to_string(order[static_cast<size_t>(place) - 1]) + ".ffn.norm";
}

}  // namespace vlt
