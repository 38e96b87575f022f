#include "model/architecture.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "model/embedding_head.h"
#include "model/file_error.h"
#include "model/metadata_reader.h"
#include "model/name_table.h"

namespace vlt {
namespace {

// Switches with one value each today: a file that says otherwise was written for a later reader.
enum class OnlyChoice { kOnly };
constexpr NameTable<OnlyChoice, 1> kPositionKinds = {{{"absolute", OnlyChoice::kOnly}}};
constexpr NameTable<OnlyChoice, 1> kNormKinds = {{{"layernorm", OnlyChoice::kOnly}}};
constexpr NameTable<OnlyChoice, 1> kNormPlaces = {{{"post", OnlyChoice::kOnly}}};

constexpr NameTable<Activation, 4> kActivations = {{{"gelu", Activation::kGelu},
                                                    {"gelu_tanh", Activation::kGeluTanh},
                                                    {"relu", Activation::kRelu},
                                                    {"silu", Activation::kSilu}}};

constexpr NameTable<bool, 2> kBooleans = {{{"true", true}, {"false", false}}};

enum class Similarity { kCosine, kDot, kEuclidean, kManhattan };
constexpr NameTable<Similarity, 4> kSimilarities = {{{"cosine", Similarity::kCosine},
                                                     {"dot", Similarity::kDot},
                                                     {"euclidean", Similarity::kEuclidean},
                                                     {"manhattan", Similarity::kManhattan}}};

constexpr std::array<std::string_view, 25> kKnownKeys = {
    "format",        "format_version", "family",          "num_layers",
    "hidden_size",   "num_heads",      "head_size",       "intermediate_size",
    "vocab_size",    "num_positions",  "num_token_types", "position_offset",
    "position_kind", "norm_kind",      "norm_place",      "norm_eps",
    "activation",    "embedding_head", "max_length",      "pooling_include_prompt",
    "lower_case",    "default_prompt", "similarity",      "name",
    "created_by"};
constexpr std::string_view kPromptPrefix = "prompt.";
constexpr std::string_view kPrivatePrefix = "x.";

bool is_known(std::string_view key) {
  return key.starts_with(kPrivatePrefix) ||
         (key.starts_with(kPromptPrefix) && key.size() > kPromptPrefix.size()) ||
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
}

void read_switches(const MetadataReader& reader, Architecture& architecture) {
  reader.required("family");
  reader.one_of("position_kind", kPositionKinds);
  reader.one_of("norm_kind", kNormKinds);
  reader.one_of("norm_place", kNormPlaces);
  architecture.norm_eps = reader.positive_number("norm_eps");
  architecture.activation = reader.one_of("activation", kActivations);
}

// Keys that only the callers of the library use. Checked here so that a bad file fails when it is
// loaded, in every language the same way.
void check_text_keys(const WeightsFile& file, const MetadataReader& reader,
                     const Architecture& architecture) {
  const auto has = [&](std::string_view key) { return file.find_metadata(key) != nullptr; };
  if (has("max_length")) reader.integer("max_length", 1, architecture.max_length());
  if (has("pooling_include_prompt")) reader.one_of("pooling_include_prompt", kBooleans);
  if (has("lower_case")) reader.one_of("lower_case", kBooleans);
  if (has("similarity")) reader.one_of("similarity", kSimilarities);
  if (!has("default_prompt")) return;
  const std::string& prompt = reader.required("default_prompt");
  if (!has(std::string(kPromptPrefix) + prompt)) {
    reader.refuse("default_prompt", prompt, "the NAME of one of the file's prompt.NAME keys");
  }
}

}  // namespace

Architecture parse_architecture(const WeightsFile& file) {
  check_keys(file);
  const MetadataReader reader(file);
  Architecture architecture;
  read_sizes(reader, architecture);
  read_switches(reader, architecture);
  check_text_keys(file, reader, architecture);
  if (const std::string* head = file.find_metadata("embedding_head")) {
    architecture.embedding_head = parse_embedding_head(file, *head, architecture.hidden_size);
    architecture.embedding_size = architecture.embedding_head.back().output_size;
  }
  return architecture;
}

}  // namespace vlt
