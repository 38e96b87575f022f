#include "model/architecture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>
#include <string_view>

#include "model/file_error.h"
#include "model/head_parser.h"
#include "model/metadata_reader.h"
#include "model/name_table.h"

namespace vlt {
namespace {

// Switches with one value each today: a file that says otherwise was written for a later reader.
enum class OnlyChoice { kOnly };
constexpr NameTable<OnlyChoice, 1> kNormKinds = {{{"layernorm", OnlyChoice::kOnly}}};
constexpr NameTable<OnlyChoice, 1> kNormPlaces = {{{"post", OnlyChoice::kOnly}}};

constexpr NameTable<Activation, 4> kActivations = {{{"gelu", Activation::kGelu},
                                                    {"gelu_tanh", Activation::kGeluTanh},
                                                    {"relu", Activation::kRelu},
                                                    {"silu", Activation::kSilu}}};

constexpr NameTable<Activation, 5> kConvolutionActivations = {{{"gelu", Activation::kGelu},
                                                               {"gelu_tanh", Activation::kGeluTanh},
                                                               {"relu", Activation::kRelu},
                                                               {"silu", Activation::kSilu},
                                                               {"tanh", Activation::kTanh}}};

constexpr NameTable<bool, 2> kPositionKinds = {{{"absolute", true}, {"none", false}}};

constexpr NameTable<bool, 2> kBooleans = {{{"true", true}, {"false", false}}};

enum class RelativeTerms { kKeys, kQueries, kBoth };
constexpr NameTable<RelativeTerms, 3> kRelativeTerms = {{{"keys", RelativeTerms::kKeys},
                                                         {"queries", RelativeTerms::kQueries},
                                                         {"keys queries", RelativeTerms::kBoth}}};

enum class Problem { kRegression, kSingleLabel, kMultiLabel };
constexpr NameTable<Problem, 3> kProblems = {{{"regression", Problem::kRegression},
                                              {"single_label", Problem::kSingleLabel},
                                              {"multi_label", Problem::kMultiLabel}}};

constexpr NameTable<bool, 1> kSparseKinds = {{{"max", true}}};

enum class Similarity { kCosine, kDot, kEuclidean, kManhattan };
constexpr NameTable<Similarity, 4> kSimilarities = {{{"cosine", Similarity::kCosine},
                                                     {"dot", Similarity::kDot},
                                                     {"euclidean", Similarity::kEuclidean},
                                                     {"manhattan", Similarity::kManhattan}}};

constexpr std::array kKnownKeys = std::to_array<std::string_view>({
    "format",          "format_version",
    "family",          "num_layers",
    "hidden_size",     "num_heads",
    "head_size",       "intermediate_size",
    "vocab_size",      "num_positions",
    "num_token_types", "position_offset",
    "position_kind",   "norm_kind",
    "norm_place",      "norm_eps",
    "activation",      "embedding_size",
    "layer_order",     "distance_bias",
    "relative_rows",   "relative_terms",
    "score_scale",     "convolution",
    "embedding_head",  "convolution_activation",
    "sequence_head",   "token_head",
    "vocabulary_head", "problem",
    "sparse",          "mask_token",
    "max_length",      "pooling_include_prompt",
    "lower_case",      "default_prompt",
    "similarity",      "name",
    "created_by",
});
constexpr std::array<std::string_view, 2> kNamedPrefixes = {"prompt.", "label."};
constexpr std::string_view kPrivatePrefix = "x.";

bool is_known(std::string_view key) {
  for (const std::string_view prefix : kNamedPrefixes)
    if (key.starts_with(prefix) && key.size() > prefix.size()) return true;
  return key.starts_with(kPrivatePrefix) ||
         std::find(kKnownKeys.begin(), kKnownKeys.end(), key) != kKnownKeys.end();
}

void check_keys(const WeightsFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    if (is_known(key)) continue;
    refuse_file(file.name(), "its metadata has the unknown key " + quoted(key) +
                                 ", perhaps a switch of a later version; expected a key of "
                                 "docs/WEIGHTS_FILE.md, and notes of your own under x.NAME");
  }
}

void read_sizes(const MetadataReader& reader, Architecture& architecture) {
  architecture.num_layers = reader.integer("num_layers", 1, kMaxLayers);
  architecture.hidden_size = reader.integer("hidden_size", 1, kMaxSize);
  architecture.num_heads = reader.integer("num_heads", 1, kMaxSize);
  // The heads of a token together are a size of their own, A·D.
  architecture.head_size = reader.integer("head_size", 1, kMaxSize / architecture.num_heads);
  architecture.intermediate_size = reader.integer("intermediate_size", 1, kMaxSize);
  architecture.vocab_size = reader.integer("vocab_size", 1, kMaxSize);
  architecture.num_positions = reader.integer("num_positions", 1, kMaxSize);
  architecture.num_token_types = reader.integer("num_token_types", 0, kMaxSize);
  architecture.position_offset =
      reader.integer("position_offset", 0, architecture.num_positions - 1);
  architecture.projects_embeddings = reader.has("embedding_size");
  architecture.embedding_size = architecture.projects_embeddings
                                    ? reader.integer("embedding_size", 1, kMaxSize)
                                    : architecture.hidden_size;
}

// Layers are stored once each, and every one that is stored is used.
void read_layer_order(const MetadataReader& reader, Architecture& architecture) {
  const int32_t num_layers = architecture.num_layers;
  std::vector<int32_t>& order = architecture.layer_order;
  if (!reader.has("layer_order")) {
    order.resize(static_cast<size_t>(num_layers));
    std::iota(order.begin(), order.end(), 0);
    architecture.num_stored_layers = num_layers;
    return;
  }
  order = reader.integers("layer_order", num_layers, num_layers - 1);
  const int32_t last = *std::max_element(order.begin(), order.end());
  for (int32_t layer = 0; layer <= last; ++layer)
    if (std::find(order.begin(), order.end(), layer) == order.end())
      reader.refuse("layer_order", reader.required("layer_order"),
                    "every number from 0 to " + std::to_string(last) + "; " +
                        std::to_string(layer) + " is missing");
  architecture.num_stored_layers = last + 1;
}

// R is as large as the tensors say, since rows that no distance uses would do no harm.
int32_t count_relative_rows(const WeightsFile& file, const Architecture& architecture) {
  const std::string name = std::string("layers.0.attention.") +
                           (architecture.relative_keys ? "relative_keys" : "relative_queries");
  const TensorEntry* tensor = file.find(name);
  if (tensor == nullptr) refuse_file(file.name(), "lacks the tensor " + std::string(quoted(name)));
  const std::vector<int64_t>& shape = tensor->shape;
  if (shape.size() != 2 || shape[0] < 1 || shape[0] > kMaxSize)
    refuse_file(file.name(), "tensor " + std::string(quoted(name)) + " has shape " +
                                 shape_text(shape) + ", expected [R, A·D] with R from 1 to " +
                                 std::to_string(kMaxSize));
  return static_cast<int32_t>(shape[0]);
}

void read_scores(const WeightsFile& file, const MetadataReader& reader,
                 Architecture& architecture) {
  architecture.score_scale =
      reader.has("score_scale")
          ? reader.positive_number("score_scale")
          : static_cast<float>(1 / std::sqrt(static_cast<double>(architecture.head_size)));
  if (reader.has("distance_bias"))
    architecture.distance_bias = reader.one_of("distance_bias", kBooleans);
  if (reader.has("relative_rows") != reader.has("relative_terms"))
    refuse_file(file.name(),
                "its metadata has one of relative_rows and relative_terms, expected "
                "both or neither");
  if (!reader.has("relative_rows")) return;
  const RelativeTerms terms = reader.one_of("relative_terms", kRelativeTerms);
  architecture.relative_keys = terms != RelativeTerms::kQueries;
  architecture.relative_queries = terms != RelativeTerms::kKeys;
  architecture.num_relative_rows = count_relative_rows(file, architecture);
  architecture.relative_rows =
      reader.integers("relative_rows", int64_t{2} * architecture.max_length() - 1,
                      architecture.num_relative_rows - 1);
  // Kernels copy the rows of a tile of distances as one run, which is then no longer than the tile.
  const std::vector<int32_t>& rows = architecture.relative_rows;
  const auto jump = std::adjacent_find(rows.begin(), rows.end(), [](int32_t row, int32_t next) {
    return next != row && next != row + 1;
  });
  if (jump != rows.end())
    refuse_file(file.name(), "its metadata has relative_rows with " + std::to_string(jump[1]) +
                                 " behind " + std::to_string(jump[0]) +
                                 ", expected the same or one more");
}

void read_convolution(const MetadataReader& reader, Architecture& architecture) {
  if (!reader.has("convolution")) return;
  constexpr int32_t kWidest = 255;
  architecture.convolution = reader.integer("convolution", 1, kWidest);
  if (architecture.convolution % 2 == 0)
    reader.refuse("convolution", reader.required("convolution"), "an odd number");
  architecture.convolution_activation =
      reader.one_of("convolution_activation", kConvolutionActivations);
}

void read_switches(const MetadataReader& reader, Architecture& architecture) {
  reader.required("family");
  architecture.has_positions = reader.one_of("position_kind", kPositionKinds);
  reader.one_of("norm_kind", kNormKinds);
  reader.one_of("norm_place", kNormPlaces);
  architecture.norm_eps = reader.positive_number("norm_eps");
  architecture.activation = reader.one_of("activation", kActivations);
}

void read_heads(const WeightsFile& file, const MetadataReader& reader, Architecture& architecture) {
  for (const HeadKind kind : kHeadKinds)
    if (const std::string* text = file.find_metadata(head_key(kind)))
      architecture.heads[static_cast<size_t>(kind)] = parse_head(file, kind, *text, architecture);
  if (!reader.has("sparse")) return;
  architecture.makes_sparse = reader.one_of("sparse", kSparseKinds);
  if (architecture.head(HeadKind::kVocabulary).steps.empty())
    refuse_file(file.name(), "its metadata has sparse, but no vocabulary_head");
}

// One name for each output of the sequence head, or else of the token head.
void check_labels(const WeightsFile& file, const Architecture& architecture) {
  int64_t count = 0;
  for (const auto& [key, value] : file.metadata())
    if (key.starts_with("label.")) ++count;
  if (count == 0) return;
  const int64_t expected = architecture.head(HeadKind::kSequence).output_size > 0
                               ? architecture.head(HeadKind::kSequence).output_size
                               : architecture.head(HeadKind::kToken).output_size;
  bool complete = count == expected;
  for (int64_t i = 0; complete && i < count; ++i)
    complete = file.find_metadata("label." + std::to_string(i)) != nullptr;
  if (!complete)
    refuse_file(file.name(), "its metadata names " + std::to_string(count) + " labels, expected " +
                                 "label.0 … label.N-1, one for each of the head's " +
                                 std::to_string(expected) + " outputs");
}

// Keys that only the callers of the library use. Checked here so that a bad file fails when it is
// loaded, in every language the same way.
void check_text_keys(const WeightsFile& file, const MetadataReader& reader,
                     const Architecture& architecture) {
  if (reader.has("max_length")) reader.integer("max_length", 1, architecture.max_length());
  if (reader.has("pooling_include_prompt")) reader.one_of("pooling_include_prompt", kBooleans);
  if (reader.has("lower_case")) reader.one_of("lower_case", kBooleans);
  if (reader.has("similarity")) reader.one_of("similarity", kSimilarities);
  if (reader.has("problem")) reader.one_of("problem", kProblems);
  if (reader.has("mask_token")) reader.integer("mask_token", 0, architecture.vocab_size - 1);
  check_labels(file, architecture);
  if (!reader.has("default_prompt")) return;
  const std::string& prompt = reader.required("default_prompt");
  if (!reader.has("prompt." + prompt)) {
    reader.refuse("default_prompt", prompt, "the NAME of one of the file's prompt.NAME keys");
  }
}

}  // namespace

std::string_view head_key(HeadKind kind) {
  constexpr std::array<std::string_view, kHeadKinds.size()> kKeys = {
      "embedding_head", "sequence_head", "token_head", "vocabulary_head"};
  return kKeys[static_cast<size_t>(kind)];
}

std::string_view head_prefix(HeadKind kind) {
  return kind == HeadKind::kEmbedding ? "head" : head_key(kind);
}

std::string step_prefix(HeadKind kind, std::string_view step, int32_t index) {
  std::string name(head_prefix(kind));
  name += '.';
  name += step;
  name += '.';
  name += std::to_string(index);
  return name;
}

Architecture parse_architecture(const WeightsFile& file) {
  check_keys(file);
  const MetadataReader reader(file);
  Architecture architecture;
  read_sizes(reader, architecture);
  read_layer_order(reader, architecture);
  read_switches(reader, architecture);
  read_scores(file, reader, architecture);
  read_convolution(reader, architecture);
  read_heads(file, reader, architecture);
  check_text_keys(file, reader, architecture);
  return architecture;
}

}  // namespace vlt
