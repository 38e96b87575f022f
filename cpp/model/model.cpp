#include "model/model.h"

#include <cmath>
#include <string>
#include <vector>

#include "base/error.h"

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

// A weight that float16 cannot hold would become infinite and every result NaN.
void check_range(const std::vector<float>& values, const std::string& name, DType type) {
  constexpr float kLargestHalf = 65504;
  if (type != DType::kFloat16) return;
  for (const float value : values)
    if (std::fabs(value) > kLargestHalf && !std::isinf(value))
      throw Error(Status::kUnsupported, "tensor " + name + " holds " + std::to_string(value) +
                                            ", which float16 cannot; load the model with the "
                                            "compute type bfloat16 or float32");
}

}  // namespace

Model::Model(const WeightsFile& file, std::unique_ptr<Backend> backend)
    : architecture_(parse_architecture(file)),
      backend_(std::move(backend)),
      pool_(backend_->create_weight_pool()),
      metadata_(file.metadata()) {
  check_tensors(architecture_, file);
  const Architecture& a = architecture_;

  embeddings_.word = load_table(file, "embeddings.word");
  embeddings_.position = load_table(file, "embeddings.position");
  if (a.num_token_types > 0) embeddings_.token_type = load_table(file, "embeddings.token_type");
  embeddings_.vocab_size = a.vocab_size;
  embeddings_.num_token_types = a.num_token_types;
  embeddings_.position_offset = a.position_offset;
  embeddings_.norm = load_norm(file, "embeddings.norm");

  for (int32_t i = 0; i < a.num_layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    LayerWeights w;
    w.qkv = load_linear(file, layer + "attention.qkv", "qkv");
    w.attention_output = load_linear(file, layer + "attention.output", "attention_output");
    w.attention_norm = load_norm(file, layer + "attention.norm");
    w.up = load_linear(file, layer + "ffn.up", "ffn_up");
    w.down = load_linear(file, layer + "ffn.down", "ffn_down");
    w.ffn_norm = load_norm(file, layer + "ffn.norm");
    layers_.push_back(w);
  }
  for (const HeadStep& step : a.embedding_head)
    if (step.kind == HeadStep::Kind::kDense)
      dense_.push_back(
          load_linear(file, "head.dense." + std::to_string(step.dense_index), "dense"));

  if (const TensorEntry* tokenizer = file.find("tokenizer.json"))
    tokenizer_ = file.read_bytes(*tokenizer);
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
  const std::vector<float> weight = read(file, prefix + ".weight");
  check_range(weight, prefix + ".weight", backend_->compute_type());
  std::vector<float> bias;
  if (file.find(prefix + ".bias")) bias = read(file, prefix + ".bias");
  LinearWeights prepared = backend_->prepare_linear(
      weight.data(), bias.empty() ? nullptr : bias.data(), entry.shape[0], entry.shape[1], *pool_);
  prepared.name = name;
  return prepared;
}

}  // namespace vlt
