// An encoder's weights by role, prepared for one device. Immutable: any number of sessions share
// it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "model/architecture.h"
#include "model/byte_source.h"
#include "model/weights_file.h"

namespace vlt {

struct LayerWeights {
  LinearWeights qkv;               // [3·A·D, H]
  LinearWeights attention_output;  // [H, A·D]
  NormWeights attention_norm;
  LinearWeights up;    // [F, H]
  LinearWeights down;  // [H, F]
  NormWeights ffn_norm;
};

class Model {
 public:
  // Reads every tensor through a buffer of its own, so that at no time more than one tensor is in
  // memory twice. Throws vlt::Error and std::bad_alloc.
  Model(const WeightsFile& file, std::unique_ptr<Backend> backend);

  const Architecture& architecture() const { return architecture_; }
  const Backend& backend() const { return *backend_; }
  const EmbeddingTables& embeddings() const { return embeddings_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }
  const std::vector<LinearWeights>& dense() const { return dense_; }

  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }
  const std::vector<uint8_t>& tokenizer() const { return tokenizer_; }
  uint64_t weight_bytes() const { return pool_->bytes(); }

 private:
  const void* load_table(const WeightsFile& file, const std::string& name);
  const float* load_vector(const WeightsFile& file, const std::string& name);
  NormWeights load_norm(const WeightsFile& file, const std::string& prefix);
  LinearWeights load_linear(const WeightsFile& file, const std::string& prefix, const char* name);

  Architecture architecture_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<WeightPool> pool_;
  EmbeddingTables embeddings_;
  std::vector<LayerWeights> layers_;
  std::vector<LinearWeights> dense_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::vector<uint8_t> tokenizer_;
};

}  // namespace vlt
