#include "model/model.h"

#include "base/error.h"

namespace vlt {
namespace {

const TensorEntry& require(const WeightsFile& file, const std::string& name) {
  const TensorEntry* entry = file.find(name);
  if (!entry)
    throw Error(Status::kInternal, "tensor " + name + " passed the checks but is missing");
  return *entry;
}

}  // namespace

Model::Model(const WeightsFile& file, std::unique_ptr<Backend> backend)
    : architecture_(parse_architecture(file)),
      backend_(std::move(backend)),
      metadata_(file.metadata()) {
  check_tensors(architecture_, file);
  const Architecture& a = architecture_;

  embeddings_.word = load_vector(file, "embeddings.word");
  embeddings_.position = load_vector(file, "embeddings.position");
  if (a.num_token_types > 0) embeddings_.token_type = load_vector(file, "embeddings.token_type");
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

const float* Model::load_vector(const WeightsFile& file, const std::string& name) {
  const TensorEntry& entry = require(file, name);
  float* values = pool_.allocate(static_cast<int64_t>(entry.num_elements()));
  file.read_float32(entry, values);
  return values;
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
  const auto weight = std::make_unique_for_overwrite<float[]>(entry.num_elements());
  file.read_float32(entry, weight.get());
  std::vector<float> bias;
  if (const TensorEntry* bias_entry = file.find(prefix + ".bias")) {
    bias.resize(bias_entry->num_elements());
    file.read_float32(*bias_entry, bias.data());
  }
  LinearWeights prepared = backend_->prepare_linear(
      weight.get(), bias.empty() ? nullptr : bias.data(), entry.shape[0], entry.shape[1], pool_);
  prepared.name = name;
  return prepared;
}

}  // namespace vlt
