// An encoder's weights by role, prepared for one device. Immutable: any number of sessions share
// it.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "model/architecture.h"
#include "model/byte_source.h"
#include "model/quantize.h"
#include "model/weights_file.h"

namespace vlt {

struct LayerWeights {
  LinearWeights qkv;               // [3·A·D, H]
  RelativeWeights relative;        // where Architecture::has_relative()
  LinearWeights attention_output;  // [H, A·D]
  NormWeights attention_norm;
  LinearWeights up;    // [F, H]
  LinearWeights down;  // [H, F]
  NormWeights ffn_norm;
};

// A convolution over neighbouring tokens, as a product with their rows side by side.
struct ConvolutionWeights {
  LinearWeights kernel;  // [H, K·H]
  NormWeights norm;
};

struct HeadWeights {
  std::vector<LinearWeights> dense;
  std::vector<NormWeights> norms;
  // The decoder's outputs in blocks of kDecoderBlock, so that no row of [V] need be held.
  std::vector<LinearWeights> decoder;
};
inline constexpr int64_t kDecoderBlock = 2048;

class Model {
 public:
  // Reads every tensor through a buffer of its own, so that at no time more than one tensor is in
  // memory twice. Throws vlt::Error and std::bad_alloc.
  Model(const WeightsFile& file, std::unique_ptr<Backend> backend);

  const Architecture& architecture() const { return architecture_; }
  const Backend& backend() const { return *backend_; }
  const EmbeddingTables& embeddings() const { return embeddings_; }
  const LinearWeights& embedding_projection() const { return embedding_projection_; }
  const ConvolutionWeights& convolution() const { return convolution_; }
  // Of the i-th layer that runs.
  const LayerWeights& layer(int32_t i) const {
    return layers_[static_cast<size_t>(architecture_.layer_order[static_cast<size_t>(i)])];
  }
  const HeadWeights& head(HeadKind kind) const { return heads_[static_cast<size_t>(kind)]; }

  const std::vector<std::pair<std::string, std::string>>& metadata() const { return metadata_; }
  const std::vector<uint8_t>& tokenizer() const { return tokenizer_; }
  uint64_t weight_bytes() const { return pool_->bytes(); }

 private:
  void load_embeddings(const WeightsFile& file);
  LayerWeights load_layer(const WeightsFile& file, const std::string& prefix,
                          const std::vector<float>& distance_bias);
  RelativeWeights load_relative(const WeightsFile& file, const std::string& prefix,
                                const std::vector<float>& distance_bias);
  HeadWeights load_head(const WeightsFile& file, HeadKind kind);
  std::vector<LinearWeights> load_decoder(const WeightsFile& file);
  const void* load_table(const WeightsFile& file, const std::string& name);
  const float* load_vector(const WeightsFile& file, const std::string& name);
  NormWeights load_norm(const WeightsFile& file, const std::string& prefix);
  LinearWeights load_linear(const WeightsFile& file, const std::string& prefix, const char* name);
  // What a layer's inputs come from, to know how large they are: a norm, or nothing where it is
  // empty; and the first of the outputs that are to be exact.
  struct InputNorm {
    std::string norm;
    int64_t first_output = 0;
  };
  static QuantizedLinear quantize(const WeightsFile& file, const std::string& name, int64_t outputs,
                                  int64_t inputs, const InputNorm& input);
  LinearWeights load_layer_linear(const WeightsFile& file, const std::string& prefix,
                                  const char* name, const InputNorm& input);
  std::string input_norm(int32_t stored_layer) const;

  Architecture architecture_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<WeightPool> pool_;
  EmbeddingTables embeddings_;
  LinearWeights embedding_projection_;
  ConvolutionWeights convolution_;
  std::vector<LayerWeights> layers_;  // as stored
  std::array<HeadWeights, kHeadKinds.size()> heads_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  std::vector<uint8_t> tokenizer_;
};

}  // namespace vlt
